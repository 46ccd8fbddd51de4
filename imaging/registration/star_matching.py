"""Match two lists of positions: find the offset by vote, pair the stars, fit the transform.

This module knows nothing about frames or headers. Each result has its probability by chance, so that a caller
can refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.registration.geometry import Affine

TransformKind = Literal["shift", "shift_rotation", "similarity", "affine"]
#: ``auto`` is the simplest that serves (`imaging.registration.simplest`).
TransformChoice = Literal["auto", "shift", "shift_rotation", "similarity", "affine"]
Positions = NDArray[np.float64]

#: Stars that each kind of transform needs, one more than the minimum.
LEAST_STARS: dict[str, int] = {"auto": 2, "shift": 2, "shift_rotation": 3, "similarity": 3, "affine": 4}
#: Free parameters of each.
FREE: dict[str, int] = {"shift": 2, "shift_rotation": 3, "similarity": 4, "affine": 6}
#: Votes are counted in windows of this many cells per side, so that a peak is never split.
WINDOW = 3
#: The level by chance is measured in a square of this many cells around the peak.
_NEIGHBOURHOOD = 41
#: Clipping of residuals: limit in sigmas, and number of iterations.
_CLIP, _PASSES = 4.0, 10

#: Lists with more pairs than this are searched with a tree.
_MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Vote:
    """The offset that most pairs agree on.

    Attributes
    ----------
    dx, dy
        Offset to add to the first list, px.
    count
        Pairs in the winning window.
    runner_up
        Pairs in the best window that does not touch the winner.
    false_alarm
        Probability of a window with that count by chance, anywhere in the range.
    """

    dx: float
    dy: float
    count: int
    runner_up: int
    false_alarm: float


def vote(a: Positions, b: Positions, reach: float, *, cell: float = 1.0) -> Vote:
    """Find the offset from ``a`` to ``b`` by a two-dimensional histogram of all pairs' differences.

    Parameters
    ----------
    a, b
        float64 (n, 2) and (m, 2), px.
    reach
        Largest offset along x and along y, px.
    cell
        Side of a cell, px.

    Returns
    -------
    Vote
        With the probability of a false alarm: the Poisson probability of the count for the level of the
        neighbourhood (at least that of uniform lists), times the number of windows.
    """
    difference = (b[None, :, :] - a[:, None, :]).reshape(-1, 2)
    near = difference[(np.abs(difference) <= reach).all(axis=1)]
    if not len(near):
        return Vote(0.0, 0.0, 0, 0, 1.0)
    half = math.ceil(reach / cell) + 1
    index = np.floor(near / cell).astype(int) + half
    side = 2 * half + 1
    counts = np.bincount(index[:, 1] * side + index[:, 0], minlength=side * side).reshape(side, side)
    sums = _window_sums(counts)
    best = int(sums.argmax())
    j, i = divmod(best, side)
    count = int(sums[j, i])
    away = sums.copy()
    away[max(0, j - 5) : j + 6, max(0, i - 5) : i + 6] = 0
    # Level by chance: pairs around the peak, without the peak itself; because stars may be clustered, use the
    # larger of the local density and that of two uniform lists.
    size = _NEIGHBOURHOOD // 2
    box = np.s_[max(0, j - size) : j + size + 1, max(0, i - size) : i + size + 1]
    cells = counts[box].size
    local = (counts[box].sum() - count) / max(cells - WINDOW**2, 1)
    extent = np.maximum(np.ptp(np.vstack([a, b]), axis=0), cell)
    mean = len(a) * len(b) * cell**2 / float(np.prod(extent))
    chance = max(local, mean) * WINDOW**2
    false_alarm = min(1.0, at_least(count, chance) * side**2)
    peak = near[(np.abs((near / cell) - (np.array([i, j]) - half + 0.5)) <= WINDOW / 2).all(axis=1)]
    dx, dy = np.median(peak, axis=0)
    return Vote(float(dx), float(dy), count, int(away.max()), false_alarm)


def _window_sums(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of the window around each cell; cells outside count as 0."""
    padded = np.pad(counts, 1)  # WINDOW is 3
    along = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return along[:-2] + along[1:-1] + along[2:]


def at_least(count: int, mean: float) -> float:
    """Return the Poisson probability of ``count`` or more if ``mean`` are expected."""
    from scipy.special import pdtrc  # imported late, and not scipy.stats, which takes half a second

    return float(pdtrc(count - 1, mean)) if count > 0 else 1.0


