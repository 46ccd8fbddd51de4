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
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.sources.detect import Detection
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.stack.stack import StackResult
from imaging.stack.zero_level_kernels import light_of_sources, normal_equations, sum_squares
from imaging.usual import MAD_TO_SIGMA

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
#: Squares, evenly spread, that the scatter is measured with.
_SAMPLE: Final = 100_000
#: Rounds of a fit: after each, the squares that are far from it do not count.
_ROUNDS: Final = 3


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
    from scipy.ndimage import gaussian_filter

    shape = tuple(n // _BIN for n in sci.shape)
    empty, sky, variance, light, area = (np.empty(shape, np.float32) for _ in range(5))
    sum_squares(sci, var, dq, object_mask, _BIN, empty, sky, variance, light, area)
    complete = empty == _BIN**2
    if np.count_nonzero(complete) < _FEWEST * (len(_WIDTHS) + 1) / _DARKEST:
        return math.nan
    complete &= variance < _NOISY * float(np.median(variance[complete]))
    values = np.where(complete, sky / np.float32(_BIN**2), np.float32(0))
    squares = _Squares(
        values.ravel(),
        np.asarray(1.0 / np.sqrt(np.maximum(variance, np.float32(1e-12))), np.float32).ravel(),
        # The level is not the sources': what they have above it is spread.
        _spread(light, seeing),
        _spread(area, seeing),
    )
    width = seeing / _BIN / FWHM_PER_SIGMA
    share = gaussian_filter(complete.astype(np.float32), width)
    level = float(np.median(values[complete]))
    chosen = complete
    for _ in range(_ITERATIONS):
        expected, rest = squares.fit(level, chosen.ravel())
        level += rest
        expected = expected.reshape(shape)
        seen = complete & ~_faint(values - np.float32(level) - expected, complete, share, width)
        chosen = seen & (expected <= np.quantile(expected[seen], _DARKEST))
    return level


def _faint(
    left: NDArray[np.float32], known: NDArray[np.bool_], share: NDArray[np.float32], width: float
) -> NDArray[np.bool_]:
    """Return squares near sources that are fainter than those of the mask, by a filter of the stars' width.

    Parameters
    ----------
    left
        What is left of the squares after the fit, (rows, columns).
    known, share
        The squares that are complete, and their share in the filter.
    width
        Sigma of the filter, squares.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter

    smooth = gaussian_filter(np.where(known, left, np.float32(0)), width) / np.maximum(share, np.float32(0.1))
    # The noise is that of the lower half: sources are in the upper one.
    low, middle = np.percentile(smooth[known & (share > 0.5)], (15.87, 50.0))
    return np.asarray(
        binary_dilation(smooth > middle + _FAINT * (middle - low), iterations=max(1, round(2 * width)))
    )


@dataclass(frozen=True)
class _Squares:
    """Squares of pixels.

    Attributes
    ----------
    values, weights
        The values to fit and the square roots of their weights, float32 (squares,).
    light, area
        Light and area of the sources, spread by each Gaussian, float32 (Gaussians, squares).
    """

    values: NDArray[np.float32]
    weights: NDArray[np.float32]
    light: NDArray[np.float32]
    area: NDArray[np.float32]

    def fit(self, level: float, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
        """Fit the light of the sources above a level, and a constant, to the chosen squares.

        Returns
        -------
        expected
            Light of the sources at every square, by the new level, (squares,).
        rest
            The constant: what the new level is above the old one.
        """
        from scipy.optimize import nnls  # late: only stacks need it

        terms = len(self.light)
        # The constant may have either sign: that of two factors, of which none is negative.
        signs = np.zeros((terms + 1, terms + 2))
        np.fill_diagonal(signs, 1.0)
        signs[-1, -1] = -1.0
        normal, moments = np.empty((terms + 1, terms + 1)), np.empty(terms + 1)
        expected = np.empty(self.values.shape, np.float32)
        kept = chosen
        for _ in range(_ROUNDS):
            normal_equations(self.light, self.area, level, self.values, self.weights, kept, normal, moments)
            of_signs, by_signs = signs.T @ normal @ signs, moments @ signs
            size = np.maximum(np.sqrt(np.diagonal(of_signs)), 1e-12)
            found = signs @ (nnls(of_signs / size / size[:, None], by_signs / size)[0] / size)
            light_of_sources(self.light, self.area, level, found[:-1], expected)
            left = np.abs((self.values - np.float32(level + found[-1]) - expected) * self.weights)
            usual = float(np.median(left[kept][:: max(1, np.count_nonzero(kept) // _SAMPLE)]))
            kept = chosen & (left <= _CLIP * MAD_TO_SIGMA * usual)
        rest = float(found[-1])
        light_of_sources(self.light, self.area, level + rest, found[:-1], expected)
        return expected, rest


def _spread(plane: NDArray[np.float32], seeing: float) -> NDArray[np.float32]:
    """Return a plane, spread by each of the Gaussians: (Gaussians, squares)."""
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(plane, w * seeing / _BIN, mode="constant").ravel() for w in _WIDTHS])
