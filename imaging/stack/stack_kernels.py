"""Kernel of the stack: find outliers among resampled frames without rejecting the cores of stars."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ, LEVELS
from imaging.sky.subtract_kernels import BLOCK, sort_rows

_COSMIC_RAY = np.uint16(DQ.COSMIC_RAY)
#: A pixel without these bits is at the good level of `imaging.pixels.combine`.
_NOT_GOOD = np.uint16(sum(int(bit) for bit in LEVELS))


@njit(cache=True, nogil=True)
def _survey(sci, var, dq, median, least, most, noise):  # type: ignore[no-untyped-def]
    """Compute median, extremes and mean variance (-1 with fewer than three) of the good inputs of each pixel."""
    n, ny, nx = sci.shape
    ordered = np.zeros((n, BLOCK), np.float32)
    count = np.empty(BLOCK, np.int64)
    total = np.empty(BLOCK, np.float32)
    for y in range(ny):
        for x0 in range(0, nx, BLOCK):
            width = min(BLOCK, nx - x0)
            count[:] = 0
            total[:] = 0.0
            for j in range(n):
                for b in range(width):
                    good = (dq[j, y, x0 + b] & _NOT_GOOD) == 0
                    ordered[j, b] = sci[j, y, x0 + b] if good else np.float32(np.inf)
                    total[b] += var[j, y, x0 + b] if good else np.float32(0.0)
                    count[b] += 1 if good else 0
            sort_rows(ordered, n)
            for b in range(width):
                c, x = count[b], x0 + b
                if c == 0:
                    median[y, x], noise[y, x] = 0.0, -1.0
                    continue
                median[y, x] = 0.5 * (ordered[(c - 1) // 2, b] + ordered[c // 2, b])
                least[y, x], most[y, x] = ordered[0, b], ordered[c - 1, b]
                noise[y, x] = total[b] / c if c > 2 else -1.0


@njit(cache=True, nogil=True)
def _brightest_near(median, y, x):  # type: ignore[no-untyped-def]
    """Return the largest median among a pixel and its eight neighbours."""
    ny, nx = median.shape
    brightest = median[y, x]
    for v in range(max(0, y - 1), min(ny, y + 2)):
        for u in range(max(0, x - 1), min(nx, x + 2)):
            brightest = max(brightest, median[v, u])
    return brightest


@njit(cache=True, nogil=True)
def _flag(values, noises, kept, n, low, high, allowed):  # type: ignore[no-untyped-def]
    """Remove outliers from ``kept`` one at a time, the most distant first; return their number."""
    ordered = np.empty(n, np.float64)
    gone = 0
    while True:
        c, noise = 0, 0.0
        for j in range(n):
            if kept[j]:
                k = c
                while k > 0 and ordered[k - 1] > values[j]:
                    ordered[k] = ordered[k - 1]
                    k -= 1
                ordered[k] = values[j]
                noise += noises[j]
                c += 1
        if c <= 2:
            return gone
        middle = 0.5 * (ordered[(c - 1) // 2] + ordered[c // 2])
        sigma = math.sqrt(noise / c)
        worst, excess = -1, 0.0
        for j in range(n):
            if kept[j]:
                off = values[j] - middle
                beyond = off - high * sigma if off > 0 else -off - low * sigma
                if beyond - allowed > excess:
                    worst, excess = j, beyond - allowed
        if worst < 0:
            return gone
        kept[worst] = False
        gone += 1


@njit(cache=True, nogil=True)
def flag_outliers(sci, var, dq, first, last, low, high, tolerance):  # type: ignore[no-untyped-def]
    """Set DQ 8 for outliers in rows [first, last); return their number.

    A value may deviate from the median by ``low`` or ``high`` sigma (of the mean variance of the pixel's good
    inputs) plus ``tolerance`` times the brightest median of the 3 x 3 pixels around: under stars, seeing and
    registration differ from frame to frame by more than the noise, the more so the steeper the profile.

    Parameters
    ----------
    sci, var, dq
        Resampled and scaled frames, (n, rows, nx), float32, float32, uint16; ``dq`` is changed. Rows outside
        [first, last) are only used as neighbours.
    first, last
        Rows to check.
    low, high
        Thresholds in sigma.
    tolerance
        Fraction of the local brightness.
    """
    n, ny, nx = sci.shape
    median, least = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    most, noise = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    _survey(sci, var, dq, median, least, most, noise)
    values, noises, kept = np.empty(n, np.float64), np.empty(n, np.float64), np.empty(n, np.bool_)
    gone = 0
    for y in range(first, last):
        for x in range(nx):
            if noise[y, x] < 0:
                continue
            sigma = math.sqrt(noise[y, x])
            if most[y, x] - median[y, x] <= high * sigma and median[y, x] - least[y, x] <= low * sigma:
                continue
            for j in range(n):
                values[j], noises[j] = sci[j, y, x], var[j, y, x]
                kept[j] = (dq[j, y, x] & _NOT_GOOD) == 0
            # The brightness minus the possible contribution of the noise of a median.
            bright = max(0.0, _brightest_near(median, y, x) - high * sigma / math.sqrt(n))
            if _flag(values, noises, kept, n, low, high, tolerance * bright) == 0:
                continue
            for j in range(n):
                if not kept[j] and (dq[j, y, x] & _NOT_GOOD) == 0:
                    dq[j, y, x] |= _COSMIC_RAY
                    gone += 1
    return gone
