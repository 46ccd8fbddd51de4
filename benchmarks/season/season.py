"""The course of a season: frames arrive night after night, and what its plan has for them happens."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.nights import announce
from benchmarks.season.nights import NightFrames
from benchmarks.season.plan import Kill, SeasonNight
from benchmarks.season.site import QUIET, Site

#: Pause between two looks, s.
_PAUSE: Final = 0.2
#: How long a process that is to be killed is waited for, s: a run may begin only after the quiet time.
_FIND: Final = 40.0
#: How long the stacks of a night, and the end of all runs, are waited for, s: a busy machine is no fault.
_PATIENCE: Final = 1800.0
#: States of runs that have not ended.
UNFINISHED: Final = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")


@dataclass
class Course:
    """What happened in a season.

    Attributes
    ----------
    done
        How often each kind of disturbance happened.
    memory
        For each night, the process and the memory of each part, bytes.
    overdue
        Nights whose stacks were not there in time.
    seconds
        Duration of the nights.
    """

    done: Counter[str] = field(default_factory=Counter)
    memory: list[dict[str, tuple[int, int]]] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Season:
    """A season at a site.

    Parameters
    ----------
    site
        The service.
    seed
        Of how the files arrive.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.course = site, Course()
        self._draw = random.Random(seed)
        self._events: list[tuple[float, Callable[[], bool], float]] = []

    def run(self, nights: Sequence[NightFrames], budget: float | None = None) -> Course:
        """Let the nights come in, as many as fit into ``budget`` seconds, and wait for the end of all runs."""
        began = time.monotonic()
        for frames in nights:
            if budget is not None and time.monotonic() - began > budget:
                break
            since = time.monotonic()
            self._night(frames)
            self.course.memory.append(self.site.memory())
            self.course.seconds.append(time.monotonic() - since)
            announce(f"night {frames.plan.number + 1} took {self.course.seconds[-1]:.0f} s")
        self._wait(self._idle, "the end of all runs", _PATIENCE)
        return self.course

    def _night(self, frames: NightFrames) -> None:
        announce(f"night {frames.plan.number + 1}, {frames.night}: {_described(frames.plan)}")
        self._plan_events(frames.plan)
        folder = self.site.data / "nights" / str(frames.night)
        if frames.plan.late:
            self._deliver([file for sequence in frames.sequences for file in sequence], frames.plan)
            self._wait(lambda: self._waiting(len(frames.sequences)), "science that waits", _PATIENCE)
            self._deliver(frames.calibrations, frames.plan)
            self.course.done["late calibrations"] += 1
        else:
            self._deliver(frames.files, frames.plan)
        there = self._wait(
            lambda: all((folder / name).exists() for name in frames.stacks), "the stacks", _PATIENCE
        )
        if not there:
            self.course.overdue.append(str(frames.night))
        self._wait(lambda: not self._events, "the end of the disturbances", 2 * _FIND)
        if frames.plan.rejected is not None:
            self._wait(self._idle, "the end of the runs", _PATIENCE)
            self._reject(frames)
        self._request("nightly", first=str(frames.night))
        if frames.plan.rejected is not None:
            self._wait(self._idle, "the end of the runs", _PATIENCE)

    def _deliver(self, files: Sequence[Any], plan: SeasonNight) -> None:
        if plan.clock:
            self.course.done["clock steps"] += 1
        for file in files:
            self.site.deliver(file, plan.clock, in_parts=self._draw.random() < 0.5)
            self._tick()

    def _reject(self, frames: NightFrames) -> None:
        name = rejected_name(frames)
        self._until(lambda: self._rejected(name), f"rejecting {name}")
        self._request("reprocess", affected_by=name)
        self.course.done[f"rejected {frames.plan.rejected}s"] += 1

    def _rejected(self, name: str) -> bool:
        try:
            self.site.nirflow("cal", "reject", name, "--reason", "season", "--author", "season")
        except subprocess.CalledProcessError as error:
            announce(f"cal reject {name}: {error.stderr.strip()}")
            return "already" in error.stderr
        return True

    def _request(self, deployment: str, **request: Any) -> None:
        self._until(lambda: self.site.request(deployment, **request), f"requesting {deployment}")

    def _waiting(self, number: int) -> bool:
        """Return whether science waits for calibrations."""
        runs = self.site.runs("CANCELLED")
        waiting = self.course.done["waiting runs"] + number
        if runs is None or sum(run["state_name"] == "Waiting" for run in runs) < waiting:
            return False
        self.course.done["waiting runs"] = sum(run["state_name"] == "Waiting" for run in runs)
        return True

    def _idle(self) -> bool:
        """Return whether no run is unfinished, and none begins within the quiet time."""
        deadline = time.monotonic() + QUIET + 5
        while time.monotonic() < deadline:
            if self.site.runs(*UNFINISHED) != []:
                return False
            self._tick()
        return True

    # --- disturbances

    def _plan_events(self, plan: SeasonNight) -> None:
        now = time.monotonic()
        for kill in plan.kills:
            self._events.append(
                (now + kill.after, lambda kill=kill: self._kill(kill), now + kill.after + _FIND)
            )
        if plan.full is not None and self.site.disk.mounted:
            begin = now + plan.full.after
            self._events.append((begin, self._fill, begin + _FIND))
            self._events.append((begin + plan.full.seconds, self._empty, begin + plan.full.seconds + _FIND))

    def _kill(self, kill: Kill) -> bool:
        if not self.site.kill(kill.victim):
            return False
        announce(f"killed: {kill.victim}")
        self.course.done[f"killed {kill.victim}"] += 1
        return True

    def _fill(self) -> bool:
        self.site.disk.fill()
        announce("the disk is full")
        self.course.done["full disks"] += 1
        return True

    def _empty(self) -> bool:
        self.site.disk.empty()
        announce("the disk has room again")
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        for event in [one for one in self._events if one[0] <= now]:
            _, act, until = event
            if act() or now > until:
                self._events.remove(event)
        time.sleep(_PAUSE)

    def _wait(self, look: Callable[[], bool], what: str, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not look():
            if time.monotonic() > deadline:
                announce(f"waited {patience:.0f} s in vain for {what}")
                return False
            self._tick()
        return True

    def _until(self, act: Callable[[], bool], what: str) -> None:
        if not self._wait(act, what, _PATIENCE):
            self.course.overdue.append(what)


def rejected_name(frames: NightFrames) -> str:
    """Return what is rejected of a night: its second dark, or the master of its darks."""
    return f"{frames.darks[1]}.fits" if frames.plan.rejected == "frame" else f"{frames.darks[0]}_dark.fits"


def _described(plan: SeasonNight) -> str:
    parts = [f"{plan.sequences} of science"]
    parts += ["late calibrations"] if plan.late else []
    parts += [f"kill {kill.victim} after {kill.after:.0f} s" for kill in plan.kills]
    parts += [f"full disk for {plan.full.seconds:.0f} s" if plan.full else ""]
    parts += [f"{plan.rejected} rejected" if plan.rejected else ""]
    parts += [f"dates off by {plan.clock:g} days" if plan.clock else ""]
    return ", ".join(filter(None, parts))


def as_json(course: Course) -> dict[str, Any]:
    """Return the course of a season as JSON."""
    return {**vars(course), "done": json.loads(json.dumps(course.done))}
