"""Requests that the Prefect server answers: those to its own names, from its own pages."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from deployments.access.guarded import Guarded

ORIGIN = "http://127.0.0.1:4210"


def ask(
    *headers: tuple[str, str],
    kind: str = "http",
    method: str = "GET",
    path: str = "/api/flows/filter",
    server: tuple[str, int] = ("127.0.0.1", 4210),
    host: str = "127.0.0.1",
    extensions: tuple[str, ...] = ("websocket.http.response",),
    **settings: Any,
) -> tuple[int, str]:
    """Return status and message of the answer to a request; 200 if the application answered."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": f"{kind}.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": kind, "path": path, "server": server, "extensions": {one: {} for one in extensions},
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    if kind == "http":
        scope["method"] = method
    asyncio.run(Guarded(application, host, **settings)(scope, receive, send))
    first = sent[0]
    if first["type"] == "websocket.close":
        return int(first["code"]), str(first["reason"])
    if first["status"] != 200:
        assert (b"content-type", b"text/plain; charset=utf-8") in first["headers"]
        assert first["type"].startswith("websocket.http.response" if kind == "websocket" else "http.response")
    return int(first["status"]), b"".join(m.get("body", b"") for m in sent[1:]).decode()


KINDS = pytest.mark.parametrize("kind", ["http", "websocket"])


@KINDS
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:4210", "127.0.0.1", "localhost:4210", "LOCALHOST", "localhost.:4210", "[::1]:4210", "[::1]",
        "127.8.9.10:4210", "localhost:9999",
    ],
)  # fmt: skip
def test_loopback_names_are_accepted(host: str, kind: str) -> None:
    assert ask(("Host", host), kind=kind)[0] == 200


@KINDS
@pytest.mark.parametrize(
    "host",
    [
        "rebind.example:4210", "rebind.example", "127.0.0.1.rebind.example", "localhost.rebind.example",
        "10.0.0.7:4210", "localhost@rebind.example", "rebind.example:4210:127.0.0.1", "", ":4210", "[::2]:4210",
        "0.0.0.0:4210", "127.0.0.1, rebind.example", "2130706433", "xn--localhost",
    ],
)  # fmt: skip
def test_a_foreign_name_that_resolves_to_it_is_refused(host: str, kind: str) -> None:
    code, message = ask(("Host", host), kind=kind)
    assert code == 421
    assert f"Host: {host} " in message
    assert "server.names (NIRFLOW_SERVER_NAMES=" in message
    assert "server.public_url" in message


@KINDS
def test_exactly_one_host_is_required(kind: str) -> None:
    assert ask(kind=kind)[0] == 400
    assert ask(("Host", "localhost"), ("Host", "rebind.example"), kind=kind)[0] == 400


@KINDS
def test_further_names_from_the_settings_are_accepted(kind: str) -> None:
    assert ask(("Host", "server:4210"), kind=kind, names=["server"])[0] == 200
    assert ask(("Host", "Server.:80"), kind=kind, names=["SERVER"])[0] == 200
    assert ask(("Host", "fd00::7"), kind=kind, names=["fd00::7"])[0] == 200
    assert ask(("Host", "nights.example"), kind=kind, public_url="https://nights.example/")[0] == 200
    assert ask(("Host", "other.example"), kind=kind, public_url="https://nights.example/")[0] == 421


@KINDS
def test_on_all_addresses_the_names_of_the_machine_and_the_address_of_the_connection_are_accepted(
    kind: str,
) -> None:
    for host in ("0.0.0.0", "::"):
        for name in (socket.gethostname(), socket.getfqdn(), "localhost:1"):
            assert ask(("Host", name), kind=kind, host=host)[0] == 200
        assert ask(("Host", "10.0.0.7:4210"), kind=kind, host=host, server=("10.0.0.7", 4210))[0] == 200
        assert (
            ask(("Host", "10.0.0.7:4210"), kind=kind, host=host, server=("::ffff:10.0.0.7", 4210))[0] == 200
        )
        assert ask(("Host", "10.0.0.8:4210"), kind=kind, host=host, server=("10.0.0.7", 4210))[0] == 421
    assert ask(("Host", "mko.example"), kind=kind, host="mko.example")[0] == 200


