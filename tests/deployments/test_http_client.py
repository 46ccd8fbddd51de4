"""Requests over HTTP: their destinations, proxies, and what is not logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from waiting import PATIENCE

from deployments.http_client import NoAnswerError, ask


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, str, dict[str, str]]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.received.append((self.command, self.path, dict(self.headers)))
        code = int(self.path.rpartition("/")[2])
        self.send_response(code, "So be it")
        if code // 100 == 3:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"body")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def url_of(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.port}/{path}"


def test_an_answer_is_returned_unchanged(server: Server) -> None:
    answer = ask("GET", url_of(server, "200"), timeout=PATIENCE, headers={"X-One": "1"})
    assert (answer.status, answer.reason, answer.body, answer.ok) == (200, "So be it", b"body", True)
    refusal = ask("GET", url_of(server, "500"), timeout=PATIENCE, read=False)
    assert (refusal.status, refusal.body, refusal.ok, refusal.redirects) == (500, b"", False, False)
    assert [headers.get("X-One") for _, _, headers in server.received] == ["1", None]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirection_is_followed(server: Server, code: int) -> None:
    answer = ask("GET", url_of(server, str(code)), timeout=PATIENCE)
    assert (answer.status, answer.ok, answer.redirects) == (code, False, True)
    assert [path for _, path, _ in server.received] == [f"/{code}"]


@pytest.fixture
def proxied(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the proxy for all hosts."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    return server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "[::1]"])
def test_no_proxy_is_used_for_this_machine(proxied: Server, host: str) -> None:
    with pytest.raises(NoAnswerError):
        ask("GET", f"http://{host}:9/200", timeout=PATIENCE)
    assert proxied.received == []


def test_a_proxy_is_used_for_another_machine_except_for_direct_requests(proxied: Server) -> None:
    assert ask("GET", "http://host.invalid/200", timeout=PATIENCE).ok
    ((_, path, headers),) = proxied.received
    assert path == "http://host.invalid/200"
    assert headers["Host"] == "host.invalid"
    with pytest.raises(NoAnswerError):
        ask("GET", "http://host.invalid/200", timeout=PATIENCE, direct=True)
    assert len(proxied.received) == 1


def test_an_unusable_proxy_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(NoAnswerError):
        ask("GET", "http://host.invalid/200", timeout=PATIENCE)


@pytest.mark.parametrize("url", ["", "host", "ftp://host/", "http://", "http://[a", "http://host:port/"])
def test_an_invalid_address_gives_no_answer(url: str) -> None:
    with pytest.raises(NoAnswerError) as caught:
        ask("GET", url, timeout=PATIENCE)
    assert caught.value.kind.isidentifier()


def test_nothing_of_a_request_is_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers: dict[str, Any] = {"Authorization": "Basic s3cret"}
    ask("GET", url_of(server, "s3cret/200"), timeout=PATIENCE, headers=headers)
    assert caplog.records == []


def test_a_file_of_passwords_is_not_read(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login ana password s3cret")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    ask("GET", url_of(server, "200"), timeout=PATIENCE)
    assert "Authorization" not in server.received[0][2]
