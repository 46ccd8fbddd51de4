"""What is due: which sequences a run should be started for now, and what each of the others waits for.

One pure function of what the store and the Prefect server have, and of the time. The watcher starts what it returns;
``nirflow status`` shows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.prefect_api.space_wait import SpaceWait
from deployments.prefect_api.urgency import urgency
from deployments.settings.all_settings import Settings
from imaging.frames.sequences import Sequence as Exposures
from imaging.frames.sequences import night_in
from imaging.listed import counted

#: Where a sequence stands. ``paused``: its deployment is paused; ``ended``: its run ended and left no report.
Stage = Literal["quiet", "due", "queued", "running", "waiting", "paused", "ended"]

#: Calibrations are reduced together if their quiet times end within this fraction of one.
_TOGETHER: Final = 0.25
#: Nights that one run reduces at most.
MOST_NIGHTS: Final = 31


@dataclass(frozen=True)
class NewFrame:
    """A usable frame in a watched folder that no run has had. Times are UTC.

    Attributes
    ----------
    sequence, sha256
        The sequence that it belongs to, and its identity.
    added_at, exposed_until
        When the store first had it, and the end of its exposure.
    """

    sequence: Exposures
    sha256: str
    added_at: datetime
    exposed_until: datetime


@dataclass(frozen=True)
class WaitingScience:
    """A sequence of science whose last run lacked calibrations.

    Attributes
    ----------
    sequence, instrument, label
        Name, instrument, and the name that an observer would give it.
    since
        The end of that run, UTC.
    waits_for
        Kinds of calibration that it lacked.
    served_by
        Identifies the products that now serve it and their present status; empty if one is still missing.
    """

    sequence: str
    instrument: str
    label: str
    since: datetime
    waits_for: tuple[str, ...]
    served_by: str = ""


class KnownRun(BaseModel):
    """A run that the Prefect server has."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: str = Field(default="", description="name of its state: Running, Scheduled, ...")
    stage: Literal["queued", "running", "ended"] = Field(
        description="queued until it begins and chooses its frames; then running; then ended"
    )
    since: datetime | None = Field(default=None, description="when it began, or was due")
    deployment: str = Field(default="", description="what it is a run of")
    request: str = Field(default="", description="sequence or night that it was requested for")
    nights: tuple[date, date] | None = Field(
        default=None, description="first and last night of a run over complete nights"
    )
    id: str = ""
    key: str = Field(default="", description="its idempotency key")
    space: SpaceWait | None = Field(default=None, description="the disk space that it waits for")


@dataclass(frozen=True)
class Facts:
    """What is known at one moment.

    Attributes
    ----------
    frames
        The frames that no run has had.
    exposures
        For sequences with a number of frames that makes them complete: how many exposures they have.
    waiting
        The science that waits for calibrations.
    runs
        The runs that have not ended, and those with the key of a run that is due.
    paused
        Names of the deployments that somebody paused.
    """

    frames: Sequence[NewFrame] = ()
    exposures: Mapping[str, int] = field(default_factory=dict)
    waiting: Sequence[WaitingScience] = ()
    runs: Sequence[KnownRun] = ()
    paused: frozenset[str] = frozenset()


class Start(BaseModel):
    """A run to start. Starting it twice starts it once: the server knows its key."""

    model_config = ConfigDict(frozen=True)

    deployment: Literal["arrival", "backlog", "calibrations"]
    key: str = Field(description="the same for the same frames and calibrations")
    cause: str = Field(description="why it is started")
    sequence: str = ""
    label: str = Field(default="", description="the name that an observer would give the sequence")
    waited: bool = Field(default=False, description="whether it waited for calibrations")
    nights: tuple[date, date] | None = Field(default=None, description="first and last night of calibrations")

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the run: why it was started."""
        return ("new calibrations",) if self.waited else ("new frames",)

    @property
    def request(self) -> dict[str, str]:
        """The request of the run."""
        if self.nights is None:
            return {"sequence": self.sequence, "label": self.label}
        first, last = self.nights
        return {"first": str(first)} | ({"last": str(last)} if last != first else {})


class SequenceState(BaseModel):
    """A sequence of exposures that is not finished. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    sequence: str
    label: str = Field(description="the name that an observer would give it")
    stage: Stage
    since: datetime = Field(
        description="arrival of its last frame; of one that waits, the end of its last run"
    )
    until: datetime | None = Field(
        default=None, description="when its run starts, or when waiting for a calibration is given up"
    )
    frames: int | None = Field(default=None, description="frames that no run has had")
    waits_for: tuple[str, ...] = Field(default=(), description="kinds of calibration that it waits for")
    run: str = Field(default="", description="the run that it waits for, or that ended without a report")
    start: Start | None = Field(default=None, description="the run that is to be started")


