"""Run a command and measure it from outside: wall clock, processor time, and what its process tree takes at most.

Memory is PSS, the proportional set size: shared pages count in proportion, so that the sum over a tree counts
every page once (proc(5), ``smaps_rollup``).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Seconds between two samples.
_INTERVAL: Final = 0.02
#: Samples between two searches for the processes of the tree, which look at every thread, and between two counts of
#: the open files and of the bytes of the scratch.
_SEARCHED: Final = 10
_EVERY: Final = 50
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Unit of st_blocks (stat(2)), bytes.
_BLOCK: Final = 512
#: Processes of the services, which keep running after a command and are not part of its memory.
_SERVICES: Final = ("deployments.prefect_server.serve", "postgres")


@dataclass(frozen=True)
class Watched:
    """The outcome of a command.

    Attributes
    ----------
    code, output, errors
        Exit code and output.
    wall, cpu
        Seconds from start to end; seconds of processor time, user and system, of the process and the
        children that it waited for.
    peak
        Largest PSS of the process tree without server and database, bytes; 0 if not measured.
    files
        Largest number of open files of one process of that tree; 0 if not measured.
    scratch
        Largest size of the watched folder on its disk, bytes; 0 without one.
    """

    code: int
    output: str
    errors: str
    wall: float
    cpu: float
    peak: int
    files: int = 0
    scratch: int = 0


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    memory: bool = True,
    scratch: Path | None = None,
) -> Watched:
    """Run ``command`` until it ends.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        Its complete environment.
    memory
        Measure the memory and the open files, which takes about 1 % of a core.
    scratch
        Folder whose size is watched.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment)
        )
        watcher = _Watcher(process.pid, scratch) if memory else None
        if watcher is not None:
            watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if watcher is not None:
            watcher.stop()
        most = (watcher.peak, watcher.files, watcher.scratch) if watcher is not None else (0, 0, 0)
        for file in (out, err):
            file.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        return Watched(process.returncode, out.read(), err.read(), wall, cpu, *most)


class _Watcher(threading.Thread):
    """A thread that samples the memory of a process tree and keeps the maximum."""

    def __init__(self, root: int, folder: Path | None) -> None:
        super().__init__(name="watcher", daemon=True)
        self._root, self._folder, self._ended = root, folder, threading.Event()
        self.peak = self.files = self.scratch = 0

    def run(self) -> None:
        samples, tree, shared = 0, [self._root], 0
        while not self._ended.wait(_INTERVAL):
            if samples % _SEARCHED == 0:
                before, tree = tree, [pid for pid in family(self._root) if not _is_service(pid)]
                # Read again each second too: what is shared becomes less when another process ends.
                shared = shared if tree == before and samples % _EVERY else 0
            samples += 1
            # Reading the resident pages takes microseconds; reading the PSS of a gigabyte takes milliseconds, during
            # which the process cannot map memory: done only where the PSS may be a new maximum. It is less than the
            # resident pages by the share of other processes, which changes little.
            resident = sum(_resident(pid) for pid in tree)
            if resident - shared > self.peak:
                used = sum(proportional(pid) for pid in tree)
                self.peak, shared = max(self.peak, used), max(0, resident - used)

            if samples % _EVERY == 0:
                self.files = max([self.files, *(open_files(pid) for pid in tree)])
                if self._folder is not None:
                    self.scratch = max(self.scratch, size_on_disk(self._folder))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def family(root: int) -> list[int]:
    """Return a process and its descendants."""
    found = [root]
    for pid in found:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            for task in tasks:
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has ended
            continue
    return found


def proportional(pid: int) -> int:
    """Return the PSS of one process, bytes; 0 if it has ended."""
    return _rollup(pid).get("Pss", 0)


def proportional_unshared(pid: int) -> int:
    """Return the PSS of one process without shared memory, which a database fills once, bytes; 0 if it has ended."""
    found = _rollup(pid)
    return found.get("Pss", 0) - found.get("Pss_Shmem", 0)


def _rollup(pid: int) -> dict[str, int]:
    """Return the sums of proc(5), ``smaps_rollup``, bytes; empty if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, *_ in map(str.split, lines)}


def open_files(pid: int) -> int:
    """Return the number of open files of one process; 0 if it has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def size_on_disk(folder: Path) -> int:
    """Return the bytes that the files below a folder take on the disk; those that disappear meanwhile count as 0."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += _BLOCK * Path(parent, name).stat().st_blocks
    return total


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _is_service(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return any(name in command for name in _SERVICES)
