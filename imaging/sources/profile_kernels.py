"""The shape and the light profile of sources in an image, compiled."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

#: The window for the moments extends to this many of its sigmas from the centre.
_REACH: Final = 3.5
#: Distance from the centre, along each axis, within which the highest pixel of a source is sought, px.
_PEAK_REACH: Final = 2
#: Pixels above half of the peak count up to this many half widths from the centre: neighbours do not.
_HALF_REACH: Final = 1.5


@njit(cache=True, nogil=True)
def source_shapes(plane, unusable, positions, levels, sigmas, out):  # type: ignore[no-untyped-def]
    """Measure the second moments of each source, corrected for the window in which they are measured.

    The window is a circular Gaussian. The moments M in a window of variance w give those of a Gaussian
    source, C, by C^-1 = M^-1 - 1 / w.

    Parameters
    ----------
    plane : float32 (ny, nx)
        The image.
    unusable : bool (ny, nx)
        Pixels without a measurement, which are left out.
    positions : float64 (n, 2)
        Centres x, y.
    levels : float64 (n,)
        Background at each source.
    sigmas : float64 (n,)
        Sigma of each source's window, px.
    out : float64 (n, 3)
        Written: xx, yy and xy, px^2; those of a circular source of the window's size where the noise makes the
        moments impossible.
    """
    ny, nx = plane.shape
    for k in range(len(positions)):
        x, y, sigma = positions[k, 0], positions[k, 1], sigmas[k]
        reach, w = _REACH * sigma, sigma * sigma
        total = sxx = syy = sxy = 0.0
        for j in range(max(0, int(np.ceil(y - reach))), min(ny - 1, int(np.floor(y + reach))) + 1):
            for i in range(max(0, int(np.ceil(x - reach))), min(nx - 1, int(np.floor(x + reach))) + 1):
                if unusable[j, i]:
                    continue
                u, v = i - x, j - y
                value = np.exp(-0.5 * (u * u + v * v) / w) * (plane[j, i] - levels[k])
                total += value
                sxx += value * u * u
                syy += value * v * v
                sxy += value * u * v
        out[k, 0], out[k, 1], out[k, 2] = w, w, 0.0
        if total <= 0:
            continue
        mxx, myy, mxy = sxx / total, syy / total, sxy / total
        determinant = mxx * myy - mxy * mxy
        if mxx <= 0 or myy <= 0 or determinant <= 0:
            continue
        ixx, iyy, ixy = myy / determinant - 1.0 / w, mxx / determinant - 1.0 / w, -mxy / determinant
        determinant = ixx * iyy - ixy * ixy
        # An axis of more than twice the window's width is noise.
        least = 0.25 / w
        if ixx <= least or (ixx - least) * (iyy - least) <= ixy * ixy:
            continue
        out[k, 0], out[k, 1], out[k, 2] = iyy / determinant, ixx / determinant, -ixy / determinant


@njit(cache=True, nogil=True)
def light_profiles(plane, unusable, positions, levels, fluxes, radius, out):  # type: ignore[no-untyped-def]
    """Measure the highest pixel, the half-light radius and the width at half of the peak of each source.

    Parameters
    ----------
    plane, unusable, positions, levels
        As for `source_shapes`.
    fluxes : float64 (n,)
        Flux within ``radius``.
    radius : float
        Radius of the aperture, px.
    out : float64 (n, 3)
        Written: highest pixel near the centre above the background; radius that contains half of the flux,
        px; diameter of a circle with the area of the pixels above half of the peak, px. NaN where there is
        no such radius.
    """
    ny, nx = plane.shape
    most = (2 * int(np.ceil(radius)) + 3) ** 2
    distances, values = np.empty(most), np.empty(most)
    for k in range(len(positions)):
        x, y = positions[k, 0], positions[k, 1]
        n, peak = 0, -np.inf
        for j in range(max(0, int(np.ceil(y - radius))), min(ny - 1, int(np.floor(y + radius))) + 1):
            for i in range(max(0, int(np.ceil(x - radius))), min(nx - 1, int(np.floor(x + radius))) + 1):
                square = (i - x) ** 2 + (j - y) ** 2
                if square > radius * radius or unusable[j, i]:
                    continue
                distances[n], values[n] = square, plane[j, i] - levels[k]
                if abs(i - x) <= _PEAK_REACH and abs(j - y) <= _PEAK_REACH:
                    peak = max(peak, values[n])
                n += 1
        out[k, 0] = peak if np.isfinite(peak) else np.nan
        out[k, 1] = out[k, 2] = np.nan
        if n == 0 or not peak > 0:
            continue
        first = 0
        for m in range(n):
            first += values[m] > 0.5 * peak
        within = (_HALF_REACH**2) * max(first, 1) / np.pi
        above = 0
        for m in range(n):
            above += distances[m] < within and values[m] > 0.5 * peak
        out[k, 2] = 2.0 * np.sqrt(above / np.pi) if above else np.nan
        # The n nearest pixels have the area of a circle with the radius (n / pi)^0.5.
        order = np.argsort(distances[:n])
        half, total = 0.5 * fluxes[k], 0.0
        for m in range(n):
            before = total
            total += values[order[m]]
            if total >= half > 0:
                share = (half - before) / (total - before)
                out[k, 1] = np.sqrt((m + share) / np.pi)
                break


@njit(cache=True, nogil=True)
def flagged_pixels(dq, positions, areas, bits, counts):  # type: ignore[no-untyped-def]
    """Combine the data quality bits of the pixels in a circle with a source's area, and count flagged pixels.

    Parameters
    ----------
    dq : uint16 (ny, nx)
        Data quality.
    positions : float64 (n, 2)
        Centres x, y.
    areas : float64 (n,)
        Areas of the circles, px.
    bits, counts : int32 (n,)
        Written: the OR of the bits, and the number of pixels with any.
    """
    ny, nx = dq.shape
    for k in range(len(positions)):
        x, y = positions[k, 0], positions[k, 1]
        square = areas[k] / np.pi
        radius = np.sqrt(square)
        bits[k] = counts[k] = 0
        for j in range(max(0, int(np.ceil(y - radius))), min(ny - 1, int(np.floor(y + radius))) + 1):
            for i in range(max(0, int(np.ceil(x - radius))), min(nx - 1, int(np.floor(x + radius))) + 1):
                if dq[j, i] and (i - x) ** 2 + (j - y) ** 2 <= square:
                    bits[k] |= int(dq[j, i])
                    counts[k] += 1
