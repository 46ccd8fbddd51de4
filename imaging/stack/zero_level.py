"""The level of the empty sky in a stack, without the light of stars that no mask covers.

The masks of a frame end where the wings of its stars disappear in its noise, and its faintest stars have none. That
light is taken for sky, and so is missing from the stack: everywhere, because the level of each frame is that of its
pixels outside the masks. In the stack it can be measured. The light around the sources is their own, spread by a
profile that is the same for all; the sky is the same at any distance from them. A linear fit to the pixels outside
the masks separates both. The profile is a sum of Gaussians, of which each has a factor that is not negative: a Moffat
profile is one (Bendinelli 1991, ApJ 366, 599, expands profiles of stars in this way).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import DQ, UNUSABLE
from imaging.sources.detect import Detection
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.stack.stack import StackResult

#: Pixels are averaged in squares of this side.
_BIN: Final = 2
#: Sigmas of the Gaussians, FWHM. Light further out is that of the sky: of many stars, it is as even.
_WIDTHS: Final = (0.4, 0.6, 0.9, 1.35)
#: Iterations: in each, the light of the sources is that above the level of the one before.
_ITERATIONS: Final = 5
#: From the second iteration, the share of the squares with the least light of sources in the fit: there it matters
#: least that sources differ.
_DARKEST: Final = 0.5
#: Squares near sources of more than this signal to noise that the mask lacks do not count, nor those beyond this
#: many sigma.
_FAINT: Final = 3.3
_CLIP: Final = 3.0
#: Squares with more than this many times the usual variance do not count: the edges of the field.
_NOISY: Final = 4.0
#: Fewest squares for each unknown.
_FEWEST: Final = 200
#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0
_MAD_TO_SIGMA: Final = 1.4826
#: Squares that are fitted at a time: a stack has a million, of six columns each.
_PIECE: Final = 1 << 16


def raise_to_zero(stack: StackResult, sources: Detection) -> float:
    """Add to a stack, in place, what its empty sky is below zero; return it, electrons.

    A level above zero is left: it is the light of a halo or of a nebula, not a lack of light.
    """
    fwhm = sources.seeing if math.isfinite(sources.seeing) else _USUAL_FWHM
    level = zero_level(stack.sci, stack.var, stack.dq, sources.object_mask, fwhm)
    if not level < 0:
        return 0.0
    stack.sci[(stack.dq & np.uint16(DQ.NO_DATA)) == 0] -= np.float32(level)
    return -level


def zero_level(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    object_mask: NDArray[np.uint8],
    seeing: float,
) -> float:
    """Return the level of the empty sky, electrons; NaN without enough of it.

    Parameters
    ----------
    sci, var, dq
        The stack, (ny, nx).
    object_mask
        1 on sources, (ny, nx).
    seeing
        FWHM of its stars, px.
    """
    sources = object_mask > 0
    good = ((dq & np.uint16(UNUSABLE)) == 0) & np.isfinite(sci) & (var > 0)
    empty = good & ~sources
    complete = _binned(empty) == _BIN**2
    if np.count_nonzero(complete) < _FEWEST * (len(_WIDTHS) + 1) / _DARKEST:
        return math.nan
    variance = _binned(np.where(empty, var, 0))
    complete &= variance < _NOISY * float(np.median(variance[complete]))
    values = np.where(complete, _binned(np.where(empty, sci, 0)) / _BIN**2, 0)
    weights = 1.0 / np.sqrt(np.maximum(variance, 1e-12))
    # The level is not the sources': what they have above it is spread.
    light = _spread(_binned(np.where(sources & good, sci, 0)), seeing)
    area = _spread(_binned(sources & good), seeing)
    level = float(np.median(values[complete]))
    chosen = complete
    for _ in range(_ITERATIONS):
        above = light[:, chosen] - np.float32(level) * area[:, chosen]
        factors, rest = _fit(above, values[chosen] - level, weights[chosen])
        level += rest
        expected = np.tensordot(factors, light - np.float32(level) * area, 1)
        seen = complete & ~_faint(values - level - expected, complete, seeing)
        chosen = seen & (expected <= np.quantile(expected[seen], _DARKEST))
    return level


def _faint(left: NDArray[np.float64], known: NDArray[np.bool_], seeing: float) -> NDArray[np.bool_]:
    """Return squares near sources that are fainter than those of the mask, by a filter of the stars' width."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    width = seeing / _BIN / FWHM_PER_SIGMA
    share = gaussian_filter(known.astype(np.float32), width)
    smooth = gaussian_filter(np.where(known, left, 0).astype(np.float32), width) / np.maximum(share, 0.1)
    inside = smooth[known & (share > 0.5)]
    middle = float(np.median(inside))
    # That of the lower half: sources are in the upper one.
    noise = middle - float(np.percentile(inside, 15.87))
    return np.asarray(binary_dilation(smooth > middle + _FAINT * noise, iterations=max(1, round(2 * width))))


def _fit(
    light: NDArray[np.float32], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the factors of the Gaussians and the constant that fit the values best.

    Parameters
    ----------
    light
        Light of the sources, spread by each Gaussian, (Gaussians, squares).
    values, weights
        The values to fit and their square roots of the weights, (squares,).
    """
    from scipy.optimize import nnls  # late: only stacks need it

    # The constant may have either sign: that of two factors, of which none is negative.
    signs = np.zeros((len(light) + 1, len(light) + 2))
    np.fill_diagonal(signs, 1.0)
    signs[-1, -1] = -1.0
    kept = np.ones(len(values), bool)
    found = np.zeros(len(light) + 1)
    pieces = [slice(first, first + _PIECE) for first in range(0, len(values), _PIECE)]
    for _ in range(3):
        normal, moments = np.zeros((len(found), len(found))), np.zeros(len(found))
        for piece in pieces:
            some = kept[piece]
            a = _design(light[:, piece][:, some]) * weights[piece][some]
            normal += a @ a.T
            moments += a @ (values[piece][some] * weights[piece][some])
        normal, moments = signs.T @ normal @ signs, moments @ signs
        size = np.maximum(np.sqrt(np.diagonal(normal)), 1e-12)
        found = signs @ (nnls(normal / size / size[:, None], moments / size)[0] / size)
        left = np.concatenate([(values[p] - found @ _design(light[:, p])) * weights[p] for p in pieces])
        kept = np.abs(left) <= _CLIP * _MAD_TO_SIGMA * float(np.median(np.abs(left[kept])))
    return found[:-1], float(found[-1])


def _design(light: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the light by each Gaussian and the constant, (Gaussians + 1, squares)."""
    return np.vstack([light.astype(np.float64), np.ones(light.shape[1])])


def _binned(plane: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the sums of squares of pixels."""
    ny, nx = (n // _BIN for n in plane.shape)
    cut = plane[: ny * _BIN, : nx * _BIN].astype(np.float32)
    return np.asarray(cut.reshape(ny, _BIN, nx, _BIN).sum(axis=(1, 3)))


def _spread(plane: NDArray[np.float32], seeing: float) -> NDArray[np.float32]:
    """Return a plane, spread by each of the Gaussians: (Gaussians, rows, columns)."""
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(plane, w * seeing / _BIN, mode="constant") for w in _WIDTHS])
