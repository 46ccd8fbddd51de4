"""The pages that the server shows without the password: a short list, on the real server."""

from __future__ import annotations

import base64
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from waiting import PATIENCE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from deployments.access.locked import credential
from deployments.access.login import PAGE, SCRIPT
from deployments.settings.server_settings import ServerAddress

#: All paths that need no password.
OPEN = {
    "/api/health",
    "/api/ready",
    "/ui-settings",
    PAGE,
    SCRIPT,
    "/",
    "/v2/",
    "/robots.txt",
}


def answer(
    server: ServerAddress, path: str, auth: str | None = None, method: str = "GET"
) -> tuple[int, bytes]:
    """Return status and body of the server's answer."""
    address = urlsplit(server.ui_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
    headers = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}
    body = None
    if method in ("POST", "PUT", "PATCH"):
        headers["Content-Type"], body = "application/json", b"{}"
    try:
        connection.request(method, path, body, headers)
        got = connection.getresponse()
        return got.status, got.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", sorted(OPEN))
def test_the_listed_pages_are_open(prefect_server: ServerAddress, path: str) -> None:
    status, body = answer(prefect_server, path)
    assert status == 200
    assert (prefect_server.auth or "?").encode() not in body


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_the_description_of_the_api_needs_the_password(prefect_server: ServerAddress, path: str) -> None:
    assert answer(prefect_server, path)[0] == 401
    assert answer(prefect_server, path, prefect_server.auth)[0] == 200


def test_a_wrong_password_opens_nothing(prefect_server: ServerAddress) -> None:
    assert answer(prefect_server, "/openapi.json", "nirflow:wrong")[0] == 401


def test_all_of_the_api_needs_the_password(prefect_server: ServerAddress) -> None:
    described: dict[str, Any] = json.loads(answer(prefect_server, "/openapi.json", prefect_server.auth)[1])
    requests = [
        (f"/api{path}".replace("{", "").replace("}", ""), method.upper())
        for path, methods in described["paths"].items()
        for method in methods
    ]
    assert len(requests) > 150
    requests += [
        (f"/api{path}", "GET") for path in ("/docs", "/redoc", "/openapi.json", "/static/", "/metrics")
    ]
    free = {path for path, method in requests if answer(prefect_server, path, method=method)[0] != 401}
    assert free <= OPEN


def test_every_socket_needs_the_password(prefect_server: ServerAddress) -> None:
    def opens(path: str, token: str | None) -> bool:
        url = prefect_server.ui_url.replace("http", "ws", 1) + path
        with connect(url, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": token}))
            try:
                return bool(json.loads(socket.recv(timeout=PATIENCE))["type"] == "auth_success")
            except ConnectionClosed:
                return False

    paths = ("/api/events/in", "/api/events/out", "/api/logs/out")
    tried = [(path, token) for path in paths for token in ("nirflow:wrong", None, "", prefect_server.auth)]
    with ThreadPoolExecutor(len(tried)) as pool:  # each wrong one is delayed
        opened = [
            one for one, open_ in zip(tried, pool.map(opens, *zip(*tried, strict=True)), strict=True) if open_
        ]
    assert opened == [(path, prefect_server.auth) for path in paths]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Basic dTpw", b"u:p"), (b"basic  dTpw ", b"u:p"), (b"Bearer dTpw", None), (b"Basic", b""), (b"", None),
        (b"Basic dTp", None), (b"Basic d*p=", None), (b"dTpw", None),
    ],
)  # fmt: skip
def test_a_credential_is_read_from_its_header(header: bytes, found: bytes | None) -> None:
    assert credential(header) == found
