"""The login page before the UIs, and the script that leads there."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from deployments.access.login import PAGE, SCRIPT, Login, link, put_script


def ask(path: str, method: str = "GET", kind: str = "http") -> tuple[dict[bytes, bytes], bytes] | None:
    """Headers and body of an answer; None where the application behind was asked."""
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
    ("path", "kind", "word"), [(PAGE, b"text/html", b"<form"), (SCRIPT, b"text/javascript", b"localStorage")]
)
def test_page_and_script_are_served_to_everybody(path: str, kind: bytes, word: bytes) -> None:
    answer = ask(path)
    assert answer is not None
    headers, body = answer
    assert headers[b"content-type"].startswith(kind)
    assert word in body
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
def test_all_else_is_the_applications(path: str, method: str, kind: str) -> None:
    assert ask(path, method, kind) is None


@pytest.mark.parametrize("auth", ["nirflow:abc", "ana:a b'c#?&", "ana:ñandú:x", "u:" + "~" * 7])
def test_a_link_has_the_password_behind_its_hash(auth: str) -> None:
    url, _, word = link("http://127.0.0.1:4210/", auth).partition("#")
    assert url == f"http://127.0.0.1:4210{PAGE}"
    assert base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode() == auth
    assert word.replace("-", "").replace("_", "").isalnum()


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
