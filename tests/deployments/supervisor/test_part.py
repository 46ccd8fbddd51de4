"""One part: start, restart and end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from supervised_parts import SLEEP
from waiting import wait_until

from deployments import processes
from deployments.supervisor import part as module
from deployments.supervisor.part import Part

T = TypeVar("T")


#: Ignores SIGTERM, like its child; reports when both are ready.
DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-S", "-c", open("deaf.py").read()])
    pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(3600)
"""


# One part


def test_a_part_that_ends_is_restarted_after_growing_pauses(
    part: Callable[..., Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 4.0)
    one = part("print('I cannot'); raise SystemExit(7)")
    one.start(tmp_path)
    pauses = []
    for restarts in range(1, 6):
        assert one.process is not None
        one.process.wait()
        began = now[0]
        one.check(tmp_path)
        state = one.state()
        assert (state.running, state.restarts) == (False, restarts - 1)
        assert state.note.startswith("ended with code 7")
        while one.process is None:
            now[0] += 0.5
            one.check(tmp_path)
        pauses.append(now[0] - began)
        assert one.restarts.number == one.state().recent == restarts
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    one.process.wait()
    assert (tmp_path / "worker.log").read_text() == "I cannot\n" * 6


def test_a_part_that_was_healthy_for_long_is_restarted_soon(
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
        one.check(tmp_path)
        now[0] += 100
        one.check(tmp_path)
    assert "to be restarted in 4 s" in one.note
    now[0] += 59
    one.check(tmp_path)
    assert one.note
    now[0] += 2
    one.check(tmp_path)
    assert one.note == ""
    assert one.process is not None
    one.process.kill()
    one.process.wait()
    one.check(tmp_path)
    assert "to be restarted in 1 s" in one.note


def test_a_part_that_ignores_signals_is_killed_with_its_children(
    part: Callable[..., Part], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    ready = tmp_path / "child"
    one = part(DEAF, str(ready))
    one.start(tmp_path)
    child = wait_until(lambda: ready.is_file() and ready.read_text())
    known = processes.birth(int(child))
    assert known is not None
    wait_until(lambda: b"deaf" not in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0])
    time.sleep(0.1)  # until the child ignores the signal
    one.end(grace=0.3, group=True)
    assert one.process is not None
    assert one.process.returncode == -signal.SIGKILL
    assert "did not end within 0.3 s and is killed" in caplog.text
    wait_until(lambda: not processes.is_alive(int(child), known))
    assert not one.state().running


def test_a_part_that_ends_at_a_signal_is_not_killed(part: Callable[..., Part], tmp_path: Path) -> None:
    one = part(SLEEP)
    one.end()  # it was never started
    one.start(tmp_path)
    one.end(group=True)
    assert one.process is not None
    assert one.process.returncode == -signal.SIGTERM
