"""Offsets of the readout: those of the detector's channels, those of rows, and those that repeat along columns.

An offset counts against the same channel or row of the other frames, because what all frames have in common is in
their sky too. Channels are judged by the second differences of neighbouring ones, which no smooth sky and no source
larger than a channel imitates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: Offsets are significant if their variance is this many times that expected of the noise.
SIGNIFICANT: Final = 3.0
#: The same for rows: the variance of two thousand is known to a few percent.
ROWS_SIGNIFICANT: Final = 1.3
#: The same for the offsets of a periodic pattern: the variance of some thirty is known to a quarter.
PERIODIC_SIGNIFICANT: Final = 2.0
#: Efficiency of the median: its variance over that of the mean.
_MEDIAN: Final = np.pi / 2
#: Median of chi^2 with one degree of freedom.
_CHI2_MEDIAN: Final = 0.4549
#: Blocks further from zero than this many robust sigma are left out.
_CLIP: Final = 4.0


def find_layout(residuals: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.int64] | None:
    """Return the layout of ``count`` channels that explains most of what smooth surfaces leave of the frames.

    Channels are strips of columns or of rows, over the array or in each quadrant; a quadrant has its strips along
    columns or rows whatever the others have.

    Parameters
    ----------
    residuals
        Blocks of each frame, (rows, columns); NaN if missing.
    count
        Number of channels of the detector.

    Returns
    -------
    numpy.ndarray or None
        Channel of each block, (rows, columns); None if no layout has significant offsets, or if its channels do not
        consist of complete blocks.
    """
    ny, nx = residuals[0].shape
    candidates = []
    for turned in (False, True):
        if (ny if turned else nx) % count == 0 and _ratio(residuals, count, turned=turned) > SIGNIFICANT:
            candidates.append(_strips((ny, nx), count, turned=turned))
    strips, halves = count // 4, (ny // 2, nx // 2)
    if count % 4 == 0 and ny % 2 == nx % 2 == 0 and halves[0] % strips == halves[1] % strips == 0:
        quadrants, ratios = np.zeros((ny, nx), np.int64), []
        for corner in range(4):
            y0, x0 = corner // 2 * halves[0], corner % 2 * halves[1]
            part = (slice(y0, y0 + halves[0]), slice(x0, x0 + halves[1]))
            inside = [one[part] for one in residuals]
            both = [_ratio(inside, strips, turned=turned) for turned in (False, True)]
            quadrants[part] = corner * strips + _strips(halves, strips, turned=both[1] > both[0])
            ratios.append(max(both))
        if np.median(ratios) > SIGNIFICANT:
            candidates.append(quadrants)
    return min(
        candidates, key=lambda labels: sum(_about_channels(one, labels) for one in residuals), default=None
    )


def _strips(shape: tuple[int, int], count: int, *, turned: bool) -> NDArray[np.int64]:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.asarray(y * count // shape[0] if turned else x * count // shape[1])


def _ratio(residuals: Sequence[NDArray[np.float64]], count: int, *, turned: bool) -> float:
    """Return the median over the frames of the second differences of strips, squared, over that expected."""
    return float(np.median([_second_differences(one.T if turned else one, count) for one in residuals]))


def _second_differences(residual: NDArray[np.float64], count: int) -> float:
    """Return the median of the squared second differences of strips of columns in units of their variance."""
    value, good, spread = _clipped(residual)
    ny, nx = value.shape
    n = good.reshape(ny, count, nx // count).sum(axis=(0, 2))
    total = value.reshape(ny, count, nx // count).sum(axis=(0, 2))
    mean, variance = total / np.maximum(n, 1), spread**2 / np.maximum(n, 1)
    second = mean[1:-1] - 0.5 * (mean[:-2] + mean[2:])
    expected = variance[1:-1] + 0.25 * (variance[:-2] + variance[2:])
    known = (n[:-2] > 3) & (n[1:-1] > 3) & (n[2:] > 3)
    if known.sum() < 4 or not spread > 0:
        return 0.0
    return float(np.median(second[known] ** 2 / expected[known]) / _CHI2_MEDIAN)


def _clipped(residual: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Return the blocks without outliers (0 there), which are used, and their robust scatter."""
    good = np.isfinite(residual)
    if not good.any():
        return np.zeros(residual.shape), good, 0.0
    spread = MAD_TO_SIGMA * float(np.median(np.abs(residual[good])))
    good &= np.abs(np.where(good, residual, 0.0)) <= _CLIP * spread
    return np.where(good, residual, 0.0), good, spread


