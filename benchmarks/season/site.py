"""The service of a season in a folder of its own: frames arrive, processes are killed, the disk fills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.observatory import Observatory
from benchmarks.season.plan import Victim
from benchmarks.watch import family, proportional_unshared
from deployments.http_client import NoAnswerError
from deployments.prefect_api.connection import RefusedError

#: Time without a frame after which a sequence is reduced: the least that the settings allow, s.
QUIET: Final = 10
#: What a request to a server that was just killed may raise.
DOWN: Final = (NoAnswerError, RefusedError, ValueError, OSError)
_SETTINGS: Final = """settle = 0.2
rescan = 10
[worker]
poll = 1
scratch_limit = "200MB"
space_pause = 10
[nightly]
enabled = false
"""
#: Size of the disk of the data folder, and what is left of it while it is full, bytes.
_SIZE, _LEFT = 6 * 1024**3, 256 * 1024


@dataclass
class Disk:
    """A file system in memory for a data folder, which can be made full.

    Attributes
    ----------
    folder
        Where it is mounted.
    mounted
        Whether it is there.
    problem
        Why it could not be mounted.
    """

    folder: Path
    mounted: bool = field(default=False, init=False)
    problem: str = field(default="", init=False)

    def mount(self) -> None:
        """Mount it, if this account may."""
        self.folder.mkdir(exist_ok=True)
        self.problem = self._mount("-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "nirflow-season")
        self.mounted = not self.problem

    def fill(self) -> None:
        """Leave no room on it but for some small files."""
        found = os.statvfs(self.folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._resize(used + _LEFT)

    def empty(self) -> None:
        """Give it its room back."""
        self._resize(_SIZE)

    def unmount(self) -> None:
        """Unmount it, and lose what is on it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    def _resize(self, size: int) -> None:
        if problem := self._mount("-o", f"remount,size={size}"):
            raise OSError(problem)

    def _mount(self, *options: str) -> str:
        """Call mount, and return why it failed; empty if it did not."""
        try:
            done = subprocess.run(
                ["mount", *options, str(self.folder)], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            return str(error)
        return done.stderr.strip() or "mount failed" if done.returncode else ""


class Site(Observatory):
    """A data folder with all services on a small disk of its own.

    Parameters
    ----------
    folder
        Its folder, which is created.
    size
        Rows and columns of a frame.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder, size, quiet=QUIET, more=_SETTINGS)
        self.data = folder / "data"
        self.disk = Disk(self.data)

    def ask(self, path: str, body: Any) -> Any:
        """Send a request; None if the server is down."""
        try:
            return self.post(path, body)
        except DOWN:
            return None

    def deliver(self, file: Path, days: float, in_parts: bool) -> None:
        """Let a frame arrive: in two parts under its name, or under another one and renamed.

        ``days`` is how far off the date of the file is.
        """
        target = self.raw / file.name
        if in_parts:
            content = file.read_bytes()
            half = len(content) // 2
            with target.open("wb") as sink:
                sink.write(content[:half])
                sink.flush()
                sink.write(content[half:])
        else:
            aside = self.raw / f".{file.name}.part"
            shutil.copyfile(file, aside)
            aside.rename(target)
        if days:
            _set_date(target, days)

    def request(self, deployment: str, **request: Any) -> bool:
        """Request a run of a deployment, as a user does in the UI; return whether the server accepted it."""
        found = self.ask("/deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        if not found:
            return False
        body = {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}}
        return self.ask(f"/deployments/{found[0]['id']}/create_flow_run", body) is not None

    def runs(self, *states: str) -> list[dict[str, Any]] | None:
        """Return the runs in states of some types, except those that a schedule will start; None if it is down."""
        found: list[dict[str, Any]] = []
        while True:
            body = {
                "flow_runs": {"state": {"type": {"any_": list(states)}}},
                "offset": len(found),
                "limit": 200,
            }
            page = self.ask("/flow_runs/filter", body)
            if page is None:
                return None
            found += page
            if len(page) < 200:
                return [run for run in found if "auto-scheduled" not in run["tags"]]

    def products(self, kind: str) -> list[dict[str, Any]]:
        """Return the products of a kind that count: neither rejected nor superseded."""
        found = json.loads(self.nirflow("cal", "list", "--kind", kind, "--limit", "5000", "--json") or "[]")
        return [one for one in found if one["status"] in ("candidate", "certified")]

    # --- processes

    def pid(self, part: str) -> int | None:
        """Return the process of a part: of the supervisor, or of a part that it runs; None if it has none."""
        try:
            if part == "postgres":
                return int((self.data / "postgres" / "postmaster.pid").read_text().split()[0])
            state = json.loads((self.data / "service" / "state.json").read_text())
        except (OSError, ValueError, IndexError):
            return None
        if part == "supervisor":
            return int(state["pid"])
        return next((one["pid"] for one in state["parts"] if one["name"] == part), None)

    def kill(self, victim: Victim) -> bool:
        """Kill a process with SIGKILL; return whether there was one."""
        pid = next(iter(self._flows()), None) if victim == "flow" else self.pid(victim)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def memory(self) -> dict[str, tuple[int, int]]:
        """Return the process of each part and its memory, bytes; those of runs and of the database's clients too."""
        found = {}
        for part in ("supervisor", "server", "worker", "watcher", "judge", "postgres"):
            pid = self.pid(part)
            if pid is not None:
                tree = family(pid) if part in ("judge", "postgres") else [pid]
                found[part] = pid, sum(map(proportional_unshared, tree))
        return found

    def _flows(self) -> Iterator[int]:
        worker = self.pid("worker")
        for pid in family(worker) if worker is not None else ():
            if "prefect.engine" in _command(pid):
                yield pid


@contextmanager
def site(folder: Path, size: int, *, full: bool) -> Iterator[Site]:
    """Yield a service that is up; everything is ended afterwards.

    With ``full`` its data folder is on a disk of its own if possible, which is lost at the end.
    """
    one = Site(folder, size)
    if full:
        one.disk.mount()
    try:
        one.up()
        yield one
    finally:
        if one.disk.mounted:
            one.disk.empty()
        one.nirflow("down")
        if one.disk.mounted:
            one.disk.unmount()


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Return the files in folders and below."""
    return [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]


def _set_date(path: Path, days: float) -> None:
    changed = path.stat().st_mtime_ns + int(days * 86400e9)
    os.utime(path, ns=(changed, changed))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
