"""Errors for a Prefect server that refuses or is absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from deployments.prefect_server.server import ServerError
from deployments.settings.server_settings import ServerAddress
from nirflow.reduction import _server_reported

ADDRESS = ServerAddress("http://127.0.0.1:7/api", "http://127.0.0.1:7", 5, False, Path("/data"))


def ask(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    with _server_reported(ADDRESS), httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get(ADDRESS.api_url).raise_for_status()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            401,
            r"at http://127.0.0.1:7 requires a password, and none or a wrong one was given.* Set NIRFLOW_SERVER_AUTH",
        ),
        (503, r"at http://127.0.0.1:7 no longer responds: .*503.* run the command again"),
    ],
)
def test_a_server_that_refuses_is_reported_with_a_remedy(code: int, expected: str) -> None:
    with pytest.raises(ServerError, match=expected):
        ask(lambda request: httpx.Response(code))


def test_an_absent_server_is_reported_with_a_remedy() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(ServerError, match="no longer responds: Connection refused"):
        ask(away)
