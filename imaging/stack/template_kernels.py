"""Kernels of the template: the median of the resampled frames at each pixel, and its correction."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ
from imaging.pixels.median_kernels import median_in_place, sort_rows
from imaging.sky.subtract_kernels import BLOCK

#: What is wrong with a value of the template (`take_median`).
NOT_LINEAR = 1
PARTIAL = 2
FEW = 4
_SUSPECT = np.uint16(DQ.NON_LINEAR | DQ.SATURATED)
#: A pixel that no frame reaches or that no light reaches has no value; that of a bad pixel is filled.
_NO_VALUE = np.uint16(DQ.NO_DATA | DQ.UNILLUMINATED)


@njit(cache=True, nogil=True)
def _sorted(sci, dq, y, x0, width, ordered, count, beyond, n):  # type: ignore[no-untyped-def]
    """Sort the values that the first ``n`` frames have at some pixels of a row, and count those that are not linear."""
    count[:] = 0
    beyond[:] = 0
    for j in range(n):
        for b in range(width):
            quality = dq[j, y, x0 + b]
            good = (quality & _NO_VALUE) == 0
            ordered[j, b] = sci[j, y, x0 + b] if good else np.float32(np.inf)
            count[b] += 1 if good else 0
            beyond[b] += 1 if (quality & _SUSPECT) != 0 else 0
    sort_rows(ordered[:n], n)


@njit(cache=True, nogil=True)
def take_median(sci, dq, sharp, least, first, last, median, suspect):  # type: ignore[no-untyped-def]
    """Compute the median of the sharpest frames that have a value, or of more where these are too few.

    The values of bad pixels, filled from their neighbours, are used: without the frame the order of the others
    would change under a star.

    Parameters
    ----------
    sci, dq
        Resampled and scaled frames, (n, rows, nx), float32 and uint16; the sharpest first.
    sharp : int
        Number of the sharpest frames.
    least : int
        Fewest values of a median. Where the sharpest have fewer, the next ones are added up to that number.
    first, last : int
        Rows from the first to that before the last are written.
    median, suspect
        Written: float32, of fewer values the lowest, 0 (the sky) without any; and uint8 (rows, nx), the sum of
        `NOT_LINEAR` (in two frames or more: in one it may be a hit), `PARTIAL` (other frames than the sharpest) and
        `FEW` (fewer than ``least``).
    """
    n, _, nx = sci.shape
    ordered = np.zeros((n, BLOCK), np.float32)
    count = np.empty(BLOCK, np.int64)
    beyond = np.empty(BLOCK, np.int64)
    values = np.empty(n, np.float32)
    for y in range(first, last):
        for x0 in range(0, nx, BLOCK):
            width = min(BLOCK, nx - x0)
            _sorted(sci, dq, y, x0, width, ordered, count, beyond, sharp)
            for b in range(width):
                c, x = count[b], x0 + b
                bits = NOT_LINEAR if beyond[b] > 1 else 0
                if sharp < n and c < sharp:
                    # The median is that of stars of another width.
                    bits |= PARTIAL
                if c >= least:
                    median[y, x] = 0.5 * (ordered[(c - 1) // 2, b] + ordered[c // 2, b])
                else:
                    c = _first_values(sci, dq, y, x, least, values)
                    middle = 0.5 * (values[(c - 1) // 2] + values[c // 2])
                    median[y, x] = middle if c >= least else (values[0] if c > 0 else np.float32(0.0))
                    bits |= FEW if c < least else 0
                suspect[y, x] = bits


@njit(cache=True, nogil=True)
def _first_values(sci, dq, y, x, most, values):  # type: ignore[no-untyped-def]
    """Write the values of the first frames that have one, ascending; return their number."""
    c = 0
    for j in range(sci.shape[0]):
        if c < most and (dq[j, y, x] & _NO_VALUE) == 0 and np.isfinite(sci[j, y, x]):
            _insert(values, c, sci[j, y, x])
            c += 1
    return c


@njit(cache=True, nogil=True)
def _insert(values, count, value):  # type: ignore[no-untyped-def]
    """Insert a value into ``count`` ascending ones."""
    k = count
    while k > 0 and values[k - 1] > value:
        values[k] = values[k - 1]
        k -= 1
    values[k] = value


@njit(cache=True, nogil=True)
def median_difference(difference, dq, kinds, suspect, sharp, least, chosen, first, last, out):  # type: ignore[no-untyped-def]
    """Add the median of the differences of the frames from their models to ``out``, under sources.

    Parameters
    ----------
    difference, dq
        Resampled and scaled frames less what the template predicts for each, (n, rows, nx); the sharpest first.
    kinds : uint8 (rows, nx)
        Not 0 under sources (`imaging.stack.psf_kernels.mark_sources`).
    suspect : uint8 (rows, nx)
        As from `take_median`.
    sharp, least : int
        The frames that are used, as in `take_median`.
    chosen : int
        Bits of ``suspect`` of which a pixel has to have one to be changed; 0: all pixels are.
    first, last : int
        Rows from the first to that before the last are changed.
    out : float32 (rows, nx)
        Changed.
    """
    n, _, nx = difference.shape
    values = np.empty(n, np.float32)
    for y in range(first, last):
        for x in range(nx):
            if kinds[y, x] == 0 or (chosen != 0 and (suspect[y, x] & chosen) == 0):
                continue
            c = 0
            for j in range(n):
                if j >= sharp and c >= least:
                    break
                if (dq[j, y, x] & _NO_VALUE) == 0 and np.isfinite(difference[j, y, x]):
                    values[c] = difference[j, y, x]
                    c += 1
            if c >= least:
                out[y, x] += median_in_place(values, c)
