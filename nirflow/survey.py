"""The frames of a night on disk: found, examined by their headers, and put into groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imaging.errors import NirflowError
from imaging.frames.find_files import Found, find_files
from nirflow.exits import UsageError

if TYPE_CHECKING:
    from imaging.io.examine import Examination

#: Threads that read headers: they wait for the disk and for bz2, which releases the interpreter's lock.
_THREADS: Final = min(8, 2 * (os.cpu_count() or 1))


def frame_files(paths: Iterable[str | Path], *, recursive: bool = False) -> Found:
    """Find the files named by a user, and what is passed over; see `imaging.frames.find_files.find_files`.

    Raises
    ------
    UsageError
        If a path does not exist or a glob matches nothing.
    """
    try:
        return find_files(paths, recursive=recursive)
    except NirflowError as error:
        raise UsageError(error.message, remedy=error.remedy) from None


def survey(
    files: Sequence[Path],
    *,
    pixels: bool = False,
    any_shape: bool = False,
    progress: Callable[[], None] | None = None,
) -> list[Examination]:
    """Examine ``files`` in parallel and sort out which can be used; a bad file does not stop the others.

    Parameters
    ----------
    files
        The files, as returned by `frame_files`.
    pixels
        Also unpack and read the pixels, as `reduce` does, to find truncated files and frames without a
        measurement.
    any_shape
        Accept images of any shape, for nights simulated on a small array.
    progress
        Called once for each examined file.
    """
    from imaging.io.sort_out import sort_out, with_identities

    def look(path: Path) -> Examination:
        seen = examine_file(path, pixels=pixels, any_shape=any_shape)
        if progress is not None:
            progress()
        return seen

    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return sort_out(with_identities(list(pool.map(look, files))))


def examine_file(path: Path, *, pixels: bool = False, any_shape: bool = False) -> Examination:
    """Examine one file; only the start of a compressed file is unpacked, unless ``pixels``."""
    from imaging.frames.find_files import CheckParameters
    from imaging.io.examine import examine

    check = CheckParameters(shape=None) if any_shape else CheckParameters()
    return replace(examine(path, check, pixels=pixels), header={})


@dataclass(frozen=True)
class Group:
    """Frames that are combined or reduced together, under their usual label."""

    label: str
    frames: tuple[Examination, ...]
    notes: tuple[str, ...] = ()


def group_frames(frames: Sequence[Examination]) -> list[Group]:
    """Put the usable frames into groups: darks, flats, then science fields.

    Of frames of several instruments, the labels name theirs.
    """
    from imaging.frames.calibration_groups import calibration_groups
    from imaging.frames.groups import science_groups

    named = {frame.facts.name: frame for frame in frames if frame.usable and frame.facts is not None}
    facts = [frame.facts for frame in named.values() if frame.facts is not None]
    several = len({one.instrument for one in facts}) > 1
    groups = []
    for calibration in calibration_groups(facts):
        parts = [calibration.kind, calibration.filter, f"{calibration.exposure_time:g} s"]
        parts += [f"x {calibration.coadds}"] if calibration.coadds > 1 else []
        parts += [f"lamp {calibration.lamp}"] if calibration.lamp else []
        members = tuple(named[name] for name in calibration.members)
        parts += [calibration.facts.instrument] if several else []
        groups.append(Group(" ".join(part for part in parts if part), members))
    for science in science_groups(facts):
        its = f" {named[science.objects[0]].facts.instrument}" if several else ""  # type: ignore[union-attr]
        label = f"science {science.filter} {science.exposure_time:g} s {science.target}"
        sky = len(science.members) - len(science.objects)
        mode = f"offset, {sky} for the sky" if science.mode == "offset" else "dither"
        members = tuple(named[name] for name in science.members)
        groups.append(Group(f"{label} ({mode}){its}", members, science.notes))
    return groups
