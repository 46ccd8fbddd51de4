"""Access for browsers to the files below one folder: the pages of nights with their pictures and products.

A path is followed one name at a time from the folder on, without following links: nothing outside can be reached, even
if the folder changes meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from imaging.quick_look.night_record import RECORD, ROWS

#: Types of the files that are served, by suffix.
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".fits": "application/fits",
}
#: Types of further files, by name: other files of such a type are not for browsers.
_NAMED: Final = dict.fromkeys((RECORD, ROWS), "application/json")
_PAGE: Final = "index.html"
_CHUNK: Final = 1024**2
_DEEPEST: Final = 10


class Opened(NamedTuple):
    """An open file, its size and type."""

    file: BinaryIO
    size: int
    kind: str


def open_below(folder: Path, path: str) -> Opened | None:
    """Open the file of a path like ``2013-11-21/previews/a.png``; for one that ends in a slash, the page there.

    Returns
    -------
    Opened
        The file, which `content` closes; None if it is missing or may not be served.
    """
    names = path.split("/")
    names[-1] = names[-1] or _PAGE
    kind = _NAMED.get(names[-1]) or TYPES.get(Path(names[-1]).suffix)
    if kind is None or len(names) > _DEEPEST or not all(map(_is_plain, names)):
        return None
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in names[:-1]:
            here = _step(here, name, os.O_DIRECTORY)
        # Without blocking, in case it is a pipe without a writer.
        descriptor = _step(here, names[-1], os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    return Opened(os.fdopen(descriptor, "rb"), about.st_size, kind)


def content(opened: Opened) -> Iterator[bytes]:
    """Yield the bytes of a file, as many as it had when opened, and close it."""
    with opened.file as file:
        left = opened.size
        while left > 0 and (part := file.read(min(_CHUNK, left))):
            left -= len(part)
            yield part


def _step(here: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=here)
    finally:
        os.close(here)


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "\0" not in name
