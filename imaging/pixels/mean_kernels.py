"""The kernels behind `imaging.pixels.combine` for means without rejection: of all inputs at the least bad level.

Inputs are added one after the other. An input at a better level than all before it begins new sums of its pixel; one
at a worse level is passed over. So the sums have the inputs at the least level in their order, as those of
`imaging.pixels.combine_kernels`, whose pixels these are, and no input has to be kept. In a long stack nearly every
pixel has an input at another level, a bad pixel of one of the frames: blocks of pixels are processed at a time, each
loop for one array, which the compiler turns into vector instructions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

#: Pixels in a block.
_BLOCK: Final = 512


@njit(cache=True, nogil=True)
def _find_levels(values, variances, bits, level_bits, level):  # type: ignore[no-untyped-def]
    """Write the level of one input's pixels."""
    for k in range(len(level)):
        level[k] = 0
    for i in range(level_bits.size):
        bit, number = level_bits[i], np.uint16(i + 1)
        for k in range(len(level)):
            level[k] = number if bits[k] & bit else level[k]
    without_value = np.uint16(level_bits.size + 1)
    for k in range(len(level)):
        finite = np.isfinite(values[k]) & np.isfinite(variances[k])
        level[k] = level[k] if finite else without_value


@njit(cache=True, nogil=True)
def _add(values, variances, bits, w, level, least, total, variance, weight, dq, count):  # type: ignore[no-untyped-def]
    """Add one input; where it is at a better level than all before it, begin new sums."""
    square = w * w
    for k in range(len(level)):
        before = total[k] if level[k] >= least[k] else 0.0
        total[k] = before + (w * np.float64(values[k]) if level[k] <= least[k] else 0.0)
    for k in range(len(level)):
        before = variance[k] if level[k] >= least[k] else 0.0
        variance[k] = before + (square * np.float64(variances[k]) if level[k] <= least[k] else 0.0)
    for k in range(len(level)):
        before = weight[k] if level[k] >= least[k] else 0.0
        weight[k] = before + (w if level[k] <= least[k] else 0.0)
    for k in range(len(level)):
        before = dq[k] if level[k] >= least[k] else np.uint16(0)
        dq[k] = before | (bits[k] if level[k] <= least[k] else np.uint16(0))
    for k in range(len(level)):
        before = count[k] if level[k] >= least[k] else np.uint16(0)
        count[k] = before + np.uint16(level[k] <= least[k])
    for k in range(len(level)):
        least[k] = min(least[k], level[k])


@njit(cache=True, nogil=True)
def add_input(values, variances, bits, w, level_bits, least, total, variance, weight, dq, count):  # type: ignore[no-untyped-def]
    """Add an input to the sums of a weighted mean.

    Parameters
    ----------
    values, variances, bits
        float32, float32 and uint16 (pixels,) of the input.
    w
        Its weight.
    level_bits
        uint16: the bits that make a pixel bad, least bad first; the last one means no data.
    least
        uint16 (pixels,): the least level until now; at first the number of levels + 1.
    total, variance, weight
        float64 (pixels,): sums of the values, of their variances and of the weights; at first 0.
    dq, count
        uint16 (pixels,): OR of the bits, and number of inputs; at first 0.
    """
    levels = np.empty(_BLOCK, np.uint16)
    for start in range(0, least.size, _BLOCK):
        stop = min(start + _BLOCK, least.size)
        here, level = slice(start, stop), levels[: stop - start]
        _find_levels(values[here], variances[here], bits[here], level_bits, level)
        _add(
            values[here], variances[here], bits[here], w, level, least[here], total[here], variance[here], weight[here],
            dq[here], count[here],
        )  # fmt: skip


@njit(cache=True, nogil=True)
def finish_mean(level_bits, least, total, variance, weight, dq, count, out_sci, out_var):  # type: ignore[no-untyped-def]
    """Compute the means of the sums of `add_input` into float32 (pixels,); ``dq`` and ``count`` become theirs."""
    without_value = level_bits.size + 1
    for k in range(least.size):
        if least[k] == without_value:
            out_sci[k] = out_var[k] = 0.0
            dq[k] |= level_bits[level_bits.size - 1]
            count[k] = 0
        else:
            out_sci[k] = total[k] / weight[k]
            out_var[k] = variance[k] / (weight[k] * weight[k])
