"""The kernel behind `imaging.pixels.combine` for means without rejection: of all inputs at the least bad level.

In a long stack nearly every pixel has an input at another level, a bad pixel of one of the frames. So levels are
compared for a block of pixels at a time, one input after the other, which the compiler turns into vector instructions.
Sums are taken in the order of the inputs, as by `imaging.pixels.combine_kernels`, whose pixels these are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

#: Pixels in a block.
_BLOCK: Final = 256


@njit(cache=True, nogil=True)
def _find_levels(values, variances, bits, level_bits, level, least):  # type: ignore[no-untyped-def]
    """Write the level of one input's pixels, and reduce ``least`` to it."""
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
    for k in range(len(level)):
        least[k] = min(least[k], level[k])


@njit(cache=True, nogil=True)
def _add(values, variances, bits, w, level, least, total, variance, weight, dq, count):  # type: ignore[no-untyped-def]
    """Add the pixels of one input that are at the least level."""
    for k in range(len(level)):
        used = level[k] == least[k]
        total[k] += w * np.float64(values[k]) if used else 0.0
        variance[k] += w * w * np.float64(variances[k]) if used else 0.0
        weight[k] += w if used else 0.0
    for k in range(len(level)):
        used = level[k] == least[k]
        dq[k] |= bits[k] if used else np.uint16(0)
        count[k] += np.uint16(used)


@njit(cache=True, nogil=True)
def mean_pixels(sci, var, dq, weights, level_bits, out_sci, out_var, out_dq, out_count):  # type: ignore[no-untyped-def]
    """Compute the weighted mean of (n, pixels) planes; see `imaging.pixels.combine.combine`.

    Parameters
    ----------
    sci, var, dq
        float32, float32 and uint16, C-contiguous (n, pixels).
    weights
        float64 (n,).
    level_bits
        uint16: the bits that make a pixel bad, least bad first; the last one means no data.
    out_sci, out_var, out_dq, out_count
        (pixels,) planes to fill.
    """
    n, n_pixels = sci.shape
    levels = np.empty((n, _BLOCK), np.uint16)
    least = np.empty(_BLOCK, np.uint16)
    total, variance, weight = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    without_value = level_bits.size + 1
    for start in range(0, n_pixels, _BLOCK):
        stop = min(start + _BLOCK, n_pixels)
        width = stop - start
        least[:], total[:], variance[:], weight[:] = without_value, 0.0, 0.0, 0.0
        quality, count = out_dq[start:stop], out_count[start:stop]
        quality[:], count[:] = 0, 0
        for i in range(n):
            _find_levels(
                sci[i, start:stop], var[i, start:stop], dq[i, start:stop], level_bits, levels[i, :width], least[:width]
            )  # fmt: skip
        for i in range(n):
            _add(
                sci[i, start:stop], var[i, start:stop], dq[i, start:stop], weights[i], levels[i, :width],
                least[:width], total[:width], variance[:width], weight[:width], quality, count,
            )  # fmt: skip
        for k in range(width):
            if least[k] == without_value:
                out_sci[start + k] = out_var[start + k] = 0.0
                quality[k] |= level_bits[level_bits.size - 1]
                count[k] = 0
            else:
                out_sci[start + k] = total[k] / weight[k]
                out_var[start + k] = variance[k] / (weight[k] * weight[k])
