"""The kernels of `imaging.registration.resample`: all release the GIL, none keeps state.

Input rows are passed in bands: row 0 of an array is row ``first`` of the frame. Beyond the frame's edges the
outermost pixel is repeated, and the data quality is NO_DATA.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ

_NO_DATA: Final = np.uint16(DQ.NO_DATA)
#: Marks a pixel that could not be filled; used only here and in `imaging.registration.resample`.
VOID: Final = np.uint16(0x8000)
#: Maximum share that a void may contribute to an output pixel.
_VOID_SHARE: Final = 1e-3


@njit(cache=True, nogil=True)
def _clamp(i, last):  # type: ignore[no-untyped-def]
    return 0 if i < 0 else (last if i > last else i)


@njit(cache=True, nogil=True)
def shift_rows(plane, first, ny, left, top, wx, wy, out):  # type: ignore[no-untyped-def]
    """Interpolate at one shift, separably: along the rows, then across them.

    Parameters
    ----------
    plane : float32 (rows, nx)
        Rows from ``first`` of a frame of ``ny`` rows.
    left, top : int
        Column and row of the frame that the first tap of the first output pixel falls on.
    wx, wy : float32 (taps,)
        Weights.
    out : float32 (out rows, out_nx)
        Written.
    """
    nx = plane.shape[1]
    out_ny, out_nx = out.shape
    taps = len(wx)
    padded = np.empty(out_nx + taps - 1, np.float32)
    # Row i of the frame, interpolated along the row, is stored in slot (i - top) modulo taps.
    lines = np.empty((taps, out_nx), np.float32)
    for ahead in range(out_ny + taps - 1):
        source = plane[_clamp(top + ahead, ny - 1) - first]
        begin = min(max(-left, 0), len(padded))
        end = max(min(nx - left, len(padded)), begin)
        padded[:begin] = source[0]
        padded[begin:end] = source[left + begin : left + end]
        padded[end:] = source[nx - 1]
        line = lines[ahead % taps]
        line[:] = 0.0
        for k in range(taps):
            w = wx[k]
            if w != 0.0:
                view = padded[k : k + out_nx]
                for x in range(out_nx):
                    line[x] += w * view[x]
        y = ahead - taps + 1
        if y < 0:
            continue
        target = out[y]
        target[:] = 0.0
        for k in range(taps):
            w = wy[k]
            if w != 0.0:
                line = lines[(y + k) % taps]
                for x in range(out_nx):
                    target[x] += w * line[x]


@njit(cache=True, nogil=True)
def shift_quality(dq, first, ny, left, top, main_x, main_y, sx, sy, share, sci, var, out):  # type: ignore[no-untyped-def]
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
    sci, var : float32 (out rows, out_nx)
        Set to 0 where the output pixel lies outside the frame.
    out : uint16 (out rows, out_nx)
        Written.
    """
    nx = dq.shape[1]
    out_ny, out_nx = out.shape
    taps = len(sx)
    lines = np.empty((taps, out_nx + taps - 1), np.uint16)
    for ahead in range(out_ny + taps - 1):
        line = lines[ahead % taps]
        if not 0 <= top + ahead < ny:
            line[:] = _NO_DATA
        else:
            begin = min(max(-left, 0), len(line))
            end = max(min(nx - left, len(line)), begin)
            line[:begin] = _NO_DATA
            line[begin:end] = dq[top + ahead - first, left + begin : left + end]
            line[end:] = _NO_DATA
        y = ahead - taps + 1
        if y < 0:
            continue
        # Bits anywhere in the column of taps; nearly always 0.
        any_bits = np.zeros(out_nx + taps - 1, np.uint16)
        for k in range(taps):
            if sy[k] > 0:
                line = lines[(y + k) % taps]
                for x in range(len(any_bits)):
                    any_bits[x] |= line[x]
        target = out[y]
        target[:] = 0
        for k in range(taps):
            if sx[k] > 0:
                view = any_bits[k : k + out_nx]
                for x in range(out_nx):
                    target[x] |= view[x]
        main = lines[(y + main_y) % taps]
        for x in range(out_nx):
            if target[x] == 0:
                continue
            bits = main[x + main_x]
            if bits & _NO_DATA and not (0 <= top + y + main_y < ny and 0 <= left + x + main_x < nx):
                sci[y, x], var[y, x], target[x] = 0.0, 0.0, _NO_DATA
                continue
            if bits != target[x]:  # otherwise the nearest pixel suffices
                for j in range(taps):
                    line = lines[(y + j) % taps]
                    for i in range(taps):
                        part = sx[i] * sy[j]
                        if part > share or (part > _VOID_SHARE and line[x + i] & VOID):
                            bits |= line[x + i]
            target[x] = bits & ~VOID


