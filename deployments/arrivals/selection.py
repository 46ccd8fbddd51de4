"""The frames of a run that nobody names files for: the store knows what was taken and where it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from calib_store.model.records import Frame
from calib_store.store import Store
from imaging.frames.calibration_groups import calibration_groups
from imaging.frames.doubles import doubles
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters
from imaging.frames.nights import night_of
from imaging.frames.sequences import Sequence as Exposures
from imaging.frames.sequences import night_in
from imaging.frames.windows import calibration_window
from imaging.kinds import CALIBRATION_FRAMES
from tasks.support.references import LeftOut

#: The last night of a moment is the one that was under way this long before.
_HALF_A_DAY = timedelta(hours=12)
_GROUPS: Final = GroupParameters()


def last_night(moment: datetime) -> date:
    """The UT night that ended last, or ends this morning, before a moment."""
    return night_of(moment - _HALF_A_DAY)


def nights_text(nights: Sequence[date]) -> str:
    """Nights in time as a person reads them: the first and the last."""
    return " to ".join(dict.fromkeys((str(nights[0]), str(nights[-1]))))


def frames_of_nights(
    store: Store, first: date, last: date, calibration_days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """Science frames of the nights and what cannot be read of them, and the darks and flats up to some days away.

    None where no frame of the nights themselves is known.
    """
    science = store.frames.of_nights(first, last, kinds=("object",))
    near = calibrations_near(store, first, last, calibration_days, groups)
    refused = store.frames.refused_of_nights(first, last)
    return (*science, *near, *refused) if science or refused or _any_of(near, first, last) else ()


def calibrations_of_nights(
    store: Store, first: date, last: date, days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """Raw darks and flats of the nights, and those up to some days from them.

    None where none of the nights themselves is known.
    """
    near = calibrations_near(store, first, last, days, groups)
    return near if _any_of(near, first, last) else ()


def calibrations_near(
    store: Store, first: date, last: date, days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """The raw darks and flats of the nights and up to some days from them, in complete groups.

    A group that reaches into this time is taken with all of its frames, whenever they were taken. Frames of this
    time that cannot be used are included: the survey says why they are left out.
    """
    margin = timedelta(days=days)
    first, last = first - margin, last + margin
    reach = timedelta(days=math.ceil(groups.longest("group")))
    begins, ends = first - reach, last + reach
    while True:
        known = store.frames.of_nights(begins, ends, kinds=CALIBRATION_FRAMES)
        usable = {
            frame.sha256: frame.facts for frame in known if frame.facts is not None and _is_usable(frame)
        }
        window = calibration_window(usable.values(), first, last, groups)
        if begins <= window.first and window.last <= ends:
            break
        begins, ends = min(begins, window.first), max(ends, window.last)
    grouped = {name for group in calibration_groups(usable.values(), groups) for name in group.members}
    return tuple(
        frame
        for frame in known
        if frame.name in window.members or (frame.name not in grouped and _any_of([frame], first, last))
    )


def frames_of_sequence(store: Store, sequence: str) -> tuple[Frame, ...]:
    """The frames of one sequence."""
    night = night_in(sequence)
    return tuple(f for f in store.frames.of_nights(night, night) if _name(f) == sequence)


def middle_of(frames: Iterable[Frame]) -> FrameFacts | None:
    """The middle in time of the frames that can be used: for it the calibrations of a sequence are chosen."""
    usable = [f.facts for f in frames if f.facts is not None and _is_usable(f)]
    return sorted(usable, key=lambda facts: facts.started)[len(usable) // 2] if usable else None


def files_of(frames: Iterable[Frame]) -> tuple[list[Path], list[LeftOut]]:
    """A file of each frame that takes part, and the frames whose files are gone.

    What is in quarantine or was rejected is handed on too: the survey says why it is left out.
    """
    paths, gone = [], []
    for frame in frames:
        path = next((path for path in frame.paths if path.is_file()), None)
        if path is not None:
            paths.append(path)
        elif frame.quarantine is None:  # else nobody misses it: taken away, or a better file took its place
            where = f"; it was seen at {frame.paths[0]}" if frame.paths else ""
            gone.append(
                LeftOut(
                    name=frame.name,
                    reason=f"its file is not there{where}",
                    remedy="Bring it back, or mount the disk that it is on.",
                )
            )
    return paths, gone


def doubles_elsewhere(store: Store, frames: Sequence[Frame], nights: Sequence[date]) -> dict[str, LeftOut]:
    """Frames of a run whose exposure is used from another file of those nights, which is not among them.

    A corrected header may put an exposure into another sequence, whose run uses it. Doubles that are both among
    the frames are left to the survey.

    Returns
    -------
    dict
        By sha256.
    """
    given = {frame.sha256: frame for frame in frames}
    night = store.frames.of_nights(nights[0], nights[-1]) if nights else ()
    usable = {
        frame.sha256: frame.facts
        for frame in (*night, *frames)
        if frame.facts is not None and frame.rejected is None and frame.quarantine is None
        and any(path.is_file() for path in frame.paths)
    }  # fmt: skip
    found = doubles(usable)
    return {
        sha256: LeftOut(
            name=given[sha256].name,
            reason=f"the same exposure as {double.name}, which counts: {double.why}",
            remedy=f"To use this one, reject the other: nirflow cal reject {double.used[:12]}",
            expected=True,
        )
        for sha256, double in found.items()
        if sha256 in given and double.used not in given
    }


def _is_usable(frame: Frame) -> bool:
    return frame.rejected is None and frame.quarantine is None


def _any_of(frames: Iterable[Frame], first: date, last: date) -> bool:
    return any(first <= frame.facts.night <= last for frame in frames if frame.facts is not None)


def _name(frame: Frame) -> str | None:
    sequence = Exposures.of(frame.facts) if frame.facts is not None else None
    return None if sequence is None else sequence.name
