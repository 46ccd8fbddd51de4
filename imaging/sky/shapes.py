"""Smooth surfaces of a frame's sky, from a level to a spline, and the lowest order that a group of frames needs.

The surfaces are nested: level, plane, quadratic, and tensor products of cubic B-splines with 1, 2, 4 and 8
intervals along each axis (the first is a bicubic polynomial). All are fitted to the medians of blocks. The order is
the one with the least Bayesian information criterion (Schwarz 1978, Annals of Statistics 6, 461), summed over the
frames: a coefficient has to improve chi^2 by the logarithm of the number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: The orders, lowest first: degree of a polynomial (0 to 2), or number of intervals of a spline.
LEVEL, PLANE, QUADRATIC = 0, 1, 2
_INTERVALS: Final = {3: 1, 4: 2, 5: 4, 6: 8}
ORDERS: Final = (LEVEL, PLANE, QUADRATIC, *_INTERVALS)
#: Rejection of blocks in a fit: limit in robust sigma and rounds.
_ROUNDS: Final = 3
LIMIT: Final = 3.5
#: Blocks that a coefficient needs.
BLOCKS: Final = 3.0
#: Share of its lit blocks that each coefficient of a spline must keep where blocks are excluded.
_SUPPORT: Final = 0.1
#: A coefficient with less than this share of the largest support is outside the light.
_LIT: Final = 0.15
#: Relative ridge, which keeps coefficients without data at zero.
_RIDGE: Final = 1e-8
#: The same for channels.
_STEP_RIDGE: Final = 1e-3


class Fit(NamedTuple):
    """A surface fitted to blocks.

    Attributes
    ----------
    coefficients
        Of the columns of `design`.
    chi2
        Weighted sum of the squared residuals of the kept blocks.
    blocks
        Number of kept blocks.
    scatter
        Robust scatter of all blocks about the fit.
    """

    coefficients: NDArray[np.float64]
    chi2: float
    blocks: int
    scatter: float


def terms(order: int) -> int:
    """Return the number of coefficients of an order."""
    if order <= QUADRATIC:
        return (order + 1) * (order + 2) // 2
    return (_INTERVALS[order] + 3) ** 2


def columns_at(order: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms of a surface at points.

    Parameters
    ----------
    order
        One of `ORDERS`.
    x, y
        Positions from -1 to 1 over the frame, (n,).

    Returns
    -------
    numpy.ndarray
        (n, terms), float64.
    """
    if order <= QUADRATIC:
        powers = [(i, total - i) for total in range(order + 1) for i in range(total + 1)]
        return np.stack([x**i * y**j for i, j in powers], axis=1)
    along_x, along_y = _splines(x, _INTERVALS[order]), _splines(y, _INTERVALS[order])
    return (along_y[:, :, None] * along_x[:, None, :]).reshape(len(x), -1)


def _splines(x: NDArray[np.float64], intervals: int) -> NDArray[np.float64]:
    """Return the uniform cubic B-splines on ``intervals`` intervals of [-1, 1] at x, (n, intervals + 3)."""
    place = (np.clip(x, -1.0, 1.0) + 1.0) * (intervals / 2.0)
    first = np.minimum(place.astype(np.int64), intervals - 1)
    t = place - first
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    out = np.zeros((len(x), intervals + 3))
    for k, part in enumerate(parts):
        out[np.arange(len(x)), first + k] = part / 6.0
    return out


@lru_cache(maxsize=16)
def grid_columns(order: int, rows: int, columns: int, height: float, width: float) -> NDArray[np.float64]:
    """Return the terms of a surface at the centres of blocks, (rows * columns, terms).

    ``height`` and ``width`` are those of the frame in blocks; the last block may be cut.
    """
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    return columns_at(order, 2 * (x.ravel() + 0.5) / width - 1, 2 * (y.ravel() + 0.5) / height - 1)


def fit(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    kept: NDArray[np.bool_] | None = None,
) -> Fit:
    """Fit the columns of a design to values, rejecting those beyond 3.5 robust sigma unless ``kept`` is given.

    Parameters
    ----------
    design
        (n, terms).
    values, weights
        Values and their weights (0: not used; a value may be NaN there), (n,).
    kept
        Use exactly these values.
    """
    used = (weights > 0) & np.isfinite(values)
    value, weight = np.where(used, values, 0.0), np.where(used, weights, 0.0)
    chosen = used if kept is None else kept & used
    solution = _solve(design, value, np.where(chosen, weight, 0.0))
    for _ in range(_ROUNDS if kept is None else 0):
        left = value - design @ solution
        spread = _scatter(left[chosen])
        now = used & (np.abs(left) <= LIMIT * spread)
        if np.array_equal(now, chosen) or now.sum() < 2 * design.shape[1]:
            break
        chosen = now
        solution = _solve(design, value, np.where(chosen, weight, 0.0))
    left = value - design @ solution
    chi2 = float((weight[chosen] * left[chosen] ** 2).sum())
    return Fit(solution, chi2, int(chosen.sum()), _scatter(left[used]) if used.any() else math.nan)


def supported(
    order: int, design: NDArray[np.float64], lit: NDArray[np.bool_], used: NDArray[np.bool_]
) -> bool:
    """Return whether the used blocks determine every coefficient of an order that the lit blocks determine."""
    if used.sum() < BLOCKS * terms(order):
        return False
    if order <= QUADRATIC:
        return True
    all_of_it, of_lit = (design**2).sum(axis=0), (design[lit] ** 2).sum(axis=0)
    inside = of_lit > _LIT * all_of_it.max()
    return bool(((design[used] ** 2).sum(axis=0)[inside] >= _SUPPORT * of_lit[inside]).all())


def lowest_order(fits: Sequence[Sequence[Fit]], noises: Sequence[float]) -> int:
    """Return the position of the lowest order that serves.

    Parameters
    ----------
    fits
        For each order, the fits of all frames, to the same blocks.
    noises
        Variance of a block of weight 1 in each frame, as it counts for large areas.

    Returns
    -------
    int
        Position of the order with the least information criterion.
    """
    scores = [
        sum(
            one.chi2 / max(noise, 1e-30) + math.log(max(one.blocks, 2)) * len(one.coefficients)
            for one, noise in zip(of_order, noises, strict=True)
        )
        for of_order in fits
    ]
    return int(np.argmin(scores))


def _solve(
    design: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    root = design * np.sqrt(weights)[:, None]
    normal = root.T @ root  # numpy computes half of a product with its own transpose
    diagonal = np.diagonal(normal).copy()
    # Columns of zeros and ones are channels. What they and the surface share is left to the surface.
    steps = ((design == 0) | (design == 1)).all(axis=0) & ~(design == 1).all(axis=0)
    ridge = np.where(steps, _STEP_RIDGE * diagonal, 0.0) + _RIDGE * max(float(diagonal.mean()), 1e-300)
    normal[np.diag_indices_from(normal)] += ridge
    return np.asarray(np.linalg.solve(normal, design.T @ (weights * values)), np.float64)


def _scatter(left: NDArray[np.float64]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(left))) if left.size else math.nan