def due(facts: Facts, now: datetime, settings: Settings) -> tuple[SequenceState, ...]:
    """Return where every sequence stands that is not finished; those that are due have a run to start.

    Parameters
    ----------
    facts
        What the store and the server have.
    now
        The time by the clock that dated the arrivals, UTC. Frames that arrived later than that, as a clock was set
        back, do not delay a run.
    settings
        The quiet time, complete numbers of frames, and how long science waits.
    """
    new = [_New.of(frames, facts, now, settings) for frames in _by_sequence(facts.frames).values()]
    science = [_science(one, facts, now, settings) for one in new if one.sequence.kind == "science"]
    calibrations = _calibrations([one for one in new if one.sequence.kind != "science"], facts, now, settings)
    there = {one.sequence for one in science}
    states = sorted((*science, *calibrations), key=lambda one: (one.since, one.sequence))
    waiting = (_waiting(one, facts, now, settings) for one in facts.waiting if one.sequence not in there)
    return (*states, *sorted(waiting, key=lambda one: (one.since, one.sequence)))


def due_but(
    facts: Facts, now: datetime, settings: Settings, with_keys: Callable[[Sequence[str]], Sequence[KnownRun]]
) -> tuple[SequenceState, ...]:
    """Return what `due` does, with the runs in mind that were started before with one of the same keys.

    Parameters
    ----------
    facts, now, settings
        As for `due`.
    with_keys
        Returns the runs with some keys.
    """
    states = due(facts, now, settings)
    keys = [one.key for one in starts(states)]
    found = with_keys(keys) if keys else ()
    return due(replace(facts, runs=(*facts.runs, *found)), now, settings) if found else states


def starts(states: Iterable[SequenceState]) -> tuple[Start, ...]:
    """Return the runs to start, each once, science first."""
    found = {one.start.key: one.start for one in states if one.start is not None}
    return tuple(sorted(found.values(), key=lambda one: (one.nights is not None, one.deployment)))


@dataclass(frozen=True)
class _New:
    """The new frames of a sequence, with the arrival of the last and the end of its quiet time."""

    sequence: Exposures
    frames: tuple[NewFrame, ...]
    last: datetime
    until: datetime
    quiet: bool

    @classmethod
    def of(cls, frames: Sequence[NewFrame], facts: Facts, now: datetime, settings: Settings) -> _New:
        sequence = frames[0].sequence
        past = [one.added_at for one in frames if one.added_at <= now]
        last = max(past, default=now - timedelta(seconds=settings.watch.quiet))
        expected = settings.watch.expected.get(sequence.kind)
        complete = expected is not None and facts.exposures.get(sequence.name) == expected
        until = last if complete else last + timedelta(seconds=settings.watch.quiet)
        return cls(sequence, tuple(frames), last, until, now < until)

    def state(
        self, stage: Stage, *, run: str = "", until: datetime | None = None, start: Start | None = None
    ) -> SequenceState:
        return SequenceState(
            sequence=self.sequence.name, label=self.sequence.label, stage=stage, since=self.last, until=until,
            frames=len(self.frames), run=run, start=start,
        )  # fmt: skip


def _by_sequence(frames: Iterable[NewFrame]) -> dict[str, list[NewFrame]]:
    found: dict[str, list[NewFrame]] = {}
    for one in frames:
        found.setdefault(one.sequence.name, []).append(one)
    return found


def _science(one: _New, facts: Facts, now: datetime, settings: Settings) -> SequenceState:
    if one.quiet:
        return one.state("quiet", until=one.until)
    if (run := _going_on(one.sequence.name, facts.runs, ("nightly",))) is not None:
        return one.state(run.stage, run=run.name)
    start = Start(
        deployment=_deployment(one, now, settings), key=_key(one.sequence.name, *(f.sha256 for f in one.frames)),
        cause=f"{counted(len(one.frames), 'new frame')}", sequence=one.sequence.name, label=one.sequence.label,
    )  # fmt: skip
    return _started(one, start, facts)


