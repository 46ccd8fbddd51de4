"""What a file may be, by its name: the only place that knows endings of names.

`reduce`, `inspect`, `select` and the watcher all decide by these functions which files of a folder are frames. What a
file contains is decided by its bytes (`imaging.io.compressed`): names are often wrong about compression.
"""

from __future__ import annotations

import re
from typing import Final

#: Endings of names of FITS files, in any case.
_FITS: Final = r"\.(?:fits|fit|fts)"
#: Compressions that are read, and those that are recognised and refused with a remedy.
_READ: Final = r"\.(?:gz|bz2|xz|fz)"
_REFUSED: Final = r"\.(?:zst|z|lz4|lzma|zip|7z)"
_FRAME: Final = re.compile(rf".*{_FITS}(?:{_READ}|{_REFUSED})*", re.IGNORECASE | re.DOTALL)
_ENDING: Final = re.compile(rf"({_FITS})?({_READ})?\Z", re.IGNORECASE)
#: Beginnings and endings of names that programs give to files that they are still writing.
_UNFINISHED: Final = re.compile(
    r"~.*|.*(?:~|\.(?:part|partial|tmp|temp|filepart|crdownload|download|incomplete|aria2|swp|lock))",
    re.IGNORECASE | re.DOTALL,
)
_ARCHIVE: Final = re.compile(r".*\.(?:zip|7z|rar|tgz|tbz2?|txz|tar(?:\.\w+)?)", re.IGNORECASE | re.DOTALL)

#: Kinds of files that are not frames by their names, and what to do if they should be.
HIDDEN: Final = "hidden"
UNFINISHED: Final = "unfinished"
ARCHIVE: Final = "archive"
OTHER: Final = "other"


def is_frame_name(name: str) -> bool:
    """Return whether a file of this name may be a frame, as opposed to a hidden or unfinished one."""
    return kind_of_name(name) == ""


def kind_of_name(name: str) -> str:
    """Return why a file of this name is not a frame (`HIDDEN`, `UNFINISHED`, ...); empty for one that may be a frame.

    Hidden are also the files that rsync is writing (``.x.fits.Ab12``) and the companions that macOS makes
    (``._x.fits``).
    """
    if name.startswith("."):
        return HIDDEN
    if _UNFINISHED.fullmatch(name):
        return UNFINISHED
    if _FRAME.fullmatch(name):
        return ""
    return ARCHIVE if _ARCHIVE.fullmatch(name) else OTHER


def is_fits_name(name: str) -> bool:
    """Return whether a name ends like that of a FITS file, also of a compressed one."""
    return _FRAME.fullmatch(name) is not None


def plain_name(path: str) -> str:
    """Return the file name of ``path`` without its compression suffix, its ending written as ``.fits``."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    found = _ENDING.search(name)
    assert found is not None  # the expression matches the empty text at the end
    return name[: found.start()] + (".fits" if found[1] else "")
