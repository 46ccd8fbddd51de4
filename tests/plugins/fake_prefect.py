"""A fake Prefect server whose responses a test determines; imported by the tests that need it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeServer(ThreadingHTTPServer):
    """A server that sends the given responses, then empty ones with code 204, and keeps the requests.

    It records the events that it accepts, except for the first ``forgotten`` ones. Requests for the number of
    recorded events are always answered and kept separately.
    """

    #: As for our own server, whose clients also hold the port.
    allow_reuse_port = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = []
        self.heard: list[tuple[str, dict[str, str], Any]] = []
        self.counted: list[dict[str, Any]] = []
        self.recorded: set[str] = set()
        self.forgotten = 0

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(body) if body else None
        if self.path.endswith("/events/filter"):
            self.server.counted.append(asked)
            total = len(self.server.recorded & set(asked["filter"]["id"]["id"]))
            code, answers = 200, json.dumps({"events": [], "total": total})
        else:
            self.server.heard.append((self.path, dict(self.headers), asked))
            code, answers = self.server.answers.pop(0) if self.server.answers else (204, "")
            if code == 204:
                self._record([one["id"] for one in asked])
        self.send_response(code)
        self.send_header("Content-Length", str(len(answers)))
        self.end_headers()
        self.wfile.write(answers.encode())

    do_GET = do_POST

    def _record(self, ids: list[str]) -> None:
        lost = min(self.server.forgotten, len(ids))
        self.server.forgotten -= lost
        self.server.recorded.update(ids[lost:])

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def fake_prefect() -> Iterator[FakeServer]:
    """Yield a separate server for the duration of the block."""
    with FakeServer() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()
