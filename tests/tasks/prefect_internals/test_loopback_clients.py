"""Prefect's clients of a server on this machine work whatever proxies the environment names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import tasks  # noqa: F401  # makes the change
from tasks.prefect_internals.loopback_clients import is_this_machine

PROXIES = ["socks5h://127.0.0.1:9", "socks4://127.0.0.1:9", "http://127.0.0.1:9", "nonsense://x"]


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A proxy for everything."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ALL_PROXY", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, request.param)
    return str(request.param)


def test_clients_of_this_machine_have_no_proxy(proxied: str) -> None:
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

    for url in ("http://127.0.0.1:4210/api", "http://[::1]:4210/api", "http://localhost:4210/api"):
        for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
            assert client(base_url=url)._mounts == {}
    transport = httpx.ASGITransport(app=lambda *_: None)  # type: ignore[arg-type]
    assert PrefectHttpxAsyncClient(transport=transport, base_url="http://ephemeral-prefect/api")._mounts == {}


def test_clients_of_another_machine_keep_the_proxy(proxied: str) -> None:
    from prefect.client.base import PrefectHttpxSyncClient

    if proxied.startswith("http:"):
        assert len(PrefectHttpxSyncClient(base_url="http://server:4210/api")._mounts) >= 2
    else:
        with pytest.raises((ImportError, ValueError), match=r"SOCKS|scheme"):
            PrefectHttpxSyncClient(base_url="http://server:4210/api")


def test_the_change_is_made_before_any_client_exists(tmp_path: Path) -> None:
    program = (
        "import flows.night; from prefect.client.orchestration import SyncPrefectClient as C;"
        "print(C('http://127.0.0.1:1/api')._client._mounts)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"ALL_PROXY": PROXIES[0], "HOME": "/tmp", "PREFECT_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "{}\n", done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://127.0.0.2/x", True), ("http://[::1]:1", True), ("http://localhost", True), ("http://server", False),
     ("http://10.0.0.1", False), ("nonsense", False)],
)  # fmt: skip
def test_this_machine(url: str, expected: bool) -> None:
    assert is_this_machine(url) is expected
