"""When a file that comes in is a whole frame.

Files come by copies that take their time: under a temporary name that is changed at the end, or under their
own name and growing, with the date of now or of the original. A file is whole when its size and date were the
same at two looks, some time apart by our own clock, and its length is what its headers say, or its
compressed stream has its end. Dates are compared with each other only: other machines' clocks are not ours.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from astropy.io.fits import VerifyError

from imaging.errors import FrameError
from imaging.frames.find_files import SUFFIXES
from imaging.io.compressed import compression, unpack
from imaging.io.fitsfile import BLOCK, FitsFile
from imaging.io.limits import TooLargeError, open_regular
from imaging.io.raw_file import UNFORESEEN

#: Beginnings of names that copying programs and editors give to files in the making.
_TEMPORARY: Final = (".", "~")
#: Pause before a file that was not whole, or could not be read, is looked at again, s; doubled each time.
_FIRST_PAUSE: Final = 2.0


class Signature(NamedTuple):
    """What tells a file from itself before a change."""

    size: int
    mtime_ns: int


def is_frame_name(name: str) -> bool:
    """Whether a file of this name may be a frame: not one in the making (``x.fits.part``, ``.x.fits.Ab12``)."""
    return name.endswith(SUFFIXES) and not name.startswith(_TEMPORARY)


def signature(path: str) -> Signature | None:
    """Size and date of a regular file, links followed; None where there is none (any more)."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def lacking(path: Path, unpacked: Path) -> str | None:
    """What keeps a file from being whole; None for a whole one.

    Parameters
    ----------
    path
        The file.
    unpacked
        Folder of unpacked files: a compressed one is unpacked there, which also serves its later readers.

    Returns
    -------
    str or None
        The reason in words, also for what is no FITS file (yet): space that was reserved for a file looks
        like that. What its headers mean is not looked at.

    Raises
    ------
    OSError
        Where it cannot be read.
    NirflowError
        Where ``unpacked`` cannot be written.
    """
    try:
        # The tiles of a .fz are the table of a FITS file, whose length tells; others have to be read to the end.
        plain = path if compression(path) in ("", ".fz") else unpack(path, unpacked)[0]
        with FitsFile(open_regular(plain), path.name) as file:
            last = file.hdus[-1]
            end = last.data_at + -(-last.data_bytes // BLOCK) * BLOCK
            if not any(hdu.data_bytes for hdu in file.hdus):
                return "there are headers and no data"
            if end > file.size:
                return f"{end - file.size} bytes of padding at its end are missing"
    except TooLargeError:
        return None  # nothing is missing: a look at the frame refuses it
    except FrameError as error:
        return error.problem
    except (VerifyError, *UNFORESEEN):
        return None  # no question of length: a look at the frame tells what is wrong
    return None


@dataclass
class _Landing:
    """A file on its way in, as it was at the last look."""

    seen: Signature
    since: float
    due: float
    before: str | None
    failures: int = 0
    announced: bool = False


class Landings:
    """The files of the watched folders: those on their way in, and those that are dealt with.

    Parameters
    ----------
    settle
        Seconds for which a file must not change.
    give_up
        Seconds without a change after which a file that is not whole is worth a warning; no pause between
        two looks at it is longer.
    clock
        Seconds that never go back.
    """

    def __init__(self, settle: float, give_up: float, clock: Callable[[], float]) -> None:
        self._settle, self._give_up, self._clock = settle, give_up, clock
        self._coming: dict[str, _Landing] = {}
        self._done: dict[str, Signature] = {}

    def __len__(self) -> int:
        """How many files are on their way in."""
        return len(self._coming)

    def is_news(self, path: str, now: Signature) -> bool:
        """Whether a file is neither dealt with as it is nor on its way in; one that is gets its look."""
        coming = self._coming.get(path)
        if coming is None:
            return self._done.get(path) != now
        if coming.seen != now:
            coming.due = self._clock()
        return False

    def add(self, path: str, now: Signature, before: str | None = None) -> None:
        """Begin with a file: this was the first look at it.

        Parameters
        ----------
        path, now
            The file as it is.
        before
            sha256 of what was known under this path before, if anything.
        """
        moment = self._clock()
        self._coming[path] = _Landing(now, moment, moment + self._settle, before)

    def settled(self) -> list[str]:
        """Look at the files that are due; those that have not changed for long enough, latest dates first."""
        ready: list[tuple[Signature, str]] = []
        now = self._clock()
        for path, coming in list(self._coming.items()):
            if coming.due > now:
                continue
            try:
                found = signature(path)
            except OSError:
                found = coming.seen  # reading it will tell the trouble
            if found is None:
                self.forget(path)
            elif found != coming.seen:
                coming.seen, coming.since, coming.due = found, now, now + self._settle
                coming.failures, coming.announced = 0, False
            elif now - coming.since >= self._settle:
                ready.append((found, path))
            else:
                coming.due = coming.since + self._settle
        ready.sort(key=lambda one: one[0].mtime_ns, reverse=True)
        return [path for _, path in ready]

    def seen(self, path: str) -> Signature:
        """The file as it was at the last look."""
        return self._coming[path].seen

    def before(self, path: str) -> str | None:
        """sha256 of what was known under the path before it was seen."""
        return self._coming[path].before

    def put_off(self, path: str) -> bool:
        """Look at the file again later, each time after a longer pause, or when it changes.

        Returns
        -------
        bool
            Whether to warn of it: it has not changed for too long. Said once.
        """
        coming, now = self._coming[path], self._clock()
        coming.due = now + min(_FIRST_PAUSE * 2**coming.failures, self._give_up)
        coming.failures = min(coming.failures + 1, 30)
        if coming.announced or now - coming.since < self._give_up:
            return False
        coming.announced = True
        return True

    def done(self, path: str, as_it_was: Signature) -> None:
        """The file is dealt with, until it changes."""
        self._coming.pop(path, None)
        self._done[path] = as_it_was

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._coming.pop(path, None)
        self._done.pop(path, None)

    def keep_only(self, there: set[str]) -> None:
        """Forget what was dealt with and is not there any more."""
        self._done = {path: was for path, was in self._done.items() if path in there}

    def next_due(self) -> float | None:
        """When the next look at a file is due, by the clock."""
        return min((coming.due for coming in self._coming.values()), default=None)
