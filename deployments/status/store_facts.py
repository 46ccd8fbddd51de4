"""What the store knows about frames that no run has had, and about science that waits for calibrations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from calib_store.model.records import Frame, Run
from calib_store.reader import Reader
from calib_store.tables.arrivals.recent_frames import Arrival
from deployments.settings.all_settings import Settings
from deployments.status.due import Facts, NewFrame, WaitingScience
from imaging.frames.doubles import doubles
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence as Exposures
from imaging.frames.sequences import night_in

#: Time for which it is not asked again whether waiting science is served: a calibration that a run makes is noticed by
#: the run, s.
_PATIENCE: Final = 30.0


class StoreFacts:
    """Reads the facts for `deployments.status.due.due` again and again; what cannot change is read once.

    Parameters
    ----------
    reader
        The store.
    settings
        How long science waits, and the numbers of frames of complete sequences.
    folders
        Watched folders, resolved: frames elsewhere start no run; None if they are not known.
    clock
        Monotonic clock, s.
    """

    def __init__(
        self,
        reader: Reader,
        settings: Settings,
        folders: Sequence[Path] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._settings, self._folders, self._clock = reader, settings, folders, clock
        self._frames: dict[str, NewFrame | None] = {}
        self._waiting: tuple[WaitingScience, ...] = ()
        self._read_at: float | None = None

    def read(self) -> tuple[Facts, datetime]:
        """Return the facts, without those of the server, and the time by the clock of the database."""
        news = self._reader.new_frames(self._frames)
        self._frames = {
            sha256: self._new_frame(sha256, news.unknown[sha256])
            if sha256 in news.unknown
            else self._frames[sha256]
            for sha256 in news.there
        }
        frames = tuple(one for one in self._frames.values() if one is not None)
        if self._read_at is None or self._clock() - self._read_at >= _PATIENCE:
            self._waiting = tuple(self._waits(news.now))
            self._read_at = self._clock()
        return Facts(frames=frames, exposures=self._exposures(frames), waiting=self._waiting), news.now

    def _new_frame(self, sha256: str, arrival: Arrival) -> NewFrame | None:
        """Return a frame that may start a run; None for any other."""
        facts = arrival.facts
        sequence = Exposures.of(facts) if facts is not None and self._is_used(facts) else None
        if facts is None or sequence is None or not self._is_watched(arrival.paths):
            return None
        return NewFrame(sequence, sha256, arrival.added_at, facts.ended)

    def _is_used(self, facts: FrameFacts) -> bool:
        return self._settings.watch.check.first_frames == "use" or not facts.first_frame()

    def _is_watched(self, paths: Iterable[Path]) -> bool:
        folders = self._folders
        return folders is None or any(path.is_relative_to(folder) for path in paths for folder in folders)

    def _exposures(self, frames: Iterable[NewFrame]) -> dict[str, int]:
        """Return the numbers of exposures of the sequences that are complete with a certain number."""
        expected = self._settings.watch.expected
        counted = {one.sequence.name for one in frames if one.sequence.kind in expected}
        return {name: self._number(self._members(name)) for name in counted}

    def _number(self, frames: Iterable[Frame]) -> int:
        """Return the number of exposures that are used: one may have arrived in several files."""
        known = {frame.sha256: usable_facts(frame) for frame in frames}
        used = {
            sha256: facts for sha256, facts in known.items() if facts is not None and self._is_used(facts)
        }
        return len(used) - len(doubles(used))

    def _members(self, sequence: str) -> tuple[Frame, ...]:
        return members(self._reader.frames_of_night(night_in(sequence)), sequence)

    def _waits(self, now: datetime) -> Iterator[WaitingScience]:
        for run in self._reader.waiting(now - timedelta(days=self._settings.nightly.waiting_days)):
            assert run.sequence is not None
            middle = middle_of(self._members(run.sequence))
            yield WaitingScience(
                sequence=run.sequence,
                instrument=middle.instrument if middle is not None else "",
                label=str(run.report.get("flow_run") or run.sequence),
                since=run.ended,
                waits_for=run.waits_for,
                served_by=self._served_by(run, middle) if middle is not None else "",
            )

    def _served_by(self, run: Run, middle: FrameFacts) -> str:
        """Return the products that serve a frame, each with the number of changes of its status; empty if one lacks."""
        found = [self._reader.serving(middle, kind) for kind in run.waits_for]
        served = [one for one in found if one is not None]
        if len(served) < len(found):
            return ""
        return " ".join(sorted(f"{one.id}:{self._reader.changes_of(one.id)}" for one in served))


def members(frames: Iterable[Frame], sequence: str) -> tuple[Frame, ...]:
    """Return the frames of one sequence."""
    return tuple(frame for frame in frames if sequence_name(frame) == sequence)


def usable_facts(frame: Frame) -> FrameFacts | None:
    """Return what a frame is, if it can be used."""
    return frame.facts if frame.quarantine is None and frame.rejected is None else None


def middle_of(frames: Iterable[Frame]) -> FrameFacts | None:
    """Return the usable frame in the middle of a sequence in time, for which its calibrations are chosen."""
    usable = [facts for frame in frames if (facts := usable_facts(frame)) is not None]
    return sorted(usable, key=lambda facts: facts.started)[len(usable) // 2] if usable else None


def sequence_name(frame: Frame) -> str | None:
    """Return the name of the sequence that a frame belongs to; None without one."""
    sequence = Exposures.of(frame.facts) if frame.facts is not None else None
    return None if sequence is None else sequence.name
