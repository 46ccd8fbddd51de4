"""The kernel of `imaging.registration.resample` for transforms other than shifts: rotations, scales, shears.

Along a row of the output, the pixel before a position moves on by one column from pixel to pixel, and stays in its
row, until the transform accumulates a pixel. Such a run has one footprint on the input, and all its pixels are
interpolated together, tap by tap, with the weights of each from a table.

Input is passed in boxes: pixel (0, 0) of an array is row ``first`` and column ``left`` of the frame. Beyond the
frame's edges the outermost pixel is repeated, and the data quality is NO_DATA.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.registration.resample_kernels import NO_DATA, VOID, VOID_SHARE, clamp

#: Output pixels of a row that are processed together.
_BLOCK: Final = 256
#: Runs are computed in multiples of this many pixels; what is beyond a run's end, the next one overwrites.
_LANES: Final = 8
_WIDTH: Final = _BLOCK + _LANES
#: Where a position is: outside the frame, so close to its first or last column that taps lie outside, or neither.
_OUTSIDE: Final = 0
_MARGIN: Final = 1
_INNER: Final = 2


@njit(cache=True, nogil=True)
def transform_rows(  # type: ignore[no-untyped-def]
    sci,
    var,
    dq,
    corner,
    shape,
    inverse,
    out_first,
    columns,
    table,
    taps,
    share,
    area,
    out_sci,
    out_var,
    out_dq,
):
    """Interpolate with any affine transform.

    Parameters
    ----------
    sci, var : float32 (rows, columns)
        A box of the frame, without gaps, with every pixel that the output needs.
    dq : uint16 (rows, columns)
        May have `VOID`.
    corner, shape : tuple of int
        Row and column of the frame at which the box begins; rows and columns of the frame.
    inverse : float64 (6,)
        xx, xy, yx, yy, x0, y0 from output to input pixel.
    out_first : int
        Row of the output that is row 0 of the outputs.
    columns : tuple of int
        First column of the outputs to write, and the one after the last.
    table : float32 (steps + 1, taps)
        Weights at equal steps of the fraction from 0 to 1; the nearest step is used.
    taps : tuple
        As long as there are taps: the length of a tuple is known when the kernel is compiled.
    share, area : float
        Limit for the data quality, and input pixels that an output pixel covers (conserves flux).
    out_sci, out_var, out_dq
        Written.
    """
    ny, nx = shape
    first, left = corner
    out_ny = out_sci.shape[0]
    reach = len(taps) // 2 - 1
    column, row = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    step_x, step_y = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    where, same = np.empty(_BLOCK, np.uint8), np.zeros(_BLOCK + 1, np.bool_)
    wx, wy = np.zeros(len(taps) * _WIDTH, np.float32), np.zeros(len(taps) * _WIDTH, np.float32)
    wx2, wy2 = np.zeros(len(taps) * _WIDTH, np.float32), np.zeros(len(taps) * _WIDTH, np.float32)
    values, variances = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    bits, any_bits = np.zeros(_WIDTH, np.uint16), np.empty(_WIDTH + len(taps), np.uint16)
    for y in range(out_ny):
        for x0 in range(columns[0], columns[1], _BLOCK):
            width = min(_BLOCK, columns[1] - x0)
            _locate(
                inverse, y + out_first, x0, width, ny, nx, len(taps), table.shape[0] - 1,
                column, row, step_x, step_y, where,
            )  # fmt: skip
            _find_runs(column, row, where, width, same)
            _look_up(table, step_x, step_y, width, taps, wx, wy, wx2, wy2)
            x = 0
            while x < width:
                end = x + 1
                while same[end]:
                    end += 1
                n, r, c = end - x, row[x] - reach, column[x] - reach
                if where[x] == _OUTSIDE:
                    values[x:end], variances[x:end], bits[x:end] = 0.0, 0.0, NO_DATA
                    x = end
                    continue
                if where[x] == _INNER:
                    padded = (n + _LANES - 1) // _LANES * _LANES
                    m = padded if c - left + padded + len(taps) - 1 <= sci.shape[1] else n
                    _run(sci, first, ny, r, c - left, m, x, taps, wx, wy, values)
                    _run(var, first, ny, r, c - left, m, x, taps, wx2, wy2, variances)
                    _run_bits(dq, first, ny, r, c - left, n, x, taps, any_bits, bits)
                else:
                    for k in range(x, end):
                        # Bits are determined below in any case.
                        values[k] = _single(sci, corner, shape, r, c + k - x, k, taps, wx, wy)
                        variances[k] = _single(var, corner, shape, r, c + k - x, k, taps, wx2, wy2)
                        bits[k] = NO_DATA | VOID
                for k in range(x, end):
                    if bits[k]:
                        nearest_x = reach + (2 * step_x[k] > table.shape[0] - 1)
                        nearest_y = reach + (2 * step_y[k] > table.shape[0] - 1)
                        bits[k] = _quality(
                            dq,
                            corner,
                            shape,
                            r,
                            c + k - x,
                            k,
                            taps,
                            wx,
                            wy,
                            nearest_x,
                            nearest_y,
                            share,
                            bits[k],
                        )
                x = end
            for k in range(width):
                out_sci[y, x0 + k] = np.float32(area) * values[k]
                out_var[y, x0 + k] = np.float32(area * area) * variances[k]
                out_dq[y, x0 + k] = bits[k]


@njit(cache=True, nogil=True)
def _locate(inverse, y, x0, width, ny, nx, taps, steps, column, row, step_x, step_y, where):  # type: ignore[no-untyped-def]
    """Find the pixel before each position, the step of the fraction beyond it, and where in the frame it is."""
    at_x = inverse[1] * y + inverse[4]
    at_y = inverse[3] * y + inverse[5]
    reach = taps // 2 - 1
    for k in range(width):
        px = inverse[0] * (x0 + k) + at_x
        py = inverse[2] * (x0 + k) + at_y
        floor_x, floor_y = np.floor(px), np.floor(py)
        column[k], row[k] = np.int64(floor_x), np.int64(floor_y)
        step_x[k] = np.int64((px - floor_x) * steps + 0.5)
        step_y[k] = np.int64((py - floor_y) * steps + 0.5)
        inside = (px > -0.5) & (px <= nx - 0.5) & (py > -0.5) & (py <= ny - 0.5)
        inner = (floor_x >= reach) & (floor_x <= nx - taps + reach)
        where[k] = inside * (_MARGIN + inner * (_INNER - _MARGIN))


@njit(cache=True, nogil=True)
def _find_runs(column, row, where, width, same):  # type: ignore[no-untyped-def]
    """Mark the pixels that continue the run of the previous pixel."""
    same[0] = same[width] = False
    for k in range(1, width):
        same[k] = (row[k] == row[k - 1]) & (column[k] == column[k - 1] + 1) & (where[k] == where[k - 1])


@njit(cache=True, nogil=True)
def _look_up(table, step_x, step_y, width, taps, wx, wy, wx2, wy2):  # type: ignore[no-untyped-def]
    """Write the weights of each pixel, and their squares; those of tap i begin at i * _WIDTH."""
    for k in range(width):
        along, across = table[step_x[k]], table[step_y[k]]
        for i in range(len(taps)):
            wx[i * _WIDTH + k] = along[i]
            wy[i * _WIDTH + k] = across[i]
    for k in range(len(taps) * _WIDTH):
        wx2[k] = wx[k] * wx[k]
        wy2[k] = wy[k] * wy[k]


@njit(cache=True, nogil=True)
def _run(plane, first, ny, top, begin, n, at, taps, wx, wy, line):  # type: ignore[no-untyped-def]
    """Interpolate ``n`` pixels from ``at`` on; the first tap of the first is on row ``top``, column ``begin``."""
    out, weights = line[at : at + n], wx[at:]
    for j in range(len(taps)):
        source = plane[clamp(top + j, ny - 1) - first, begin : begin + n + len(taps) - 1]
        across = wy[j * _WIDTH + at : j * _WIDTH + at + n]
        if j == 0:
            for x in range(n):
                along = np.float32(0.0)
                for i in range(len(taps)):
                    along += weights[i * _WIDTH + x] * source[x + i]
                out[x] = across[x] * along
        else:
            for x in range(n):
                along = np.float32(0.0)
                for i in range(len(taps)):
                    along += weights[i * _WIDTH + x] * source[x + i]
                out[x] += across[x] * along


@njit(cache=True, nogil=True)
def _single(plane, corner, shape, top, begin, at, taps, wx, wy):  # type: ignore[no-untyped-def]
    """Interpolate one pixel, as `_run` does, where the taps reach beyond the frame's first or last column."""
    total = np.float32(0.0)
    for j in range(len(taps)):
        source = plane[clamp(top + j, shape[0] - 1) - corner[0]]
        along = np.float32(0.0)
        for i in range(len(taps)):
            along += wx[i * _WIDTH + at] * source[clamp(begin + i, shape[1] - 1) - corner[1]]
        total += wy[j * _WIDTH + at] * along
    return total


