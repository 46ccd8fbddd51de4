"""Finding the files of a night on disk, and the requirements on them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from imaging.errors import NirflowError
from imaging.frames.file_names import ARCHIVE, HIDDEN, OTHER, UNFINISHED, kind_of_name
from imaging.instruments.detector import WantedShape
from imaging.listed import counted, listed
from imaging.parameters import StepParameters, parameter

_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)

#: Further kinds of what is passed over in a folder.
FOLDER: Final = "folder"
ELSEWHERE: Final = "link to a folder elsewhere"
IRREGULAR: Final = "irregular"
UNNAMED: Final = "unnamed"
UNREADABLE: Final = "unreadable"
#: For each kind: its name (one, several), why it is passed over, and what to do if it should hold frames.
_PASSED_OVER: Final[dict[str, tuple[str, str, str, str]]] = {
    UNNAMED: (
        "FITS file", "FITS files", "not named like one",
        "Rename it to end in .fits, or name it on the command line.",
    ),
    UNFINISHED: (
        "unfinished file", "unfinished files", "the copy has not ended", "Wait for it to end, or fetch it again."
    ),
    UNREADABLE: ("folder", "folders", "cannot be read", "Make it readable: chmod u+rx"),
    ARCHIVE: ("archive", "archives", "archives are not read", "Unpack it if it contains frames."),
    IRREGULAR: ("pipe, device or socket", "pipes, devices or sockets", "not a file", ""),
    FOLDER: ("folder", "folders", "not searched", "Add --recursive to search it."),
    ELSEWHERE: (
        "link to a folder elsewhere", "links to folders elsewhere", "not followed",
        "Name the folder that it leads to, if it contains frames.",
    ),
    HIDDEN: ("hidden file", "hidden files", "not named like a frame", ""),
    OTHER: ("other file", "other files", "not named like a frame", ""),
}  # fmt: skip
#: Kinds of which a user should know that they were not used.
_SUSPICIOUS: Final = (UNNAMED, UNFINISHED, UNREADABLE)
_SIMPLE: Final = b"SIMPLE  ="


class CheckParameters(StepParameters):
    """Requirements on a raw file."""

    shape: WantedShape = parameter(
        "detector",
        "rows and columns that a frame must have, or those of its instrument's detector; none accepts any",
        unit="px",
    )
    saturated_fraction: float = parameter(
        0.5, "fraction of saturated pixels from which a frame is refused", gt=0, le=1
    )
    checksum: Literal["warn", "refuse", "ignore"] = parameter(
        "warn", "what happens to a frame whose DATASUM or CHECKSUM disagrees with its bytes"
    )
    no_data_fraction: float = parameter(
        0.5,
        "fraction of pixels without data (undefined, unread or impossible values) from which a frame is refused; "
        "below it they are flagged",
        gt=0,
        le=1,
    )
    first_frames: Literal["leave_out", "use"] = parameter(
        "leave_out",
        "what happens to the first frame of an observation, for an instrument whose table calls it bad",
    )
    quadrant_step: float = parameter(
        2.0,
        "a frame whose steps between quadrants differ from those of its configuration by more than this is left out",
        unit="pixel noise",
        gt=0,
    )


@dataclass(frozen=True)
class PassedOver:
    """What is in a folder and is not a frame, of one kind.

    Attributes
    ----------
    folder
        The folder that was searched.
    kind
        One of `HIDDEN`, `UNFINISHED`, `ARCHIVE`, `OTHER`, `FOLDER`, `ELSEWHERE`, ...
    names
        Paths below the folder, sorted.
    """

    folder: Path
    kind: str
    names: tuple[str, ...]

    @property
    def suspicious(self) -> bool:
        """Whether these may well be frames of the night."""
        return self.kind in _SUSPICIOUS

    @property
    def label(self) -> str:
        """Their number and names: ``3 hidden files (a, b, c)``."""
        one, several, *_ = _PASSED_OVER[self.kind]
        return f"{counted(len(self.names), one, several)} ({listed(self.names)})"

    @property
    def reason(self) -> str:
        """Why they were passed over."""
        return _PASSED_OVER[self.kind][2]

    @property
    def remedy(self) -> str:
        """What to do if they should hold frames; may be empty."""
        return _PASSED_OVER[self.kind][3]


class Found(NamedTuple):
    """The files that paths name.

    Attributes
    ----------
    files
        Each file once, absolute, in the order in which it was named. A link keeps its own name.
    passed_over
        What else is in the folders that were searched, by folder and kind.
    """

    files: list[Path]
    passed_over: tuple[PassedOver, ...]

    def summary(self) -> list[str]:
        """Return a line for each folder that lists what was passed over in it."""
        lines: dict[Path, list[str]] = {}
        for one in self.passed_over:
            lines.setdefault(one.folder, []).append(f"{one.label}. {one.remedy}".removesuffix(". "))
        return [f"Passed over in {folder}: {'; '.join(texts)}" for folder, texts in lines.items()]


class Entry(NamedTuple):
    """Something in a folder: a file that may be a frame (``kind`` is empty), or something else."""

    path: str
    kind: str


def is_plain_name(name: str) -> bool:
    """Return whether a product may have this file name, which is used in folders, headers, tables and pages."""
    return _PLAIN.fullmatch(name) is not None


def find_files(paths: Iterable[str | Path], *, recursive: bool = False) -> Found:
    """Find the files that ``paths`` name.

    Parameters
    ----------
    paths
        Files (any suffix), folders (the files that may be frames by their names, sorted), and globs that the shell
        did not expand.
    recursive
        Also search subfolders, except hidden ones and links that lead out of the folder.

    Raises
    ------
    NirflowError
        Where a path does not exist, a folder cannot be read or a glob matches nothing.
    """
    found: dict[Path, None] = {}
    others: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for path in (Path(p).expanduser() for p in paths):
        for one in (path,) if os.path.lexists(path) else _matches(path):
            if one.is_dir():
                files = _search(one, recursive, others)
            else:
                files = [one]
            # A link to a file keeps its name, which is the frame's; links to folders are resolved.
            found.update(dict.fromkeys(file.parent.resolve() / file.name for file in files))
    order = list(_PASSED_OVER)
    return Found(
        list(found),
        tuple(
            PassedOver(folder, kind, tuple(sorted(names)))
            for (folder, kind), names in sorted(others.items(), key=lambda o: (o[0][0], order.index(o[0][1])))
        ),
    )


def walk(
    folder: str, *, recursive: bool, failed: Callable[[str, OSError], None] = lambda *_: None
) -> Iterator[Entry]:
    """Yield what is in a folder, sorted by name, folder by folder.

    A link that leads nowhere is a frame if it is named like one: the frame is missing. Links to folders are
    followed, each folder once, within the folder that is searched; one that leads out of it is an entry, as it might
    lead to any place. Hidden folders are not searched, as copying programs and annexes keep files there under
    names of their own.

    Parameters
    ----------
    folder
        The folder.
    recursive
        Also search subfolders; otherwise each is an entry.
    failed
        Called with the path and the error of what cannot be read.
    """
    visited: set[tuple[int, int]] = set()
    root = Path(os.path.realpath(folder))
    left = [folder]
    while left:
        here = left.pop()
        try:
            about = Path(here).stat()
            if (about.st_dev, about.st_ino) in visited:
                continue
            visited.add((about.st_dev, about.st_ino))
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            failed(here, error)
            continue
        below: list[str] = []
        for entry in entries:
            try:
                kind = _kind(entry, root)
            except OSError as error:
                if error.errno != errno.ENOENT:  # deleted since
                    failed(entry.path, error)
                continue
            if kind == FOLDER and recursive and not entry.name.startswith("."):
                below.append(entry.path)
            else:
                yield Entry(entry.path, kind)
        left += reversed(below)


def _kind(entry: os.DirEntry[str], root: Path) -> str:
    """Return the kind of an entry of a search in ``root``; empty for a frame by its name."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return kind_of_name(entry.name)
    if stat.S_ISDIR(mode):
        if entry.name.startswith("."):
            return HIDDEN
        leads_out = entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root)
        return ELSEWHERE if leads_out else FOLDER
    return kind_of_name(entry.name) if stat.S_ISREG(mode) else IRREGULAR


def _search(folder: Path, recursive: bool, others: dict[tuple[Path, str], set[str]]) -> list[Path]:
    """Return the frames of a folder, and add what is passed over."""
    files = []

    def failed(path: str, error: OSError) -> None:
        if path == str(folder):
            raise NirflowError(
                f"{folder} cannot be read: {error.strerror or error}.",
                remedy=f"Make it readable: chmod u+rx {folder}",
            ) from error
        others[folder, UNREADABLE].add(os.path.relpath(path, folder))

    for path, kind in walk(str(folder), recursive=recursive, failed=failed):
        if kind == "":
            files.append(Path(path))
        else:
            kind = UNNAMED if kind == OTHER and _is_fits(path) else kind
            others[folder, kind].add(os.path.relpath(path, folder))
    return sorted(files)


def _is_fits(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_SIMPLE)) == _SIMPLE
    except OSError:
        return False


def _matches(path: Path) -> list[Path]:
    """Return what a glob matches."""
    root = Path(path.anchor)
    try:
        found = sorted(root.glob(str(path.relative_to(root))))
    except (ValueError, NotImplementedError, OSError):
        found = []
    if not found:
        raise NirflowError(
            f"{path}: there is no such file or folder.", remedy="Check the path and its spelling."
        )
    return found