@njit(cache=True, nogil=True)
def transform_rows(  # type: ignore[no-untyped-def]
    sci, var, dq, first, ny, inverse, out_first, table, share, area, out_sci, out_var, out_dq
):
    """Interpolate with any affine transform, one output pixel at a time.

    Parameters
    ----------
    sci, var : float32 (rows, nx)
        Rows from ``first`` of a frame of ``ny`` rows, without gaps.
    dq : uint16 (rows, nx)
        May have `VOID`.
    inverse : float64 (6,)
        xx, xy, yx, yy, x0, y0 from output to input pixel.
    out_first : int
        Row of the output that is row 0 of the outputs.
    table : float64 (steps + 1, taps)
        Weights at equal steps of the fraction from 0 to 1.
    share, area : float
        Limit for the data quality, and input pixels that an output pixel covers (conserves flux).
    out_sci, out_var, out_dq
        Written.
    """
    nx = sci.shape[1]
    out_ny, out_nx = out_sci.shape
    steps, taps = table.shape[0] - 1, table.shape[1]
    reach = taps // 2 - 1
    wx, wy = np.empty(taps), np.empty(taps)
    for y in range(out_ny):
        for x in range(out_nx):
            px = inverse[0] * x + inverse[1] * (y + out_first) + inverse[4]
            py = inverse[2] * x + inverse[3] * (y + out_first) + inverse[5]
            ix, iy = int(np.floor(px)), int(np.floor(py))
            if not (-0.5 < px <= nx - 0.5 and -0.5 < py <= ny - 0.5):
                out_sci[y, x], out_var[y, x], out_dq[y, x] = 0.0, 0.0, _NO_DATA
                continue
            fx, fy = (px - ix) * steps, (py - iy) * steps
            a, b = min(int(fx), steps - 1), min(int(fy), steps - 1)
            tx, ty = fx - a, fy - b
            size_x = size_y = 0.0
            for k in range(taps):
                wx[k] = table[a, k] + tx * (table[a + 1, k] - table[a, k])
                wy[k] = table[b, k] + ty * (table[b + 1, k] - table[b, k])
                size_x += abs(wx[k])
                size_y += abs(wy[k])
            value = variance = 0.0
            bits = np.uint16(0)
            limit = share * size_x * size_y
            void_limit = _VOID_SHARE * size_x * size_y
            for j in range(taps):
                row = iy - reach + j
                r = _clamp(row, ny - 1) - first
                for i in range(taps):
                    w = wx[i] * wy[j]
                    if w == 0.0:
                        continue
                    column = ix - reach + i
                    c = _clamp(column, nx - 1)
                    value += w * sci[r, c]
                    variance += w * w * var[r, c]
                    outside = column != c or row < 0 or row >= ny
                    found = _NO_DATA if outside else dq[r, c]
                    if found and (abs(w) > limit or (found & VOID and abs(w) > void_limit)):
                        bits |= found
            out_sci[y, x] = area * value
            out_var[y, x] = area * area * variance
            out_dq[y, x] = bits & ~VOID