def pair_up(a: Positions, b: Positions, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of pairs that are mutually nearest and closer than ``tolerance`` px."""
    none = np.empty(0, np.intp)
    if not len(a) or not len(b):
        return none, none
    if len(a) * len(b) > _MOST_PAIRS:
        return _nearest_of_many(a, b, tolerance)
    # All pairs are tested: there are some hundred stars, and importing scipy.spatial would take longer.
    squared = ((b[None, :, :] - a[:, None, :]) ** 2).sum(axis=2)
    to_b, to_a = squared.argmin(axis=1), squared.argmin(axis=0)
    own = np.arange(len(a))
    first = np.flatnonzero((squared[own, to_b] < tolerance**2) & (to_a[to_b] == own))
    return first, to_b[first]


def _nearest_of_many(
    a: Positions, b: Positions, tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from scipy.spatial import cKDTree

    distance, to_b = cKDTree(b).query(a)
    _, to_a = cKDTree(a).query(b)
    first = np.flatnonzero((distance < tolerance) & (to_a[to_b] == np.arange(len(a))))
    return first, to_b[first].astype(np.intp)


def chance_of(matches: int, a: Positions, b: Positions, tolerance: float) -> float:
    """Return the probability that unrelated lists have ``matches`` or more pairs within ``tolerance``.

    The lists are assumed to be uniform over their common box.
    """
    low = np.maximum(a.min(axis=0), b.min(axis=0)) - tolerance
    high = np.minimum(a.max(axis=0), b.max(axis=0)) + tolerance
    area = float(np.prod(np.maximum(high - low, tolerance)))
    inside_a, inside_b = ((((p >= low) & (p <= high)).all(axis=1)).sum() for p in (a, b))
    return at_least(matches, float(inside_a * inside_b) * math.pi * tolerance**2 / area)


def fit(a: Positions, b: Positions, errors: NDArray[np.float64], kind: TransformKind) -> Affine:
    """Fit the least-squares transform from ``a`` to ``b``.

    Parameters
    ----------
    a, b
        float64 (n, 2), px.
    errors
        float64 (n,): standard error of each pair's difference along one axis, px.
    kind
        ``shift``, ``shift_rotation``, ``similarity`` (with a scale) or ``affine``.

    Returns
    -------
    Affine
        The transform. Rotation by the closed form of Umeyama (1991, IEEE PAMI 13, 376).
    """
    w = 1.0 / errors**2
    w = w / w.sum()
    mean_a, mean_b = w @ a, w @ b
    if kind == "shift":
        return Affine.shift(*(mean_b - mean_a))
    da, db = a - mean_a, b - mean_b
    if kind == "affine":
        root = np.sqrt(w)[:, None]
        solution, *_ = np.linalg.lstsq(da * root, db * root, rcond=None)
        linear = solution.T
    else:
        along = (w * (da * db).sum(axis=1)).sum()
        across = (w * (da[:, 0] * db[:, 1] - da[:, 1] * db[:, 0])).sum()
        length = math.hypot(along, across)
        size = length / (w * (da**2).sum(axis=1)).sum() if kind == "similarity" else 1.0
        c, s = size * along / length, size * across / length
        linear = np.array([[c, -s], [s, c]])
    x0, y0 = mean_b - linear @ mean_a
    (xx, xy), (yx, yy) = linear.tolist()
    return Affine(xx, xy, yx, yy, float(x0), float(y0))


@dataclass(frozen=True)
class Fit:
    """A transform and the quality of its fit.

    Attributes
    ----------
    transform
        Transform from the first list to the second.
    used
        bool (n,): pairs that were not clipped.
    rms
        Residual along one axis of the pairs used, weighted, px.
    uncertainty
        Standard error of a position along one axis, px, root mean square over the frame; scaled up if the
        residuals exceed the errors.
    """

    transform: Affine
    used: NDArray[np.bool_]
    rms: float
    uncertainty: float


def robust_fit(
    a: Positions, b: Positions, errors: NDArray[np.float64], kind: TransformKind, shape: tuple[int, int]
) -> Fit:
    """Fit without pairs whose residual exceeds 4 sigma of their error or of the scatter.

    Parameters and the transform are those of `fit`; ``shape`` is (ny, nx) of the first frame.
    """
    used = np.ones(len(a), bool)
    # Start from the median offset, which tolerates wrong pairs, not from a fit, which a single pair can bias.
    residual = (b - a) - np.median(b - a, axis=0)
    if kind == "shift":
        used = _within(residual, errors, used)
    transform = fit(a[used], b[used], errors[used], kind)
    for _ in range(_PASSES):
        residual = b - np.column_stack(transform(a[:, 0], a[:, 1]))
        keep = _within(residual, errors, used)
        if keep.sum() < LEAST_STARS[kind] or (keep == used).all():
            break
        used = keep
        transform = fit(a[used], b[used], errors[used], kind)
    residual = b - np.column_stack(transform(a[:, 0], a[:, 1]))
    weight = 1.0 / errors[used] ** 2
    chi2 = float((weight[:, None] * residual[used] ** 2).sum())
    rms = math.sqrt(chi2 / (2 * weight.sum()))
    freedom = max(2 * int(used.sum()) - FREE[kind], 1)
    variance = 1.0 / weight.sum() + _variance_of_linear_part(a[used], weight, kind, shape)
    return Fit(transform, used, rms, math.sqrt(max(1.0, chi2 / freedom) * variance))


def _variance_of_linear_part(
    a: Positions, weight: NDArray[np.float64], kind: TransformKind, shape: tuple[int, int]
) -> float:
    """Return the mean variance that rotation, scale and shear add to a position along one axis, px^2."""
    if kind == "shift":
        return 0.0
    centre = weight @ a / weight.sum()
    x, y = np.meshgrid(np.linspace(0, shape[1] - 1, 5), np.linspace(0, shape[0] - 1, 5))
    away = np.column_stack([x.ravel(), y.ravel()]) - centre
    d = a - centre
    if kind == "affine":
        moments = (d * weight[:, None]).T @ d
        return float(np.einsum("ki,ij,kj->k", away, np.linalg.pinv(moments), away).mean())
    total = float((weight * (d**2).sum(axis=1)).sum())
    per_axis = float((away**2).sum(axis=1).mean()) / max(total, 1e-12)
    # A rotation moves a point along one direction only, of the two that the axes average over.
    return per_axis if kind == "similarity" else per_axis / 2


def _within(
    residual: NDArray[np.float64], errors: NDArray[np.float64], used: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    pull = np.hypot(residual[:, 0], residual[:, 1]) / errors
    # The median of a Rayleigh distribution is 1.1774 of its sigma.
    scatter = max(1.0, float(np.median(pull[used])) / 1.1774)
    return pull <= _CLIP * scatter
