"""Values for pixels without a measurement, so that filters and interpolants can be applied.

A filled value is never a measurement: it only prevents the value of a bad pixel from leaking into its
neighbours. The data quality plane still marks the pixel as bad.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ

#: A pixel with one of these bits has no measurement. Non-linear and saturated pixels have a (poor) one.
NOT_MEASURED: Final = int(DQ.BAD_PIXEL | DQ.COSMIC_RAY | DQ.NO_DATA | DQ.OVERLAP | DQ.UNILLUMINATED)

#: Half-width in pixels of the neighbourhood that a value is taken from.
REACH: Final = 2

#: Results of `find_gaps` for a pixel: it has a measurement, it can be filled from good neighbours, it has
#: none.
GOOD: Final = 0
FILLABLE: Final = 1
HOPELESS: Final = 2
#: Bits of eight pixels of which at least one can be filled.
_ANY_FILLABLE: Final = np.uint64(0x0101010101010101)

_SPAN = np.arange(-REACH, REACH + 1, dtype=np.float64)
_DISTANCE2 = _SPAN[:, None] ** 2 + _SPAN[None, :] ** 2
#: Weight of a neighbour: the inverse square of its distance.
CLOSENESS: Final = np.where(_DISTANCE2 > 0, 1 / np.maximum(_DISTANCE2, 1), 0).astype(np.float32)


@njit(cache=True, nogil=True)
def find_gaps(sci, var, dq, bits):  # type: ignore[no-untyped-def]  # numba infers the types
    """Find the pixels without a measurement: with any of ``bits``, or a value that is not finite.

    Parameters
    ----------
    sci, var : float32 (ny, nx)
        Values and variances (without variances, ``sci`` again).
    dq : uint16 (ny, nx)
        Data quality.
    bits : int
        Bits that make a pixel a gap.

    Returns
    -------
    uint8 (ny, nx)
        `GOOD`, `FILLABLE` or, without a good pixel within `REACH`, `HOPELESS`.
    """
    ny, nx = sci.shape
    gaps = np.empty((ny, nx), np.uint8)
    for y in range(ny):
        values, variances, quality, line = sci[y], var[y], dq[y], gaps[y]
        for x in range(nx):
            # A sum is finite only where both are.
            line[x] = ((quality[x] & bits) != 0) | (not np.isfinite(values[x] + variances[x]))
    # A column without a good pixel in these rows contributes nothing: most of the frame outside the circle of
    # light is decided by one line.
    empty = np.empty(nx + 2 * REACH, np.uint8)
    for y in range(ny):
        empty[:] = 1
        inner = empty[REACH : nx + REACH]
        for j in range(max(0, y - REACH), min(ny, y + REACH + 1)):
            line = gaps[j]
            for x in range(nx):
                inner[x] &= np.uint8(line[x] != 0)
        line = gaps[y]
        for x in range(nx):
            if line[x] and empty[x] & empty[x + 1] & empty[x + 2] & empty[x + 3] & empty[x + 4]:
                line[x] = HOPELESS
    return gaps


@njit(cache=True, nogil=True)
def fill_gaps(plane, gaps, out):  # type: ignore[no-untyped-def]
    """Copy ``plane`` to ``out`` with each gap replaced by the mean of the good pixels within 5 x 5.

    The weight is the inverse square of the distance (Shepard 1968). A hopeless pixel becomes 0.

    Parameters
    ----------
    plane : float32 (ny, nx)
        Values.
    gaps : uint8 (ny, nx)
        Result of `find_gaps`.
    out : float32 (ny, nx)
        Written.
    """
    out[:] = plane
    fill_in_place(out, gaps)


@njit(cache=True, nogil=True)
def fill_in_place(plane, gaps):  # type: ignore[no-untyped-def]
    """Replace the gaps of ``plane`` as `fill_gaps` does, in place: the values come from pixels that are no gaps."""
    ny, nx = plane.shape
    for y in range(ny):
        line, target = gaps[y], plane[y]
        for x in range(nx):
            target[x] = np.float32(0.0) if line[x] == HOPELESS else target[x]
    flat = gaps.reshape(-1)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    for i in range(words.size + 1):  # eight pixels at a time, and those that are left over
        if i < words.size and (words[i] & _ANY_FILLABLE) == 0:
            continue
        for j in range(8 * i, min(8 * i + 8, flat.size)):
            if flat[j] == FILLABLE:
                plane[j // nx, j % nx] = _stand_in(plane, gaps, j // nx, j % nx)


@njit(cache=True, nogil=True)
def _stand_in(plane, gaps, y, x):  # type: ignore[no-untyped-def]
    ny, nx = plane.shape
    total = np.float32(0.0)
    weights = np.float32(0.0)
    for j in range(max(0, y - REACH), min(ny, y + REACH + 1)):
        for i in range(max(0, x - REACH), min(nx, x + REACH + 1)):
            if gaps[j, i] == GOOD:
                weight = CLOSENESS[j - y + REACH, i - x + REACH]
                total += weight * plane[j, i]
                weights += weight
    return total / weights if weights > 0 else np.float32(0.0)


@njit(cache=True, nogil=True)
def remove_spikes(plane, gaps, limit, share):  # type: ignore[no-untyped-def]
    """Replace, in place, pixels that are too far above their neighbours to be images of a source.

    A star lights several pixels; a hot pixel or a cosmic ray lights one or two. A pixel above ``limit`` whose
    second highest neighbour is below ``share`` of it is such a spike, and becomes a gap.

    Parameters
    ----------
    plane : float32 (ny, nx)
        Background-subtracted values without gaps; changed.
    gaps : uint8 (ny, nx)
        Result of `find_gaps`; changed.
    limit : float
        Lowest value of a spike.
    share : float
        Of the spike's value.
    """
    ny, nx = plane.shape
    places = np.empty(1024, np.int64)
    n = 0
    for y in range(1, ny - 1):
        line = plane[y]
        for x in range(1, nx - 1):
            if line[x] <= limit or gaps[y, x] != GOOD:
                continue
            first = second = -np.inf
            for j in range(y - 1, y + 2):
                for i in range(x - 1, x + 2):
                    value = plane[j, i]
                    if (j != y or i != x) and value > second:
                        if value > first:
                            first, second = value, first
                        else:
                            second = value
            if second < share * line[x]:
                if n == len(places):
                    more = np.empty(2 * n, np.int64)
                    more[:n] = places
                    places = more
                places[n] = y * nx + x
                n += 1
    for k in range(n):
        gaps[places[k] // nx, places[k] % nx] = FILLABLE
    for k in range(n):
        y, x = places[k] // nx, places[k] % nx
        plane[y, x] = _stand_in(plane, gaps, y, x)
