"""The kernels of `imaging.stack.zero_level`: all release the GIL, none keeps state."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import UNUSABLE

_UNUSABLE: Final = np.uint16(UNUSABLE)
#: Squares that are summed in single precision before they are added to the total.
_PIECE: Final = 512


@njit(cache=True, nogil=True)
def sum_squares(sci, var, dq, mask, side, empty, sky, variance, light, area):  # type: ignore[no-untyped-def]
    """Write the sums of squares of pixels, of empty sky and of sources apart; rows and columns left over are not used.

    Parameters
    ----------
    sci, var : float32 (ny, nx)
        The stack.
    dq : uint16 (ny, nx)
        Its data quality.
    mask : uint8 (ny, nx)
        Not 0 on sources.
    side : int
        Pixels along a side of a square.
    empty, sky, variance : float32 (rows, columns)
        Written: number, values and variances of the usable pixels off the sources.
    light, area : float32 (rows, columns)
        Written: values and number of the usable pixels on the sources.
    """
    for j in range(empty.shape[0]):
        for i in range(empty.shape[1]):
            n, values, noise, lit, covered = 0, np.float32(0), np.float32(0), np.float32(0), 0
            for y in range(side * j, side * (j + 1)):
                for x in range(side * i, side * (i + 1)):
                    value = sci[y, x]
                    if (dq[y, x] & _UNUSABLE) != 0 or not np.isfinite(value) or not var[y, x] > 0:
                        continue
                    if mask[y, x] != 0:
                        lit += value
                        covered += 1
                    else:
                        values += value
                        noise += var[y, x]
                        n += 1
            empty[j, i], sky[j, i], variance[j, i] = n, values, noise
            light[j, i], area[j, i] = lit, covered


@njit(cache=True, nogil=True)
def normal_equations(light, area, level, values, weights, used, normal, moments):  # type: ignore[no-untyped-def]
    """Write the normal equations of the fit of sources' light and a constant to the squares that are used.

    Parameters
    ----------
    light, area : float32 (terms, squares)
        Light and area of the sources, spread: a term of the fit is ``light - level * area``.
    level : float
        The level that the light of the sources is above.
    values, weights : float32 (squares,)
        The values to fit, and the square roots of their weights.
    used : bool (squares,)
        The squares that count.
    normal : float64 (terms + 1, terms + 1)
        Written: the constant is the last.
    moments : float64 (terms + 1,)
        Written.
    """
    terms = light.shape[0]
    normal[:] = 0.0
    moments[:] = 0.0
    row = np.empty((terms + 1, _PIECE), np.float32)
    above, weighted = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.float32)
    row[terms] = 1
    height = np.float32(level)
    for first in range(0, values.size, _PIECE):
        n = min(_PIECE, values.size - first)
        for i in range(n):
            above[i] = values[first + i] - height
            weighted[i] = weights[first + i] * weights[first + i] * np.float32(used[first + i])
        for k in range(terms):
            for i in range(n):
                row[k, i] = light[k, first + i] - height * area[k, first + i]
        for k in range(terms + 1):
            moments[k] += _product(row[k, :n], above[:n], weighted[:n])
            for m in range(k + 1):
                normal[k, m] += _product(row[k, :n], row[m, :n], weighted[:n])
    for k in range(terms + 1):
        for m in range(k):
            normal[m, k] = normal[k, m]


# The order of a sum of a few hundred may be any, and so it is that of the machine's registers.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(a, b, weights):  # type: ignore[no-untyped-def]
    """Return the weighted scalar product of two short vectors."""
    total = np.float32(0)
    for i in range(a.size):
        total += a[i] * b[i] * weights[i]
    return total


@njit(cache=True, nogil=True)
def light_of_sources(light, area, level, factors, out):  # type: ignore[no-untyped-def]
    """Write the light of the sources at each square.

    Parameters
    ----------
    light, area, level
        See `normal_equations`.
    factors : float64 (terms,)
        Of the terms.
    out : float32 (squares,)
        Written.
    """
    height = np.float32(level)
    out[:] = 0
    for k in range(factors.size):
        factor = np.float32(factors[k])
        for i in range(out.size):
            out[i] += factor * (light[k, i] - height * area[k, i])
