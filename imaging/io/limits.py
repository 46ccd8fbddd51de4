"""Requirements on a file given by a user: a regular file, no larger than what the detector can produce.

A few kilobytes can announce, or unpack to, more than any disk can hold. So nothing is unpacked, and no pixels
are read, before the announced size has been compared with these limits.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Final

from imaging.errors import FrameError
from imaging.instruments import catalogue
from imaging.machine import size_text

#: Maximum rows of a table of a product's inputs: a night has some hundred frames.
RECORD_ROWS: Final = 20_000
#: Maximum tiles of a compressed image; usually there is one per row.
MOST_TILES: Final = 100_000

_KINDS: Final = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def frame_bytes() -> int:
    """Return the maximum size of a raw frame's file, bytes.

    One image of a detector has 4 per pixel; raw files of other instruments, which are found next to ours and
    refused by their keywords, have several images.
    """
    return 8 * 4 * catalogue.largest_detector()


def product_bytes() -> int:
    """Return the maximum size of a product's file, bytes.

    SCI, VAR, DQ, OBJMASK and tables have less than 16 per pixel, and a stack of dithers covers less than 16
    times the detector.
    """
    return 16 * 16 * catalogue.largest_detector()


def table_bytes() -> int:
    """Return the maximum size of a product's table, bytes: a row for each bad pixel needs less."""
    return 16 * catalogue.largest_detector()


def table_rows() -> int:
    """Return the maximum rows of such a table: one for each pixel."""
    return catalogue.largest_detector()


class TooLargeError(FrameError):
    """A file that contains, or would unpack to, more than any file of its type."""

    def __init__(self, name: str, size: int, limit: int, what: str = "it would unpack to") -> None:
        super().__init__(
            name, f"{what} {size_text(size)}, and no such file is larger than {size_text(limit)}",
            remedy="Leave the file out; fetch it again if it should be a frame or product.",
        )  # fmt: skip


def open_regular(path: Path) -> int:
    """Open a regular file for reading, and return its descriptor.

    Raises
    ------
    FrameError
        For a pipe, device, socket or folder (or a link to one), which is neither waited for nor read.
    OSError
        If it cannot be opened.
    """
    _refuse_irregular(path, path.stat().st_mode)  # opening some devices already has an effect
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
    """Refuse a plain file that is larger than any of its type, or than any product.

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
