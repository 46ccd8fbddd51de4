"""The profile of a stack's stars, from its brightest isolated ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Stars that are measured: signal to noise, the largest number and the smallest.
_SNR: Final = 50.0
_MOST: Final = 60
_FEWEST: Final = 5
#: Reach of the profile, FWHM. The median outside ``_LEVEL`` of it is the background of the star.
_REACH: Final = 9.0
_LEVEL: Final = 0.75
#: Rings: width within ``_FINE`` FWHM, px, and the factor from one radius to the next outside.
_STEP: Final = 0.5
_FINE: Final = 3.0
_GROWTH: Final = 1.12
#: Positions along each axis at which the profile is averaged over a pixel.
_INSIDE: Final = (-1 / 3, 0.0, 1 / 3)


@dataclass(frozen=True)
class StarProfile:
    """The light per pixel at some distances from a star of flux 1.

    Attributes
    ----------
    radii
        Distances, ascending, px.
    values
        Light, 1/px; it does not rise with the distance, and is 0 beyond the last.
    """

    radii: NDArray[np.float64]
    values: NDArray[np.float64]

    def stamp(self, broader: float = 1.0) -> NDArray[np.float32]:
        """Return the image of a star with the sum 1, an odd number of pixels a side, ``broader`` times as wide."""
        half = math.ceil(self.radii[-1] * max(broader, 1.0))
        at = np.arange(-half, half + 1, dtype=np.float64)
        total = np.zeros((len(at), len(at)))
        for dy in _INSIDE:
            for dx in _INSIDE:
                distance = np.hypot(at + dx, at[:, None] + dy) / broader
                total += np.interp(distance, self.radii, self.values, right=0.0)
        return np.asarray(total / total.sum(), np.float32)


def measure_profile(
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    catalogue: NDArray[np.void],
    seeing: float,
) -> StarProfile | None:
    """Measure the profile of the stars; return None with fewer than five.

    Each ring of a star has the median of its pixels, so that neighbours do not count; each radius has the median of the
    stars, weighted by their fluxes; and the profile is the nearest one that does not rise outwards.

    Parameters
    ----------
    sci, dq
        The stack, (ny, nx).
    catalogue
        Its sources (`imaging.sources.detect.CATALOGUE`), brightest first.
    seeing
        FWHM of its stars, px.
    """
    from scipy.optimize import isotonic_regression  # late: only stacks of crowded fields need it

    half = math.ceil(_REACH * seeing)
    edges = _edges(seeing, half)
    radii = 0.5 * (edges[1:] + edges[:-1])
    ny, nx = sci.shape
    chosen = catalogue[(catalogue["flags"] == 0) & (catalogue["snr"] > _SNR)]
    x, y = chosen["x"], chosen["y"]
    chosen = chosen[(x > half) & (x < nx - half - 1) & (y > half) & (y < ny - half - 1)][:_MOST]
    if len(chosen) < _FEWEST:
        return None
    table = np.array([_rings(sci, dq, star, half, edges) for star in chosen])
    known = (np.isfinite(table).sum(axis=0) >= _FEWEST) & (radii < _LEVEL * half)
    if not known.any():
        return None
    # The brighter a star, the less noise its rings have.
    flux = np.asarray(chosen["flux"], np.float64)
    profile = np.array([_weighted_median(column, flux) for column in table[:, known].T])
    area = np.square(edges[1:]) - np.square(edges[:-1])
    # Light does not rise outwards; where it reaches zero it ends.
    values = np.maximum(isotonic_regression(profile, weights=area[known], increasing=False).x, 0.0)
    if not values[0] > 0:
        return None
    return StarProfile(radii[known], values)


def _edges(seeing: float, half: int) -> NDArray[np.float64]:
    fine = np.arange(0.0, _FINE * seeing, _STEP)
    coarse = _FINE * seeing * _GROWTH ** np.arange(math.ceil(math.log(half) / math.log(_GROWTH)) + 1)
    edges = np.concatenate([fine, coarse])
    return np.asarray(edges[edges < half])


def _rings(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], star: np.void, half: int, edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the light of the rings around a star over its flux; NaN where no pixel is good."""
    x, y = round(float(star["x"])), round(float(star["y"]))
    box = (slice(y - half, y + half + 1), slice(x - half, x + half + 1))
    at = np.arange(-half, half + 1)
    distance = np.hypot(at + x - star["x"], (at + y - star["y"])[:, None])
    good = dq[box] == 0
    ring = np.searchsorted(edges, distance[good], side="right") - 1
    values = sci[box][good]
    medians = np.full(len(edges) - 1, np.nan)
    for k in range(len(medians)):
        inside = values[ring == k]
        if inside.size:
            medians[k] = np.median(inside)
    outer = medians[0.5 * (edges[1:] + edges[:-1]) >= _LEVEL * half]
    level = float(np.nanmedian(outer)) if np.isfinite(outer).any() else math.nan
    return np.asarray((medians - level) / float(star["flux"]))


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the median of the finite values, each of which counts by its weight."""
    order = np.argsort(values)[: np.isfinite(values).sum()]  # NaN come last
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
