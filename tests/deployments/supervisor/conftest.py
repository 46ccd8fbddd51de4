"""Fixtures of this folder."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from deployments import processes
from deployments.settings.all_settings import Settings
from deployments.settings.watch_settings import WatchSettings
from deployments.status.supervisor_state import read_state
from deployments.supervisor import service
from deployments.supervisor.part import Part
from deployments.supervisor.supervise import Supervisor


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


@pytest.fixture
def run(settings: Settings) -> Iterator[Callable[..., Supervisor]]:
    """Run a supervisor in a thread until the test has ended, and wait until it is running."""
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


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the servers that `service.stop` stops."""
    calls: list[str] = []
    monkeypatch.setattr(service, "stop_server", lambda *_, **__: calls.append("server"))
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda _: calls.append("postgres"))
    return calls
