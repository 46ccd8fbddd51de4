"""The ratio of the light of one frame to that of another, from the stars that both show.

Each flux is that within an aperture of a fixed number of the frame's own FWHM, which holds the same fraction of a
star's light in any seeing. What is left of the background adds the same amount to every star of a frame, the more so
the larger the aperture: a line through the fluxes of the stars separates it from the ratio.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Signal to noise of the stars used, if there are enough.
_SNR: Final = 30.0
#: Stars that a line needs; fewer give the median of their ratios.
_FEWEST: Final = 6
#: Scatter of ratios that no noise explains: flat field, neighbours; relative.
_INTRINSIC: Final = 0.01
#: Stars further from the line are neighbours, blends or variables, sigma.
_CLIP: Final = 3.0
_ROUNDS: Final = 5
_MAD_TO_SIGMA: Final = 1.4826


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


def flux_ratio(stars: NDArray[np.void], others: NDArray[np.void]) -> FluxRatio:
    """Return the ratio of the fluxes of matched stars.

    Parameters
    ----------
    stars, others
        Rows of `imaging.sources.detect.CATALOGUE`, in the same order.
    """
    ratio = stars["flux"] / others["flux"]
    bright = np.minimum(stars["snr"], others["snr"]) > _SNR
    if bright.sum() >= 3:
        stars, others, ratio = stars[bright], others[bright], ratio[bright]
    first = float(np.median(ratio))
    n = len(ratio)
    if n < 3 or not first > 0:
        return FluxRatio(first, None, n)
    if n < _FEWEST:
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(ratio / first - 1)))
        return FluxRatio(first, 1.25 * max(spread, _INTRINSIC) / math.sqrt(n), n)
    return _line(stars, others, first)


def _line(stars: NDArray[np.void], others: NDArray[np.void], first: float) -> FluxRatio:
    """Fit flux = ratio x other flux + offset, outliers clipped."""
    x, y = others["flux"], stars["flux"]
    noise = np.hypot(stars["flux_err"], first * others["flux_err"])
    sigma = np.hypot(noise, _INTRINSIC * first * x)
    design = np.column_stack([x, np.ones(len(x))]) / sigma[:, None]
    kept = np.ones(len(x), bool)
    solution, covariance, spread = np.array([first, 0.0]), np.eye(2), 1.0
    for _ in range(_ROUNDS):
        a = design[kept]
        covariance = np.linalg.inv(a.T @ a)
        solution = covariance @ (a.T @ (y[kept] / sigma[kept]))
        residual = y / sigma - design @ solution
        spread = max(1.0, _MAD_TO_SIGMA * float(np.median(np.abs(residual))))
        now = np.abs(residual) < _CLIP * spread
        if now.sum() < _FEWEST or np.array_equal(now, kept):
            break
        kept = now
    ratio = float(solution[0])
    error = spread * math.sqrt(float(covariance[0, 0])) / ratio if ratio > 0 else None
    return FluxRatio(ratio, error, int(kept.sum()))
