"""Sums in many equal circles whose centres are centres of pixels: the shares of the pixels are the same in each."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.photometry.measured_image import circle_sums


def sums_about_pixels(
    planes: tuple[NDArray[np.float32], ...], centres: NDArray[np.intp], radius: float
) -> tuple[NDArray[np.float64], ...]:
    """Return the sums of planes in circles about pixels; pixels cut by a circle count with the share of their area.

    Ten to thirty times as fast as `circle_sums`, which places each circle for itself.

    Parameters
    ----------
    planes
        Each float32 (ny, nx), C order.
    centres
        Columns and rows of the pixels, (n, 2). The circles lie within the planes.
    radius
        px.

    Returns
    -------
    tuple of ndarray
        The sums of each plane, float64 (n,).
    """
    shares = pixel_shares(radius)
    out = tuple(np.empty(len(centres)) for _ in planes)
    for plane, sums in zip(planes, out, strict=True):
        _sum_about(plane, centres, shares, sums)
    return out


def pixel_shares(radius: float) -> NDArray[np.float32]:
    """Return the share of each pixel in a circle about the centre of the middle one: (2 h + 1, 2 h + 1)."""
    half = math.ceil(radius + 0.5)
    side = 2 * half + 1
    # One pixel of 1, in circles that are further and further from it.
    one = np.zeros((2 * side + 1, 2 * side + 1), np.float32)
    one[side, side] = 1
    y, x = np.indices((side, side)) - half
    places = side + np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    return circle_sums(one, places, radius).reshape(side, side).astype(np.float32)


# A row of a circle is summed in the order of the machine's registers.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _sum_about(plane, centres, shares, out):  # type: ignore[no-untyped-def]
    half = shares.shape[0] // 2
    for n in range(out.size):
        left, top = centres[n, 0] - half, centres[n, 1] - half
        out[n] = 0.0
        for j in range(shares.shape[0]):
            row = plane[top + j, left : left + shares.shape[1]]
            part = np.float32(0)
            for i in range(shares.shape[1]):
                part += shares[j, i] * row[i]
            out[n] += part
