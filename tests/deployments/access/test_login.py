"""The login page in front of the UIs, and the script that redirects to it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from deployments.access.login import PAGE, SCRIPT, Login, link, put_script


def ask(path: str, method: str = "GET", kind: str = "http") -> tuple[dict[bytes, bytes], bytes] | None:
    """Return headers and body of an answer; None if the request was forwarded to the application."""
    sent: list[Any] = []
    behind: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        behind.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method}
    asyncio.run(Login(application)(scope, None, send))  # type: ignore[arg-type]
    return None if behind else (dict(sent[0]["headers"]), sent[1]["body"])


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [(PAGE, b"text/html", b"<form"), (SCRIPT, b"text/javascript", b"localStorage")],
)
def test_page_and_script_are_public(path: str, kind: bytes, content: bytes) -> None:
    answer = ask(path)
    assert answer is not None
    headers, body = answer
    assert headers[b"content-type"].startswith(kind)
    assert content in body
    assert int(headers[b"content-length"]) == len(body)
    head = ask(path, "HEAD")
    assert head is not None
    assert (head[0][b"content-length"], head[1]) == (headers[b"content-length"], b"")


@pytest.mark.parametrize(
    ("path", "method", "kind"),
    [
        ("/", "GET", "http"), (f"{PAGE}/", "GET", "http"), ("/login", "GET", "http"), (PAGE, "POST", "http"),
        (PAGE, "GET", "websocket"), ("/nirflow/../nirflow/login", "GET", "http"),
    ],
)  # fmt: skip
def test_other_requests_are_forwarded_to_the_application(path: str, method: str, kind: str) -> None:
    assert ask(path, method, kind) is None


@pytest.mark.parametrize("auth", ["nirflow:abc", "ana:a b'c#?&", "ana:ñandú:x", "u:" + "~" * 7])
def test_a_link_has_the_password_behind_its_hash(auth: str) -> None:
    url, _, encoded = link("http://127.0.0.1:4210/", auth).partition("#")
    assert url == f"http://127.0.0.1:4210{PAGE}"
    assert base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode() == auth
    assert encoded.replace("-", "").replace("_", "").isalnum()


def test_both_uis_run_the_script_before_their_own_once(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "index.html").write_text(
            "<html>\n<head>\n<script src='a.js'></script></head></html>"
        )
    for _ in range(2):
        put_script(tmp_path)
    for version in ("v1", "v2"):
        text = (tmp_path / version / "index.html").read_text()
        assert text.count(SCRIPT) == 1
        assert text.index(SCRIPT) < text.index("a.js")
