"""The structure of a group's skies in blocks: surfaces and channels of each frame about what all frames share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.sky import patterns, shapes
from imaging.sky.fixed import fixed_to_the_sky
from imaging.usual import MAD_TO_SIGMA

#: Fewest frames whose structure can be distinguished from that of a source.
_FEWEST: Final = 3
#: Correlation of neighbouring blocks up to which they hold nothing but noise about a plane.
_CORRELATED: Final = 0.1
#: Blocks beyond this many robust sigma do not count in the correlation.
_CLIP: Final = 4.0
#: Share that the mask leaves of a block in units of the frame's usual one, below which the block does not count.
_FREE: Final = 0.8


@dataclass(frozen=True)
class Blocks:
    """Block medians of the frames of a group.

    Attributes
    ----------
    medians
        Electrons, (n, rows, columns); NaN if missing.
    counts
        Pixels in each, (n, rows, columns).
    levels
        Sky levels, electrons, (n,).
    units
        The electrons that a relative sky of 1 has: the levels, or 1 if skies are not scaled, (n,).
    shifts
        How far the stars of each frame are moved, blocks (y, x), (n, 2).
    serving
        Frames that serve as sky, (n,).
    frame
        Height and width of the frame in blocks.
    """

    medians: NDArray[np.float64]
    counts: NDArray[np.int64]
    levels: NDArray[np.float64]
    units: NDArray[np.float64]
    shifts: NDArray[np.float64]
    serving: NDArray[np.bool_]
    frame: tuple[float, float]


@dataclass(frozen=True)
class Structure:
    """The parts of a group's skies that differ from frame to frame.

    Attributes
    ----------
    orders
        Order of each frame's surface (`imaging.sky.shapes.ORDERS`).
    coefficients
        Of each frame's surface, electrons.
    channels
        Offsets of the channels of each frame in its blocks, electrons, (n, rows, columns); None without.
    channel_rms
        Their rms in each frame, electrons.
    pattern
        What the frames share, relative to their units, (rows, columns); NaN if missing.
    scatter
        Scatter of the blocks of each frame about the shared pattern and a plane, electrons.
    fixed
        Blocks whose structure moves with the stars, (n, rows, columns).
    """

    orders: tuple[int, ...]
    coefficients: tuple[NDArray[np.float64], ...]
    channels: NDArray[np.float64] | None
    channel_rms: tuple[float, ...]
    pattern: NDArray[np.float64]
    scatter: tuple[float, ...]
    fixed: NDArray[np.bool_]

    def surface(self, i: int, blocks: Blocks) -> NDArray[np.float64]:
        """Return the surface of a frame at the centres of its blocks, electrons, (rows, columns)."""
        shape = blocks.medians.shape[1:]
        columns = shapes.grid_columns(self.orders[i], *shape, *blocks.frame)
        return np.asarray((columns @ self.coefficients[i]).reshape(shape))


def find_structure(blocks: Blocks, *, channels: int = 0) -> Structure:
    """Return the surfaces and channels of the skies of a group.

    Each frame is compared with the median of all that serve as sky. The order of the surfaces is the lowest that
    serves, the same for all, so that what the frames share remains shared. Frames that do not serve as sky (those of
    the object next to offset skies) keep everything beyond a plane: it may be the object's.

    Parameters
    ----------
    blocks
        The frames.
    channels
        Number of readout channels; 0 if offsets are not sought.
    """
    shape = blocks.medians.shape
    relative = (blocks.medians - blocks.levels[:, None, None]) / blocks.units[:, None, None]
    pattern = _shared(relative, blocks)
    weights = _weights(blocks.counts, np.isfinite(relative - pattern))
    plain = _Fits(relative - pattern, weights, _design(shapes.PLANE, blocks))
    scatter = tuple(float(one.scatter * unit) for one, unit in zip(plain.fits, blocks.units, strict=True))
    fixed, layout = np.zeros(shape, bool), None
    orders = [shapes.LEVEL, shapes.PLANE]
    if len(relative) >= _FEWEST and max(_correlation(plain.left)) > _CORRELATED:
        most = max(order for order in shapes.ORDERS if order <= shapes.PLANE or _enough(order, weights))
        # The median of surfaces has kinks where it passes from one frame to another, which no surface follows: the
        # pattern is taken from frames that are flat up to surfaces.
        pattern = _shared(relative - _Fits(relative - pattern, weights, _design(most, blocks)).models, blocks)
        plain = _Fits(relative - pattern, weights, _design(shapes.PLANE, blocks))
        fixed = fixed_to_the_sky(plain.left, blocks.shifts)
        if not fixed.all():
            weights = np.where(fixed, 0.0, weights)
            smooth = _Fits(relative - pattern, weights, _design(most, blocks))
            layout = patterns.find_layout(list(smooth.left), channels) if channels else None
            orders = [
                order
                for order in shapes.ORDERS
                if order == shapes.LEVEL or (order <= most and _supported(order, blocks, weights, pattern))
            ]
    steps = _steps(layout, shape)
    chosen, coefficients, pattern = _lowest(relative, pattern, weights, orders, steps, blocks)
    offsets = [
        one[len(one) - steps.shape[1] :] * unit for one, unit in zip(coefficients, blocks.units, strict=True)
    ]
    return Structure(
        orders=tuple(chosen),
        coefficients=tuple(
            one[: len(one) - steps.shape[1]] * unit
            for one, unit in zip(coefficients, blocks.units, strict=True)
        ),
        channels=None if layout is None else np.stack([one[layout] for one in offsets]),
        channel_rms=tuple(0.0 if layout is None else float(np.std(one)) for one in offsets),
        pattern=pattern,
        scatter=scatter,
        fixed=fixed,
    )


class _Fits:
    """Fits of one design to the blocks of all frames.

    Attributes
    ----------
    fits
        One for each frame.
    models, left
        The fitted values, and what they leave (NaN where a block does not count), (n, rows, columns).
    """

    def __init__(
        self,
        residual: NDArray[np.float64],
        weights: NDArray[np.float64],
        design: NDArray[np.float64],
        kept: Sequence[NDArray[np.bool_]] | None = None,
    ) -> None:
        self.fits = [
            shapes.fit(design, value.ravel(), weight.ravel(), None if kept is None else kept[i])
            for i, (value, weight) in enumerate(zip(residual, weights, strict=True))
        ]
        self.models = np.stack([(design @ one.coefficients).reshape(residual.shape[1:]) for one in self.fits])
        self.left = np.where(weights > 0, residual - self.models, np.nan)


def _lowest(
    relative: NDArray[np.float64],
    pattern: NDArray[np.float64],
    weights: NDArray[np.float64],
    orders: Sequence[int],
    steps: NDArray[np.float64],
    blocks: Blocks,
) -> tuple[list[int], list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the order of each frame, the lowest that serves all skies, the coefficients, steps last, and the pattern.

    What the surfaces share is the pattern's as well as theirs, and no order follows the median of others exactly. So
    each order is judged about the pattern that its own surfaces leave.
    """
    designs = [np.hstack([_design(order, blocks), steps]) for order in orders]
    most = max(order for order in shapes.ORDERS if order <= max(orders) or _enough(order, weights))
    best = _Fits(relative - pattern, weights, np.hstack([_design(most, blocks), steps]))
    kept = [
        np.isfinite(left) & (np.abs(np.nan_to_num(left)) <= shapes.LIMIT * one.scatter)
        for left, one in zip(best.left.reshape(len(relative), -1), best.fits, strict=True)
    ]
    first = [_Fits(relative - pattern, weights, design, kept).models for design in designs]
    left = [_shared(relative - models, blocks) for models in first]
    fits = [
        _Fits(relative - own, weights, design, kept).fits for own, design in zip(left, designs, strict=True)
    ]
    # The wings of stars and faint stars are correlated over some blocks, of which fewer are independent.
    along = [max(0.0, one) for one in _correlation(best.left)]
    excess = (1 + 2 * along[0]) * (1 + 2 * along[1])
    skies = np.flatnonzero(blocks.serving) if blocks.serving.any() else np.arange(len(relative))
    noises = [
        excess * best.fits[i].chi2 / max(best.fits[i].blocks - len(best.fits[i].coefficients), 1)
        for i in skies
    ]
    lowest = shapes.lowest_order([[of_order[i] for i in skies] for of_order in fits], noises)
    plain = max(k for k, order in enumerate(orders) if order <= shapes.PLANE)
    chosen = [lowest if serves else min(lowest, plain) for serves in blocks.serving]
    final = [
        shapes.fit(designs[k], (relative[i] - left[lowest]).ravel(), weights[i].ravel(), kept[i]).coefficients
        for i, k in enumerate(chosen)
    ]
    return [orders[k] for k in chosen], final, left[lowest]


