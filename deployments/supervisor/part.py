"""A part of the service: a process that is started, restarted after it ended, and ended."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deployments import processes
from deployments.status.supervisor_state import PartState

logger = logging.getLogger(__name__)

#: Shortest and longest pause before a part is restarted, and the running time after which it is healthy, s.
_FIRST_PAUSE, _LONGEST_PAUSE, _HEALTHY_AFTER = 1.0, 60.0, 60.0
#: Time within which restarts are counted, s.
LATELY: Final = 3600.0
#: Time for a part to end before it is killed, s.
_GRACE: Final = 10.0


@dataclass
class Restarts:
    """The restarts of one part."""

    number: int = 0
    last_end: str = ""
    _times: list[float] = field(default_factory=list, repr=False)

    def ended(self, how: str) -> None:
        """Note how the part ended."""
        self.last_end = f"{how} at {datetime.now(UTC):%Y-%m-%d %H:%M} UT"

    def restarted(self) -> None:
        """Note that the part was started again."""
        self.number += 1
        self._times.append(time.monotonic())

    @property
    def recent(self) -> int:
        """The number of restarts within the last hour."""
        self._times = [one for one in self._times if time.monotonic() - one < LATELY]
        return len(self._times)


@dataclass
class Part:
    """A process that must keep running.

    Parameters
    ----------
    name
        Name in logs and in `nirflow status`.
    command
        Program and arguments.
    environment
        Complete environment.
    log
        File of its output.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    birth: str = ""
    since: float = 0.0
    restarts: Restarts = field(default_factory=Restarts)
    note: str = ""
    _pause: float = field(default=_FIRST_PAUSE, repr=False)
    _not_before: float = field(default=0.0, repr=False)
    _began: float = field(default=0.0, repr=False)

    def start(self, cwd: Path) -> None:
        """Start it in its own process group."""
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=dict(self.environment),
                cwd=cwd, start_new_session=True,
            )  # fmt: skip
        self.birth = processes.birth(self.process.pid) or ""
        self.since, self._began = time.time(), time.monotonic()
        logger.info("%s started (process %d)", self.name, self.process.pid)

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        return self.process is not None and self.process.poll() is None

    def check(self, cwd: Path) -> None:
        """Restart it if it has ended, after increasing pauses if that happens repeatedly."""
        now = time.monotonic()
        if self.running:
            if now - self._began > _HEALTHY_AFTER:
                self._pause, self.note = _FIRST_PAUSE, ""
            return
        if self.process is not None:
            how = f"ended with code {self.process.returncode}"
            self.note = f"{how}, to be restarted in {self._pause:g} s"
            self.restarts.ended(how)
            logger.warning("%s %s; see %s", self.name, self.note, self.log)
            self.process = None
            self._not_before, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        if now >= self._not_before:
            self.start(cwd)
            self.restarts.restarted()

    def end(self, grace: float = _GRACE, *, group: bool = False) -> None:
        """Terminate it, and kill it if it does not end; with ``group``, its children too."""
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                logger.warning("%s did not end within %g s and is killed", self.name, grace)
                process.kill()
                process.wait()
        if group:
            processes.end_group(process.pid)

    def state(self) -> PartState:
        """Return its state for users."""
        return PartState(
            name=self.name, pid=self.process.pid if self.process is not None else None, running=self.running,
            birth=self.birth, since=self.since or None, log=self.log, note=self.note, restarts=self.restarts.number,
            recent=self.restarts.recent, last_end=self.restarts.last_end,
        )  # fmt: skip
