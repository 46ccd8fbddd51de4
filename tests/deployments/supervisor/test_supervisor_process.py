"""The supervisor as a process: started by `nirflow up`, found by pid and birth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from supervised_parts import SLEEP, start
from waiting import PATIENCE, wait_until

from deployments import processes
from deployments.processes import ProcessError
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress
from deployments.status.supervisor_state import (
    PartState,
    ServiceState,
    folder_of,
    log_of,
    read_state,
    write_state,
)
from deployments.supervisor import service
from deployments.supervisor.service import environment_of

#: Imported first by Python: the servers start at once, and parts only sleep.
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
    def ensure_server(data_dir, settings, renew=False):
        if os.environ.get("TEST_FAIL") == "server":
            raise server.ServerError("The Prefect server ended while starting.", remedy="Look.")
        if os.environ.get("TEST_FAIL") == "defect":
            raise ZeroDivisionError("a defect")
        return ServerAddress("http://127.0.0.1:9/api", "http://127.0.0.1:9", os.getpid(), False, None)
    class Rest:
        def __init__(self, *_): pass
        def make_pool(self, *_): pass
        def seconds_since_heartbeat(self, *_): return 0.0
        def reschedule(self, *_): return []
    server.ensure_server, server.stop_server = ensure_server, lambda *a, **k: True
    rest.Rest = Rest
    postgres.stop = lambda *_: True
    sleep = "import time; time.sleep(3600)"
    deployments.supervisor.command.worker_command = lambda: [sys.executable, "-S", "-c", sleep]
"""


# Started by `nirflow up`, found by pid and birth


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The environment in which a supervisor's servers and parts are fakes; starts are listed in ``starts``."""
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


def test_two_starts_at_once_start_one_supervisor_and_stop_ends_it(world: Path, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        (pid, no), (same, yes) = sorted(pool.map(start, [settings, settings]), key=lambda one: one[1])
    assert (pid, no, yes) == (same, False, True)
    assert (world / "starts").read_text().split() == [str(pid)]
    state = read_state(settings)
    assert state is not None
    assert service.stop(settings)
    assert [processes.birth(p.pid) for p in state.parts if p.pid] == [None] * 4
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
    loaded = Settings(data_dir=settings.data_dir)
    assert loaded.watch.quiet == 33
    assert loaded.nights == world / "pages"
    assert loaded.objects_url == str(world / "objects")


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
    ("what", "message"),
    [
        ("server", "The Prefect server ended while starting. Look."),
        ("defect", "nirflow ended while starting."),
    ],
)
def test_start_raises_with_the_reason_at_once(
    world: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    monkeypatch.setenv("TEST_FAIL", what)
    with pytest.raises(ProcessError) as caught:
        start(settings)
    assert caught.value.message.startswith(message)
    assert caught.value.remedy == f"See {log_of(settings, 'nirflow')}."
    if what == "defect":
        assert caught.value.details.endswith("ZeroDivisionError: a defect")


def test_a_stale_state_file_is_ignored(world: Path, settings: Settings) -> None:
    """Its pid may belong to another process now, which is left alone."""
    folder_of(settings).mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEP]) as other:
        pid = other.pid
        part = PartState(name="worker", pid=pid, birth="an earlier boot:5", running=True)
        stale = ServiceState(pid=pid, birth="an earlier boot:5", started=1.0, ready=True, parts=(part,))
        write_state(settings, stale)
        assert not stale.alive
        assert not service.stop(settings)
        new, started = start(settings)
        assert (started, new != pid) == (True, True)
        assert other.poll() is None
        other.kill()


def test_parts_that_outlived_their_supervisor_are_ended_by_the_next_one_and_by_stop(
    world: Path, settings: Settings, stopped: list[str]
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
    assert [processes.birth(pid) for pid in first] == [None, None, None]
    second = kill()
    assert service.stop(settings)
    assert [processes.birth(pid) for pid in second] == [None, None, None]
    assert stopped == ["server", "postgres"]
    assert not service.stop(settings)


def test_runs_that_outlived_their_worker_end_with_everything_else(
    world: Path, settings: Settings, stopped: list[str]
) -> None:
    """A killed worker leaves them in their own sessions."""
    assert start(settings)[1]
    variables = {"PREFECT__FLOW_RUN_ID": "7", "NIRFLOW_DATA_DIR": str(settings.data_dir.resolve())}
    elsewhere = variables | {"NIRFLOW_DATA_DIR": "/elsewhere"}
    # The last is a database that a run has restarted: it is ended later, and in another way.
    runs = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", SLEEP, argument], env=os.environ | more, start_new_session=True
        )
        for argument, more in (
            ("prefect.engine", variables),
            ("prefect.engine", elsewhere),
            ("postgres", variables),
        )
    ]
    try:
        assert service.stop(settings)
        assert runs[0].wait(PATIENCE) == -signal.SIGTERM
        assert [run.poll() for run in runs[1:]] == [None, None]
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_a_supervisor_that_does_not_end_is_killed_with_everything_else(
    world: Path, settings: Settings, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_STOP_GRACE", 0.5)
    assert start(settings)[1]
    state = read_state(settings)
    assert state is not None
    os.kill(state.pid, signal.SIGSTOP)  # like one that waits for a hanging server
    assert service.stop(settings)
    assert not state.alive
    pids = [p.pid for p in state.parts if p.pid is not None and p.name != "server"]
    assert pids
    assert [processes.birth(pid) for pid in pids] == [None] * len(pids)
    assert stopped == ["server", "postgres"]


def test_stop_without_anything_started(tmp_path: Path) -> None:
    never = Settings(data_dir=tmp_path / "never")
    assert not service.stop(never)
    assert not (tmp_path / "never").exists()


def test_the_complete_address_of_the_server_is_passed_to_registration(tmp_path: Path) -> None:
    from deployments.registry.register import _address, encoded_address

    address = ServerAddress("http://h/api", "http://u", 5, True, tmp_path, auth="u:p")
    assert _address(encoded_address(address).decode()) == address
    bare = ServerAddress("http://h/api", "http://u", None, False, None)
    assert _address(json.dumps(json.loads(encoded_address(bare)))) == bare


def test_logs_of_the_parts_are_in_the_data_folder(settings: Settings) -> None:
    assert log_of(settings, "watcher") == settings.data_dir / "logs" / "watcher.log"
