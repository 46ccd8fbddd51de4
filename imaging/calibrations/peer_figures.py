"""Figures by which the frames of a set are compared: level, shape over the detector, noise."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.raw_stack import RawStack

#: Blocks of columns in which the shape of a frame is measured; along rows, the bands of the sample are the
#: blocks.
_COLUMN_BLOCKS: Final = 8
#: Fewest pixels of a block.
_LEAST_PIXELS: Final = 50
#: Pixels brighter than this fraction of the bright ones are lit.
_LIT: Final = 0.5
#: A frame with less than this fraction of the light of the others is not scaled to it.
_LEAST_LIGHT: Final = 0.05
#: Maximum number of values, of all frames together, that are compared; a larger sample is thinned to a
#: regular grid.
_MOST_VALUES: Final = 1024**2


def thinned(stack: RawStack, sample: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return pixels on a regular grid of the sample, (n, pixels), and the block of each, (pixels,)."""
    nx = stack.shape[1]
    heights = [band.stop - band.start for band in stack.sample_bands]
    frames = sample.reshape(len(sample), -1, nx)
    step = int(np.ceil(np.sqrt(max(1.0, len(stack) * frames.shape[1] * nx / _MOST_VALUES))))
    row_block = np.repeat(np.arange(len(heights)), heights)[::step]
    column_block = (np.arange(nx) * _COLUMN_BLOCKS // nx)[::step]
    blocks = row_block[:, np.newaxis] * _COLUMN_BLOCKS + column_block
    return frames[:, ::step, ::step].reshape(len(sample), -1), blocks.ravel()


class Measured(NamedTuple):
    """Figures of each frame, (n,): level, the block that deviates most from it, noise within blocks."""

    level: NDArray[np.float64]
    shape: NDArray[np.float64]
    noise: NDArray[np.float64]


def measure_dim(
    frames: NDArray[np.float32], blocks: NDArray[np.intp], usual: NDArray[np.bool_] | slice = slice(None)
) -> Measured:
    """Compare frames (n, pixels) without lamp light by differences: electrons from the median of the ``usual`` ones.

    Shape and noise are those of the frames shifted to one level: if the levels differ, the median of a few
    frames is always the same frame, which would then seem noiseless."""
    level = _levels(frames)
    frames = frames - level[:, np.newaxis].astype(np.float32)
    frames -= np.median(frames[usual], axis=0)
    return Measured(level, *_within(frames, blocks))


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
    light, blocks = light[:, lit], blocks[lit]
    level = np.array([_middle_mean(one / typical[lit]) for one in light])
    scale = np.where(level > _LEAST_LIGHT, level, 1.0)
    light /= scale[:, np.newaxis].astype(np.float32)
    light /= np.median(light[usual], axis=0)
    light -= (level / scale)[:, np.newaxis].astype(np.float32)
    return Measured(level, *_within(light, blocks))


def _within(
    off: NDArray[np.float32], blocks: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the most deviant block, and the noise within blocks, of each frame."""
    places = [np.flatnonzero(blocks == k) for k in np.unique(blocks)]
    places = [place for place in places if place.size >= _LEAST_PIXELS] or [np.arange(blocks.size)]
    shape, noise = np.zeros(len(off)), np.zeros(len(off))
    for k, frame in enumerate(off):
        means = [_middle_mean(frame[place]) for place in places]
        squares = [
            _middle_square(frame[place] - np.float32(mean)) for place, mean in zip(places, means, strict=True)
        ]
        shape[k] = np.abs(means).max()
        noise[k] = np.sqrt(np.median(squares))
    return shape, noise


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


def _middle_mean(values: NDArray[np.float32]) -> float:
    """Return the mean of the middle half: as robust as quartiles, and not rounded to integer ADU like a median."""
    quarter = values.size // 4
    if quarter == 0:
        return float(values.mean())
    return float(
        np.partition(values, (quarter, values.size - quarter))[quarter : values.size - quarter].mean()
    )


def _middle_square(off: NDArray[np.float32]) -> float:
    """Return the mean square of the values without the most extreme 5 %."""
    square = off * off
    most = max(1, int(0.95 * square.size))
    return float(np.partition(square, most - 1)[:most].mean())
