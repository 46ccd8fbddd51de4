"""A limit on the files that are open at a time, whatever the number of frames in a group.

A group of darks is read band by band from all its files, which together may exceed the limit of this process. The
first of them stay open; each further one is opened again for each band, which takes some microseconds.
"""

from __future__ import annotations

import os
import resource
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imaging.errors import FrameError
from imaging.io.limits import open_regular

#: Files that this process may have open at least, if the system allows it: for server, database and libraries too.
_WANTED: Final = 4096
#: Fraction of the limit for frames that stay open, and the largest number of them.
_SHARE, _MOST = 4, 256
_lock: Final = threading.Lock()
_kept = 0


def raise_limit() -> None:
    """Raise the soft limit of open files of this process to what is useful, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class SharedFile:
    """A file for reading by position, kept open or opened for each use; threads may share it.

    Parameters
    ----------
    descriptor
        The open file, which this object owns.
    name
        Its name, for errors.
    path
        Where it can be opened again; None if it must stay open.
    """

    def __init__(self, descriptor: int, name: str, path: Path | None = None) -> None:
        self._name, self._path, self._identity = name, path, _identity(descriptor)
        stays = path is None or _keep()
        self._descriptor = descriptor if stays else None
        if stays:
            self._close = weakref.finalize(self, _close, descriptor, counted=path is not None)
        else:
            os.close(descriptor)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield an open descriptor.

        Raises
        ------
        FrameError
            If another file has replaced it, or it has been written to.
        """
        if self._descriptor is not None:
            yield self._descriptor
            return
        descriptor = open_regular(self._path or Path(self._name))
        try:
            if _identity(descriptor) != self._identity:
                raise FrameError(
                    self._name, "it was replaced or written to while it was read",
                    remedy="Run the reduction again when nothing writes to the folder any longer.",
                )  # fmt: skip
            yield descriptor
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._descriptor is not None:
            self._close()


def _identity(descriptor: int) -> tuple[int, ...]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _keep() -> bool:
    """Count a file that stays open, if there are not too many."""
    global _kept
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if soft == resource.RLIM_INFINITY else min(_MOST, soft // _SHARE)
    with _lock:
        if _kept >= most:
            return False
        _kept += 1
    return True


def _close(descriptor: int, *, counted: bool) -> None:
    global _kept
    os.close(descriptor)
    if counted:
        with _lock:
            _kept -= 1
