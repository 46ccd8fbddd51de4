"""The supervisor with parts that are nothing but sleeping processes: no Prefect, no PostgreSQL, no worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from waiting import PATIENCE, wait_until

from deployments import processes
from deployments.prefect_api.names import worker_name
from deployments.prefect_api.rest import RestError
from deployments.prefect_server.server import ServerError
from deployments.processes import ProcessError
from deployments.settings.all_settings import Settings, WorkerSettings
from deployments.settings.server_settings import ServerAddress, ServerSettings
from deployments.settings.watch_settings import WatchSettings
from deployments.supervisor import service, supervise
from deployments.supervisor.service import (
    PartState,
    ServiceState,
    environment_of,
    folder_of,
    log_of,
    read_state,
)
from deployments.supervisor.supervise import Part, Supervisor
from imaging.io.atomic import take_lock

T = TypeVar("T")
SLEEP = "import time; time.sleep(3600)"
#: Does not listen to SIGTERM, and has a child that does not either; tells when both are ready.
DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-S", "-c", open("deaf.py").read()])
    pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(3600)
"""
ADDRESS = ServerAddress("http://127.0.0.1:9/api", "http://127.0.0.1:9", 1, False, None)

#: Put before everything that Python imports: the servers are there at once, and parts only sleep.
FAKES = """
import os, sys, time
line = sys.orig_argv
if "deployments.registry.register" in line:
    sys.stdin.read()
    os._exit(0)
if "deployments.arrivals.main" in line:
    time.sleep(3600)
if "deployments.supervisor.supervise" in line:
    from calib_store.server import postgres
    from deployments.prefect_api import rest
    from deployments.prefect_server import server
    from deployments.settings.server_settings import ServerAddress
    with open(os.environ["TEST_STARTS"], "a") as starts:
        starts.write(f"{os.getpid()}\\n")
    def ensure_server(data_dir, settings, anew=False):
        if os.environ.get("TEST_FAIL") == "server":
            raise server.ServerError("The Prefect server ended while starting.", remedy="Look.")
        if os.environ.get("TEST_FAIL") == "defect":
            raise ZeroDivisionError("a defect")
        return ServerAddress("http://127.0.0.1:9/api", "http://127.0.0.1:9", os.getpid(), False, None)
    class Rest:
        def __init__(self, *_): pass
        def make_pool(self, *_): pass
        def seconds_since_heartbeat(self, *_): return 0.0
        def put_back(self, *_): return []
    server.ensure_server, server.stop_server = ensure_server, lambda *a, **k: True
    rest.Rest = Rest
    postgres.stop = lambda *_: True
    sleep = "import time; time.sleep(3600)"
    deployments.supervisor.command.worker_command = lambda: [sys.executable, "-S", "-c", sleep]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "raw").mkdir()
    return Settings(data_dir=tmp_path / "data", watch=WatchSettings(folders=(tmp_path / "raw",)))


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Callable[..., Part]]:
    made: list[Part] = []

    def make(text: str, *arguments: str) -> Part:
        command = [sys.executable, "-S", "-c", text, *arguments]
        one = Part("worker", command, os.environ, tmp_path / "worker.log")
        made.append(one)
        return one

    yield make
    for one in made:
        if one.process is not None:
            one.process.kill()
            one.process.wait()
            processes.end_group(one.process.pid)


# One part


def test_a_part_that_ends_is_started_again_with_growing_pauses(
    part: Callable[..., Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(supervise, "_LONGEST_PAUSE", 4.0)
    one = part("print('I cannot'); raise SystemExit(7)")
    one.start(tmp_path)
    pauses = []
    for restarts in range(1, 6):
        assert one.process is not None
        one.process.wait()
        began = now[0]
        one.look(tmp_path)
        told = one.told()
        assert (told.running, told.restarts) == (False, restarts - 1)
        assert told.note.startswith("ended with code 7")
        while one.process is None:
            now[0] += 0.5
            one.look(tmp_path)
        pauses.append(now[0] - began)
        assert one.restarts == restarts
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    one.process.wait()
    assert (tmp_path / "worker.log").read_text() == "I cannot\n" * 6


def test_a_part_that_was_well_for_long_is_started_again_soon(
    part: Callable[..., Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = part(SLEEP)
    one.start(tmp_path)
    for _ in range(3):
        assert one.process is not None
        one.process.kill()
        one.process.wait()
        one.look(tmp_path)
        now[0] += 100
        one.look(tmp_path)
    assert "started again in 4 s" in one.note
    now[0] += 59
    one.look(tmp_path)
    assert one.note
    now[0] += 2
    one.look(tmp_path)
    assert one.note == ""
    assert one.process is not None
    one.process.kill()
    one.process.wait()
    one.look(tmp_path)
    assert "started again in 1 s" in one.note


def test_a_part_that_does_not_listen_is_killed_with_what_it_started(
    part: Callable[..., Part], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    told = tmp_path / "child"
    one = part(DEAF, str(told))
    one.start(tmp_path)
    child = wait_until(lambda: told.is_file() and told.read_text())
    known = processes.birth(int(child))
    assert known is not None
    wait_until(lambda: b"deaf" not in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0])
    time.sleep(0.1)  # until the child ignores the signal
    one.end(grace=0.3, group=True)
    assert one.process is not None
    assert one.process.returncode == -signal.SIGKILL
    assert "did not end in 0.3 s and is killed" in caplog.text
    wait_until(lambda: not processes.is_alive(int(child), known))
    assert not one.told().running


def test_a_part_that_listens_is_not_killed(part: Callable[..., Part], tmp_path: Path) -> None:
    one = part(SLEEP)
    one.end()  # it was never started
    one.start(tmp_path)
    one.end(group=True)
    assert one.process is not None
    assert one.process.returncode == -signal.SIGTERM


# The supervisor in this process


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Servers that are there at once; what was asked of them, and what they shall say."""
    told: dict[str, Any] = {
        "stopped": [],
        "silence": 0.0,
        "asked": 0,
        "server": ADDRESS,
        "pools": [],
        "anew": [],
    }

    def ensure_server(data_dir: Path, settings: ServerSettings, anew: bool = False) -> ServerAddress:
        told["anew"].append(anew)
        if isinstance(told["server"], Exception):
            raise told["server"]
        address: ServerAddress = told["server"]
        return address

    class Rest:
        def __init__(self, api_url: str, auth: str | None) -> None:
            self.api_url = api_url

        def make_pool(self, pool: str, limit: int) -> None:
            told["pools"].append((pool, limit))

        def seconds_since_heartbeat(self, pool: str, worker: str) -> float | None:
            told["asked"] += 1
            if isinstance(told["silence"], Exception):
                raise told["silence"]
            silence: float | None = told["silence"]
            return silence

        def put_back(self, worker: str) -> list[str]:
            told["stopped"].append(f"runs of {worker}")
            if isinstance(told["silence"], Exception):
                raise told["silence"]
            return ["night 2013-11-21"]

    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        if command[-1] == "deployments.registry.register":
            command = [sys.executable, "-S", "-c", told.get("register", "import sys; sys.stdin.read()")]
        if command[-1] == "deployments.arrivals.main":
            command = [sys.executable, "-S", "-c", SLEEP]
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(supervise, "ensure_server", ensure_server)
    monkeypatch.setattr(supervise, "stop_server", lambda *_, **__: told["stopped"].append("server"))
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda _: told["stopped"].append("postgres"))
    monkeypatch.setattr(supervise, "Rest", Rest)
    monkeypatch.setattr(supervise, "worker_command", lambda: [sys.executable, "-S", "-c", SLEEP])
    monkeypatch.setattr(supervise, "_LOOK", 0.02)
    monkeypatch.setattr(supervise, "_HEALTH", 0.05)
    monkeypatch.setattr(supervise, "_FIRST_PAUSE", 0.01)
    return told


