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


def runs_before(read: Callable[[NDArray[Any], int], None], n_rows: int) -> NDArray[np.int64]:
    """Return the number of runs before each row of a plane and in total, (n_rows + 1,); ``read`` as for `decode`."""
    before = np.empty(n_rows + 1, _START)
    read(before, 0)
    return before


def decode(
    read: Callable[[NDArray[Any], int], None], before: NDArray[np.int64], first: int, out: NDArray[Any]
) -> bool:
    """Fill rows of a plane from its runs.

    Parameters
    ----------
    read
        Fills an array from an offset of what `encode` returned, bytes.
    before
        `runs_before` of the plane.
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

    start, stop, total = int(before[first]), int(before[first + len(out)]), int(before[-1])
    runs = stop - start
    if not 0 <= start <= stop <= total or runs > out.size:
        return False
    lengths, values = np.empty(runs, _LENGTH), np.empty(runs, out.dtype)
    read(lengths, before.nbytes + start * _LENGTH.itemsize)
    read(values, before.nbytes + total * _LENGTH.itemsize + start * out.dtype.itemsize)
    return bool(flag_runs_kernels.decode_runs(lengths, values, out))