def _calibrations(
    new: Sequence[_New], facts: Facts, now: datetime, settings: Settings
) -> Iterator[SequenceState]:
    """Yield where calibrations stand. Those whose quiet times end at about the same time get one run."""
    ready: list[_New] = []
    for one in new:
        run = _going_on(one.sequence.name, facts.runs, ("nightly", "calibrations"))
        if one.quiet:
            yield one.state("quiet", until=one.until)
        elif run is not None:
            yield one.state(run.stage, run=run.name)
        else:
            ready.append(one)
    soon = timedelta(seconds=_TOGETHER * settings.watch.quiet)
    for group in _within_a_run(ready):
        latest = min(one.until for one in group) + soon
        others = [one.until for one in new if one.quiet and one.until <= latest]
        if others:
            for one in group:
                yield one.state("quiet", until=max(others))
            continue
        nights = sorted(one.sequence.night for one in group)
        frames = [frame.sha256 for one in group for frame in one.frames]
        start = Start(
            deployment="calibrations", key=_key("calibrations", *frames), nights=(nights[0], nights[-1]),
            cause=f"{counted(len(frames), 'new frame')} of {counted(len(group), 'sequence')}",
        )  # fmt: skip
        for one in group:
            yield _started(one, start, facts)


def _within_a_run(new: Sequence[_New]) -> list[list[_New]]:
    """Return sequences in groups whose nights one run can reduce."""
    groups: list[list[_New]] = []
    for one in sorted(new, key=lambda one: (one.sequence.night, one.sequence.name)):
        if groups and (one.sequence.night - groups[-1][0].sequence.night).days < MOST_NIGHTS:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _waiting(one: WaitingScience, facts: Facts, now: datetime, settings: Settings) -> SequenceState:
    state = SequenceState(
        sequence=one.sequence, label=one.label, stage="waiting", since=one.since, waits_for=one.waits_for,
        until=one.since + timedelta(days=settings.nightly.waiting_days),
    )  # fmt: skip
    if (run := _going_on(one.sequence, facts.runs, ())) is not None:
        return state.model_copy(update={"stage": run.stage, "until": None, "run": run.name})
    if not one.served_by:
        return state
    # A run over its night may be making more of them.
    if (run := _going_on(one.sequence, facts.runs, ("nightly", "calibrations"))) is not None:
        return state.model_copy(update={"stage": run.stage, "until": None, "run": run.name})
    tonight = urgency(night_in(one.sequence), one.instrument, now) == "tonight"
    start = Start(
        deployment="arrival" if tonight else "backlog", key=_key(one.sequence, one.served_by),
        cause=f"now available: {', '.join(one.waits_for)}",
        sequence=one.sequence, label=one.label, waited=True,
    )  # fmt: skip
    if (run := _with_key(start.key, facts)) is not None:
        return state.model_copy(update={"run": run.name})
    if start.deployment in facts.paused:
        return state.model_copy(update={"stage": "paused", "run": start.deployment})
    return state.model_copy(update={"stage": "due", "until": None, "start": start})


def _started(one: _New, start: Start, facts: Facts) -> SequenceState:
    """Return the state of a sequence whose run is to be started, unless it was, or its deployment is paused."""
    if (run := _with_key(start.key, facts)) is not None:
        return one.state("ended", run=f"{run.name} ({run.state})")
    if start.deployment in facts.paused:
        return one.state("paused", run=start.deployment)
    return one.state("due", until=one.until, start=start)


def _going_on(sequence: str, runs: Iterable[KnownRun], of_nights: Sequence[str]) -> KnownRun | None:
    """Return the run that reduces a sequence, or will: one that runs before one that is queued.

    A queued run chooses its frames when it begins. One that runs may not have the newest; the next one starts when it
    has ended.
    """
    night = night_in(sequence)
    found = [
        run
        for run in runs
        if run.stage != "ended"
        and (
            run.request == sequence
            or (
                run.deployment in of_nights
                and run.nights is not None
                and run.nights[0] <= night <= run.nights[1]
            )
        )
    ]
    return min(found, key=lambda run: run.stage != "running", default=None)


def _with_key(key: str, facts: Facts) -> KnownRun | None:
    return next((run for run in facts.runs if run.key == key), None)


def _deployment(one: _New, now: datetime, settings: Settings) -> Literal["arrival", "backlog"]:
    young = now - timedelta(hours=settings.watch.backlog_after)
    if any(frame.exposed_until >= young for frame in one.frames):
        return "arrival"
    return "arrival" if urgency(one.sequence.night, one.sequence.instrument, now) == "tonight" else "backlog"


def _key(*parts: str) -> str:
    """Return the idempotency key of a run: a digest of what it is for."""
    return f"due {hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()[:32]}"