@pytest.fixture
def run(settings: Settings) -> Iterator[Callable[..., Supervisor]]:
    """Run a supervisor in a thread until the test has ended; waits until it is up."""
    running: list[tuple[Supervisor, threading.Thread]] = []

    def start(of: Settings = settings) -> Supervisor:
        one = Supervisor(of)
        thread = threading.Thread(target=one.run)
        running.append((one, thread))
        thread.start()
        wait_until(lambda: (state := read_state(of)) and (state.ready or state.failed))
        return one

    yield start
    for one, thread in running:
        one.stopping.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def the(settings: Settings, name: str) -> PartState:
    state = read_state(settings)
    assert state is not None
    return next(one for one in state.parts if one.name == name)


def test_all_parts_are_started_told_of_and_ended(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings
) -> None:
    one = run()
    state = read_state(settings)
    assert state is not None
    assert (state.pid, state.alive, state.ready, state.failed) == (os.getpid(), True, True, "")
    assert [p.name for p in state.parts] == ["server", "worker", "watcher"]
    assert all(p.running and p.pid for p in state.parts)
    assert (state.ui_url, state.api_url) == (ADDRESS.ui_url, ADDRESS.api_url)
    assert state.watched == settings.watch.folders
    assert fakes["pools"] == [("nirflow", 1)]
    pids = [p.pid for p in state.parts[1:] if p.pid]
    one.stopping.set()
    wait_until(lambda: not the(settings, "worker").running)
    wait_until(lambda: fakes["stopped"] == [f"runs of {worker_name()}", "server", "postgres"])
    assert [processes.birth(pid) for pid in pids] == [None, None]
    wait_until(lambda: not the(settings, "server").running)
    state = read_state(settings)
    assert state is not None
    assert not state.ready


