"""The error of a stack's background that larger apertures do not average out.

The noise of pixels and its correlation by resampling average out over an aperture. What remains of the sky, of
the flat and of sources too faint to be found does not: it is common to the pixels of an aperture.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import UNUSABLE
from imaging.usual import MAD_TO_SIGMA

#: Side of the blocks, px: the area is that of an aperture with a radius of 12 px.
_SIDE: Final = 21
#: Blocks with a larger variance, relative to the median, are where fewer frames contribute.
_MOST_VARIANCE: Final = 1.3
#: Fewest blocks that allow a measurement.
_LEAST_BLOCKS: Final = 50


def background_error(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    objects: NDArray[np.uint8],
    noise_correlation: float,
) -> float | None:
    """Return the rms error of the background within an aperture, beyond the noise that VAR predicts.

    It is the scatter of the means of blank square blocks, less what VAR and NCORR predict. The variance of a
    sum over n pixels is then NCORR^2 times the sum of VAR, plus (n times this error)^2.

    Parameters
    ----------
    sci, var, dq
        The stack, (ny, nx); electrons, and electrons squared.
    objects
        1 on sources.
    noise_correlation
        NCORR of the stack.

    Returns
    -------
    float or None
        Electrons; 0 if the noise explains the scatter; None with too few blank blocks.
    """
    rows, columns = (n // _SIDE for n in sci.shape)
    part = (slice(0, rows * _SIDE), slice(0, columns * _SIDE))
    blocks = (rows, _SIDE, columns, _SIDE)
    busy = ((dq[part] & np.uint16(UNUSABLE)) != 0) | (objects[part] != 0)
    blank = ~busy.reshape(blocks).any(axis=(1, 3))
    if int(blank.sum()) < _LEAST_BLOCKS:
        return None
    means = sci[part].reshape(blocks).mean(axis=(1, 3), dtype=np.float64)[blank]
    variances = var[part].reshape(blocks).mean(axis=(1, 3), dtype=np.float64)[blank]
    even = variances <= _MOST_VARIANCE * np.median(variances)
    means, variances = means[even], variances[even]
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(means - np.median(means))))
    expected = noise_correlation**2 * float(np.median(variances)) / _SIDE**2
    return math.sqrt(max(scatter**2 - expected, 0.0))
