"""The light of the other sources of a catalogue in the aperture of each."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Exponent of the Moffat profile that is assumed; those of real seeing are between 2.5 and 4.8.
_BETA: Final = 3.0
#: Sources further than this from the edge of an aperture are ignored, FWHM.
_REACH: Final = 4.0
#: Distances at which the light in an aperture is tabulated, per FWHM.
_PER_FWHM: Final = 10
#: Rings and angles of the integral over the aperture.
_RINGS, _ANGLES = 40, 32
#: Iterations that share the light out between overlapping apertures.
_ITERATIONS: Final = 20
_TINY: Final = 1e-300


def light_of_neighbours(
    x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float64], radius: float, fwhm: float
) -> NDArray[np.float64]:
    """Return the light that the other sources have in the aperture of each.

    All sources have the same profile, so that their fluxes f make those in the apertures, F = A f. The equations are
    solved by the image space reconstruction algorithm (Daube-Witherspoon & Muehllehner 1986, IEEE Trans. Med. Imaging
    5, 61), which keeps the fluxes positive.

    Parameters
    ----------
    x, y
        float64 (n,): positions, px.
    flux
        float64 (n,): sums in the apertures above the background, F; negative ones count as 0.
    radius
        Radius of the apertures, px.
    fwhm
        Width of the sources, px.

    Returns
    -------
    ndarray
        float64 (n,), in the unit of ``flux``; 0 without neighbours.
    """
    count = len(x)
    one, other, distance = _pairs(x, y, radius + _REACH * fwhm)
    if not len(one):
        return np.zeros(count)
    steps = np.arange(math.ceil((radius / fwhm + _REACH) * _PER_FWHM) + 1)
    table = light_within(steps / _PER_FWHM, radius / fwhm)
    part = np.interp(distance / fwhm * _PER_FWHM, steps, table)
    measured = np.maximum(flux, 0.0)
    total = measured / table[0]
    for _ in range(_ITERATIONS):
        expected = table[0] * total + _light_of_others(one, other, part, total)
        total *= measured / np.maximum(expected, _TINY)
    return _light_of_others(one, other, part, total)


def _light_of_others(
    one: NDArray[np.intp], other: NDArray[np.intp], part: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum, for each source, of the parts of the others' light that are in its aperture."""
    n = len(total)
    return np.asarray(np.bincount(one, part * total[other], n) + np.bincount(other, part * total[one], n))


def light_within(distances: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return the part of a source's light in a circle, for some distances of the source from its centre.

    Parameters
    ----------
    distances, radius
        In FWHM of the Moffat profile (Moffat 1969, A&A 3, 455).
    """
    alpha = 0.5 / math.sqrt(2 ** (1 / _BETA) - 1)
    # Rings of equal area.
    r = radius * np.sqrt((np.arange(_RINGS) + 0.5) / _RINGS)[:, None]
    angle = (np.arange(_ANGLES) + 0.5) * math.pi / _ANGLES
    d = distances[:, None, None]
    squared = r**2 - 2 * r * d * np.cos(angle) + d**2
    mean = ((1 + squared / alpha**2) ** -_BETA).mean(axis=(1, 2))
    return np.asarray((_BETA - 1) * (radius / alpha) ** 2 * mean)


def _pairs(
    x: NDArray[np.float64], y: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the indices of all pairs of positions within ``reach``, each pair once, and their distances."""
    order = np.argsort(y)
    u, v = x[order], y[order]
    found = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    # Sorted along y, a source is compared with the next, then with the one after that, until all are out of reach.
    for step in range(1, len(u)):
        above = v[step:] - v[:-step]
        if not (above <= reach).any():
            break
        distance = np.hypot(u[step:] - u[:-step], above)
        near = np.flatnonzero(distance <= reach)
        found.append((order[near], order[near + step], distance[near]))
    one, other, apart = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, other, apart
