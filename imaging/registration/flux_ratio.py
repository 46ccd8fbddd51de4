"""The ratio of the light of one frame to that of another, from the stars that both show.

Each flux is that within an aperture of a fixed number of the frame's own FWHM, which holds the same fraction of a
star's light in any seeing. What is left of the background adds the same amount to every star of a frame, the more so
the larger the aperture: a line through the fluxes of the stars separates it from the ratio, if they differ in
brightness. Neighbours add light too, but only to some stars, so that no line separates it: what those in the catalogue
add is subtracted, and stars with much of it are not used.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.registration.geometry import Affine
from imaging.registration.star_matching import pair_up
from imaging.usual import MAD_TO_SIGMA

#: Signal to noise of the stars used, if there are enough.
_SNR: Final = 30.0
#: Largest part of a star's flux that may be light of neighbours, if there are enough stars with less.
_NEIGHBOURS: Final = 0.05
#: Relative error of the neighbours' light.
_UNCERTAIN: Final = 0.3
#: Fewest stars without neighbours that are used alone, and that a line keeps.
_FEWEST: Final = 6
#: Stars that a line needs; fewer give the median of their ratios: they hardly separate ratio and offset.
_LINE: Final = 10
#: Stars used besides those that place the frames.
_MORE: Final = 300
#: Scatter of ratios that no noise explains: flat field, neighbours; relative.
_INTRINSIC: Final = 0.01
#: Stars further from the line are neighbours, blends or variables, sigma.
_CLIP: Final = 3.0
_ROUNDS: Final = 5


class FluxRatio(NamedTuple):
    """A ratio of fluxes.

    Attributes
    ----------
    ratio
        Flux in the one over flux in the other.
    error
        Its standard error, relative; None with fewer than three stars.
    stars
        Number of stars that agree.
    """

    ratio: float
    error: float | None
    stars: int


def fainter_pairs(
    catalogue: NDArray[np.void],
    other_catalogue: NDArray[np.void],
    transform: Affine,
    brighter: float,
    tolerance: float,
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return stars of two frames that are fainter than those that place the frames, evenly from all brightnesses.

    In a crowded field, the stars that place a frame are its brightest and differ little in flux: a line through them
    does not separate an offset from the ratio.

    Parameters
    ----------
    catalogue, other_catalogue
        Complete catalogues of the frames, `imaging.sources.detect.CATALOGUE`.
    transform
        From the one to the other.
    brighter
        Flux in the one below which stars are returned, electrons.
    tolerance
        Largest distance of a pair, px.

    Returns
    -------
    tuple of arrays
        At most some hundred rows of each, in the same order.
    """
    stars, others = _clean(catalogue), _clean(other_catalogue)
    stars = stars[stars["flux"] < brighter]
    if len(stars) > _MORE:
        stars = stars[np.linspace(0, len(stars) - 1, _MORE).astype(np.intp)]
    moved = np.column_stack(transform(stars["x"], stars["y"]))
    i, j = pair_up(moved, np.column_stack([others["x"], others["y"]]), tolerance)
    return stars[i], others[j]


def _clean(table: NDArray[np.void]) -> NDArray[np.void]:
    """Return the bright stars without a flag or much light of neighbours."""
    return table[(table["flags"] == 0) & (table["snr"] > _SNR) & _alone(table)]


def _alone(table: NDArray[np.void]) -> NDArray[np.bool_]:
    return np.asarray(table["neighbours"] < _NEIGHBOURS * table["flux"])


def _own(table: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the fluxes without the light of neighbours."""
    return np.asarray(table["flux"] - table["neighbours"], np.float64)


def flux_ratio(stars: NDArray[np.void], others: NDArray[np.void]) -> FluxRatio:
    """Return the ratio of the fluxes of matched stars, without the light of neighbours.

    Parameters
    ----------
    stars, others
        Rows of `imaging.sources.detect.CATALOGUE`, in the same order.
    """
    bright = np.minimum(stars["snr"], others["snr"]) > _SNR
    if bright.sum() >= 3:
        stars, others = stars[bright], others[bright]
    alone = _alone(stars) & _alone(others)
    if alone.sum() >= _FEWEST:
        stars, others = stars[alone], others[alone]
    ratio = _own(stars) / _own(others)
    first = float(np.median(ratio))
    n = len(ratio)
    if n < 3 or not first > 0:
        return FluxRatio(first, None, n)
    if n < _LINE:
        spread = MAD_TO_SIGMA * float(np.median(np.abs(ratio / first - 1)))
        return FluxRatio(first, 1.25 * max(spread, _INTRINSIC) / math.sqrt(n), n)
    return _line(stars, others, first)


def _line(stars: NDArray[np.void], others: NDArray[np.void], first: float) -> FluxRatio:
    """Fit flux = ratio x other flux + offset, outliers clipped."""
    x, y = _own(others), _own(stars)
    noise = np.hypot(stars["flux_err"], first * others["flux_err"])
    doubt = _UNCERTAIN * (stars["neighbours"] - first * others["neighbours"])
    sigma = np.hypot(np.hypot(noise, doubt), _INTRINSIC * first * x)
    design = np.column_stack([x, np.ones(len(x))]) / sigma[:, None]
    kept = np.ones(len(x), bool)
    solution, covariance, spread = np.array([first, 0.0]), np.eye(2), 1.0
    for _ in range(_ROUNDS):
        a = design[kept]
        covariance = np.linalg.inv(a.T @ a)
        solution = covariance @ (a.T @ (y[kept] / sigma[kept]))
        residual = y / sigma - design @ solution
        spread = max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(residual))))
        now = np.abs(residual) < _CLIP * spread
        if now.sum() < _FEWEST or np.array_equal(now, kept):
            break
        kept = now
    ratio = float(solution[0])
    error = spread * math.sqrt(float(covariance[0, 0])) / ratio if ratio > 0 else None
    return FluxRatio(ratio, error, int(kept.sum()))
