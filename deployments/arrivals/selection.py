"""The choice of frames from the store for runs that are started without a list of files."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from calib_store.model.records import Frame
from calib_store.store import Store
from deployments.status.store_facts import members, usable_facts
from imaging.frames.calibration_groups import calibration_groups
from imaging.frames.doubles import doubles
from imaging.frames.groups import GroupParameters
from imaging.frames.sequences import night_in
from imaging.frames.windows import calibration_window
from imaging.kinds import CALIBRATION_FRAMES
from tasks.support.references import LeftOut

_GROUPS: Final = GroupParameters()


def frames_of_nights(
    store: Store, first: date, last: date, calibration_days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """Return science and unreadable frames of the nights, and the darks and flats within some days of them.

    The result is empty if no frame of the nights themselves is known.
    """
    science = store.frames.of_nights(first, last, kinds=("object",))
    near = calibrations_near(store, first, last, calibration_days, groups)
    refused = store.frames.refused_of_nights(first, last)
    return (*science, *near, *refused) if science or refused or _any_of(near, first, last) else ()


def limited_to(frames: Iterable[Frame], targets: Collection[str], folder: Path | None) -> tuple[Frame, ...]:
    """Return the frames with a file in a folder, or below it, and of the science only that of some targets.

    Parameters
    ----------
    frames
        The frames.
    targets
        Names of targets, in upper or lower case; empty for all.
    folder
        The folder; None for any.
    """
    wanted = {_same_case(target) for target in targets}
    below = folder.expanduser().resolve() if folder is not None else None
    return tuple(
        frame
        for frame in frames
        if (below is None or any(path.is_relative_to(below) for path in frame.paths))
        and (
            not wanted
            or frame.facts is None
            or frame.facts.kind != "object"
            or _same_case(frame.facts.target) in wanted
        )
    )


def calibrations_of_nights(
    store: Store, first: date, last: date, days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """Return raw darks and flats of the nights, and those within some days of them.

    The result is empty if none of the nights themselves is known.
    """
    near = calibrations_near(store, first, last, days, groups)
    return near if _any_of(near, first, last) else ()


def calibrations_near(
    store: Store, first: date, last: date, days: int, groups: GroupParameters = _GROUPS
) -> tuple[Frame, ...]:
    """Return the raw darks and flats of the nights and within some days of them, in complete groups.

    A group that overlaps this time is included with all of its frames, whenever they were taken. Unusable frames of
    this time are included: the survey reports why they are left out.
    """
    margin = timedelta(days=days)
    first, last = first - margin, last + margin
    reach = timedelta(days=math.ceil(groups.longest("group")))
    begins, ends = first - reach, last + reach
    while True:
        known = store.frames.of_nights(begins, ends, kinds=CALIBRATION_FRAMES)
        usable = {frame.sha256: facts for frame in known if (facts := usable_facts(frame)) is not None}
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
    """Return the frames of one sequence."""
    night = night_in(sequence)
    return members(store.frames.of_nights(night, night), sequence)


def files_of(frames: Iterable[Frame]) -> tuple[list[Path], list[LeftOut]]:
    """Return a file of each frame, and the frames whose files are missing.

    Quarantined and rejected frames are included: the survey reports why they are left out.
    """
    paths, gone = [], []
    for frame in frames:
        path = next((path for path in frame.paths if path.is_file()), None)
        if path is not None:
            paths.append(path)
        elif frame.quarantine is None:  # else it is not needed: removed, or replaced by a better file
            where = f"; it was last seen at {frame.paths[0]}" if frame.paths else ""
            gone.append(
                LeftOut(
                    name=frame.name,
                    reason=f"its file is missing{where}",
                    remedy="Restore it, or mount the disk that it is on.",
                )
            )
    return paths, gone


def doubles_elsewhere(store: Store, frames: Sequence[Frame], nights: Sequence[date]) -> dict[str, LeftOut]:
    """Return frames of a run whose exposure is used from another file of those nights that is not among them.

    A corrected header may put an exposure into another sequence, whose run uses it. Doubles that are both among the
    frames are left to the survey.

    Returns
    -------
    dict
        By sha256.
    """
    given = {frame.sha256: frame for frame in frames}
    night = store.frames.of_nights(nights[0], nights[-1]) if nights else ()
    usable = {
        frame.sha256: facts
        for frame in (*night, *frames)
        if (facts := usable_facts(frame)) is not None and any(path.is_file() for path in frame.paths)
    }  # fmt: skip
    found = doubles(usable)
    return {
        sha256: LeftOut(
            name=given[sha256].name,
            reason=f"the same exposure as {double.name}, which is used: {double.why}",
            remedy=f"To use this one, reject the other: nirflow cal reject {double.used[:12]}",
            expected=True,
        )
        for sha256, double in found.items()
        if sha256 in given and double.used not in given
    }


def _same_case(target: str) -> str:
    return " ".join(target.split()).casefold()


def _any_of(frames: Iterable[Frame], first: date, last: date) -> bool:
    return any(first <= frame.facts.night <= last for frame in frames if frame.facts is not None)
