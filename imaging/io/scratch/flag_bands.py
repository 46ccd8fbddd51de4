"""A plane of flags that is being written: its bands stay in memory as runs, some 3 % of their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.pixels import flag_runs


class FlagBands:
    """Rows of a plane of flags in the order in which they were written; rows that were not written are 0.

    In a file, a plane would take its full size until it is complete, and fill the page cache with what is read only
    once. Threads may write different rows at the same time.
    """

    def __init__(self) -> None:
        #: By the first row and the number of rows.
        self._bands: dict[tuple[int, int], bytes | NDArray[Any]] = {}

    def write(self, first: int, data: NDArray[Any]) -> None:
        """Keep rows starting at ``first``: as runs, unless those take more."""
        packed = flag_runs.encode(np.ascontiguousarray(data))
        extent = first, len(data)
        self._bands.pop(extent, None)  # a step that starts again writes the same bands
        self._bands[extent] = np.array(data) if packed is None else packed

    def read_into(self, first: int, out: NDArray[Any]) -> None:
        """Fill a contiguous array with rows starting at ``first``."""
        out[...] = 0
        last = first + len(out)
        for (start, rows), content in list(self._bands.items()):
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
