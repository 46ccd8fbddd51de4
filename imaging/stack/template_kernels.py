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
def _sorted(sci, dq, y, x0, width, ordered, count, bits, n):  # type: ignore[no-untyped-def]
    """Sort the values that the first ``n`` frames have at some pixels of a row."""
    count[:] = 0
    bits[:] = 0
    for j in range(n):
        for b in range(width):
            quality = dq[j, y, x0 + b]
            good = (quality & _NO_VALUE) == 0
            ordered[j, b] = sci[j, y, x0 + b] if good else np.float32(np.inf)
            count[b] += 1 if good else 0
            bits[b] |= quality
    sort_rows(ordered[:n], n)


@njit(cache=True, nogil=True)
def take_median(sci, dq, sharp, least, median, suspect):  # type: ignore[no-untyped-def]
    """Compute the median of the sharpest frames that have a value, or of all where these are too few.

    The values of bad pixels, filled from their neighbours, are used: without the frame the order of the others
    would change under a star.

    Parameters
    ----------
    sci, dq
        Resampled and scaled frames, (n, rows, nx), float32 and uint16; the sharpest first.
    sharp : int
        Number of the sharpest frames.
    least : int
        Fewest values; NaN with fewer.
    median, suspect
        Written: float32, and uint8 (rows, nx), 1 where a frame is not linear or one of the sharpest has no value.
    """
    n, ny, nx = sci.shape
    ordered = np.zeros((n, BLOCK), np.float32)
    count = np.empty(BLOCK, np.int64)
    bits = np.empty(BLOCK, np.uint16)
    for y in range(ny):
        for x0 in range(0, nx, BLOCK):
            width = min(BLOCK, nx - x0)
            _sorted(sci, dq, y, x0, width, ordered, count, bits, sharp)
            few = False
            for b in range(width):
                c, x = count[b], x0 + b
                # Without one of them, the median is that of stars of another width.
                other = sharp < n and c < sharp
                suspect[y, x] = 1 if other or bits[b] & _SUSPECT else 0
                few |= c < least
                median[y, x] = 0.5 * (ordered[(c - 1) // 2, b] + ordered[c // 2, b]) if c >= least else np.nan
            if not few or sharp == n:
                continue
            _sorted(sci, dq, y, x0, width, ordered, count, bits, n)
            for b in range(width):
                c, x = count[b], x0 + b
                if c >= least and np.isnan(median[y, x]):
                    suspect[y, x] = 1
                    median[y, x] = 0.5 * (ordered[(c - 1) // 2, b] + ordered[c // 2, b])


@njit(cache=True, nogil=True)
def median_difference(sci, dq, models, state, least, out):  # type: ignore[no-untyped-def]
    """Add the median of the differences of the frames from their models to ``out``, under sources.

    Parameters
    ----------
    sci, dq
        Resampled and scaled frames, (n, rows, nx).
    models : float32 (n, rows, nx)
        What the template predicts for each.
    state : uint8 (rows, nx)
        Not 0 under sources (`imaging.stack.psf_kernels.predict_rows`).
    least : int
        Fewest values.
    out : float32 (rows, nx)
        Changed.
    """
    n, ny, nx = sci.shape
    values = np.empty(n, np.float32)
    for y in range(ny):
        for x in range(nx):
            if state[y, x] == 0:
                continue
            c = 0
            for j in range(n):
                difference = sci[j, y, x] - models[j, y, x]
                if (dq[j, y, x] & _NO_VALUE) == 0 and np.isfinite(difference):
                    k = c
                    while k > 0 and values[k - 1] > difference:
                        values[k] = values[k - 1]
                        k -= 1
                    values[k] = difference
                    c += 1
            if c >= least:
                out[y, x] += 0.5 * (values[(c - 1) // 2] + values[c // 2])
