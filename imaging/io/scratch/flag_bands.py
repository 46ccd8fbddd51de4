"""A plane of flags that is being written: its bands stay in memory as runs, some 3 % of their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.pixels import flag_runs


class FlagBands:
    """Rows of a plane of flags in the order in which they were written; rows that were not written are 0.

    On the disk, each would take its full size until the plane is complete, and pages of the system's cache that are
    read once. Threads may write different rows at the same time.

    Parameters
    ----------
    columns
        Shape of a row.
    dtype
        An unsigned integer.
    """

    def __init__(self, columns: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._columns, self._dtype = columns, dtype
        self._bands: list[tuple[int, int, bytes | NDArray[Any]]] = []

    def write(self, first: int, data: NDArray[Any]) -> None:
        """Keep rows starting at ``first``: as runs, unless those take more."""
        packed = flag_runs.encode(np.ascontiguousarray(data))
        self._bands.append((first, len(data), np.array(data) if packed is None else packed))

    def read_into(self, first: int, out: NDArray[Any]) -> None:
        """Fill a contiguous array with rows starting at ``first``."""
        out[...] = 0
        last = first + len(out)
        for start, rows, content in list(self._bands):
            begin, end = max(first, start), min(last, start + rows)
            if begin >= end:
                continue
            here = out[begin - first : end - first]
            if isinstance(content, bytes):
                self._decode(content, rows, begin - start, here)
            else:
                here[...] = content[begin - start : end - start]

    @staticmethod
    def _decode(content: bytes, rows: int, first: int, out: NDArray[Any]) -> None:
        def read(array: NDArray[Any], offset: int) -> None:
            array[...] = np.frombuffer(content, array.dtype, array.size, offset).reshape(array.shape)

        complete = flag_runs.decode(read, flag_runs.runs_before(read, rows), first, out)
        assert complete