def _about_channels(residual: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the scatter of the blocks about the mean of their channel."""
    value, good, _ = _clipped(residual)
    count = int(labels.max()) + 1
    n = np.bincount(labels.ravel(), good.ravel(), count)
    means = np.bincount(labels.ravel(), value.ravel(), count) / np.maximum(n, 1)
    return float(np.abs(value - means[labels])[good].sum()) / max(int(good.sum()), 1)


def indicator(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a column for each channel, (blocks, channels)."""
    return np.asarray(labels.ravel()[:, None] == np.arange(int(labels.max()) + 1), np.float64)


def row_pattern(
    means: NDArray[np.float64], counts: NDArray[np.int64], noise: float, frames: int
) -> tuple[NDArray[np.float64], float]:
    """Return the offsets of rows, and their rms; zeros where they are not significant.

    Parameters
    ----------
    means
        Means of a frame's rows about its blocks and about the same rows of the other frames, electrons, (ny,).
    counts
        Pixels in them.
    noise
        Noise of a pixel, electrons.
    frames
        Number of frames that the pattern in common comes from.

    Returns
    -------
    offsets, rms
        The offsets are weighted by the share of the offsets in their variance (Wiener's filter), so that next to
        nothing of the noise is added to the frame. The rms is without noise.
    """
    known, expected = _known_variances(counts, noise, frames)
    if known.sum() < 32:
        return np.zeros(len(means)), 0.0
    spread = (MAD_TO_SIGMA * np.median(np.abs(means[known]))) ** 2
    typical = float(np.median(expected[known]))
    if not spread > ROWS_SIGNIFICANT * typical:
        return np.zeros(len(means)), 0.0
    true = spread - typical
    weights = true / (true + expected)
    return np.where(known, weights * means, 0.0), float(np.sqrt(true))


def _known_variances(
    counts: NDArray[np.int64], noise: float, frames: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which means have enough pixels, and the variances of means about those of other frames by noise alone."""
    known = counts > 0.2 * max(int(counts.max()), 1)
    return known, noise**2 / np.maximum(counts, 1) * (1 + _MEDIAN / max(frames, 2))


def periodic_pattern(
    means: NDArray[np.float64], counts: NDArray[np.int64], noise: float, frames: int
) -> tuple[NDArray[np.float64], float]:
    """Return the offsets that repeat along the columns of each quadrant, and their rms; zeros if not significant.

    Parameters
    ----------
    means
        Means of the columns of each phase about a frame's blocks and about the same columns of the other frames,
        electrons, (quadrants, period).
    counts
        Pixels in them.
    noise
        Noise of a pixel, electrons.
    frames
        Number of frames that the pattern in common comes from.

    Returns
    -------
    offsets, rms
        As those of `row_pattern`; in each quadrant their mean is 0, because its level belongs to the sky.
    """
    known, variances = _known_variances(counts, noise, frames)
    if known.sum(axis=1).min() < means.shape[1] / 2:
        return np.zeros(means.shape), 0.0
    n = known.sum(axis=1, keepdims=True)
    level = np.where(known, means, 0.0).sum(axis=1, keepdims=True) / n
    value = np.where(known, means - level, 0.0)
    expected = np.where(known, variances, 0.0)
    spread = (value**2).sum(axis=1, keepdims=True) / (n - 1)
    typical = expected.sum(axis=1, keepdims=True) / n
    if not spread.mean() > PERIODIC_SIGNIFICANT * typical.mean():
        return np.zeros(means.shape), 0.0
    true = np.maximum(spread - typical, 0.0)
    return value * true / np.maximum(true + expected, 1e-30), float(np.sqrt(true.mean()))
