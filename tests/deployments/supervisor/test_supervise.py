"""The supervisor in this process, with parts that only sleep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from supervised_parts import SLEEP
from waiting import PATIENCE, wait_until

from deployments import processes
from deployments.notices.outbox import waiting
from deployments.prefect_api.names import worker_name
from deployments.prefect_api.rest import RestError
from deployments.prefect_server.server import ServerError
from deployments.processes import ProcessError
from deployments.settings.all_settings import NotifySettings, Settings, WorkerSettings
from deployments.settings.server_settings import ServerAddress, ServerSettings
from deployments.status.supervisor_state import PartState, ServiceState, folder_of, read_state, write_state
from deployments.supervisor import part as part_module
from deployments.supervisor import supervise
from deployments.supervisor.supervise import Supervisor
from imaging.io.atomic import take_lock

ADDRESS = ServerAddress("http://127.0.0.1:9/api", "http://127.0.0.1:9", 1, False, None)


# The supervisor in this process


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Fake servers that start at once, with a record of their calls and settable answers."""
    calls: dict[str, Any] = {
        "stopped": [],
        "silence": 0.0,
        "questions": 0,
        "server": ADDRESS,
        "pools": [],
        "renew": [],
    }

    def ensure_server(data_dir: Path, settings: ServerSettings, renew: bool = False) -> ServerAddress:
        calls["renew"].append(renew)
        if isinstance(calls["server"], Exception):
            raise calls["server"]
        address: ServerAddress = calls["server"]
        return address

    class Rest:
        def __init__(self, api_url: str, auth: str | None) -> None:
            self.api_url = api_url

        def make_pool(self, pool: str, limit: int) -> None:
            calls["pools"].append((pool, limit))

        def seconds_since_heartbeat(self, pool: str, worker: str) -> float | None:
            calls["questions"] += 1
            if isinstance(calls["silence"], Exception):
                raise calls["silence"]
            silence: float | None = calls["silence"]
            return silence

        def reschedule(self, worker: str) -> list[str]:
            calls["stopped"].append(f"runs of {worker}")
            if isinstance(calls["silence"], Exception):
                raise calls["silence"]
            return ["night 2013-11-21"]

    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        if command[-1] == "deployments.registry.register":
            command = [sys.executable, "-S", "-c", calls.get("register", "import sys; sys.stdin.read()")]
        if command[-1] in ("deployments.arrivals.main", "deployments.judging.judge_process"):
            command = [sys.executable, "-S", "-c", SLEEP]
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(supervise, "ensure_server", ensure_server)
    monkeypatch.setattr(supervise, "stop_server", lambda *_, **__: calls["stopped"].append("server"))
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda _: calls["stopped"].append("postgres"))
    monkeypatch.setattr(supervise, "Rest", Rest)
    monkeypatch.setattr(supervise, "worker_command", lambda: [sys.executable, "-S", "-c", SLEEP])
    monkeypatch.setattr(supervise, "_CHECK", 0.02)
    monkeypatch.setattr(supervise, "_HEALTH_CHECK", 0.05)
    monkeypatch.setattr(part_module, "_FIRST_PAUSE", 0.01)
    return calls


def the(settings: Settings, name: str) -> PartState:
    state = read_state(settings)
    assert state is not None
    return next(one for one in state.parts if one.name == name)


def test_all_parts_are_started_reported_and_ended(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings
) -> None:
    one = run()
    state = read_state(settings)
    assert state is not None
    assert (state.pid, state.alive, state.ready, state.failed) == (os.getpid(), True, True, "")
    assert [p.name for p in state.parts] == ["server", "worker", "watcher", "judge"]
    assert all(p.running and p.pid for p in state.parts)
    assert (state.ui_url, state.api_url) == (ADDRESS.ui_url, ADDRESS.api_url)
    assert state.watched == settings.watch.folders
    assert fakes["pools"] == [("nirflow", 1)]
    pids = [p.pid for p in state.parts[1:] if p.pid]
    one.stopping.set()
    wait_until(lambda: not the(settings, "worker").running)
    wait_until(lambda: fakes["stopped"] == [f"runs of {worker_name()}", "server", "postgres"])
    assert [processes.birth(pid) for pid in pids] == [None, None, None]
    wait_until(lambda: not the(settings, "server").running)
    state = read_state(settings)
    assert state is not None
    assert not state.ready


