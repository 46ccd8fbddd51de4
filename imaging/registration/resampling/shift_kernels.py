"""The kernels of `imaging.registration.resampling.resample` for shifts: all release the GIL, none keeps state.

Input rows are passed in bands: row 0 of an array is row ``first`` of the frame. Beyond the frame's edges the
outermost pixel is repeated, and the data quality is NO_DATA.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ
from imaging.pixels.fill import GOOD, HOPELESS, NOT_MEASURED

NO_DATA: Final = np.uint16(DQ.NO_DATA)
_BAD_PIXEL: Final = np.uint16(DQ.BAD_PIXEL)
_GAP_BITS: Final = np.uint16(NOT_MEASURED)
#: Marks a pixel that could not be filled; used only during resampling.
VOID: Final = np.uint16(0x8000)
#: Bits below that of `VOID`.
_VOID_SHIFT: Final = np.uint16(15)
#: Maximum share that a void may contribute to an output pixel.
VOID_SHARE: Final = 1e-3


@njit(cache=True, nogil=True)
def clamp(i, last):  # type: ignore[no-untyped-def]
    """Return ``i``, or the nearer of 0 and ``last`` beyond them."""
    return 0 if i < 0 else (last if i > last else i)


@njit(cache=True, nogil=True)
def mark_gaps(dq, gaps, out):  # type: ignore[no-untyped-def]
    """Write the data quality with BAD_PIXEL for unflagged values that are not finite, and `VOID` for hopeless ones.

    Parameters
    ----------
    dq, out : uint16 (rows, nx)
        Data quality; the second is written.
    gaps : uint8 (rows, nx)
        Result of `imaging.pixels.fill.find_gaps` for the bits `imaging.pixels.fill.NOT_MEASURED`.

    Returns
    -------
    bool
        Whether any pixel is hopeless.
    """
    hopeless = np.uint16(0)
    for y in range(dq.shape[0]):
        quality, gap, target = dq[y], gaps[y], out[y]
        for x in range(dq.shape[1]):
            bits = quality[x]
            unflagged = (gap[x] != GOOD) & ((bits & _GAP_BITS) == 0)
            bits |= _BAD_PIXEL * np.uint16(unflagged)
            bits |= VOID * np.uint16(gap[x] == HOPELESS)
            target[x] = bits
            hopeless |= bits & VOID
    return hopeless != 0


@njit(cache=True, nogil=True)
def shift_rows(plane, first, ny, left, top, wx, wy, out):  # type: ignore[no-untyped-def]
    """Interpolate at one shift, separably: along the rows, then across them.

    Parameters
    ----------
    plane : float32 (rows, nx)
        Rows from ``first`` of a frame of ``ny`` rows.
    left, top : int
        Column and row of the frame that the first tap of the first output pixel falls on.
    wx, wy : tuple of float32
        Weights: of tuples, the compiler knows the number, and computes all taps of several pixels at once.
    out : float32 (out rows, out_nx)
        Written.
    """
    nx = plane.shape[1]
    out_ny, out_nx = out.shape
    padded = np.empty(out_nx + len(wx) - 1, np.float32)
    begin = min(max(-left, 0), len(padded))
    end = max(min(nx - left, len(padded)), begin)
    # The rows of the frame, interpolated along the row.
    lines = np.empty((out_ny + len(wy) - 1, out_nx), np.float32)
    for y in range(len(lines)):
        source, line = plane[clamp(top + y, ny - 1) - first], lines[y]
        padded[:begin] = source[0]
        padded[begin:end] = source[left + begin : left + end]
        padded[end:] = source[nx - 1]
        for x in range(out_nx):
            total = np.float32(0.0)
            for k in range(len(wx)):
                total += wx[k] * padded[x + k]
            line[x] = total
    for y in range(out_ny):
        target = out[y]
        for x in range(out_nx):
            total = np.float32(0.0)
            for k in range(len(wy)):
                total += wy[k] * lines[y + k, x]
            target[x] = total


@njit(cache=True, nogil=True)
def shift_quality(dq, first, ny, left, top, main_x, main_y, sx, sy, share, void, sci, var, out):  # type: ignore[no-untyped-def]
    """Compute the data quality for `shift_rows`: the bits of inputs whose share of the weights exceeds ``share``.

    Parameters
    ----------
    dq : uint16 (rows, nx)
        Rows from ``first``; may have `VOID`.
    left, top : int
        As for `shift_rows`.
    main_x, main_y : int
        Tap nearest to the position.
    sx, sy : float64 (taps,)
        Absolute weights with the sum 1.
    share : float
        Limit.
    void : bool
        Whether any input has `VOID`.
    sci, var : float32 (out rows, out_nx)
        Set to 0 where the output pixel lies outside the frame.
    out : uint16 (out rows, out_nx)
        Written.
    """
    nx = dq.shape[1]
    out_ny, out_nx = out.shape
    taps = len(sx)
    lines = np.empty((taps, out_nx + taps - 1), np.uint16)
    # Output columns whose nearest pixel lies in the frame.
    inner_first = min(max(-left - main_x, 0), out_nx)
    inner_last = max(min(nx - left - main_x, out_nx), inner_first)
    for ahead in range(out_ny + taps - 1):
        line = lines[ahead % taps]
        if not 0 <= top + ahead < ny:
            line[:] = NO_DATA
        else:
            begin = min(max(-left, 0), len(line))
            end = max(min(nx - left, len(line)), begin)
            line[:begin] = NO_DATA
            line[begin:end] = dq[top + ahead - first, left + begin : left + end]
            line[end:] = NO_DATA
        y = ahead - taps + 1
        if y < 0:
            continue
        target = out[y]
        if not 0 <= top + y + main_y < ny:
            sci[y], var[y], target[:] = 0.0, 0.0, NO_DATA
            continue
        target[:] = lines[(y + main_y) % taps, main_x : main_x + out_nx]
        # The same taps exceed the limit for every pixel: the compiler turns this into vector instructions.
        for j in range(taps):
            for i in range(taps):
                part = sx[i] * sy[j]
                view = lines[(y + j) % taps, i : i + out_nx]
                if part > share:
                    for x in range(out_nx):
                        target[x] |= view[x]
                elif void and part > VOID_SHARE:
                    for x in range(out_nx):
                        target[x] |= view[x] * (view[x] >> _VOID_SHIFT)
        for x in range(out_nx):
            target[x] &= ~VOID
        sci[y, :inner_first], var[y, :inner_first], target[:inner_first] = 0.0, 0.0, NO_DATA
        sci[y, inner_last:], var[y, inner_last:], target[inner_last:] = 0.0, 0.0, NO_DATA


@njit(cache=True, nogil=True)
def spread_bits(dq, corner, shape, before, after, out):  # type: ignore[no-untyped-def]
    """Add the bits from ``before`` pixels before each pixel to ``after`` pixels after it, on both axes.

    Parameters
    ----------
    dq : uint16 (rows, columns)
        A box of a frame; the result is complete where all these pixels are in the box or outside the frame.
    corner, shape : tuple of int
        Row and column of the frame at which the box begins; rows and columns of the frame. Pixels outside of it have
        NO_DATA.
    before, after : int
        Numbers of pixels.
    out : uint16 (rows, columns)
        Changed.
    """
    ny, nx = dq.shape
    padded = np.empty(nx + before + after, np.uint16)
    for y in range(ny):
        padded[:before] = NO_DATA if corner[1] == 0 else 0
        padded[before + nx :] = NO_DATA if corner[1] + nx == shape[1] else 0
        inner = padded[before : before + nx]
        inner[:] = dq[y]
        for j in range(y - before, y + after + 1):
            if 0 <= j < ny:
                line = dq[j]
                for x in range(nx):
                    inner[x] |= line[x]
            elif corner[0] + j < 0 or corner[0] + j >= shape[0]:
                padded |= NO_DATA
        target = out[y]
        for k in range(before + after + 1):
            view = padded[k : k + nx]
            for x in range(nx):
                target[x] |= view[x]
