"""A plane of flags as runs of equal values, of which any rows can be read on their own.

The quality and the object mask of a frame are mostly long runs: as such they take some 3 % of their pixels' bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Longest row: the lengths of runs are uint16.
_WIDEST: Final = 65535
_START: Final = np.dtype(np.int64)
_LENGTH: Final = np.dtype(np.uint16)


def encode(plane: NDArray[Any]) -> bytes | None:
    """Return a plane as runs, or None if it is no plane of flags or takes no fewer bytes that way.

    Parameters
    ----------
    plane
        (ny, nx); only unsigned integers of one or two bytes are encoded.

    Returns
    -------
    bytes or None
        Number of runs before each row and in total, int64 (ny + 1,); lengths, uint16; values, of the plane's type.
    """
    if plane.ndim != 2 or plane.dtype.kind != "u" or plane.dtype.itemsize > 2 or plane.shape[1] > _WIDEST:
        return None
    from imaging.pixels import flag_runs_kernels  # late: numba takes a while, and not every run writes planes

    before = flag_runs_kernels.count_runs(plane)
    runs = int(before[-1])
    if before.nbytes + runs * (_LENGTH.itemsize + plane.dtype.itemsize) >= plane.nbytes:
        return None
    lengths, values = np.empty(runs, _LENGTH), np.empty(runs, plane.dtype)
    flag_runs_kernels.encode_runs(plane, before, lengths, values)
    return before.tobytes() + lengths.tobytes() + values.tobytes()


def decode(read: Callable[[NDArray[Any], int], None], n_rows: int, first: int, out: NDArray[Any]) -> bool:
    """Fill rows of a plane from its runs.

    Parameters
    ----------
    read
        Fills an array from an offset of what `encode` returned, bytes.
    n_rows
        Rows of the complete plane.
    first
        First row wanted.
    out
        Where the rows go, (rows, nx), of the plane's type.

    Returns
    -------
    bool
        False if the runs do not fill exactly these rows: the bytes are damaged.
    """
    from imaging.pixels import flag_runs_kernels

    ends, total = np.empty(len(out) + 1, _START), np.empty(1, _START)
    read(ends, first * _START.itemsize)
    read(total, n_rows * _START.itemsize)
    runs = int(ends[-1] - ends[0])
    if not 0 <= ends[0] <= ends[-1] <= total[0] or runs > out.size:
        return False
    lengths, values = np.empty(runs, _LENGTH), np.empty(runs, out.dtype)
    begin = (n_rows + 1) * _START.itemsize
    read(lengths, begin + int(ends[0]) * _LENGTH.itemsize)
    read(values, begin + int(total[0]) * _LENGTH.itemsize + int(ends[0]) * out.dtype.itemsize)
    return bool(flag_runs_kernels.decode_runs(lengths, values, out))
