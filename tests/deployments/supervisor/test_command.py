"""The commands of containers: the worker with its server, and the server in the foreground."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

from deployments.prefect_api.names import POOL
from deployments.prefect_api.rest import Rest
from deployments.prefect_server import serve
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import client_environment
from deployments.supervisor import command as work


class Replaced(Exception):
    """The replacement of this process by another program."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the `command` and `environment` that replace the process, and the created pool."""
    seen: dict[str, Any] = {}

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        seen.update(path=path, command=command, environment=environment)
        raise Replaced

    def make_pool(self: Rest, pool: str, limit: int) -> None:
        seen["pool"] = (pool, limit, dict(self._connection._headers).get("Authorization"))

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(Rest, "make_pool", make_pool)
    monkeypatch.setenv("PREFECT_API_URL", "http://server:4210/api/")
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "u:p")
    monkeypatch.setenv("NIRFLOW_WORKER_POLL", "2.5")
    monkeypatch.setenv("NIRFLOW_WORKER_LIMIT", "3")
    return seen


def test_it_becomes_the_worker_of_the_named_server(
    replaced: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_SERVER_PUBLIC_URL", "https://nights.example")
    monkeypatch.delenv("NIRFLOW_WORKER_NAME", raising=False)
    with pytest.raises(Replaced):
        work.main([])
    assert replaced["path"] == sys.executable
    command = replaced["command"]
    assert command[1:5] == ["-m", "deployments.supervisor.worker", "worker", "start"]
    assert command[command.index("--name") + 1] == f"nirflow on {socket.gethostname()}"
    assert command[command.index("--install-policy") + 1] == "never"
    assert not [argument for argument in command if "u:p" in argument]
    environment = replaced["environment"]
    assert environment["PREFECT_API_URL"] == "http://server:4210/api"
    assert environment["PREFECT_API_AUTH_STRING"] == "u:p"
    assert environment["PREFECT_UI_URL"] == "https://nights.example"
    assert environment["PREFECT_WORKER_QUERY_SECONDS"] == "2.5"
    assert environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert environment["PATH"] == os.environ["PATH"]
    assert replaced["pool"] == (POOL, 3, "Basic dTpw")


def test_it_registers_with_the_same_server(replaced: dict[str, Any]) -> None:
    with pytest.raises(Replaced):
        work.main(["--register"])
    assert replaced["command"] == [sys.executable, "-m", "deployments.registry.register"]
    assert replaced["environment"]["PREFECT_API_AUTH_STRING"] == "u:p"
    assert replaced["environment"]["PREFECT_UI_URL"] == "http://server:4210"


@pytest.mark.parametrize(("silence", "code"), [(3.0, 0), (work.SILENCE + 1, 1), (None, 1)])
def test_the_check_reports_whether_heartbeats_of_the_worker_arrive(
    replaced: dict[str, Any], monkeypatch: pytest.MonkeyPatch, silence: float | None, code: int
) -> None:
    monkeypatch.setattr(Rest, "seconds_since_heartbeat", lambda self, pool, name: silence)
    assert work.main(["--check"]) == code
    assert not replaced


def test_a_missing_or_silent_server_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for arguments in ([], ["--register"], ["--check"]):
        assert work.main(arguments) == 1
    assert caplog.text.count("PREFECT_API_URL") == 3
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    for arguments in ([], ["--register"], ["--check"]):
        assert work.main(arguments) == 1
    assert caplog.text.count("did not respond") == 3


def test_additional_variables_of_a_part_are_settings_of_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import get_current_settings

    monkeypatch.setenv("PREFECT_API_URL", "http://server:4210/api")
    settings = Settings()
    server = work.named_server(settings)
    more = set(work.part_environment(settings, server)) - set(client_environment(server))
    known = set(get_current_settings().to_environment_variables(include_aliases=True))
    assert more - {"PYTHONUNBUFFERED"} <= known
    assert "PREFECT_WORKER_QUERY_SECONDS" in more


def test_a_proxy_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://server:4210/api")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    settings = Settings()
    assert work.part_environment(settings, work.named_server(settings))["ALL_PROXY"] == ""
    assert "ALL_PROXY: runs do not use this proxy: the package that it needs is not installed" in caplog.text


# --- the server in the foreground


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NIRFLOW_SERVER_DATABASE_URL", "postgresql://nobody:hush@127.0.0.1:9/none")


@pytest.mark.parametrize("place", ["4210", ":4210", "localhost:", "localhost:x", "localhost:70000"])
def test_an_invalid_address_to_listen_at_is_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.main(["--bind", place])
    assert "is not HOST:PORT" in capsys.readouterr().err


def test_an_unusable_password_is_an_error(
    settings: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "hush")
    assert serve.main(["--bind", "0.0.0.0:0"]) == 1
    output = capsys.readouterr().err
    assert "is not USER:PASSWORD" in output
    assert "hush" not in output


def test_a_port_that_is_taken_is_an_error(settings: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        assert serve.main(["--bind", f"127.0.0.1:{squatter.getsockname()[1]}"]) == 1
    assert "already in use" in capsys.readouterr().err


def test_a_database_of_another_kind_is_an_error(
    settings: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_SERVER_DATABASE_URL", "sqlite:///runs.db")
    assert serve.main(["--bind", "127.0.0.1:0"]) == 1
    assert "not a PostgreSQL URL" in capsys.readouterr().err
