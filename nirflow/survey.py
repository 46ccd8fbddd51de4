"""Finding frames on disk and telling what each is, from its headers alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imaging.errors import FrameError, NirflowError
from imaging.frames.find_files import find_files
from nirflow.exits import UsageError

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from imaging.frames.facts import FrameFacts

log = logging.getLogger(__name__)

#: Header reading waits for the disk and for bz2, which releases the interpreter's lock.
_THREADS: Final = min(8, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Surveyed:
    """One file: what it is, or why that cannot be told.

    Attributes
    ----------
    path
        The file as the user named it.
    facts
        What the frame is; None where its headers cannot be read or make no sense.
    problem, remedy
        What is wrong with the file, and what to do.
    notes
        What a reader should know of a frame that is fit: a corrected keyword.
    double
        Of a file that is not used because another one is the same frame or exposure: which, and why.
    """

    path: Path
    facts: FrameFacts | None = None
    problem: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()
    double: str = ""

    @property
    def broken(self) -> bool:
        """The file is damaged, or the frame of an unknown instrument."""
        return bool(self.problem)

    @property
    def unfit(self) -> str:
        """Why a whole frame takes no part in an imaging reduction, or an empty text."""
        return (self.facts.unfit() or self.double) if self.facts is not None else ""


def frame_files(paths: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """Find the FITS files that a person named; see `imaging.frames.find_files.find_files`.

    Raises
    ------
    UsageError
        Where a path does not exist or a glob matches nothing.
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
) -> list[Surveyed]:
    """Tell what each of ``files`` is, in parallel; one bad file stops none of the others.

    Parameters
    ----------
    files
        The files, as `frame_files` gives them.
    pixels
        Unpack and read the pixels too: finds files cut short, and frames without a measurement.
    any_shape
        Take images of any shape, as of a night that was simulated on a small array.
    progress
        Called once for each file that has been looked at.
    """

    def look(path: Path) -> Surveyed:
        seen = examine(path, pixels=pixels, any_shape=any_shape)
        if progress is not None:
            progress()
        return seen

    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return _with_doubles(list(pool.map(look, files)))


def examine(path: Path, *, pixels: bool = False, any_shape: bool = False) -> Surveyed:
    """Tell what one file is; of a compressed one only the start is unpacked, unless ``pixels``."""
    from astropy.io.fits import VerifyError

    from imaging.frames.facts import facts_from_headers
    from imaging.io.raw_file import UNFORESEEN, check_pixels, open_raw, read_headers

    facts = None
    try:
        primary, extension = read_headers(path)
        facts = facts_from_headers(primary, extension, name=path.name)
        if not facts.processed:
            if not any_shape:
                wanted = facts.table.detector.shape
                _check_shape(primary if extension is None else extension, facts.name, wanted)
            if pixels:
                with open_raw(path, shape=None if any_shape else "detector") as raw:
                    check_pixels(raw)
    except FrameError as error:
        log.debug("%s", error)
        return Surveyed(path, facts, problem=error.reason, remedy=error.remedy)
    except VerifyError as error:
        # astropy parses a card when it is asked for: a garbled one shows only here.
        return Surveyed(path, problem=f"a header card cannot be read ({error})", remedy="Correct the header.")
    except UNFORESEEN as error:
        log.debug("%s cannot be read", path, exc_info=True)
        problem = f"the file makes no sense ({type(error).__name__}: {error})"
        return Surveyed(path, facts, problem=problem, remedy="Fetch the file again or leave it out.")
    return Surveyed(path, facts, notes=notes_on(facts))


def notes_on(facts: FrameFacts) -> tuple[str, ...]:
    """Return what a reader should know of a frame's header."""
    if not facts.read_pairs_corrected:
        return ()
    keyword = facts.table.keyword("read_pairs")
    return (f"{keyword} is wrong; the number of reads ({facts.read_pairs}) was taken from another keyword",)


def _check_shape(header: Header, name: str, wanted: tuple[int, int]) -> None:
    shape = [header.get(f"NAXIS{n}", 0) for n in range(header.get("NAXIS", 0), 0, -1)]
    plane = tuple(shape[1:] if len(shape) == 3 and shape[0] == 1 else shape)
    if plane != wanted:
        found, expected = " x ".join(map(str, plane)) or "no image", " x ".join(map(str, wanted))
        raise FrameError(name, f"wrong shape: {found}, expected {expected}", remedy="Leave the file out.")


def _with_doubles(frames: list[Surveyed]) -> list[Surveyed]:
    """Mark the files that are not used because another one is the same frame or the same exposure."""
    from imaging.frames.doubles import doubles, exposures

    raw = {
        str(frame.path): frame.facts
        for frame in frames
        if frame.facts is not None and not (frame.broken or frame.facts.processed)
    }
    marked: dict[str, str] = {}
    for group in exposures(raw):
        first: dict[str, str] = {}
        for path in (path for path in raw if path in group):
            twin = first.setdefault(_identity(path, group, raw), path)
            if twin != path:
                marked[path] = f"the same frame as {Path(twin).name}, which is used"
        for sha256, double in doubles({sha256: raw[path] for sha256, path in first.items()}).items():
            used, mine = Path(first[double.used]), Path(first[sha256])
            name = used.name if used.name != mine.name else str(used)
            marked[first[sha256]] = f"the same exposure as {name}, which counts: {double.why}"
    return [replace(f, double=marked.get(str(f.path), "")) for f in frames]


def _identity(path: str, group: Sequence[str], raw: Mapping[str, FrameFacts]) -> str:
    """What tells a file from others of its exposure.

    A file and its compressed copy are one frame where their headers agree, and are not read to the end for that; of
    other files the checksum decides.
    """
    from imaging.io.compressed import compression, digest

    copies = [other for other in group if raw[other] == raw[path]]
    if len({compression(Path(other)) for other in copies}) == len(copies) == len(group):
        return raw[path].name
    try:
        return digest(Path(path))
    except FrameError:
        return path  # it cannot be read to its end, which only a look at its pixels would find


@dataclass(frozen=True)
class Group:
    """Frames that are combined or reduced together, under the name that a reader knows them by."""

    label: str
    frames: tuple[Surveyed, ...]
    notes: tuple[str, ...] = ()


def group_frames(frames: Sequence[Surveyed]) -> list[Group]:
    """Put the frames that can be reduced into groups: darks, flats, then science fields.

    Of files with the same name the first one counts.
    """
    from imaging.frames.calibration_groups import calibration_groups
    from imaging.frames.groups import science_groups

    named: dict[str, Surveyed] = {}
    for frame in frames:
        if frame.facts is not None and not (frame.broken or frame.unfit or frame.facts.processed):
            named.setdefault(frame.facts.name, frame)
    facts = [frame.facts for frame in named.values() if frame.facts is not None]
    groups = []
    for calibration in calibration_groups(facts):
        words = [calibration.kind, calibration.filter, f"{calibration.exposure_time:g} s"]
        words += [f"x {calibration.coadds}"] if calibration.coadds > 1 else []
        words += [f"lamp {calibration.lamp}"] if calibration.lamp else []
        members = tuple(named[name] for name in calibration.members)
        groups.append(Group(" ".join(word for word in words if word), members))
    for science in science_groups(facts):
        label = f"science {science.filter} {science.exposure_time:g} s {science.target}"
        sky = len(science.members) - len(science.objects)
        mode = f"offset, {sky} for the sky" if science.mode == "offset" else "dither"
        members = tuple(named[name] for name in science.members)
        groups.append(Group(f"{label} ({mode})", members, science.notes))
    return groups
