"""Interpolants by name: their weights on the pixels around a position, and their effect on the noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interpolant = Literal["lanczos3", "lanczos4", "bicubic", "linear", "nearest"]

#: Number of pixels along one axis that each interpolant uses.
TAPS: Final[dict[str, int]] = {"lanczos3": 6, "lanczos4": 8, "bicubic": 4, "linear": 2, "nearest": 2}
#: Terms of the polynomials of `weight_polynomials`, and positions that they are fitted to.
_TERMS: Final = 5
_NODES: Final = 400


def weights(interpolant: Interpolant, fraction: ArrayLike) -> NDArray[np.float64]:
    """Return the weights along one axis for positions between two pixels.

    Parameters
    ----------
    interpolant
        ``lanczos3`` and ``lanczos4`` (windowed sinc, Duchon 1979), ``bicubic`` (Keys 1981, a = -1/2),
        ``linear`` or ``nearest``.
    fraction
        Distance of the position from the pixel before it, 0 <= fraction < 1; any shape.

    Returns
    -------
    ndarray
        float64 (..., taps); the weight of the pixel before the position is number taps / 2 - 1. They are
        normalised to 1, so that a constant is preserved (the weights of a plain windowed sinc do not sum to
        1).

    Notes
    -----
    A Lanczos kernel does not reproduce a slope exactly: it shifts very smooth features by up to 0.02 px, a
    star of 4 px FWHM by up to 0.007 px (0.005 px rms over all fractions). Making it exact would shift sharper
    stars more.
    """
    taps = TAPS[interpolant]
    offsets = np.arange(taps) - (taps // 2 - 1)
    d = np.abs(np.asarray(fraction, np.float64)[..., None] - offsets)
    if interpolant in ("lanczos3", "lanczos4"):
        half = taps // 2
        out = np.where(d < half, np.sinc(d) * np.sinc(d / half), 0.0)
    elif interpolant == "bicubic":
        near = (1.5 * d - 2.5) * d * d + 1.0
        far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
        out = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    elif interpolant == "linear":
        out = np.maximum(1.0 - d, 0.0)
    else:
        before = np.asarray(fraction)[..., None] <= 0.5
        out = np.where(offsets == 0, before, ~before).astype(np.float64)
    return out / out.sum(axis=-1, keepdims=True)


@lru_cache
def weight_polynomials(interpolant: Interpolant) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights as polynomials of the position between two pixels, which a processor evaluates many at a time.

    With t = fraction - 1/2, weight i is E_i(t^2) + t O_i(t^2), and weight taps - 1 - i, its mirror image, is
    E_i(t^2) - t O_i(t^2). The polynomials are fitted by least squares at the nodes of Chebyshev. They are exact for
    bicubic and linear, and good to 2e-7 for Lanczos, the precision of a float32.

    Parameters
    ----------
    interpolant
        Name. For ``nearest`` those of ``linear``, which are its weights at t = -1/2 and 1/2.

    Returns
    -------
    even, odd : ndarray
        float32 (taps / 2, 5): coefficients of E_i and O_i, by the powers of t^2.
    """
    exact: Interpolant = "linear" if interpolant == "nearest" else interpolant
    half = TAPS[exact] // 2
    t = 0.5 * np.sin(np.pi * ((np.arange(_NODES) + 0.5) / _NODES - 0.5))
    first = weights(exact, t + 0.5)
    one, two = first[:, :half], first[:, : half - 1 : -1]
    powers = np.vander(t**2, _TERMS, increasing=True)
    even = np.linalg.lstsq(powers, (one + two) / 2, rcond=None)[0].T
    odd = np.linalg.lstsq(powers * t[:, None], (one - two) / 2, rcond=None)[0].T
    out = even.astype(np.float32, order="C"), odd.astype(np.float32, order="C")
    for array in out:
        array.flags.writeable = False
    return out


def mean_squared_weights(interpolant: Interpolant, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the mean, over positions, of the sum of the squares of an interpolant's weights.

    Interpolation by weights w that sum to 1 preserves the mean of a large bin, with the variance of independent pixels
    s^2 / n; but the VAR of each output pixel is only s^2 sum(w^2). The covariance of neighbours, which VAR does not
    contain, is the difference (Fruchter & Hook 2002, PASP 114, 144, section 7): the true sigma of a large bin's mean
    over the one from VAR is 1 / sqrt(sum(w^2)), which is 1 for a shift by an integer number of pixels.

    Parameters
    ----------
    interpolant
        Name.
    x, y
        Positions in the frame, px; only the fractions matter.
    """
    along, across = ((weights(interpolant, p - np.floor(p)) ** 2).sum(axis=-1) for p in (x, y))
    return float((along * across).mean())
