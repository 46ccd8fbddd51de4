"""Finding the files of a night on disk, and the requirements on them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from imaging.errors import NirflowError
from imaging.instruments.detector import WantedShape
from imaging.parameters import StepParameters, parameter

#: Suffixes of the files that are found in a folder.
SUFFIXES: Final = (".fits", ".fits.gz", ".fits.bz2", ".fits.fz")
_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)


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


def is_plain_name(name: str) -> bool:
    """Return whether a product may have this file name, which is used in folders, headers, tables and pages."""
    return _PLAIN.fullmatch(name) is not None


def find_files(paths: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """Find the FITS files that ``paths`` name.

    Parameters
    ----------
    paths
        Files (any suffix), folders (their FITS files, sorted by name), and globs that the shell did not
        expand.
    recursive
        Also search subfolders.

    Returns
    -------
    list of Path
        Each file once, absolute, in the order in which it was named.

    Raises
    ------
    NirflowError
        Where a path does not exist or a glob matches nothing.
    """
    found: dict[Path, None] = {}
    for path in (Path(p).expanduser() for p in paths):
        if path.is_dir():
            pattern = path.rglob("*") if recursive else path.glob("*")
            files = sorted(p for p in pattern if p.name.endswith(SUFFIXES) and p.is_file())
        elif path.exists():
            files = [path]
        else:
            root = Path(path.anchor)
            files = sorted(p for p in root.glob(str(path.relative_to(root))) if p.is_file())
            if not files:
                raise NirflowError(
                    f"{path}: there is no such file or folder.", remedy="Check the path and its spelling."
                )
        found.update(dict.fromkeys(file.resolve() for file in files))
    return list(found)
