"""One plane in a file of its own, read in thousands of bands: what every one of them needs is computed once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.pixels import flag_runs


@dataclass(frozen=True)
class PlaneFile:
    """The file of a plane, read by rows.

    Attributes
    ----------
    path, dtype, shape
        The file, and the array that it contains.
    runs
        Whether it is stored as runs (`imaging.pixels.flag_runs`).
    """

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    runs: bool = False

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @cached_property
    def _runs_before(self) -> NDArray[np.int64]:
        """The number of runs before each row; kept, because every band needs it."""
        with self.opened() as descriptor:
            return flag_runs.runs_before(partial(self.fill, descriptor), self.shape[0])

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return self.shape[0] * self.row_bytes

    def extent(self, rows: slice | None) -> tuple[int, tuple[int, ...]]:
        """Return the first of some rows (default: all) and their shape."""
        first, last, _ = (rows or slice(None)).indices(self.shape[0])
        return first, (max(0, last - first), *self.shape[1:])

    @contextmanager
    def opened(self, flags: int = os.O_RDONLY) -> Iterator[int]:
        """Yield a descriptor of the file."""
        descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read_into(self, first: int, out: NDArray[Any]) -> None:
        """Fill a contiguous array with rows starting at ``first``."""
        if not out.size:
            return
        before = self._runs_before if self.runs else None
        with self.opened() as descriptor:
            if before is None:
                self.fill(descriptor, out, first * self.row_bytes)
            elif not flag_runs.decode(partial(self.fill, descriptor), before, first, out):
                raise OSError(f"{self.path} is damaged: its runs do not fill its rows")

    def fill(self, descriptor: int, out: NDArray[Any], offset: int) -> None:
        """Fill an array from an offset of the open file."""
        left = out.data.cast("B") if out.size else memoryview(b"")
        while left:
            got = os.preadv(descriptor, [left], offset)
            if not got:
                raise OSError(f"{self.path} is shorter than its manifest states")
            left, offset = left[got:], offset + got
