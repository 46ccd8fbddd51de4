"""The one loopback address at which pages open, so that no password is stored for another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.access.one_address import OneAddress

URL = "http://127.0.0.1:4210"


def ask(
    host: str,
    path: str = "/nirflow/login",
    *,
    method: str = "GET",
    kind: str = "http",
    query: bytes = b"",
    scheme: str = "http",
    url: str | None = URL,
    names: tuple[str, ...] = (),
) -> str | None:
    """Return where a request is redirected to; None if it was forwarded to the application."""
    sent: list[Any] = []
    behind: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        behind.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind, "path": path, "raw_path": path.encode(), "query_string": query, "scheme": scheme,
        "method": method, "headers": [(b"host", host.encode())],
    }  # fmt: skip
    asyncio.run(OneAddress(application, url, names)(scope, None, send))  # type: ignore[arg-type]
    if behind:
        assert sent == []
        return None
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 307
    return dict(sent[0]["headers"])[b"location"].decode()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "[::1]", "127.0.0.2"])
@pytest.mark.parametrize(
    "path", ["/", "/nirflow/login", "/nirflow/login.js", "/v2/dashboard", "/store/", "/apis"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_under_another_loopback_name_redirects_to_the_address(
    host: str, path: str, method: str
) -> None:
    assert ask(f"{host}:4210", path, method=method) == f"{URL}{path}"
    assert ask(host, path, method=method) == f"http://127.0.0.1{path}"


def test_path_query_port_and_scheme_are_kept() -> None:
    assert (
        ask("localhost:5000", "/a%2Fb//c", query=b"a=1&b=%20") == "http://127.0.0.1:5000/a%2Fb//c?a=1&b=%20"
    )
    assert ask("localhost", "//elsewhere.example/", scheme="https") == "https://127.0.0.1//elsewhere.example/"
    assert ask("127.0.0.1:4210", url="http://[::1]:4210") == "http://[::1]:4210/nirflow/login"


def test_pages_open_at_the_address_and_the_names_of_the_settings() -> None:
    assert ask("127.0.0.1:4210") is None
    assert ask("127.0.0.1") is None
    assert ask("[::1]:4210", url="http://[::1]:4210") is None
    assert ask("localhost:4210", names=("LocalHost",)) is None
    assert ask("pipeline:4210", names=("pipeline",)) is None
    assert ask("10.0.0.7:4210") is None


@pytest.mark.parametrize(
    "url", ["https://nights.example", "http://localhost:4210", "http://10.0.0.7:4210", None]
)
def test_with_another_public_address_nothing_is_redirected(url: str | None) -> None:
    """A proxy may use the name localhost for a browser that uses another."""
    assert ask("localhost:4210", url=url) is None


@pytest.mark.parametrize(
    ("path", "method", "kind"),
    [("/api/health", "GET", "http"), ("/nirflow/session", "POST", "http"), ("/api/events/out", "GET", "websocket")],
)  # fmt: skip
def test_programs_can_use_any_of_its_names(path: str, method: str, kind: str) -> None:
    assert ask("localhost:4210", path, method=method, kind=kind) is None
