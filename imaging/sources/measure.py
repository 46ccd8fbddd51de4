"""Positions, sizes and fluxes of sources by Gaussian-weighted moments and aperture sums."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

#: FWHM of a Gaussian in sigmas.
FWHM_PER_SIGMA: Final = 2.3548200450309493

#: Widths, in pixels, that the adaptive window may take.
_NARROWEST, _WIDEST = 0.5, 12.0
#: The window extends to this many of its sigmas from the centre.
_REACH = 3.5
_ITERATIONS = 40
#: Width of the window for the FWHM, in sigmas of the source. The wings of a star are wider than those of
#: a Gaussian: in the full window a Moffat profile's FWHM (beta 3 to 5) comes out 8-16 % too large, in this
#: one 3-8 %; a narrower one is noisier.
_CORE = 0.6
#: Sub-pixels along one side of a pixel that is cut by the edge of the aperture.
_FINE = 5


@njit(cache=True, nogil=True)
def windowed_moments(plane, positions, first_sigma, out):  # type: ignore[no-untyped-def]
    """Measure centroid, width and shape of each source in a Gaussian window that adapts to it.

    The window is a circular Gaussian whose centre moves to the source's weighted centroid and whose sigma
    becomes that of the source, until both converge. For a Gaussian source with the sigma of the window, the
    weighted second moment is half its own, so the moments are doubled; the centroid is then that of the
    best-fitting Gaussian (Bernstein & Jarvis 2002, AJ 123, 583, for the adaptive window; the step of two is
    that of the windowed positions of SExtractor's manual).

    Parameters
    ----------
    plane : float32 (ny, nx)
        Background-subtracted values without gaps.
    positions : float64 (n, 2)
        First x, y.
    first_sigma : float
        First sigma of the window, px.
    out : float64 (n, 6)
        Written: x, y, FWHM (px), ellipticity, peak pixel, and 1 where it converged on a source, else 0.
    """
    ny, nx = plane.shape
    side = 2 * int(np.ceil(_REACH * _WIDEST)) + 1
    wx, wy = np.empty(side, np.float64), np.empty(side, np.float64)
    for k in range(len(positions)):
        x, y, sigma = positions[k, 0], positions[k, 1], first_sigma
        xx = yy = xy = peak = 0.0
        good = False
        for _ in range(_ITERATIONS):
            reach = _REACH * sigma
            x0, x1 = max(0, int(np.ceil(x - reach))), min(nx - 1, int(np.floor(x + reach)))
            y0, y1 = max(0, int(np.ceil(y - reach))), min(ny - 1, int(np.floor(y + reach)))
            if x1 < x0 or y1 < y0:
                break
            for i in range(x0, x1 + 1):
                wx[i - x0] = np.exp(-0.5 * ((i - x) / sigma) ** 2)
            for j in range(y0, y1 + 1):
                wy[j - y0] = np.exp(-0.5 * ((j - y) / sigma) ** 2)
            s = sx = sy = sxx = syy = sxy = 0.0
            peak = -np.inf
            for j in range(y0, y1 + 1):
                v = j - y
                r = rx = rxx = 0.0
                for i in range(x0, x1 + 1):
                    value = plane[j, i]
                    peak = max(peak, value)
                    weighted = wx[i - x0] * value
                    u = i - x
                    r += weighted
                    rx += weighted * u
                    rxx += weighted * u * u
                w = wy[j - y0]
                s += w * r
                sx += w * rx
                sy += w * r * v
                sxx += w * rxx
                syy += w * r * v * v
                sxy += w * rx * v
            if s <= 0:
                break
            dx, dy = 2.0 * sx / s, 2.0 * sy / s
            # Doubled about the current centre: dx / 2 is the distance of the centroid from it.
            xx = 2.0 * (sxx / s - 0.25 * dx * dx)
            yy = 2.0 * (syy / s - 0.25 * dy * dy)
            xy = 2.0 * (sxy / s - 0.25 * dx * dy)
            size = 0.5 * (xx + yy)
            new_sigma = min(max(np.sqrt(size), _NARROWEST), _WIDEST) if size > 0 else _NARROWEST
            # A step out of the window is not a step towards a centroid.
            length = np.hypot(dx, dy)
            if length > sigma:
                dx, dy = dx * sigma / length, dy * sigma / length
            x += dx
            y += dy
            done = length < 1e-4 and abs(new_sigma - sigma) < 1e-3 * sigma
            sigma = new_sigma
            if done:
                good = True
                break
        core = _core_sigma(plane, x, y, sigma) if good else sigma
        good = good and _NARROWEST < sigma < _WIDEST and 0 <= x <= nx - 1 and 0 <= y <= ny - 1
        mean, half = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
        out[k, 0], out[k, 1] = x, y
        out[k, 2] = FWHM_PER_SIGMA * core
        out[k, 3] = 1.0 - np.sqrt(max(mean - half, 0.0) / (mean + half)) if mean + half > 0 else 0.0
        out[k, 4] = peak
        out[k, 5] = 1.0 if good else 0.0


@njit(cache=True, nogil=True)
def _core_sigma(plane, x, y, sigma):  # type: ignore[no-untyped-def]
    """Return the sigma of the source's core, from the second moment m in a window w: 1 / s^2 = 1 / m - 1 / w^2."""
    ny, nx = plane.shape
    window = (_CORE * sigma) ** 2
    reach = _REACH * _CORE * sigma + 1.0
    total = moment = 0.0
    for j in range(max(0, int(np.ceil(y - reach))), min(ny - 1, int(np.floor(y + reach))) + 1):
        for i in range(max(0, int(np.ceil(x - reach))), min(nx - 1, int(np.floor(x + reach))) + 1):
            r2 = (i - x) ** 2 + (j - y) ** 2
            value = np.exp(-0.5 * r2 / window) * plane[j, i]
            total += value
            moment += value * r2
    if total <= 0 or moment <= 0:
        return sigma
    inverse = 2.0 * total / moment - 1.0 / window
    # Noise can make the moment of a faint source impossible for a Gaussian; then the width from the full
    # window is kept.
    return 1.0 / np.sqrt(inverse) if inverse > 0.25 / sigma**2 else sigma


@njit(cache=True, nogil=True)
def aperture_sums(  # type: ignore[no-untyped-def]
    plane, dq, positions, radius, core, unmeasured, fluxes, areas, bits, core_bits, lost
):
    """Compute sums within circles, and the data quality bits inside.

    A pixel that is cut by the circle counts with the fraction of its 5 x 5 sub-pixels inside.

    Parameters
    ----------
    plane : float32 (ny, nx)
        Background-subtracted values without gaps.
    dq : uint16 (ny, nx)
        Data quality.
    positions : float64 (n, 2)
        Centres x, y.
    radius, core : float
        Radius of the circle and of the inner circle for ``core_bits``, px.
    unmeasured : int
        Bits of pixels that have no measurement.
    fluxes, areas : float64 (n,)
        Written: the sum, and the number of pixels summed.
    bits, core_bits : uint16 (n,)
        Written: the OR of the bits inside the circle, and inside the inner one. If the circle extends beyond
        the frame, ``bits`` has 16 (no data).
    lost : float64 (n,)
        Written: the part of the circle that is beyond the frame or has a bit of ``unmeasured``.
    """
    ny, nx = plane.shape
    for k in range(len(positions)):
        x, y = positions[k, 0], positions[k, 1]
        x0, x1 = int(np.ceil(x - radius - 0.5)), int(np.floor(x + radius + 0.5))
        y0, y1 = int(np.ceil(y - radius - 0.5)), int(np.floor(y + radius + 0.5))
        total, area, good, seen, inner = 0.0, 0.0, 0.0, 0, 0
        if x0 < 0 or y0 < 0 or x1 >= nx or y1 >= ny:
            seen = 16
        for j in range(max(0, y0), min(ny, y1 + 1)):
            for i in range(max(0, x0), min(nx, x1 + 1)):
                distance = np.hypot(i - x, j - y)
                share = 1.0
                if distance > radius + 0.71:
                    continue
                if distance > radius - 0.71:
                    inside = 0
                    for b in range(_FINE):
                        v = j - y + (b + 0.5) / _FINE - 0.5
                        for a in range(_FINE):
                            u = i - x + (a + 0.5) / _FINE - 0.5
                            inside += u * u + v * v <= radius * radius
                    share = inside / (_FINE * _FINE)
                if share > 0:
                    total += share * plane[j, i]
                    area += share
                    seen |= int(dq[j, i])
                    if int(dq[j, i]) & unmeasured == 0:
                        good += share
                    if distance <= core:
                        inner |= int(dq[j, i])
        fluxes[k], areas[k], bits[k], core_bits[k] = total, area, seen, inner
        lost[k] = 1.0 - good / (np.pi * radius * radius)
