"""``up``, ``down``, ``status``, ``settings`` and ``server env`` on the command line; nothing is ever started here."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_prefect import fake_prefect
from typer.testing import Result

from deployments import processes
from deployments.prefect_api.rest import Rest, RestError
from deployments.prefect_server import server
from deployments.prefect_server.server_setup import digest, environment_of
from deployments.prefect_server.server_state import ServerState
from deployments.prefect_server.server_state import write_state as write_server_state
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress
from deployments.status.supervisor_state import PartState, ServiceState, folder_of, read_state, write_state

Run = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data folder in which nothing may be started."""
    folder = tmp_path / "data"
    # Changes of the environment by --data end with the test.
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(folder))
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"{arguments} was to be started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("deployments.supervisor.supervise.Supervisor.run", refuse)
    return folder


def state(data: Path, **changes: Any) -> ServiceState:
    """Return a state file with this process as the supervisor."""
    pid = os.getpid()
    born = processes.birth(pid)
    parts = (
        PartState(name="server", pid=pid, running=True, log=data / "logs" / "prefect-server.log"),
        PartState(
            name="worker", pid=pid, birth=born, running=True, restarts=2, log=data / "logs" / "worker.log"
        ),
    )
    values: dict[str, Any] = {
        "pid": pid, "birth": born, "started": time.time() - 60, "ready": True, "parts": parts,
        "ui_url": "http://mko:4210", "api_url": "http://127.0.0.1:9/api", "watched": (data / "raw",),
        "nights": data / "nights", "host": "127.0.0.1", "password": True,
    }  # fmt: skip
    made = ServiceState(**values | changes)
    settings = Settings(data_dir=data)
    folder_of(settings).mkdir(parents=True, exist_ok=True)
    write_state(settings, made)
    return made


# Up


@pytest.mark.parametrize("foreground", [[], ["--foreground"]])
def test_a_missing_folder_is_refused(nirflow: Run, data: Path, tmp_path: Path, foreground: list[str]) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "rwa", tmp_path / "file"):
        result = nirflow("up", "--watch", tmp_path, "--watch", folder, *foreground)
        assert result.exit_code == 1
        assert f"--watch {folder}: no such folder. Create it" in " ".join(result.stderr.split())
    assert not data.exists()


def test_the_address_and_the_folders_go_to_the_supervisor(
    nirflow: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Settings] = []

    def start(settings: Settings) -> tuple[ServiceState, bool]:
        asked.append(settings)
        return state(data), True

    monkeypatch.setattr("deployments.supervisor.service.start", start)
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "ana:hush")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "raw").mkdir()
    result = nirflow("up", "--bind", "0.0.0.0", "--watch", "~/raw", "--data", data)
    assert result.exit_code == 0, result.stderr
    assert asked[0].server.host == "0.0.0.0"
    assert asked[0].watch.folders == (tmp_path / "raw",)
    assert result.stdout.splitlines()[0].startswith("Up after ")
    assert result.stdout.splitlines()[1:] == [
        "UI:      http://mko:4210",
        f"Log in:  nirflow server login --data {data} prints a link",
        "         Port 4210 is taken: it listens on 9 until the next nirflow up.",
        f"Nights:  {data / 'nights' / 'index.html'} (after the first run)",
        f"Watched: {data / 'raw'} (does not exist yet)",
        f"Logs:    {data / 'logs'}",
        f"Stop it: nirflow down --data {data}",
    ]
    (data / "nights").mkdir()
    (data / "nights" / "index.html").touch()
    assert f"Nights:  {data / 'nights' / 'index.html'}\n" in nirflow("up").stdout
    reported = json.loads(nirflow("up", "--json").stdout)
    assert (reported["started"], reported["pid"], reported["ui_url"]) == (
        True,
        os.getpid(),
        "http://mko:4210",
    )
    assert "hush" not in json.dumps(reported)


def test_the_folders_of_an_earlier_up_are_watched_again(
    nirflow: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, ...]] = []

    def start(settings: Settings) -> tuple[ServiceState, bool]:
        asked.append(settings.watch.folders)
        return state(data, watched=settings.watch.folders), True

    monkeypatch.setattr("deployments.supervisor.service.start", start)
    kept = data / "service" / "watched.json"
    for options in ((), ("--watch", tmp_path), (), ("--no-watch",), ()):
        assert nirflow("up", *options).exit_code == 0
        listed = json.loads(nirflow("settings", "--json").stdout)["watch.folders"]
        wanted = (str(asked[-1][0]), str(kept)) if asked[-1] else ("", "default")
        assert (listed["value"], listed["source"]) == wanted
    assert asked == [(), (tmp_path,), (tmp_path,), (), ()]
    both = nirflow("up", "--watch", tmp_path, "--no-watch")
    assert both.exit_code == 2
    assert "exclude each other" in " ".join(both.stderr.split())


