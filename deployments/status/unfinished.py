"""Where the sequences stand that arrived lately, from the store alone: in their quiet time, due, or waiting.

Pure functions of what the store has and of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from calib_store.tables.arrivals.recent_frames import Arrival
from calib_store.tables.runs import RunTimes
from deployments.settings.all_settings import Settings
from imaging.frames.sequences import Sequence as Exposures
from imaging.frames.sequences import SequenceKind, night_in

#: Where a sequence stands. ``due``: nothing is known to stand in the way of its run.
Stage = Literal["quiet", "due", "queued", "running", "waiting"]

#: Flows that choose their frames when they begin. Others record frames while they run.
_OF_ARRIVALS: Final = frozenset({"arrival", "nightly", "calibrations", "reprocess"})


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
        default=None, description="end of its quiet time, or when waiting for a calibration is given up"
    )
    frames: int | None = Field(default=None, description="frames that arrived since its last run, if known")
    waits_for: tuple[str, ...] = Field(default=(), description="kinds of calibration that it waits for")


def waiting(runs: Iterable[RunTimes], now: datetime, settings: Settings) -> tuple[SequenceState, ...]:
    """Return the sequences of science whose last run lacked calibrations, those that have waited longest first.

    Parameters
    ----------
    runs
        Finished runs in order of their ends.
    now
        The time, UTC.
    settings
        How long science waits.
    """
    allowed = timedelta(days=settings.nightly.waiting_days)
    last = {run.sequence: run for run in runs if run.sequence is not None and run.ended >= now - allowed}
    states = (
        SequenceState(
            sequence=name, label=run.name or name, stage="waiting", since=run.ended, until=run.ended + allowed,
            waits_for=run.waits_for,
        )
        for name, run in last.items() if run.waits_for
    )  # fmt: skip
    return tuple(sorted(states, key=lambda one: one.since))


def arriving(
    arrivals: Iterable[Arrival],
    runs: Sequence[RunTimes],
    now: datetime,
    settings: Settings,
    folders: Sequence[Path] | None,
) -> tuple[SequenceState, ...]:
    """Return the sequences with frames that no run has had yet: in their quiet time, or due; earliest first.

    Parameters
    ----------
    arrivals
        Frames that arrived lately.
    runs
        Runs that ended since the first of them arrived.
    now
        The time, UTC.
    settings
        The quiet time, and the numbers of frames of complete sequences.
    folders
        Watched folders, resolved: frames elsewhere start no run; None if they are not known.
    """
    found: dict[str, tuple[Exposures, list[datetime]]] = {}
    for one in arrivals:
        sequence = Exposures.of(one.facts)
        if sequence is not None and (folders is None or _is_below(one.paths, folders)):
            found.setdefault(sequence.name, (sequence, []))[1].append(one.added_at)
    states = []
    for sequence, times in found.values():
        left = [time for time in times if not any(_had(run, sequence, time) for run in runs)]
        if not left:
            continue
        last = max(left)
        ends = last + timedelta(seconds=settings.watch.quiet)
        quiet = now < ends and len(times) != _expected(settings, sequence.kind)
        states.append(
            SequenceState(
                sequence=sequence.name, label=sequence.label, stage="quiet" if quiet else "due", since=last,
                until=ends, frames=len(left),
            )
        )  # fmt: skip
    return tuple(sorted(states, key=lambda one: (one.since, one.sequence)))


def with_runs(
    states: Iterable[SequenceState], requests: Iterable[tuple[str, str, Stage]]
) -> tuple[SequenceState, ...]:
    """Return states of which those with a run are queued or running.

    Parameters
    ----------
    states
        From the store.
    requests
        Names of the sequences (or, for calibrations, nights) that runs were requested for, with the deployment and
        the stage.
    """
    of_sequences: dict[str, Stage] = {}
    of_nights: dict[str, Stage] = {}
    for what, deployment, stage in requests:
        (of_nights if deployment in ("nightly", "calibrations") else of_sequences).setdefault(what, stage)
    changed = []
    for one in states:
        run = of_sequences.get(one.sequence)
        if run is None and one.stage != "waiting":
            run = of_nights.get(str(night_in(one.sequence)))
        keeps = run is None or one.stage == "quiet"  # frames that arrive now get a run of their own
        changed.append(one if keeps else one.model_copy(update={"stage": run, "until": None}))
    return tuple(changed)


def _had(run: RunTimes, sequence: Exposures, arrived: datetime) -> bool:
    """Return whether a run was over a frame of the sequence that arrived at a time."""
    concerns = run.sequence == sequence.name if run.sequence is not None else sequence.night in run.nights
    return concerns and arrived <= (run.started if run.flow in _OF_ARRIVALS else run.ended)


def _is_below(paths: Iterable[Path], folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def _expected(settings: Settings, kind: SequenceKind) -> int | None:
    return settings.watch.expected.get(kind)
