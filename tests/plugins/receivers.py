"""Receivers of notifications: a webhook and a mail server on this machine."""

from __future__ import annotations

import base64
import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Webhook(ThreadingHTTPServer):
    def __init__(self, code: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.code = code
        self.received: list[tuple[dict[str, str], Any]] = []
        self.got: list[str] = []
        self.location = ""
        self.endless = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/s3cret"


class Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.code)
        if self.server.location:
            self.send_header("Location", self.server.location)
        if not self.server.endless:
            self.send_header("Content-Length", "0")
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.server.endless:
                self.wfile.write(bytes(65536))

    def do_GET(self) -> None:
        self.server.got.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class MailServer(socketserver.ThreadingTCPServer):
    """A minimal SMTP server that refuses given recipients and passwords."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mail)
        self.refused: set[str] = set()
        self.password = ""
        self.echo = ""
        self.commands: list[str] = []
        self.recipients: list[str] = []
        self.mails: list[Message] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Mail(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.reply("220 test")
        while line := self.rfile.readline().decode(errors="replace").strip():  # a TLS greeting too
            command, _, rest = line.partition(" ")
            match command.upper():
                case "EHLO" | "HELO":
                    self.reply("250-test\r\n250 AUTH PLAIN")
                case "AUTH":
                    self.server.commands.append(rest)
                    given = base64.b64decode(rest.split()[1]).split(b"\0")[-1].decode()
                    self.reply("235 ok" if given == self.server.password else f"535 no {self.server.echo}")
                case "RCPT":
                    refused = any(one in rest for one in self.server.refused)
                    if not refused:
                        self.server.recipients.append(rest)
                    self.reply("550 unknown" if refused else "250 ok")
                case "DATA":
                    self.reply("354 go")
                    lines = iter(self.rfile.readline, b".\r\n")
                    self.server.mails.append(message_from_bytes(b"".join(lines), policy=default))
                    self.reply("250 ok")
                case "QUIT":
                    self.reply("221 bye")
                    return
                case _:
                    self.reply("250 ok")

    def reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def served(server: Any) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with served(Webhook(200)) as server:
        yield server


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with served(MailServer()) as server:
        yield server