@KINDS
@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("127.0.0.1:4210", "http://127.0.0.1:4210", 200),
        ("localhost:4210", "http://localhost:4210", 200),
        ("[::1]:4210", "http://[::1]:4210", 200),
        ("localhost", "http://localhost", 200),
        ("localhost", "http://localhost:80", 200),
        ("localhost", "https://localhost", 200),  # a proxy with TLS in front of it
        ("localhost", "https://localhost:80", 403),
        ("127.0.0.1:4210", "http://evil.example", 403),
        ("127.0.0.1:4210", "http://evil.example:4210", 403),
        ("127.0.0.1:4210", "http://127.0.0.1:8888", 403),  # a page of any account on this machine
        ("127.0.0.1:4210", "http://127.0.0.1", 403),
        ("127.0.0.1:4210", "http://localhost:4210", 403),
        ("127.0.0.1:4210", "http://127.0.0.1:4210.evil.example", 403),
        ("127.0.0.1:4210", "http://127.0.0.1:4210@evil.example", 403),
        ("127.0.0.1:4210", "http://evil.example@127.0.0.1:4210", 403),
        ("127.0.0.1:4210", "ftp://127.0.0.1:4210", 403),
        ("127.0.0.1:4210", "chrome-extension://abc", 403),
        ("127.0.0.1:4210", "null", 403),
        ("127.0.0.1:4210", "", 403),
        ("127.0.0.1:4210", "http://127.0.0.1:x", 403),
    ],
)
def test_its_own_pages_are_allowed(kind: str, host: str, origin: str, code: int) -> None:
    answer, message = ask(("Host", host), ("Origin", origin), kind=kind)
    assert answer == code
    if code == 403:
        assert f"Origin: {origin} " in message
        assert "server.public_url (NIRFLOW_SERVER_PUBLIC_URL)" in message


@KINDS
def test_the_public_origin_is_allowed_under_any_name_of_a_proxy(kind: str) -> None:
    def through(origin: str) -> int:
        headers = (("Host", "127.0.0.1:4210"), ("Origin", origin))
        return ask(*headers, kind=kind, public_url="https://nights.example")[0]

    assert through("https://nights.example") == 200
    assert through("https://nights.example:443") == 200
    assert through("http://nights.example") == 403
    assert through("https://nights.example:444") == 403


@KINDS
def test_each_of_several_origins_is_checked(kind: str) -> None:
    headers = (("Host", "127.0.0.1:4210"), ("Origin", ORIGIN), ("Origin", "http://evil.example"))
    assert ask(*headers, kind=kind)[0] == 403


@KINDS
@pytest.mark.parametrize(
    ("site", "code"),
    [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("?", 403)],
)
def test_the_site_reported_by_the_browser_is_checked(kind: str, site: str, code: int) -> None:
    answer, message = ask(("Host", "localhost:4210"), ("Sec-Fetch-Site", site), kind=kind)
    assert answer == code
    assert (f"Sec-Fetch-Site: {site} " in message) is (code == 403)


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
@pytest.mark.parametrize(
    ("path", "method", "mode", "dest", "code"),
    [
        ("/runs/flow-run/1", "GET", "navigate", "document", 200),  # a link in a mail
        ("/", "GET", "navigate", "document", 200),
        ("/apiary", "GET", "navigate", "document", 200),
        ("/api", "GET", "navigate", "document", 403),
        ("/api/flows", "GET", "navigate", "document", 403),
        ("//api/flows", "GET", "navigate", "document", 403),
        ("/API/flows", "GET", "navigate", "document", 403),
        ("/runs", "GET", "navigate", "iframe", 403),
        ("/runs", "GET", "no-cors", "document", 403),
        ("/runs", "GET", "cors", "empty", 403),
        ("/runs", "POST", "navigate", "document", 403),
        ("/runs", "HEAD", "navigate", "document", 403),
    ],
)  # fmt: skip
def test_a_link_from_elsewhere_can_only_open_a_page(
    site: str, path: str, method: str, mode: str, dest: str, code: int
) -> None:
    headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
    assert ask(("Host", "localhost:4210"), *headers, path=path, method=method)[0] == code


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("Content-Length", "2")], 415),
        ([("Content-Length", "2"), ("Content-Type", "")], 415),
        ([("Content-Length", "2"), ("Content-Type", " ")], 415),
        ([("Transfer-Encoding", "chunked")], 415),
        ([("Content-Length", "2"), ("Content-Type", "application/json")], 200),
        ([("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")], 200),
        ([("Content-Length", "0")], 200),
        ([], 200),
    ],
)  # fmt: skip
def test_a_body_needs_a_content_type(method: str, headers: list[tuple[str, str]], code: int) -> None:
    answer, message = ask(("Host", "localhost"), *headers, method=method)
    assert answer == code
    assert ("Content-Type" in message) is (code == 415)


def test_a_socket_is_closed_if_the_server_cannot_send_a_message() -> None:
    code, message = ask(("Host", "rebind.example"), kind="websocket", extensions=())
    assert code == 1008
    assert "rebind.example" in message


def test_messages_repeat_headers_short_and_printable() -> None:
    _, message = ask(("Host", "localhost"), ("Origin", "http://\x1b]0;owned\x07" + "x" * 9000))
    assert "\x1b" not in message
    assert len(message) < 1000


def test_other_messages_than_requests_are_forwarded() -> None:
    seen: list[Any] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send))

    asyncio.run(Guarded(lifespan, "127.0.0.1")({"type": "lifespan"}, None, print))  # type: ignore[arg-type]
    assert seen == [("lifespan", print)]
