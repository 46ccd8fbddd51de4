"""Recognition of complete files among those being copied to a watched folder.

Copying takes time. Meanwhile a file has a temporary name, or its final name and a growing size, and the date of the
copy or of the original. A file is complete when its size and date were the same at two checks, some time apart by our
own clock, and its length agrees with its headers, or its compressed stream is complete. Until then dates are only
compared with each other, as other machines' clocks may differ from ours. For how long a file has been incomplete also
follows from its date: another process may have watched it before this one.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from deployments.status.arriving import ArrivingFile
from imaging.errors import FrameError
from imaging.io.compressed import TILES, compression, unpack
from imaging.io.examine import last_change
from imaging.io.fitsfile import BLOCK, FitsFile
from imaging.io.limits import TooLargeError, open_regular
from imaging.io.raw_file import UNFORESEEN
from imaging.printable import printable

#: Pause before an incomplete or unreadable file is checked again, s; doubled each time.
_FIRST_PAUSE: Final = 2.0


class Signature(NamedTuple):
    """The size of a file and the time of its last change, by which a change is noticed."""

    size: int
    changed_ns: int


def signature(path: str) -> Signature | None:
    """Return size and time of change of a regular file, following links; None if it is missing."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(found.st_size, last_change(found)) if stat.S_ISREG(found.st_mode) else None


def why_incomplete(path: Path, unpacked: Path) -> str | None:
    """Return why a file is incomplete; None if it is complete.

    Parameters
    ----------
    path
        The file.
    unpacked
        Folder where compressed files are unpacked, for later readers too.

    Returns
    -------
    str or None
        The reason, also for a file that is not FITS (yet): space reserved for a file looks like that. The meaning
        of its headers is not examined.

    Raises
    ------
    OSError
        If the file cannot be read.
    NirflowError
        If ``unpacked`` cannot be written.
    """
    try:
        # The tiles of a .fz are the table of a FITS file, whose length is known; others must be read to the end.
        plain = path if compression(path) in ("", TILES) else unpack(path, unpacked)[0]
        with FitsFile(open_regular(plain), path.name) as file:
            last = file.hdus[-1]
            end = last.data_at + -(-last.data_bytes // BLOCK) * BLOCK
            if not any(hdu.data_bytes for hdu in file.hdus):
                return "it has headers but no data"
            if end > file.size:
                return f"{end - file.size} bytes of padding at its end are missing"
    except TooLargeError:
        return None  # nothing is missing: examining the frame will refuse it
    except FrameError as error:
        return error.problem
    except UNFORESEEN:
        return None  # not a matter of length: examining the frame will report the problem
    return None


@dataclass
class _Arriving:
    """An arriving file, as of the last check."""

    seen: Signature
    since: float
    due: float
    failures: int = 0
    announced: bool = False
    reason: str = ""


class Landings:
    """The files of the watched folders: those arriving, and those processed.

    Parameters
    ----------
    settle
        Seconds without a change after which a file may be complete.
    give_up
        Seconds without a change after which to warn of an incomplete file; also the longest pause between
        two checks of it.
    clock
        Monotonic clock, s.
    wall
        Clock of the dates of files, s since 1970.
    """

    def __init__(
        self,
        settle: float,
        give_up: float,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settle, self._give_up, self._clock, self._wall = settle, give_up, clock, wall
        self._arriving: dict[str, _Arriving] = {}
        self._done: dict[str, Signature] = {}

    def __len__(self) -> int:
        """Return the number of arriving files."""
        return len(self._arriving)

    def is_new(self, path: str, now: Signature) -> bool:
        """Return whether a file is neither processed nor arriving; check an arriving one that has changed soon."""
        arriving = self._arriving.get(path)
        if arriving is None:
            return self._done.get(path) != now
        if arriving.seen != now:
            arriving.due = self._clock()
        return False

    def add(self, path: str, now: Signature) -> None:
        """Begin to follow a file of some size and date after its first check."""
        moment = self._clock()
        self._arriving[path] = _Arriving(now, moment, moment + self._settle)

    def settled(self) -> list[str]:
        """Check the files that are due; return those unchanged for long enough, latest dates first."""
        ready: list[tuple[Signature, str]] = []
        now = self._clock()
        for path, arriving in list(self._arriving.items()):
            if arriving.due > now:
                continue
            try:
                found = signature(path)
            except OSError:
                found = arriving.seen  # reading it will report the problem
            if found is None:
                self.forget(path)
            elif found != arriving.seen:
                arriving.seen, arriving.since, arriving.due = found, now, now + self._settle
                arriving.failures, arriving.announced, arriving.reason = 0, False, ""
            elif now - arriving.since >= self._settle:
                ready.append((found, path))
            else:
                arriving.due = arriving.since + self._settle
        ready.sort(key=lambda one: one[0].changed_ns, reverse=True)
        return [path for _, path in ready]

    def seen(self, path: str) -> Signature:
        """Return size and date of the file at the last check."""
        return self._arriving[path].seen

    def put_off(self, path: str, reason: str) -> bool:
        """Check the file again later, each time after a longer pause, or when it changes.

        Returns
        -------
        bool
            Whether to warn that it has not changed for too long, as seen here or by its date. True once for each file.
        """
        arriving, now = self._arriving[path], self._clock()
        arriving.reason = reason
        pause = min(_FIRST_PAUSE * 2**arriving.failures, self._give_up)
        left = self._give_up - self._unchanged(arriving)
        arriving.due = now + (min(pause, left) if left > 0 else pause)
        arriving.failures = min(arriving.failures + 1, 30)
        if arriving.announced or left > 0:
            return False
        arriving.announced = True
        return True

    def listed(self) -> Iterator[ArrivingFile]:
        """Yield the arriving files, those that have not changed for longest first."""
        since = {path: self._wall() - self._unchanged(one) for path, one in self._arriving.items()}
        for path in sorted(since, key=lambda one: (since[one], one)):
            one = self._arriving[path]
            yield ArrivingFile(
                path=printable(path), size=one.seen.size, since=datetime.fromtimestamp(int(since[path]), UTC),
                reason=printable(one.reason),
            )  # fmt: skip

    def done(self, path: str, as_it_was: Signature) -> None:
        """Mark the file as processed, until it changes."""
        self._arriving.pop(path, None)
        self._done[path] = as_it_was

    def is_processed(self, path: str) -> bool:
        """Return whether a file was processed and has not changed since."""
        return path in self._done

    def forget(self, path: str) -> None:
        """Forget a file that was deleted."""
        self._arriving.pop(path, None)
        self._done.pop(path, None)

    def keep_only(self, there: set[str]) -> None:
        """Forget processed files that no longer exist."""
        self._done = {path: was for path, was in self._done.items() if path in there}

    def _unchanged(self, one: _Arriving) -> float:
        """Return for how long a file has not changed, s: as seen here or by its date, whichever is longer."""
        return max(self._clock() - one.since, self._wall() - one.seen.changed_ns / 1e9)

    def next_due(self) -> float | None:
        """Return when the next check of a file is due, by the clock."""
        return min((arriving.due for arriving in self._arriving.values()), default=None)