def _design(order: int, blocks: Blocks) -> NDArray[np.float64]:
    return shapes.grid_columns(order, *blocks.medians.shape[1:], *blocks.frame)


def _steps(layout: NDArray[np.int64] | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a column for each channel; none without channels."""
    return np.zeros((shape[1] * shape[2], 0)) if layout is None else patterns.indicator(layout)


def _enough(order: int, weights: NDArray[np.float64]) -> bool:
    """Return whether most frames have enough blocks for an order."""
    return bool(shapes.BLOCKS * shapes.terms(order) <= np.median((weights > 0).sum(axis=(1, 2))))


def _supported(
    order: int, blocks: Blocks, weights: NDArray[np.float64], pattern: NDArray[np.float64]
) -> bool:
    """Return whether the blocks of every sky determine the coefficients of an order."""
    lit = np.isfinite(pattern).ravel()
    serving = weights[blocks.serving] if blocks.serving.any() else weights
    return all(shapes.supported(order, _design(order, blocks), lit, one.ravel() > 0) for one in serving)


def _shared(relative: NDArray[np.float64], blocks: Blocks) -> NDArray[np.float64]:
    """Return the median of the frames that serve as sky."""
    return median_of_known(relative[blocks.serving] if blocks.serving.any() else relative)


def median_of_known(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median over the first axis of the values that are not NaN; NaN without any."""
    ordered = np.sort(planes, axis=0)
    count = np.isfinite(planes).sum(axis=0)[None]
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(planes) - 1)
    middle = 0.5 * (np.take_along_axis(ordered, low, 0) + np.take_along_axis(ordered, high, 0))
    return np.asarray(np.where(count > 0, middle, np.nan)[0])


def _weights(counts: NDArray[np.int64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights of blocks: 0 next to bright stars, where the mask leaves fewer pixels than elsewhere."""
    weights = np.where(good, counts, 0) / max(float(counts.max()), 1.0)
    share = counts / np.maximum(counts.max(axis=0), 1)
    for i, weight in enumerate(weights):
        if good[i].any():
            weights[i] = np.where(share[i] >= _FREE * np.median(share[i][good[i]]), weight, 0.0)
    return weights


def _correlation(left: NDArray[np.float64]) -> tuple[float, float]:
    """Return the correlation of blocks with their neighbours along x and y, outliers left out."""
    good = np.isfinite(left)
    if not good.any():
        return 0.0, 0.0
    spread = MAD_TO_SIGMA * float(np.median(np.abs(left[good])))
    value = np.where(good & (np.abs(np.where(good, left, 0.0)) <= _CLIP * spread), left, 0.0)
    square = float((value**2).sum())
    if not square > 0:
        return 0.0, 0.0
    along_x, along_y = value[:, :, 1:] * value[:, :, :-1], value[:, 1:] * value[:, :-1]
    return float(along_x.sum()) / square, float(along_y.sum()) / square
