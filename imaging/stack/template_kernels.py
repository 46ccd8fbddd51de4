"""Kernel of the template: the median of the resampled frames at each pixel."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ
from imaging.sky.subtract_kernels import BLOCK, sort_rows

_SUSPECT = np.uint16(DQ.NON_LINEAR | DQ.SATURATED)
#: A pixel that no frame reaches or that no light reaches has no value; that of a bad pixel is filled.
_NO_VALUE = np.uint16(DQ.NO_DATA | DQ.UNILLUMINATED)


@njit(cache=True, nogil=True)
def take_median(sci, dq, least, median, suspect):  # type: ignore[no-untyped-def]
    """Compute the median of the frames that have a value, and whether one of them was not linear.

    The values of bad pixels, filled from their neighbours, are used: without the frame the order of the others
    would change under a star.

    Parameters
    ----------
    sci, dq
        Resampled and scaled frames, (n, rows, nx), float32 and uint16.
    least
        Fewest values; NaN with fewer.
    median, suspect
        Written: float32 and uint8 (rows, nx).
    """
    n, ny, nx = sci.shape
    ordered = np.zeros((n, BLOCK), np.float32)
    count = np.empty(BLOCK, np.int64)
    bits = np.empty(BLOCK, np.uint16)
    for y in range(ny):
        for x0 in range(0, nx, BLOCK):
            width = min(BLOCK, nx - x0)
            count[:] = 0
            bits[:] = 0
            for j in range(n):
                for b in range(width):
                    quality = dq[j, y, x0 + b]
                    good = (quality & _NO_VALUE) == 0
                    ordered[j, b] = sci[j, y, x0 + b] if good else np.float32(np.inf)
                    count[b] += 1 if good else 0
                    bits[b] |= quality
            sort_rows(ordered, n)
            for b in range(width):
                c, x = count[b], x0 + b
                suspect[y, x] = 1 if bits[b] & _SUSPECT else 0
                if c < least:
                    median[y, x] = np.nan
                else:
                    median[y, x] = 0.5 * (ordered[(c - 1) // 2, b] + ordered[c // 2, b])
