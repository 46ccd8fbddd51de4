"""Kernel of the rejection: pixels of a frame that the template does not predict."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ, LEVELS
from imaging.stack.psf_kernels import DISTRUSTED, EDGE, PEAK, SKY

#: A pixel without these bits is at the good level of `imaging.pixels.combine`.
_NOT_GOOD = np.uint16(sum(int(bit) for bit in LEVELS))
_NOT_LINEAR = np.uint16(DQ.NON_LINEAR | DQ.SATURATED)
#: Where too few frames reach for an expectation, a pixel that is so many sigmas high, and whose highest neighbour has
#: less than this share of it, is no star: one with a FWHM of 2 px has 0.5 there. So is one that is as many sigmas low.
_SPIKE, _SPIKE_SHARE = 10.0, 0.35
_FEWEST_NEIGHBOURS = 3


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
def _any(dq, y, x, bits):  # type: ignore[no-untyped-def]
    """Return whether a pixel or one of its eight neighbours has one of the bits."""
    ny, nx = dq.shape
    for j in range(max(0, y - 1), min(ny, y + 2)):
        for i in range(max(0, x - 1), min(nx, x + 2)):
            if (dq[j, i] & bits) != 0:
                return True
    return False


@njit(cache=True, nogil=True)
def _is_spike(sci, var, dq, y, x):  # type: ignore[no-untyped-def]
    """Return whether a pixel of a sky-subtracted frame cannot be light, judged by its good neighbours alone."""
    ny, nx = sci.shape
    most, noise, n = -np.inf, 0.0, 0
    for j in range(max(0, y - 1), min(ny, y + 2)):
        for i in range(max(0, x - 1), min(nx, x + 2)):
            if (j != y or i != x) and (dq[j, i] & _NOT_GOOD) == 0:
                most = max(most, sci[j, i])
                noise += var[j, i]
                n += 1
    if n < _FEWEST_NEIGHBOURS:
        return False
    limit = _SPIKE * math.sqrt(noise / n)
    value = sci[y, x]
    return value < -limit or (value > limit and most < _SPIKE_SHARE * value)


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
    limits : float64 (11,)
        low and high threshold (sigma), threshold next to an outlier (sigma), fraction of the gradient, the same at
        peaks, and where some of the sharpest frames are missing, its share next to an outlier, fraction of the
        brightness where the template is not trusted, least variance, and variance of the template over that of the
        frame, on sky and under sources.
    out : uint8 (rows, nx)
        Written: 1 for outliers (also outside [first, last)).

    Returns
    -------
    tested : int
        Pixels with a value and an expectation in [first, last).
    """
    (
        low,
        high,
        near,
        usual_slope,
        peak_slope,
        edge_slope,
        near_share,
        distrust,
        floor,
        on_sky,
        under_source,
    ) = limits
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
                if np.isfinite(sci[y, x]) and _is_spike(sci, var, dq, y, x):
                    out[y, x] = 1
                continue
            if first <= y < last:
                tested += 1
            # The variance that the expected light would have: the frame's own grows with a hit.
            variance = max(var[y, x] - off, floor)
            variance *= 1.0 + (on_sky if state[y, x] == SKY else under_source)
            size = abs(off)
            if size * size <= near * near * variance:
                continue
            allowed, allowed_near = 0.0, 0.0
            if state[y, x] != SKY:
                slope = peak_slope if expected > PEAK * _brightest(model, y, x) else usual_slope
                if state[y, x] == EDGE:
                    slope = max(slope, edge_slope)
                allowed = slope * _range(model, y, x)
                allowed_near = near_share * allowed
                if state[y, x] == DISTRUSTED or _any(dq, y, x, _NOT_LINEAR):
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
