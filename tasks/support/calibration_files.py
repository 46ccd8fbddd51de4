"""The calibrations of a group, open as long as any of its frames needs them, so that they are read once for all.

A thousand frames have the same dark, flat and bad pixel mask. Small planes stay in memory meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.products.product_file import ProductFile
from tasks.support.references import Calibrations, ProductRef
from tasks.support.workspace import Workspace

#: Bytes per pixel of all planes that detrending reads: SCI and DQ of dark and flat, VAR of the flat, the mask.
_BYTES: Final = 17
#: Planes stay in memory if together they take less than this part of the memory for bands.
_SHARE: Final = 2


class CalibrationPlanes:
    """A calibration open for reading by rows; its planes stay in memory once they are read, unless they are large.

    Parameters
    ----------
    path
        Its file.
    memory
        Bytes for the bands that are being processed.
    """

    def __init__(self, path: Path, memory: int) -> None:
        self._file = ProductFile(path)
        rows, columns = self._file.shape
        self._small = rows * columns * _BYTES * _SHARE <= memory
        self._planes: dict[str, NDArray[Any]] = {}
        self._lock = threading.Lock()

    @property
    def facts(self) -> FrameFacts:
        """Facts of the product."""
        return self._file.facts

    @property
    def header(self) -> Header:
        """Header of the image extension."""
        return self._file.header

    def rows(self, extname: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of a plane (default: all), which must not be changed."""
        return self._rows(extname, lambda wanted: self._file.rows(extname, wanted), rows)

    def bad_pixels(self, rows: slice | None = None) -> NDArray[np.uint8]:
        """Return 1 for the bad pixels of a bad pixel mask."""
        return self._rows("", self._file.bad_pixels, rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rows(
        self, name: str, read: Callable[[slice | None], NDArray[Any]], rows: slice | None
    ) -> NDArray[Any]:
        if not self._small:
            return read(rows)
        with self._lock:
            if name not in self._planes:
                self._planes[name] = read(None)
        return self._planes[name][rows or slice(None)]


@dataclass
class _Users:
    """How many use a calibration, and its planes once one of them has opened it."""

    number: int = 0
    planes: CalibrationPlanes | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_in_use: Final[dict[tuple[Path, str], _Users]] = {}
_lock: Final = threading.Lock()


@contextmanager
def calibration_files(
    calibrations: Calibrations, workspace: Workspace
) -> Iterator[Callable[[], dict[str, CalibrationPlanes]]]:
    """Keep calibrations open as long as any block of this process uses them.

    Yields
    ------
    callable
        Returns them by kind, opened now if no other block has.
    """
    with ExitStack() as stack:
        users = {p.kind: (p, stack.enter_context(_used(p, workspace))) for p in calibrations.present}

        def opened() -> dict[str, CalibrationPlanes]:
            found: dict[str, CalibrationPlanes] = {}
            for kind, (product, use) in users.items():
                with use.lock:
                    if use.planes is None:
                        use.planes = CalibrationPlanes(workspace.file_of(product), workspace.memory)
                    found[kind] = use.planes
            return found

        yield opened


@contextmanager
def _used(product: ProductRef, workspace: Workspace) -> Iterator[_Users]:
    key = workspace.data_dir, product.sha256
    with _lock:
        users = _in_use.setdefault(key, _Users())
        users.number += 1
    try:
        yield users
    finally:
        with _lock:
            users.number -= 1
            if users.number == 0:
                del _in_use[key]
                if users.planes is not None:
                    users.planes.close()
