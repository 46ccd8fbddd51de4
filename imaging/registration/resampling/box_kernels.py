"""The kernels that prepare a box of a frame for `transform_kernels`: copied, filled, padded.

A box is padded where it reaches beyond the frame: the outermost pixel is repeated there, and the data quality is
NO_DATA. So no interpolation has to examine where the frame ends. Boxes are small enough for a core's cache.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.fill import CLOSENESS, NOT_MEASURED, REACH
from imaging.registration.resampling.flag_kernels import FLAGS_AT_ONCE
from imaging.registration.resampling.shift_kernels import NO_DATA, VOID, clamp

_GAP_BITS: Final = np.uint16(NOT_MEASURED)
_BAD_PIXEL: Final = np.uint16(1)
#: Columns in addition to those needed: this many pixels of a run are computed at once.
LANES: Final = 16


@njit(cache=True, nogil=True)
def box_shape(rows, columns):  # type: ignore[no-untyped-def]
    """Return the rows and columns of arrays for a box, given the first and the last + 1 of both."""
    width = columns[1] - columns[0] + LANES
    return rows[1] - rows[0], (width + FLAGS_AT_ONCE - 1) // FLAGS_AT_ONCE * FLAGS_AT_ONCE


@njit(cache=True, nogil=True)
def copy_box(sci, var, dq, first, shape, rows, columns, with_variance, light, noise, quality):  # type: ignore[no-untyped-def]
    """Copy a box of a frame, with BAD_PIXEL for unflagged values that are not finite, and NO_DATA beyond the frame.

    Parameters
    ----------
    sci, var, dq
        (n, nx), the rows of the frame from ``first`` on.
    first : int
        Row of the frame.
    shape : tuple of int
        Rows and columns of the frame.
    rows, columns : tuple of int
        First of the box, and the one after the last, in the frame; may lie beyond it.
    with_variance : bool
        Whether variances count.
    light, noise : float32 (`box_shape`)
        Written where the box is in the frame; ``noise`` only with variances.
    quality : uint16 (`box_shape`)
        Written.
    """
    low, high = max(columns[0], 0), min(columns[1], shape[1])
    at, n, needed = low - columns[0], high - low, columns[1] - columns[0]
    quality[:, needed:] = 0
    for y in range(rows[0], rows[1]):
        target = quality[y - rows[0]]
        if y < 0 or y >= shape[0]:
            target[:needed] = NO_DATA
            continue
        target[:at] = NO_DATA
        target[at + n : needed] = NO_DATA
        values, variances, bits = sci[y - first, low:high], var[y - first, low:high], dq[y - first, low:high]
        inner, copied = target[at : at + n], light[y - rows[0], at : at + n]
        for x in range(n):
            copied[x] = values[x]
        if with_variance:
            noises = noise[y - rows[0], at : at + n]
            for x in range(n):
                noises[x] = variances[x]
        for x in range(n):
            # A sum is finite only where both are.
            bad = (bits[x] & _GAP_BITS == 0) & (not np.isfinite(values[x] + variances[x]))
            inner[x] = bits[x] | _BAD_PIXEL * np.uint16(bad)


@njit(cache=True, nogil=True)
def fill_box(light, noise, quality, dense, interior, places, starts, inner, with_variance):  # type: ignore[no-untyped-def]
    """Fill gaps, as `imaging.pixels.fill.fill_gaps` does, and mark with `VOID` those that cannot be.

    Parameters
    ----------
    light, noise, quality
        See `copy_box`; changed.
    dense, interior
        From `mark_interior`: whether no neighbour can fill any of the pixels, and which.
    places, starts
        From `list_flags`.
    inner : tuple of int
        First row, last + 1, first column, last + 1 of the box that are in the frame.
    with_variance : bool
        Whether variances count.

    Returns
    -------
    bool
        Whether any could not be filled.
    """
    void = False
    for y in range(inner[0], inner[1]):
        if dense:
            void |= _empty(light[y], noise[y], quality[y], interior[y], inner[2], inner[3])
        for k in range(starts[y], starts[y + 1]):
            x = np.int64(places[k])
            if x < inner[2] or x >= inner[3] or quality[y, x] & _GAP_BITS == 0:
                continue
            total = total_noise = weights = np.float32(0.0)
            for j in range(max(inner[0], y - REACH), min(inner[1], y + REACH + 1)):
                for i in range(max(inner[2], x - REACH), min(inner[3], x + REACH + 1)):
                    if quality[j, i] & _GAP_BITS == 0:
                        weight = CLOSENESS[j - y + REACH, i - x + REACH]
                        total += weight * light[j, i]
                        weights += weight
                        if with_variance:
                            total_noise += weight * noise[j, i]
            good = weights > 0
            if not good:
                quality[y, x] |= VOID
                void = True
            light[y, x] = total / weights if good else np.float32(0.0)
            if with_variance:
                noise[y, x] = total_noise / weights if good else np.float32(0.0)
    return void


@njit(cache=True, nogil=True)
def _empty(light, noise, quality, interior, begin, end):  # type: ignore[no-untyped-def]
    """Set the gaps of a row that are interior to 0, with `VOID`; return whether there are any."""
    found = np.uint16(0)
    for x in range(begin, end):
        mark = VOID * np.uint16(interior[x] & (quality[x] & _GAP_BITS != 0))
        quality[x] |= mark
        found |= mark
    for x in range(begin, end):
        void = quality[x] & VOID != 0
        light[x] = np.float32(0.0) if void else light[x]
        noise[x] = np.float32(0.0) if void else noise[x]
    return found != 0


@njit(cache=True, nogil=True)
def pad_box(plane, inner):  # type: ignore[no-untyped-def]
    """Repeat the outermost pixels of the part of a box that is in the frame (see `fill_box`)."""
    ny, nx = plane.shape
    for y in range(inner[0], inner[1]):
        line = plane[y]
        line[: inner[2]] = line[inner[2]]
        line[inner[3] :] = line[inner[3] - 1]
    for y in range(ny):
        source = clamp(y - inner[0], inner[1] - inner[0] - 1) + inner[0]
        if source != y:
            for x in range(nx):
                plane[y, x] = plane[source, x]