def test_a_killed_part_is_restarted(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings
) -> None:
    run()
    before = the(settings, "watcher")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: the(settings, "watcher").restarts == 1)
    after = wait_until(lambda: (p := the(settings, "watcher")).running and p)
    assert after.pid != before.pid
    assert "ended with code -9" in after.note
    assert the(settings, "worker").restarts == 0


def test_a_worker_without_heartbeats_is_restarted(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    fakes["silence"] = 1000.0
    time.sleep(0.3)
    assert the(settings, "worker").restarts == 0  # started too recently to be unhealthy
    monkeypatch.setattr(supervise, "SILENCE", 0.2)
    wait_until(lambda: the(settings, "worker").restarts >= 1)
    fakes["silence"] = RestError("away")  # that is not a reason to restart it
    _more_checks(fakes)
    wait_until(lambda: the(settings, "worker").running)
    restarts = the(settings, "worker").restarts
    _more_checks(fakes)
    assert the(settings, "worker").restarts == restarts


def _more_checks(fakes: dict[str, Any]) -> None:
    """Wait until the supervisor has checked the worker three more times, and acted on the result."""
    questions = fakes["questions"]
    wait_until(lambda: fakes["questions"] > questions + 3)


def test_a_server_that_does_not_start_is_tried_again_and_reported(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings
) -> None:
    run()
    fakes["server"] = ServerError("No space left on device.", details="more", remedy="Make room.")
    ill = wait_until(lambda: (p := the(settings, "server")).note and p)
    assert (ill.note, ill.running) == ("No space left on device.", False)
    fakes["server"] = ServerAddress(ADDRESS.api_url, ADDRESS.ui_url, 2, True, None)
    well = wait_until(lambda: (p := the(settings, "server")).running and p)
    assert well.note == ""
    assert well.restarts >= 1
    assert well.pid == 2


def test_a_server_with_other_settings_is_replaced_only_at_the_start(
    fakes: dict[str, Any], run: Callable[..., Supervisor]
) -> None:
    run()
    wait_until(lambda: len(fakes["renew"]) > 2)
    assert fakes["renew"][0]
    assert not any(fakes["renew"][1:])


def test_parts_follow_a_server_that_restarted_on_another_port(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings
) -> None:
    one = run()
    assert {part.environment["PREFECT_API_URL"] for part in one.parts} == {ADDRESS.api_url}
    fakes["server"] = ServerAddress("http://127.0.0.1:8/api", "http://127.0.0.1:8", 3, False, None)
    wait_until(lambda: all(the(settings, name).restarts >= 1 for name in ("worker", "watcher")))
    assert {part.environment["PREFECT_API_URL"] for part in one.parts} == {"http://127.0.0.1:8/api"}


def test_parts_are_free_of_the_users_own_prefect(
    fakes: dict[str, Any], run: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_PROFILE", "PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.setenv(name, "u:p")
    for part in run().parts:
        assert not {"PREFECT_PROFILE", "PREFECT_CLIENT_CUSTOM_HEADERS"} & set(part.environment)
        assert part.environment["PREFECT_SERVER_API_AUTH_STRING"] == "u:p"  # the server's, by the user's wish


@pytest.mark.parametrize("where", ["write_state", "trim"])
def test_a_full_disk_does_not_end_the_supervisor(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str,
) -> None:  # fmt: skip
    one = run()
    full: list[int] = []

    def fail(*_: Any, **__: Any) -> None:
        full.append(1)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(supervise if where == "write_state" else processes, where, fail)
        fakes["server"] = ServerError("No space left on device.", remedy="Make room.")  # a new state to write
        wait_until(lambda: len(full) > 3)
        assert sum("Trying again" in r.message and "[Errno 28]" in r.message for r in caplog.records) == 1
        assert all(part.running for part in one.parts)
    fakes["server"] = ADDRESS
    wait_until(lambda: (p := the(settings, "server")).running and not p.note)
    assert fakes["stopped"] == []


def test_without_a_worker_and_folders_only_the_server_is_kept(
    fakes: dict[str, Any], run: Callable[..., Supervisor], tmp_path: Path
) -> None:
    bare = Settings(data_dir=tmp_path / "data", worker=WorkerSettings(enabled=False))
    run(bare)
    state = read_state(bare)
    assert state is not None
    assert [p.name for p in state.parts] == ["server"]
    assert fakes["pools"] == []


@pytest.mark.parametrize("what", ["register", "worker", "server", "disk"])
def test_a_failed_start_reports_why_and_leaves_nothing_behind(
    fakes: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "register":
        fakes["register"] = "import sys; sys.exit('the cron expression is wrong')"
    if what == "worker":
        fakes["silence"] = None
        code = "import sys; sys.exit('no pool of that name')"
        monkeypatch.setattr(supervise, "worker_command", lambda: [sys.executable, "-S", "-c", code])
    if what == "server":
        fakes["server"] = ServerError("It would be reachable for everyone.", remedy="Set a password.")
    if what == "disk":
        fakes["server"] = OSError(28, "No space left on device")
    one = Supervisor(settings)
    assert one.run() == 1
    state = read_state(settings)
    assert state is not None
    assert not state.ready
    reasons = {
        "register": "the cron expression is wrong",
        "worker": "no pool of that name",
        "server": "It would be reachable for everyone. Set a password.",
        "disk": "No space left on device",
    }
    assert reasons[what] in state.failed
    runs = [f"runs of {worker_name()}"] if what in ("register", "worker") else []
    assert fakes["stopped"] == [*runs, "server", "postgres"]
    assert not any(part.running for part in one.parts)


def test_the_supervisor_ends_at_sigterm(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(one: Supervisor) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 5 if one.stopping.wait(PATIENCE) else 1

    monkeypatch.setattr(Supervisor, "run", run)
    try:
        assert supervise.supervise(settings) == 5
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_data_folder_has_one_supervisor_however_it_was_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even before the first has written its state file."""
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    held = take_lock(folder / "supervisor.lock")
    assert held is not None
    monkeypatch.setattr(Supervisor, "run", lambda one: 5)
    monkeypatch.setattr(supervise, "Settings", lambda: settings)
    with held:
        with pytest.raises(ProcessError, match="nirflow is already running"):
            supervise.supervise(settings)
        assert supervise.main() == 1
    assert "nirflow is already running" in caplog.text


def test_the_state_file_is_read_back_and_an_invalid_one_is_ignored(settings: Settings) -> None:
    assert read_state(settings) is None
    calls = ServiceState(
        pid=7, birth="boot:1", started=1.5, ready=True, failed="why", ui_url="u", api_url="a",
        watched=(Path("/raw"),), nights=Path("/n"),
        parts=(PartState(name="worker", pid=8, birth="b", running=True, restarts=2, since=3.5, note="ill"),),
    )  # fmt: skip
    folder_of(settings).mkdir(parents=True)
    write_state(settings, calls)
    assert read_state(settings) == calls
    assert list(folder_of(settings).iterdir()) == [folder_of(settings) / "state.json"]
    for nonsense in (b"", b"{", b"\xff\xfe", b'{"pid": "x"}', b"[]"):
        (folder_of(settings) / "state.json").write_bytes(nonsense)
        assert read_state(settings) is None


def test_a_part_that_restarts_often_is_notified_once_an_hour(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    notify = NotifySettings(webhook=SecretStr("http://127.0.0.1:9/"))
    one = Supervisor(settings.model_copy(update={"notify": notify}))
    one._server_restarts.ended("ended with code 1")
    for _ in range(4):
        one._server_restarts.restarted()
        one._report_restarts()
    (notice,) = waiting(one.settings)
    assert notice.subject == "nirflow: the server restarts often"
    assert notice.body.startswith("It was restarted 3 times within the last hour; it ended with code 1 at ")
    now[0] += 3601
    for _ in range(3):
        one._server_restarts.restarted()
    one._report_restarts()
    assert len(waiting(one.settings)) == 2
    only_nights = one.settings.model_copy(update={"notify": notify.model_copy(update={"on": ("night",)})})
    one.settings, one._reported = only_nights, {}
    one._report_restarts()
    assert len(waiting(one.settings)) == 2
