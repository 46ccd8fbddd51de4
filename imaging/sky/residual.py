"""The residual background after sky subtraction: a level or plane that the sky frames did not have.

The gradient of the sky changes with the hour and the moon, so the mean of the neighbours differs slightly.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.sky import block_kernels
from imaging.usual import MAD_TO_SIGMA

Residual = Literal["none", "level", "plane", "auto"]

#: Blocks for the fit of the background: side in pixels, and the fraction that must be usable.
_BLOCK: Final = 64
_SHARE: Final = 0.2
#: Iterations and limit (in robust sigma) of the rejection of blocks.
_ROUNDS: Final = 10
_LIMIT: Final = 3.0
_NO_MASK: Final = np.empty((0, 0), np.uint8)


class Background(NamedTuple):
    """``constant + slope_x x + slope_y y``, electrons, x and y in pixels from 0.

    ``rms`` is the robust scatter of the blocks about it, NaN if nothing could be fitted.
    """

    constant: float = 0.0
    slope_x: float = 0.0
    slope_y: float = 0.0
    rms: float = math.nan


def measure_background(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], mask: NDArray[np.uint8] | None, kind: Residual
) -> Background:
    """Fit the background of a frame on its usable pixels without sources.

    Parameters
    ----------
    sci, dq
        Electrons and quality, (ny, nx).
    mask
        1 on sources, (ny, nx), or None.
    kind
        What to fit; ``auto`` is a plane here, because the surface was removed before.

    Returns
    -------
    Background
        Fitted to medians of blocks of 64 pixels (fewer in small frames).
    """
    if kind == "none":
        return Background()
    size = min(_BLOCK, max(4, min(sci.shape) // 8))
    least = max(1, int(_SHARE * size * size / 2))
    blocks, counts = block_kernels.block_medians(sci, dq, _NO_MASK if mask is None else mask, size, least)
    return fit_background(blocks, counts, size, plane=kind in ("plane", "auto"))


def fit_background(
    blocks: NDArray[np.float64], counts: NDArray[np.int64], size: int, *, plane: bool
) -> Background:
    """Fit a level or a plane to block medians, rejecting blocks beyond 3 robust sigma.

    Parameters
    ----------
    blocks, counts
        Medians (NaN if missing) and the numbers of pixels in them, (rows, columns).
    size
        Side of a block, pixels.
    plane
        Fit a plane instead of a level.

    Returns
    -------
    Background
        Zeros and NaN with fewer than four blocks per coefficient.
    """
    good = np.isfinite(blocks)
    rows, columns = np.nonzero(good)
    x, y = (columns + 0.5) * size - 0.5, (rows + 0.5) * size - 0.5
    value: NDArray[np.float64] = blocks[good]
    weight: NDArray[np.float64] = np.sqrt(counts[good])
    terms = 3 if plane else 1
    if value.size < 4 * terms:
        return Background()
    x0, y0 = float(x.mean()), float(y.mean())
    design = np.stack([np.ones_like(x), (x - x0) / size, (y - y0) / size][:terms], axis=1)
    kept = np.ones(value.size, bool)
    for _ in range(_ROUNDS):
        weighted = design[kept] * weight[kept, None]
        solution = np.linalg.lstsq(weighted, value[kept] * weight[kept], rcond=None)[0]
        left = value - design @ solution
        centre = np.median(left[kept])
        spread = MAD_TO_SIGMA * float(np.median(np.abs(left[kept] - centre)))
        now = np.abs(left - centre) <= _LIMIT * spread
        if np.array_equal(now, kept) or now.sum() < 2 * terms:
            break
        kept = now
    rms = MAD_TO_SIGMA * float(np.median(np.abs(left)))
    constant, *slopes = solution.tolist()
    slope_x, slope_y = (slope / size for slope in slopes) if plane else (0.0, 0.0)
    return Background(constant - slope_x * x0 - slope_y * y0, slope_x, slope_y, rms)