def test_a_part_that_is_killed_comes_back(
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


def test_a_worker_that_the_server_does_not_hear_of_is_started_again(
    fakes: dict[str, Any], run: Callable[..., Supervisor], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    fakes["silence"] = 1000.0
    time.sleep(0.3)
    assert the(settings, "worker").restarts == 0  # it is too young to be ill
    monkeypatch.setattr(supervise, "SILENCE", 0.2)
    wait_until(lambda: the(settings, "worker").restarts >= 1)
    fakes["silence"] = RestError("away")  # that is no reason
    _more_questions(fakes)
    wait_until(lambda: the(settings, "worker").running)
    restarts = the(settings, "worker").restarts
    _more_questions(fakes)
    assert the(settings, "worker").restarts == restarts


def _more_questions(fakes: dict[str, Any]) -> None:
    """Wait until the supervisor has asked after the worker three times more, and done what came of it."""
    asked = fakes["asked"]
    wait_until(lambda: fakes["asked"] > asked + 3)


def test_a_server_that_does_not_come_up_is_tried_again_and_said(
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


def test_a_server_of_other_settings_is_replaced_at_the_start_and_only_then(
    fakes: dict[str, Any], run: Callable[..., Supervisor]
) -> None:
    run()
    wait_until(lambda: len(fakes["anew"]) > 2)
    assert fakes["anew"][0]
    assert not any(fakes["anew"][1:])


def test_parts_follow_a_server_that_came_back_on_another_port(
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
        fakes["server"] = ServerError("No space left on device.", remedy="Make room.")  # a new state to tell
        wait_until(lambda: len(full) > 3)
        assert sum("is tried again" in r.message and "[Errno 28]" in r.message for r in caplog.records) == 1
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
def test_a_failed_start_tells_why_and_leaves_nothing_behind(
    fakes: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "register":
        fakes["register"] = "import sys; sys.exit('the cron expression is wrong')"
    if what == "worker":
        fakes["silence"] = None
        words = "import sys; sys.exit('no pool of that name')"
        monkeypatch.setattr(supervise, "worker_command", lambda: [sys.executable, "-S", "-c", words])
    if what == "server":
        fakes["server"] = ServerError("It would listen for everybody.", remedy="Set a password.")
    if what == "disk":
        fakes["server"] = OSError(28, "No space left on device")
    one = Supervisor(settings)
    assert one.run() == 1
    state = read_state(settings)
    assert state is not None
    assert not state.ready
    words = {
        "register": "the cron expression is wrong",
        "worker": "no pool of that name",
        "server": "It would listen for everybody. Set a password.",
        "disk": "No space left on device",
    }
    assert words[what] in state.failed
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


def test_one_supervisor_a_data_folder_however_it_was_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first has written its state file, too."""
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    held = take_lock(folder / "supervisor.lock")
    assert held is not None
    monkeypatch.setattr(Supervisor, "run", lambda one: 5)
    monkeypatch.setattr(supervise, "Settings", lambda: settings)
    with held:
        with pytest.raises(ProcessError, match="nirflow is up already"):
            supervise.supervise(settings)
        assert supervise.main() == 1
    assert "nirflow is up already" in caplog.text


def test_what_is_told_is_read_back_and_nonsense_is_nothing(settings: Settings) -> None:
    assert read_state(settings) is None
    told = ServiceState(
        pid=7, birth="boot:1", started=1.5, ready=True, failed="why", ui_url="u", api_url="a",
        watched=(Path("/raw"),), nights=Path("/n"),
        parts=(PartState(name="worker", pid=8, birth="b", running=True, restarts=2, since=3.5, note="ill"),),
    )  # fmt: skip
    folder_of(settings).mkdir(parents=True)
    service.write_state(settings, told)
    assert read_state(settings) == told
    assert list(folder_of(settings).iterdir()) == [folder_of(settings) / "state.json"]
    for nonsense in (b"", b"{", b"\xff\xfe", b'{"pid": "x"}', b"[]"):
        (folder_of(settings) / "state.json").write_bytes(nonsense)
        assert read_state(settings) is None


# Started by `nirflow up`, found by pid and birth


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The environment in which a supervisor's servers and parts are fakes; whoever started is in ``starts``."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("TEST_STARTS", str(tmp_path / "starts"))
    (tmp_path / "starts").touch()
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def kept(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(service.subprocess, "Popen", kept)
    monkeypatch.setattr(service, "stop_server", lambda *_, **__: True)
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda _: True)
    yield tmp_path
    service.stop(Settings(data_dir=tmp_path / "data"))
    for process in started:
        process.kill()
        process.wait()


def start(settings: Settings) -> tuple[int, bool]:
    state, started = service.start(settings, timeout=PATIENCE)
    return state.pid, started


def test_two_starts_at_once_start_one_supervisor_and_stop_ends_it(world: Path, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        (pid, no), (same, yes) = sorted(pool.map(start, [settings, settings]), key=lambda one: one[1])
    assert (pid, no, yes) == (same, False, True)
    assert (world / "starts").read_text().split() == [str(pid)]
    state = read_state(settings)
    assert state is not None
    assert service.stop(settings)
    assert [processes.birth(p.pid) for p in state.parts if p.pid] == [None] * 3
    assert not service.stop(settings)


def test_the_supervisor_knows_the_settings_file_of_the_folder_where_it_was_started(
    world: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    (world / "nirflow.toml").write_text(
        'nights_dir = "pages"\nobjects_url = "objects"\n[watch]\nquiet = 33\n'
    )
    monkeypatch.setenv("NIRFLOW_SECRETS_DIR", ".")
    here = Settings(data_dir=settings.data_dir)
    environment = environment_of(here)
    monkeypatch.chdir("/")
    for name in ("NIRFLOW_CONFIG", "NIRFLOW_SECRETS_DIR", "NIRFLOW_NIGHTS_DIR", "NIRFLOW_OBJECTS_URL"):
        monkeypatch.setenv(name, environment[name])
    there = Settings(data_dir=settings.data_dir)
    assert there.watch.quiet == 33
    assert there.nights == world / "pages"
    assert there.objects_url == str(world / "objects")


@pytest.mark.parametrize("nested", [True, False])
def test_arguments_reach_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", '["/elsewhere"]')
    monkeypatch.setenv("NIRFLOW_WATCH_QUIET", "44")
    known = Settings()
    changes = {
        "data_dir": tmp_path,
        "watch": known.watch.model_copy(update={"folders": (tmp_path / 'a "raw"',) if nested else ()}),
        "server": known.server.model_copy(update={"host": "::1"}),
    }
    given = known.model_copy(update=changes)
    for name, value in environment_of(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("server", "The Prefect server ended while starting. Look."),
        ("defect", "nirflow ended while starting."),
    ],
)
def test_start_raises_with_the_reason_at_once(
    world: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str, words: str
) -> None:
    monkeypatch.setenv("TEST_FAIL", what)
    with pytest.raises(ProcessError) as caught:
        start(settings)
    assert caught.value.message.startswith(words)
    assert caught.value.remedy == f"See {log_of(settings, 'nirflow')}."
    if what == "defect":
        assert caught.value.details.endswith("ZeroDivisionError: a defect")


def test_a_stale_state_file_is_nobody(world: Path, settings: Settings) -> None:
    """Its pid may be anybody's by now: that process is left alone."""
    folder_of(settings).mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEP]) as other:
        pid = other.pid
        part = PartState(name="worker", pid=pid, birth="an earlier boot:5", running=True)
        stale = ServiceState(pid=pid, birth="an earlier boot:5", started=1.0, ready=True, parts=(part,))
        service.write_state(settings, stale)
        assert not stale.alive
        assert not service.stop(settings)
        new, started = start(settings)
        assert (started, new != pid) == (True, True)
        assert other.poll() is None
        other.kill()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers that `service.stop` asks to end."""
    told: list[str] = []
    monkeypatch.setattr(service, "stop_server", lambda *_, **__: told.append("server"))
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda _: told.append("postgres"))
    return told


def test_parts_that_outlived_their_supervisor_are_ended_by_the_next_one_and_by_stop(
    world: Path, settings: Settings, asked: list[str]
) -> None:
    def kill() -> list[int]:
        state = read_state(settings)
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
        wait_until(lambda: not state.alive)
        pids = [p.pid for p in state.parts if p.pid is not None and p.name != "server"]
        assert all(processes.birth(pid) for pid in pids)
        return pids

    assert start(settings)[1]
    first = kill()
    assert start(settings)[1]
    assert [processes.birth(pid) for pid in first] == [None, None]
    second = kill()
    assert service.stop(settings)
    assert [processes.birth(pid) for pid in second] == [None, None]
    assert asked == ["server", "postgres"]
    assert not service.stop(settings)


def test_runs_that_outlived_their_worker_end_with_everything_else(
    world: Path, settings: Settings, asked: list[str]
) -> None:
    """A worker that was killed leaves them in sessions of their own."""
    assert start(settings)[1]
    told = {"PREFECT__FLOW_RUN_ID": "7", "NIRFLOW_DATA_DIR": str(settings.data_dir.resolve())}
    elsewhere = told | {"NIRFLOW_DATA_DIR": "/elsewhere"}
    # The last is a database that a run has started again: it is not ended before what needs it, nor in this way.
    runs = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", SLEEP, word], env=os.environ | more, start_new_session=True
        )
        for word, more in (("prefect.engine", told), ("prefect.engine", elsewhere), ("postgres", told))
    ]
    try:
        assert service.stop(settings)
        assert runs[0].wait(PATIENCE) == -signal.SIGTERM
        assert [run.poll() for run in runs[1:]] == [None, None]
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_a_supervisor_that_does_not_end_is_killed_and_nothing_stays(
    world: Path, settings: Settings, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_STOP_GRACE", 0.5)
    assert start(settings)[1]
    state = read_state(settings)
    assert state is not None
    os.kill(state.pid, signal.SIGSTOP)  # as one that waits for a server that hangs
    assert service.stop(settings)
    assert not state.alive
    pids = [p.pid for p in state.parts if p.pid is not None and p.name != "server"]
    assert pids
    assert [processes.birth(pid) for pid in pids] == [None] * len(pids)
    assert asked == ["server", "postgres"]


def test_stop_where_nothing_ever_was(tmp_path: Path) -> None:
    never = Settings(data_dir=tmp_path / "never")
    assert not service.stop(never)
    assert not (tmp_path / "never").exists()


def test_the_way_to_the_server_goes_to_registration_whole(tmp_path: Path) -> None:
    from deployments.registry.register import _address, told_address

    address = ServerAddress("http://h/api", "http://u", 5, True, tmp_path, auth="u:p")
    assert _address(told_address(address).decode()) == address
    bare = ServerAddress("http://h/api", "http://u", None, False, None)
    assert _address(json.dumps(json.loads(told_address(bare)))) == bare


def test_logs_of_the_parts_lie_in_the_data_folder(settings: Settings) -> None:
    assert log_of(settings, "watcher") == settings.data_dir / "logs" / "watcher.log"
