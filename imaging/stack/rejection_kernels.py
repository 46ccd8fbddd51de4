"""Kernel of the rejection: pixels of a frame that the template does not predict."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from imaging.pixels.dq import LEVELS

#: A pixel without these bits is at the good level of `imaging.pixels.combine`.
_NOT_GOOD = np.uint16(sum(int(bit) for bit in LEVELS))


@njit(cache=True, nogil=True)
def _range(model, y, x):  # type: ignore[no-untyped-def]
    """Return the largest difference among a pixel and its eight neighbours."""
    ny, nx = model.shape
    least = most = model[y, x]
    for j in range(max(0, y - 1), min(ny, y + 2)):
        for i in range(max(0, x - 1), min(nx, x + 2)):
            least, most = min(least, model[j, i]), max(most, model[j, i])
    return most - least


@njit(cache=True, nogil=True)
def _brightest(model, y, x):  # type: ignore[no-untyped-def]
    ny, nx = model.shape
    brightest = np.float32(0.0)
    for j in range(max(0, y - 1), min(ny, y + 2)):
        for i in range(max(0, x - 1), min(nx, x + 2)):
            brightest = max(brightest, model[j, i])
    return brightest


@njit(cache=True, nogil=True)
def find_outliers(sci, var, dq, model, state, first, last, limits, out):  # type: ignore[no-untyped-def]
    """Find the pixels that differ from the model, then those next to them that differ by less.

    Parameters
    ----------
    sci, var, dq
        Rows of a frame, float32, float32, uint16.
    model, state
        What `imaging.stack.psf_kernels.predict_rows` expects there.
    first, last : int
        Rows whose outliers are wanted; one more row on each side, if the frame has it, is only a neighbour.
    limits : float64 (9,)
        low and high threshold (sigma), threshold next to an outlier (sigma), fraction of the gradient, the same
        next to an outlier, fraction of the brightness where the template is not trusted, least variance, and
        variance of the template over that of the frame, on sky and under sources.
    out : uint8 (rows, nx)
        Written: 1 for outliers (also outside [first, last)).

    Returns
    -------
    tested : int
        Pixels with a value and an expectation in [first, last).
    """
    low, high, near, slope, near_slope, distrust, floor, on_sky, under_source = limits
    ny, nx = sci.shape
    tested = 0
    for y in range(ny):
        out[y] = 0
        for x in range(nx):
            if (dq[y, x] & _NOT_GOOD) != 0:
                continue
            expected = model[y, x]
            off = sci[y, x] - expected
            if not np.isfinite(off):
                continue
            if first <= y < last:
                tested += 1
            # The variance that the expected light would have: the frame's own grows with a hit.
            variance = max(var[y, x] - off, floor)
            variance *= 1.0 + (on_sky if state[y, x] == 0 else under_source)
            size = abs(off)
            if size * size <= near * near * variance:
                continue
            allowed, allowed_near = 0.0, 0.0
            if state[y, x] != 0:
                gradient = _range(model, y, x)
                allowed, allowed_near = slope * gradient, near_slope * gradient
                if state[y, x] == 2:
                    more = distrust * _brightest(model, y, x)
                    allowed, allowed_near = max(allowed, more), max(allowed_near, more)
            sigma = math.sqrt(variance)
            if size > (high if off > 0 else low) * sigma + allowed:
                out[y, x] = 1
            elif size > near * sigma + allowed_near:
                out[y, x] = 2
    for y in range(ny):
        for x in range(nx):
            if out[y, x] == 2:
                next_to = False
                for j in range(max(0, y - 1), min(ny, y + 2)):
                    for i in range(max(0, x - 1), min(nx, x + 2)):
                        if out[j, i] == 1:
                            next_to = True
                if next_to:
                    out[y, x] = 3
    return tested
