"""Processes that outlive the command that started them: identification, termination and locks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imaging.errors import NirflowError
from imaging.io.atomic import take_lock

#: The first line of a traceback, and of each frame of it.
_FRAME: Final = re.compile(r"\s*(?:\+ )?(?:\||Traceback \(most recent call last\)|File \".*\", line \d+)")
#: Time between two checks of a process that is starting or ending, or of a lock, s.
POLL: Final = 0.05
#: Time within which a killed process ends, s.
_KILLED: Final = 5.0


class ProcessError(NirflowError):
    """A process that cannot be started, ended or waited for."""


def birth(pid: int) -> str | None:
    """Return boot id and start time of a live process; None if it does not exist or is a zombie.

    No two processes share pid and birth.
    """
    process = Path(f"/proc/{pid}")
    try:
        stat = (process / "stat").read_text()
        threads = sum(1 for _ in (process / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may contain blanks; see proc_pid_stat(5)
    condition, start_ticks = fields[0], fields[19]
    # In a killed process the first thread is a zombie at once, but the others may hold a port a little longer.
    if condition in "ZX" and threads <= 1:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{start_ticks}"


def started() -> float:
    """Return when this process was started, s since 1970."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)


def is_alive(pid: int, born: str) -> bool:
    """Return whether the process with that pid and birth is alive."""
    return birth(pid) == born


def end(pid: int, born: str, grace: float) -> None:
    """End a process: SIGTERM, and SIGKILL after the grace time.

    Parameters
    ----------
    pid, born
        The process.
    grace
        Time between the request and the kill, s.

    Raises
    ------
    ProcessError
        If it is still alive.
    """
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILLED)):
        if not is_alive(pid, born):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while is_alive(pid, born) and time.monotonic() < deadline:
            time.sleep(POLL)
    if is_alive(pid, born):
        raise ProcessError(f"Process {pid} does not end.", remedy="Check it with ps; reboot if it is stuck.")


def set_by_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on, so that this process can end in order."""
    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return stop


def end_group(pid: int) -> None:
    """End the remaining processes of the group led by a process: SIGTERM, and SIGKILL a moment later."""
    try:
        os.killpg(pid, signal.SIGTERM)
        time.sleep(POLL)
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def with_environment(argument: str, **wanted: str | None) -> dict[int, str]:
    """Return processes with an argument and with variables of those values, or of any value for None.

    A process passes its variables on to its children, a database server among them: the argument distinguishes them.

    Returns
    -------
    dict
        Their births by pid.
    """
    found = {}
    names = {os.fsencode(n): None if value is None else os.fsencode(value) for n, value in wanted.items()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(argument) not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            content = (process / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        variables = dict(part.split(b"=", 1) for part in content if b"=" in part)
        same = all(n in variables and value in (None, variables[n]) for n, value in names.items())
        if same and (born := birth(int(process.name))):
            found[int(process.name)] = born
    return found


@contextmanager
def locked(path: Path, deadline: float, what: str) -> Iterator[None]:
    """Hold an advisory lock on a file; the kernel frees it when its holder dies.

    Parameters
    ----------
    path
        The lock file, created if missing.
    deadline
        Time of the monotonic clock until which to wait for another holder.
    what
        What is started or stopped, for the error.

    Raises
    ------
    ProcessError
        If another process holds it until then.
    """
    while (file := take_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ProcessError(
                f"Another process has been starting or stopping {what} for too long (it holds {path}).",
                remedy="Wait for it or end it, then try again.",
            )
        time.sleep(POLL)
    with file:
        yield


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, without the frames of tracebacks; empty if it is missing."""
    if not path.is_file():
        return ""
    kept: list[str] = []
    frame: int | None = None  # indentation of the frame whose source and marks follow
    for line in path.read_text(errors="replace").splitlines():
        indentation = len(line) - len(line.lstrip())
        if _FRAME.match(line):
            frame = indentation if line.lstrip().startswith("File ") else None
        elif frame is None or indentation <= frame:
            frame = None
            kept.append(line)
    return "\n".join(kept[-lines:])


def trim(path: Path, limit: int) -> None:
    """Keep a log file within a limit: copy it to ``NAME.1`` and empty it.

    It is not replaced, as its writers keep it open for appending. A line written at that moment is lost.

    Parameters
    ----------
    path
        The log file, which may be missing.
    limit
        Bytes.
    """
    if not path.is_file() or path.stat().st_size <= limit:
        return
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("r+b") as file:
        file.truncate()