def test_folders_are_remembered_only_once_everything_is_up(
    nirflow: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(settings: Settings) -> tuple[ServiceState, bool]:
        raise processes.ProcessError("The worker does not start.", remedy="See its log.")

    monkeypatch.setattr("deployments.supervisor.service.start", start)
    assert nirflow("up", "--watch", tmp_path).exit_code == 1
    assert not (data / "service" / "watched.json").exists()


def test_a_running_service_is_not_what_was_asked_for(nirflow: Run, data: Path, tmp_path: Path) -> None:
    state(data)
    for options, started_with in (
        (("--watch", tmp_path), f"--watch {data / 'raw'}"),
        (("--no-watch",), f"--watch {data / 'raw'}"),
        (("--bind", "127.0.0.2"), "--bind 127.0.0.1"),
    ):
        result = nirflow("up", *options)
        said = " ".join(result.stderr.split())
        assert result.exit_code == 1
        assert (
            f"is already up (process {os.getpid()}), started with {started_with}; nothing was changed" in said
        )
        assert "To change that: nirflow down" in said
    again = nirflow("up")
    assert again.exit_code == 0
    assert f"Already up (process {os.getpid()})." in again.stdout
    foreground = nirflow("up", "--foreground")
    assert foreground.exit_code == 1
    assert "is already up" in foreground.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NIRFLOW_SERVER_OPERATOR_AUTH", "ana:another"), ("NIRFLOW_SERVER_OPERATOR_AUTH", None),
        ("NIRFLOW_SERVER_VIEWER_AUTH", "eve:looks"), ("NIRFLOW_NOTIFY_EMAIL_TO", '["ana@example.org"]'),
    ],
)  # fmt: skip
def test_up_fails_where_a_running_server_keeps_its_settings(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    made = state(data)
    monkeypatch.setenv("NIRFLOW_SERVER_OPERATOR_AUTH", "ana:operates")
    folder = data.resolve() / "prefect"
    folder.mkdir(mode=0o700)
    settings = server.with_password(Settings(data_dir=data).server, data)
    url = server.database_url_of(data, settings, start=False)
    setup = digest(environment_of(settings, folder, 9, url))
    born = made.birth
    write_server_state(folder, ServerState(made.pid, born, "127.0.0.1", 9, settings.port, setup, closed=True))
    assert nirflow("up").exit_code == 0
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    result = nirflow("up")
    assert result.exit_code == 1
    reported = " ".join(result.stderr.split())
    assert (
        "started with other settings of the Prefect server (passwords of the roles, notify, ...), which"
        in reported
    )
    assert "To change that: nirflow down, then up again." in reported
    assert "another" not in reported


@pytest.mark.parametrize("auth", ["hush", ":hush", "hush:"])
@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_an_unusable_password_is_refused_without_showing_it(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch, auth: str, bind: str
) -> None:
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", auth)
    result = nirflow("up", "--bind", bind)
    assert result.exit_code == 1
    assert "is not USER:PASSWORD" in result.stderr
    assert "NIRFLOW_SERVER_AUTH" in result.stderr
    assert "hush" not in result.stderr
    assert not data.exists()


@pytest.mark.parametrize(
    ("started_with", "now", "code", "reported"),
    [
        (False, None, 200, "started with no password;"),
        (False, "ana:secret", 200, "started with no password;"),
        (True, None, 200, ""),
        (True, None, 401, "started with another password;"),
        (True, "ana:secret", 401, "started with another password;"),
        (True, "ana:secret", 200, ""),
        (True, "ana:secret", 503, ""),
    ],
)
def test_a_password_changed_since_the_start_is_reported(
    nirflow: Run,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    started_with: bool,
    now: str | None,
    code: int,
    reported: str,
) -> None:
    if now is not None:
        monkeypatch.setenv("NIRFLOW_SERVER_AUTH", now)
    with fake_prefect() as server:
        server.answers = [(code, "[]")]
        state(data, password=started_with, api_url=server.api)
        result = nirflow("up")
    assert result.exit_code == (1 if reported else 0)
    assert reported in " ".join(result.stderr.split())


# Down and status


def test_down_without_a_running_service(nirflow: Run, data: Path) -> None:
    result = nirflow("down")
    assert (result.exit_code, result.stdout) == (0, "nirflow was not up.\n")
    state(data, birth="another boot:1", parts=())
    assert nirflow("down", "--data", data).stdout == "nirflow was not up.\n"


def test_down_ends_the_supervisor(nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = state(data, parts=())
    ended: list[tuple[Any, ...]] = []
    monkeypatch.setattr("deployments.processes.end", lambda *one: ended.append(one))
    assert nirflow("down").stdout == "Stopped.\n"
    assert ended == [(there.pid, there.birth, 60.0)]


def running(monkeypatch: pytest.MonkeyPatch, *runs: dict[str, Any], error: Exception | None = None) -> None:
    def post(rest: Rest, path: str, body: Any) -> Any:
        if error is not None:
            raise error
        if path != "/flow_runs/filter":
            return []
        due = "SCHEDULED" in body["flow_runs"]["state"]["type"]["any_"]
        assert due == ("expected_start_time" in body["flow_runs"])  # the run of next morning does not wait
        return [run for run in runs if (run["state_name"] == "Scheduled") == due]

    monkeypatch.setattr(Rest, "post", post)


def test_status_shows_each_part_and_what_runs_and_waits(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(data)
    run = {
        "name": "night 2013-11-21",
        "state_name": "Running",
        "state_type": "RUNNING",
        "start_time": "2013-11-21T12:00:00Z",
    }
    running(monkeypatch, run)
    result = nirflow("status")
    assert result.exit_code == 0
    head, login, columns, server, worker, work, free, no_store, no_watcher = result.stdout.splitlines()
    assert re.fullmatch(rf"Free disk: [0-9.]+ [GM]B in {data}", free)
    assert no_store.startswith("Not known: the sequences that arrived or wait for calibrations, ")
    assert (
        no_watcher == "Not known: the files that are still arriving. No watcher runs with this data folder."
    )
    assert login == "Log in: nirflow server login prints a link"
    assert head.startswith(f"nirflow is up (process {os.getpid()}) since ")
    assert head.endswith("UI: http://mko:4210")
    assert columns.split() == ["part", "state", "process", "restarts"]
    assert server.split()[:4] == ["server", "running", str(os.getpid()), "0"]
    assert worker.split()[:4] == ["worker", "running", str(os.getpid()), "2"]
    assert work == "Running: night 2013-11-21, since 2013-11-21 12:00 UT"
    reported = json.loads(nirflow("status", "--json").stdout)
    assert (reported["up"], reported["sequences"]) == (True, None)
    (one,) = reported["runs"]
    assert (one["name"], one["stage"], one["since"]) == (
        "night 2013-11-21",
        "running",
        "2013-11-21T12:00:00Z",
    )
    scheduled = {
        "name": "mild-wolf",
        "state_name": "Scheduled",
        "state_type": "SCHEDULED",
        "start_time": None,
    }
    running(monkeypatch, scheduled)
    assert "Queued: mild-wolf" in nirflow("status").stdout.splitlines()
    running(monkeypatch)
    assert "Runs: none is in progress or waits for its turn" in nirflow("status").stdout.splitlines()


def test_status_without_a_running_service(nirflow: Run, data: Path) -> None:
    for known in (False, True):
        result = nirflow("status")
        assert result.exit_code == 3
        first, *others = result.stdout.splitlines()
        assert first == "nirflow is not up. Start it: nirflow up --watch DIR"
        assert bool(others) == known
        unknown = "Not known: the runs in progress, and what is switched off. nirflow is not up."
        assert (unknown in others) == known
        as_json = nirflow("status", "--json")
        assert as_json.exit_code == 3
        assert json.loads(as_json.stdout)["up"] is False
        state(data, birth="an earlier boot:5")  # now a different process


@pytest.mark.parametrize(
    "changes",
    [
        {"ready": False},
        {"parts": (PartState(name="worker", running=False, note="ended with code 1"),)},
        # It has died since the supervisor's last check.
        {
            "parts": (
                PartState(name="worker", pid=1, birth="another", running=True, note="ended with code 1"),
            )
        },
    ],
)
def test_status_where_a_part_is_down(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    running(monkeypatch)
    state(data, **changes)
    result = nirflow("status")
    assert result.exit_code == 4
    assert ("starting" if "ready" in changes else "ended with code 1") in result.stdout
    assert nirflow("status", "--json").exit_code == 4


def test_a_server_that_does_not_report_its_runs_is_mentioned(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(data)
    running(monkeypatch, error=RestError("It refuses.", remedy="Give the password."))
    result = nirflow("status")
    assert "Runs: " not in result.stdout
    unknown = "Not known: the runs in progress, and what is switched off. It refuses. Give the password."
    assert unknown in result.stdout.splitlines()
    assert json.loads(nirflow("status", "--json").stdout)["runs"] is None


def test_status_asks_the_server_here_not_where_browsers_reach_it(
    nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(data)
    asked: list[str] = []

    def post(rest: Rest, path: str, body: Any) -> list[Any]:
        asked.append(rest._connection.api_url + path)
        return []

    monkeypatch.setattr(Rest, "post", post)
    nirflow("status")
    assert "http://127.0.0.1:9/api/flow_runs/filter" in asked
    assert all(one.startswith("http://127.0.0.1:9/api/") for one in asked)


def test_an_invalid_state_file_means_no_service(nirflow: Run, data: Path) -> None:
    settings = Settings(data_dir=data)
    folder_of(settings).mkdir(parents=True)
    (folder_of(settings) / "state.json").write_bytes(b"\xff")
    assert read_state(settings) is None
    assert nirflow("status").exit_code == 3


# Settings


def test_settings_are_listed_with_their_sources(
    nirflow: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[watch]\nquiet = 33\nfolders = ["/a", "/b c"]\n[notify]\nwebhook = "http://h/s3cret"\n')
    monkeypatch.setenv("NIRFLOW_CONFIG", str(file))
    monkeypatch.setenv("NIRFLOW_WORKER_LIMIT", "4")
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "ana:hush")
    result = nirflow("settings")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert result.stdout.startswith(f"Settings file: {file}\n")
    assert lines["watch.quiet"].split()[1:3] == ["33.0", "file"] or lines["watch.quiet"].split()[1:3] == [
        "33",
        "file",
    ]
    assert lines["worker.limit"].split()[1:3] == ["4", "environment"]
    assert lines["nightly.cron"].split()[1:7] == ["0", "9", "*", "*", "*", "default"]
    assert lines["notify.webhook"].split()[1:3] == ["(set)", "file"]
    assert lines["watch.folders"].split()[1:4] == ["/a,", "/b", "c"]
    reported = json.loads(nirflow("settings", "--json").stdout)
    assert reported["watch.quiet"] == {"value": 33.0, "source": str(file), "variable": "NIRFLOW_WATCH_QUIET"}
    assert reported["server.auth"]["value"] == "(set)"
    assert reported["data_dir"]["value"] == str(data)
    for secret in ("s3cret", "hush"):
        assert secret not in result.stdout + json.dumps(reported)
    assert set(reported) == {name for name in lines if name not in ("Settings", "setting")}


def test_every_setting_has_a_description(nirflow: Run, data: Path) -> None:
    head, *rows = nirflow("settings").stdout.splitlines()[1:]
    meaning = head.index("meaning")
    assert len(rows) > 30
    assert [row for row in rows if len(row[meaning:].strip()) < 8] == []


def test_a_misspelt_setting_stops_every_command(
    nirflow: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "site.toml"
    file.write_text("[watch]\nquite = 33\n")
    monkeypatch.setenv("NIRFLOW_CONFIG", str(file))
    commands = (
        "settings",
        "status",
        "up",
        "down",
        "cal list",
        "cal status",
        "server status",
        "report 2013-11-21",
    )
    for command in commands:
        result = nirflow(*command.split())
        assert result.exit_code == 1
        assert "There is no setting watch.quite." in result.stderr


# The server's environment for Prefect's own commands


def test_server_env_can_be_read_by_a_shell(nirflow: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = data / "it's $HOME"
    address = ServerAddress("http://127.0.0.1:7/api", "http://u", 5, False, home, auth="ana:a b'c")
    monkeypatch.setattr("deployments.prefect_server.server.ensure_server", lambda data_dir: address)
    result = nirflow("server", "env")
    assert result.exit_code == 0
    given: dict[str, str] = {}
    for line in result.stdout.splitlines():
        command, assigned = shlex.split(line)
        assert command == "export"
        name, _, value = assigned.partition("=")
        given[name] = value
    assert given["PREFECT_API_URL"] == "http://127.0.0.1:7/api"
    assert given["PREFECT_API_AUTH_STRING"] == "ana:a b'c"
    assert given["PREFECT_HOME"] == str(home)
    assert given["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in given
