"""Figures by which the frames of a set are compared: level, shape over the detector, noise, deviant pixels."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.raw_stack import RawStack

#: Blocks of columns in which the shape of a frame is measured, the first number for which blocks have enough
#: pixels; along rows, the bands of the sample are the blocks.
_COLUMN_BLOCKS: Final = (32, 8)
#: Fewest pixels of a block.
_LEAST_PIXELS: Final = 50
#: Pixels brighter than this fraction of the bright ones are lit.
_LIT: Final = 0.5
#: A frame with less than this fraction of the light of the others is not scaled to it.
_LEAST_LIGHT: Final = 0.05
#: Maximum number of values, of all frames together, that are compared; a larger sample is thinned to a
#: regular grid.
_MOST_VALUES: Final = 1024**2
#: A pixel deviates if it is this many times its noise away from the other frames, and more than this fraction
#: of its charge above the level, or of its light.
_DEVIANT_SIGMA: Final = 6.0
_DEVIANT_CHARGE: Final = 0.15
_DEVIANT_LIGHT: Final = 0.03
#: A pixel is warm if its charge above the level is this many times the noise.
_WARM: Final = 20.0


def thinned(stack: RawStack, sample: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return pixels on a regular grid of the sample, (n, pixels), and the block of each, (pixels,)."""
    nx = stack.shape[1]
    heights = [band.stop - band.start for band in stack.sample_bands]
    frames = sample.reshape(len(sample), -1, nx)
    step = int(np.ceil(np.sqrt(max(1.0, len(stack) * frames.shape[1] * nx / _MOST_VALUES))))
    row_block = np.repeat(np.arange(len(heights)), heights)[::step]
    pixels = row_block.size * -(-nx // step) / len(heights)
    columns = next((n for n in _COLUMN_BLOCKS if pixels >= n * _LEAST_PIXELS), _COLUMN_BLOCKS[-1])
    column_block = (np.arange(nx) * columns // nx)[::step]
    blocks = row_block[:, np.newaxis] * columns + column_block
    return frames[:, ::step, ::step].reshape(len(sample), -1), blocks.ravel()


class Measured(NamedTuple):
    """Figures of each frame, (n,): level, the block that deviates most from it, noise within blocks, share of
    deviant pixels, and of frames without light the relative charge of warm pixels.
    """

    level: NDArray[np.float64]
    shape: NDArray[np.float64]
    noise: NDArray[np.float64]
    deviant: NDArray[np.float64]
    warm: NDArray[np.float64]


def measure_dim(
    frames: NDArray[np.float32], blocks: NDArray[np.intp], usual: NDArray[np.bool_] | slice = slice(None)
) -> Measured:
    """Compare frames (n, pixels) without lamp light by differences: electrons from the median of the ``usual`` ones.

    Shape and noise are those of the frames shifted to one level: if the levels differ, the median of a few
    frames is always the same frame, which would then seem noiseless."""
    level = _levels(frames)
    frames = frames - level[:, np.newaxis].astype(np.float32)
    typical = np.median(frames[usual], axis=0)
    frames -= typical
    shape, noise = _within(frames, blocks)
    charge = np.maximum(typical - np.median(typical), 0)  # of warm and hot pixels, which has shot noise
    usual_noise = np.float32(np.median(noise[usual]))
    allowed = _DEVIANT_SIGMA * np.sqrt(usual_noise**2 + charge) + np.float32(_DEVIANT_CHARGE) * charge
    warm = charge > _WARM * usual_noise
    known = np.count_nonzero(warm) >= _LEAST_PIXELS
    scale = np.asarray(_middle_mean(frames[:, warm] / charge[warm]) if known else np.zeros(len(frames)))
    return Measured(level, shape, noise, _deviant(frames, allowed), scale)


def measure_lit(
    light: NDArray[np.float32], blocks: NDArray[np.intp], usual: NDArray[np.bool_] | slice = slice(None)
) -> Measured | None:
    """Compare frames (n, pixels) of lamp light by ratios to the median of the ``usual`` ones; None without light.

    Shape and noise are those of the frames scaled to one level; a frame without light keeps its own.
    """
    typical = np.median(light[usual], axis=0)
    lit = typical > max(_LIT * float(np.percentile(typical, 75)), 0.0)
    if not lit.any():
        return None
    light, blocks, typical = light[:, lit], blocks[lit], typical[lit]
    level = np.array([_middle_mean(one / typical) for one in light])
    scale = np.where(level > _LEAST_LIGHT, level, 1.0)
    light /= scale[:, np.newaxis].astype(np.float32)
    light /= np.median(light[usual], axis=0)
    light -= (level / scale)[:, np.newaxis].astype(np.float32)
    shape, noise = _within(light, blocks)
    # A pixel with less light has more noise relative to it.
    allowed = np.float32(np.median(noise[usual])) * np.sqrt(np.maximum(np.median(typical) / typical, 1))
    return Measured(
        level,
        shape,
        noise,
        _deviant(light, np.maximum(_DEVIANT_SIGMA * allowed, _DEVIANT_LIGHT)),
        np.zeros(len(light)),
    )


def _deviant(off: NDArray[np.float32], allowed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of the pixels of each frame that are further off than is allowed."""
    return np.asarray(np.count_nonzero(np.abs(off) > allowed, axis=1) / max(off.shape[1], 1), np.float64)


def _within(
    off: NDArray[np.float32], blocks: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the most deviant block, and the noise within blocks, of each frame."""
    order = np.argsort(blocks, kind="stable")
    counts = np.bincount(blocks)
    places = [one for one in np.split(order, np.cumsum(counts)[:-1]) if one.size >= _LEAST_PIXELS]
    places = places or [np.arange(blocks.size)]
    means, squares = np.empty((len(places), len(off))), np.empty((len(places), len(off)))
    for k, place in enumerate(places):
        values = off[:, place]
        means[k] = _middle_mean(values)
        squares[k] = _middle_square(values - means[k][:, np.newaxis].astype(np.float32))
    return np.abs(means).max(axis=0), np.sqrt(np.median(squares, axis=0))


def _levels(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each frame is above the first.

    Differences of two frames are distributed evenly about their mean; differences from the median of a few
    frames are not, because at most pixels the median is one of them."""
    return np.array([_middle_mean(one - frames[0]) for one in frames])


def level_to_median(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift frames that disagree to the median of their levels.

    Rejection keeps values near the median of the frames, so the pedestal must correspond to that level.
    """
    shift = _levels(sample)
    return sample - (shift - np.median(shift))[:, np.newaxis].astype(np.float32)


def _middle_mean(values: NDArray[np.float32]) -> NDArray[np.float64] | np.float64:
    """Return the mean of the middle half along the last axis: as robust as quartiles, and not rounded to integer
    ADU like a median.
    """
    size = values.shape[-1]
    quarter = size // 4
    if quarter == 0:
        return np.asarray(values.mean(axis=-1), np.float64)
    middle = np.partition(values, (quarter, size - quarter), axis=-1)[..., quarter : size - quarter]
    return np.asarray(middle.mean(axis=-1), np.float64)


def _middle_square(off: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean square of the values without the most extreme 5 %, along the last axis."""
    square = off * off
    most = max(1, int(0.95 * square.shape[-1]))
    return np.asarray(np.partition(square, most - 1, axis=-1)[..., :most].mean(axis=-1), np.float64)
