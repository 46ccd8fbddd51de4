"""Kernels of medians: of many values, exact and without sorting them, and of columns, sorted together.

Two values of a small sample enclose the median with a high probability (Floyd & Rivest 1975, Communications of the ACM
18, 165). The values below are counted and those in between collected, without branches, which a processor could not
predict, and so on until few are left.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: So few values are sorted.
_FEW: Final = 48
#: Values of the sample, and how far from its median the two values are: about three standard errors.
_SAMPLE: Final = 64
_WIDE: Final = 12
#: The same for values that are spread evenly, in standard errors of a share of a half: 3 of 0.5.
_MARGIN: Final = 1.5


@njit(cache=True, nogil=True)
def _sort(values, n):  # type: ignore[no-untyped-def]
    """Sort the first n values in place by insertion."""
    for i in range(1, n):
        value = values[i]
        j = i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@njit(cache=True, nogil=True)
def sort_rows(ordered, m):  # type: ignore[no-untyped-def]
    """Sort the first m rows of ``ordered``, column by column: Batcher's odd-even merge sort.

    Columns take the same steps, so that the compiler uses vector instructions across them.
    Knuth, The Art of Computer Programming, vol. 3, section 5.2.2.
    """
    p = 1
    while p < m:
        k = p
        while k >= 1:
            for j in range(k % p, m - k, 2 * k):
                for i in range(j, min(j + k, m - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        upper, lower = ordered[i], ordered[i + k]
                        for b in range(ordered.shape[1]):
                            x, y = upper[b], lower[b]
                            upper[b] = x if x < y else y
                            lower[b] = y if x < y else x
            k //= 2
        p *= 2


@njit(cache=True, nogil=True)
def median_in_place(values, n):  # type: ignore[no-untyped-def]
    """Return the median of the first n values, which are reordered and partly overwritten.

    Parameters
    ----------
    values : float32 (at least n,)
        Without NaN.
    n : int
        At least 1.

    Returns
    -------
    float64
        Of an even number of values, half the sum (in single precision) of the two in the middle, as numpy's.
    """
    upper = n // 2
    lower = upper if n % 2 else upper - 1
    sample = np.empty(_SAMPLE, np.float32)
    low = high = np.float32(0.0)
    evenly = False
    while n > _FEW:
        least, most = low, high
        if evenly:
            # Between two values near the median, the others are spread about evenly.
            margin, span = _MARGIN / math.sqrt(n), high - low
            least = np.float32(low + max(0.0, lower / n - margin) * span)
            most = np.float32(low + min(1.0, upper / n + margin) * span)
        else:
            step, size = max(1, n // _SAMPLE), min(_SAMPLE, n)
            for k in range(size):
                sample[k] = values[k * step]
            _sort(sample, size)
            middle = lower * size // n
            least = sample[middle - _WIDE] if middle >= _WIDE else np.float32(-np.inf)
            most = sample[middle + _WIDE] if middle + _WIDE < size else np.float32(np.inf)
        below = inside = 0
        for i in range(n):
            below += values[i] < least
            inside += (values[i] >= least) & (values[i] <= most)
        found = below <= lower and upper < below + inside
        if found and least == most:
            return np.float64(least + most) / 2
        if not found or inside == n:
            if not evenly:
                break  # the sample was unlucky, or most values are equal
            evenly = False
            continue
        front = 0
        for i in range(n):
            value = values[i]
            values[front] = value
            front += (value >= least) & (value <= most)
        n, lower, upper, low, high = inside, lower - below, upper - below, least, most
        evenly = np.isfinite(high - low)
    if n > _FEW:
        ordered = np.sort(values[:n])
        return np.float64(ordered[lower] + ordered[upper]) / 2
    _sort(values, n)
    return np.float64(values[lower] + values[upper]) / 2


@njit(cache=True, nogil=True)
def usable_values(plane, dq, step, bits):  # type: ignore[no-untyped-def]
    """Return the values of every ``step``-th row that have none of the ``bits``, float32 (n,).

    Parameters
    ----------
    plane, dq
        float32 and uint16 (ny, nx).
    step : int
        Interval between rows.
    bits : uint16
        Data quality that excludes a value.
    """
    ny, nx = plane.shape
    out = np.empty((ny + step - 1) // step * nx + 1, np.float32)
    n = 0
    for y in range(0, ny, step):
        values, flags = plane[y], dq[y]
        for x in range(nx):  # the next value overwrites one that does not count
            out[n] = values[x]
            n += (flags[x] & bits) == 0
    return out[:n]


def median(values: NDArray[np.float32]) -> np.float32:
    """Return the median of float32 values without NaN, as numpy's, in a tenth of the time; NaN without values."""
    if not values.size:
        return np.float32(np.nan)
    return np.float32(median_in_place(values.copy(), values.size))