@njit(cache=True, nogil=True)
def _run_bits(dq, first, ny, top, begin, n, at, taps, any_bits, bits):  # type: ignore[no-untyped-def]
    """Write the OR of the bits of all taps of each pixel; nearly always 0."""
    long = n + len(taps) - 1
    any_bits[:long] = 0
    for j in range(len(taps)):
        if top + j < 0 or top + j >= ny:
            any_bits[:long] |= NO_DATA
            continue
        source = dq[top + j - first, begin : begin + long]
        for x in range(long):
            any_bits[x] |= source[x]
    target = bits[at : at + n]
    for x in range(n):
        found = any_bits[x]
        for i in range(1, len(taps)):
            found |= any_bits[x + i]
        target[x] = found


@njit(cache=True, nogil=True)
def _quality(dq, corner, shape, top, begin, at, taps, wx, wy, nearest_x, nearest_y, share, everything):  # type: ignore[no-untyped-def]
    """Return the bits of the nearest input pixel and of those whose share of the weights exceeds ``share``."""
    ny, nx = shape
    row, column = top + nearest_y, begin + nearest_x
    outside = row < 0 or row >= ny or column < 0 or column >= nx
    bits = NO_DATA if outside else dq[row - corner[0], column - corner[1]]
    if bits == everything:
        return bits & ~VOID
    inner = begin >= 0 and begin + len(taps) <= nx and top >= 0 and top + len(taps) <= ny
    size_x = size_y = largest = np.float32(0.0)
    for i in range(len(taps)):
        size_x += abs(wx[i * _WIDTH + at])
        size_y += abs(wy[i * _WIDTH + at])
        largest = max(largest, abs(wx[i * _WIDTH + at]))
    limit, void_limit = share * size_x * size_y, VOID_SHARE * size_x * size_y
    least = min(limit, void_limit) if everything & VOID else limit
    for j in range(len(taps)):
        across = abs(wy[j * _WIDTH + at])
        if across * largest <= least:
            continue
        row = top + j
        line = dq[clamp(row, ny - 1) - corner[0]]
        for i in range(len(taps)):
            if inner:
                found = line[begin + i - corner[1]]
            else:
                column = begin + i
                outside = row < 0 or row >= ny or column < 0 or column >= nx
                found = NO_DATA if outside else line[column - corner[1]]
            if found:
                part = across * abs(wx[i * _WIDTH + at])
                if part > limit or (found & VOID and part > void_limit):
                    bits |= found
    return bits & ~VOID
