"""The simplest transform that serves matched stars: a shift unless a rotation, a scale or a shear is significant."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.registration.geometry import Affine
from imaging.registration.star_matching import FREE, Fit, Positions, TransformKind, robust_fit

#: From the simplest to the most general.
_LADDER: Final[tuple[TransformKind, ...]] = ("shift_rotation", "similarity", "affine")
#: Probability that a more general transform fits so much better by chance, below which it is taken.
_BY_CHANCE: Final = 1e-4
#: Difference of chi-square at which stars decide between no rotation and that of the headers: 3 sigma.
_DECIDED: Final = 9.0
#: Where stars do not decide, a rotation or scale of the headers is believed if it moves a corner by more than this,
#: px. Below, it may come from how the header writes the position of the field.
_BELIEVED: Final = 0.3
#: Largest squared pull of a pair, so that a wrong pair counts as one.
_CAPPED: Final = 16.0


def simplest_fit(
    a: Positions,
    b: Positions,
    errors: NDArray[np.float64],
    turned: Affine,
    shape: tuple[int, int],
    least_move: float,
) -> Fit:
    """Fit the simplest transform from ``a`` to ``b`` that serves.

    A shift is first; with as many free parameters, a shift of positions that are turned and scaled as the headers
    record. Rotation, similarity and affine transform follow. A more general one is taken if it fits significantly
    better (F test of nested models) and moves a corner of the frame by more than ``least_move``.

    Parameters
    ----------
    a, b
        float64 (n, 2), px.
    errors
        float64 (n,): standard error of each pair's difference along one axis, px.
    turned
        Rotation and scale from ``a`` to ``b`` according to the headers.
    shape
        (ny, nx) of the frame.
    least_move
        px.

    Returns
    -------
    Fit
        The fit.
    """
    best, free = _first(a, b, errors, turned, shape), FREE["shift"]
    for kind in _LADDER:
        freedom = 2 * len(a) - FREE[kind]
        if freedom < 2:
            break
        found = robust_fit(a, b, errors, kind, shape)
        before, after = (_cost(a, b, errors, fit.transform) for fit in (best, found))
        excess = (before - after) / (FREE[kind] - free) / max(1.0, after / freedom)
        if (
            _chance(excess, FREE[kind] - free, freedom) < _BY_CHANCE
            and largest_move(best.transform, found.transform, shape) > least_move
        ):
            best, free = found, FREE[kind]
    return best


def largest_move(one: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Return the largest distance, px, between two transforms at the corners of a frame."""
    x, y = np.meshgrid([0.0, shape[1] - 1.0], [0.0, shape[0] - 1.0])
    (u, v), (s, t) = one(x, y), other(x, y)
    return float(np.hypot(u - s, v - t).max())


def believed(turned: Affine, shape: tuple[int, int]) -> Affine:
    """Return the rotation and scale of the headers, or none if they move no corner noticeably."""
    return turned if largest_move(turned, Affine(), shape) > _BELIEVED else Affine()


def _first(
    a: Positions, b: Positions, errors: NDArray[np.float64], turned: Affine, shape: tuple[int, int]
) -> Fit:
    """Return a shift, or a shift after the rotation and scale of the headers."""
    plain = robust_fit(a, b, errors, "shift", shape)
    if turned.is_shift:
        return plain
    moved = robust_fit(np.column_stack(turned(a[:, 0], a[:, 1])), b, errors, "shift", shape)
    header = Fit(turned.then(moved.transform), moved.used, moved.rms, moved.uncertainty)
    costs = [_cost(a, b, errors, fit.transform) for fit in (plain, header)]
    gain = (costs[0] - costs[1]) / max(1.0, min(costs) / max(2 * len(a) - FREE["shift"], 1))
    if abs(gain) > _DECIDED:
        return header if gain > 0 else plain
    return plain if believed(turned, shape).is_shift else header


def _cost(a: Positions, b: Positions, errors: NDArray[np.float64], transform: Affine) -> float:
    residual = b - np.column_stack(transform(a[:, 0], a[:, 1]))
    return float(np.minimum((residual**2).sum(axis=1) / errors**2, _CAPPED).sum())


def _chance(ratio: float, extra: int, freedom: int) -> float:
    from scipy.special import fdtrc  # imported late, and not scipy.stats, which takes half a second

    return float(fdtrc(extra, freedom, ratio)) if ratio > 0 else 1.0
