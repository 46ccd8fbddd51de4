"""Kernels of a frame's background: medians of blocks, and a plane subtracted. They release the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.median_kernels import median_in_place

_UNUSABLE = np.uint16(UNUSABLE)
_NO_DATA = np.uint16(DQ.NO_DATA)


@njit(cache=True, nogil=True)
def block_medians(sci, dq, mask, size, least):  # type: ignore[no-untyped-def]
    """Return medians of the usable pixels in blocks of ``size`` pixels; NaN with fewer than ``least`` pixels.

    Every second row is used, which is sufficient for a mean over many blocks.

    ``mask`` (uint8, 1 on sources) has the shape of ``sci`` or size 0.
    """
    ny, nx = sci.shape
    rows, columns = (ny + size - 1) // size, (nx + size - 1) // size
    out = np.full((rows, columns), np.nan, np.float64)
    counts = np.zeros((rows, columns), np.int64)
    buffers = np.empty((columns, size * ((size + 1) // 2) + 1), np.float32)
    masked = mask.size > 0
    good = np.empty(nx, np.uint8)
    for r in range(rows):
        for y in range(r * size, min(ny, (r + 1) * size), 2):
            values, flags = sci[y], dq[y]
            for x in range(nx):
                good[x] = (flags[x] & _UNUSABLE) == 0
            if masked:
                source = mask[y]
                for x in range(nx):
                    good[x] &= source[x] == 0
            for c in range(columns):
                buffer, n = buffers[c], counts[r, c]
                # Without branches: the next value overwrites one that does not count.
                for x in range(c * size, min(nx, (c + 1) * size)):
                    buffer[n] = values[x]
                    n += good[x]
                counts[r, c] = n
        for c in range(columns):
            if counts[r, c] >= least:
                out[r, c] = median_in_place(buffers[c], counts[r, c])
    return out, counts


@njit(cache=True, nogil=True)
def subtract_plane(sci, dq, constant, slope_x, slope_y):  # type: ignore[no-untyped-def]
    """Subtract ``constant + slope_x x + slope_y y`` in place where ``dq`` has no `DQ.NO_DATA`."""
    ny, nx = sci.shape
    for y in range(ny):
        start = constant + slope_y * y
        for x in range(nx):
            if (dq[y, x] & _NO_DATA) == 0:
                sci[y, x] = np.float32(sci[y, x] - (start + slope_x * x))
