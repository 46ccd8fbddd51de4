"""Identification of processes by pid and birth, their termination, and locks that the kernel frees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from deployments import processes
from deployments.processes import ProcessError, birth, end, end_group, is_alive, locked, tail

SLEEP = "import time; print('up', flush=True); time.sleep(3600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
LOCK = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); " + SLEEP
#: A leader that ends at once and leaves a child of its group, whose pid it prints.
LEADER = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE); "
    "child.stdout.readline(); print(child.pid, flush=True); __import__('os')._exit(0)"
)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(text: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", text, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def output(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def born(process: subprocess.Popen[str]) -> str:
    known = birth(process.pid)
    assert known is not None
    return known


def test_a_process_is_identified_by_its_pid_and_birth(start: Start) -> None:
    one, other = start(SLEEP), start(SLEEP)
    output(one)
    assert is_alive(one.pid, born(one))
    assert birth(one.pid) == born(one)
    assert born(one).partition(":")[0] == born(other).partition(":")[0]  # one boot
    assert not is_alive(one.pid, "another boot:1")


def test_a_zombie_is_not_alive(start: Start) -> None:
    process = start("")
    wait_until(lambda: birth(process.pid) is None, "the end of the process")
    assert Path(f"/proc/{process.pid}").is_dir()  # not waited for yet
    assert birth(2**22 + 1) is None


def test_a_name_with_blanks_and_brackets_does_not_hide_the_birth(tmp_path: Path) -> None:
    odd = tmp_path / "a ) Z 1 ("
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        known = birth(process.pid)
        process.kill()
    assert known is not None
    assert known.rpartition(":")[2].isdecimal()


def test_end_begins_with_sigterm(start: Start) -> None:
    process = start(SLEEP)
    output(process)
    end(process.pid, born(process), PATIENCE)
    assert process.wait() == -signal.SIGTERM


def test_end_kills_a_process_that_ignores_sigterm(start: Start) -> None:
    process = start(DEAF)
    output(process)
    end(process.pid, born(process), 0.3)
    assert process.wait() == -signal.SIGKILL


def test_end_leaves_a_stranger_with_the_same_pid_alone(start: Start) -> None:
    process = start(SLEEP)
    output(process)
    end(process.pid, "an earlier boot:7", 0.1)
    assert process.poll() is None


def test_a_process_that_cannot_be_killed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr(processes, "_KILLED", 0.0)
    monkeypatch.setattr(processes, "birth", lambda pid: "it")
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    with pytest.raises(ProcessError, match="Process 77 does not end"):
        end(77, "it", 0.0)
    assert signals == [signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("child", [SLEEP, DEAF])
def test_the_group_ends_even_if_its_leader_has_ended(start: Start, child: str) -> None:
    leader = start(LEADER, child)
    pid = int(output(leader))
    leader.wait()
    known = birth(pid)
    assert known is not None
    end_group(leader.pid)
    wait_until(lambda: not is_alive(pid, known), "the end of the child")
    end_group(leader.pid)  # it no longer exists


def test_waiting_for_a_lock_ends_at_the_deadline(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock, time.monotonic() + PATIENCE, "it"):
        began = time.monotonic()
        with (
            pytest.raises(ProcessError, match=r"starting or stopping it for too long \(it holds .*lock\)"),
            locked(lock, began + 0.2, "it"),
        ):
            pass
        assert time.monotonic() - began >= 0.2
    with locked(lock, time.monotonic() + PATIENCE, "it"):
        pass


def test_a_lock_is_free_when_its_holder_is_killed(start: Start, tmp_path: Path) -> None:
    holder = start(LOCK, tmp_path / "lock")
    output(holder)
    with pytest.raises(ProcessError), locked(tmp_path / "lock", time.monotonic(), "it"):
        pass
    holder.kill()
    with locked(tmp_path / "lock", time.monotonic() + PATIENCE, "it"):
        pass


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"first\n" + b"".join(b"line %d\n" % n for n in range(20)) + b"\xff\n")
    assert tail(log, 3) == "line 18\nline 19\n\N{REPLACEMENT CHARACTER}"
    assert "first" not in tail(log)


def test_a_log_that_is_too_long_is_emptied_under_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    processes.trim(path, 10)  # it is missing so far
    with path.open("ab") as writer:
        writer.write(b"short")
        writer.flush()
        processes.trim(path, 10)
        assert path.read_bytes() == b"short"
        writer.write(b", and long")
        writer.flush()
        processes.trim(path, 10)
        writer.write(b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "worker.log.1").read_bytes() == b"short, and long"


def test_processes_are_found_by_their_environment(tmp_path: Path) -> None:
    mine = {"TEST_RUN": "7", "TEST_DATA": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", SLEEP, *message], stdout=subprocess.PIPE, env=os.environ | more
        )
        for message, more in (
            (["it"], mine),
            (["it"], mine | {"TEST_DATA": "elsewhere"}),
            (["it"], {"TEST_DATA": str(tmp_path)}),
            (["itself"], mine),  # its children have its variables
        )
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        found = processes.with_environment("it", TEST_RUN=None, TEST_DATA=str(tmp_path))
        assert found == {started[0].pid: birth(started[0].pid)}
        assert set(processes.with_environment("it", TEST_RUN="7")) == {started[0].pid, started[1].pid}
        assert processes.with_environment("it", TEST_RUN="8") == {}
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_the_end_of_a_log_has_no_frames_of_tracebacks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "before\n    Traceback (most recent call last):\n"
        '      File "/a b.py", line 3, in x\n        call(\n             ^^^^^\n'
        '      File "/c.py", line 4, in y\n        raise E\n'
        "    OSError: no space\nafter\n    indented\n"
    )
    assert tail(log) == "before\n    OSError: no space\nafter\n    indented"
    assert tail(log, 2) == "after\n    indented"


def test_the_start_of_this_process_is_before_now_and_after_its_parent_s() -> None:
    code = "from deployments.processes import started; print(started())"
    before = time.time()
    child = float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert before - 1 < child < time.time()
    assert processes.started() < before
