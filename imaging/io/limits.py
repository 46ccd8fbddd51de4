"""What a file given by a user may be: a regular file, and no larger than what the detector can make.

A few kilobytes can announce, or unpack to, as much as any disk holds. So nothing is unpacked, and no pixels are read,
before the size that is announced has been compared with these limits.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Final

from imaging.errors import FrameError
from imaging.instruments import catalogue

#: Most rows of a table of what a product was made from: a night has some hundred frames.
RECORD_ROWS: Final = 20_000
#: Most tiles of a compressed image; there is one a row, as a rule.
MOST_TILES: Final = 100_000

_KINDS: Final = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def frame_bytes() -> int:
    """Return the size of the largest file of a raw frame, bytes.

    One image of a detector has 4 a pixel, and raw files of other instruments, that lie next to ours and are refused by
    their keywords, have several.
    """
    return 8 * 4 * catalogue.largest_detector()


def product_bytes() -> int:
    """Return the size of the largest file of a product, bytes.

    SCI, VAR, DQ, OBJMASK and tables have less than 16 a pixel, and a stack of dithers covers less than 16 times the
    detector.
    """
    return 16 * 16 * catalogue.largest_detector()


def table_bytes() -> int:
    """Return the size of the largest table of a product that is read, bytes: a row for each bad pixel has less."""
    return 16 * catalogue.largest_detector()


def table_rows() -> int:
    """Return the most rows of such a table: one for each pixel."""
    return catalogue.largest_detector()


class TooLargeError(FrameError):
    """A file that holds, or would unpack to, more than any file of its sort."""

    def __init__(self, name: str, size: int, limit: int, what: str = "it would unpack to") -> None:
        super().__init__(
            name, f"{what} {size_text(size)}, and no such file is larger than {size_text(limit)}",
            remedy="Leave the file out; fetch it again if it should be a frame or product.",
        )  # fmt: skip


def size_text(size: int) -> str:
    """A number of bytes for people."""
    if size < 10**6:
        return f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size < 10**9 else f"{size / 1e9:.1f} GB"


def open_regular(path: Path) -> int:
    """Open a regular file for reading, and return its descriptor.

    Raises
    ------
    FrameError
        For a pipe, device, socket or folder (or a link to one): they are not waited for, nor read from.
    OSError
        Where it cannot be opened.
    """
    _refuse_irregular(path, path.stat().st_mode)  # to open some devices is to act on them already
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def opened(path: Path) -> io.FileIO:
    """Open a regular file for reading, unbuffered; see `open_regular`."""
    return io.FileIO(open_regular(path))


def check_size(name: str, size: int, limit: int | None = None) -> None:
    """Refuse a plain file that is larger than any of its sort, or than any product.

    Raises
    ------
    TooLargeError
        With its size and the limit.
    """
    limit = product_bytes() if limit is None else limit
    if size > limit:
        raise TooLargeError(name, size, limit, "it has")


def _refuse_irregular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((kind for test, kind in _KINDS.items() if test(mode)), "something else")
    remedy = "Name the files in it." if stat.S_ISDIR(mode) else "Name a file."
    raise FrameError(path.name, f"{path} is {kind}, not a file", remedy=remedy)
