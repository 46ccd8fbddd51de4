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
    near,
    corner,
    shape,
    inverse,
    out_first,
    columns,
    table,
    sizes,
    taps,
    reached,
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
    near : uint16 (rows, columns)
        The OR of the bits of the taps ``reached``, and of all taps that are a `VOID`, if a pixel is the one before
        the position (`imaging.registration.resample_kernels.spread_bits`).
    corner, shape : tuple of int
        Row and column of the frame at which the box begins; rows and columns of the frame.
    inverse : float64 (6,)
        xx, xy, yx, yy, x0, y0 from output to input pixel.
    out_first : int
        Row of the output that is row 0 of the outputs.
    columns : tuple of int
        First column of the outputs to write, and the one after the last.
    table : float32 (taps, steps + 1)
        Weights at equal steps of the fraction from 0 to 1; the nearest step is used.
    sizes : float32 (steps + 1,)
        Sums of the absolute weights.
    taps : tuple
        As long as there are taps: the length of a tuple is known when the kernel is compiled.
    reached : tuple of int
        First tap whose bits can count, and the one after the last.
    share, area : float
        Limit for the data quality, and input pixels that an output pixel covers (conserves flux).
    out_sci, out_var, out_dq
        Written.
    """
    ny, nx = shape
    first, left = corner
    out_ny = out_sci.shape[0]
    reach = len(taps) // 2 - 1
    steps = sizes.size - 1
    column, row = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    step_x, step_y = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    where, same = np.empty(_BLOCK, np.uint8), np.zeros(_BLOCK + 1, np.bool_)
    wx, wy = np.zeros(len(taps) * _WIDTH, np.float32), np.zeros(len(taps) * _WIDTH, np.float32)
    values, variances = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    bits = np.zeros(_WIDTH, np.uint16)
    limits = np.float32(share), np.float32(VOID_SHARE)
    for y in range(out_ny):
        for x0 in range(columns[0], columns[1], _BLOCK):
            width = min(_BLOCK, columns[1] - x0)
            _locate(
                inverse, y + out_first, x0, width, ny, nx, len(taps), steps, column, row, step_x, step_y, where
            )  # fmt: skip
            _find_runs(column, row, where, width, same)
            _look_up(table, step_x, width, taps, wx)
            _look_up(table, step_y, width, taps, wy)
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
                    _run(sci, var, first, ny, r, c - left, m, x, taps, wx, wy, values, variances)
                else:
                    for k in range(x, end):
                        at = r, c + k - x
                        values[k], variances[k] = _single(sci, var, corner, shape, at, k, taps, wx, wy)
                if where[x] == _INNER and row[x] >= 0:
                    bits[x:end] = near[row[x] - first, column[x] - left : column[x] - left + n]
                else:  # any: they are determined below
                    bits[x:end] = NO_DATA | VOID
                x = end
            _qualities(
                dq, corner, shape, row, column, step_x, step_y, where, width, taps, wx, wy, sizes, reached, limits, bits
            )  # fmt: skip
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
        column[k], row[k] = np.int32(floor_x), np.int32(floor_y)
        step_x[k] = np.int32((px - floor_x) * steps + 0.5)
        step_y[k] = np.int32((py - floor_y) * steps + 0.5)
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
def _look_up(table, step, width, taps, weights):  # type: ignore[no-untyped-def]
    """Write the weights of each pixel; those of tap i begin at i * _WIDTH."""
    for i in range(len(taps)):
        of_tap, target = table[i], weights[i * _WIDTH : i * _WIDTH + width]
        for k in range(width):
            target[k] = of_tap[step[k]]


@njit(cache=True, nogil=True)
def _run(sci, var, first, ny, top, begin, n, at, taps, wx, wy, values, variances):  # type: ignore[no-untyped-def]
    """Interpolate ``n`` pixels from ``at`` on; the first tap of the first is on row ``top``, column ``begin``."""
    value, variance, weights = values[at : at + n], variances[at : at + n], wx[at:]
    for j in range(len(taps)):
        line = clamp(top + j, ny - 1) - first
        light, noise = (
            sci[line, begin : begin + n + len(taps) - 1],
            var[line, begin : begin + n + len(taps) - 1],
        )
        across = wy[j * _WIDTH + at : j * _WIDTH + at + n]
        if j == 0:
            for x in range(n):
                along = along_noise = np.float32(0.0)
                for i in range(len(taps)):
                    w = weights[i * _WIDTH + x]
                    along += w * light[x + i]
                    along_noise += w * w * noise[x + i]
                value[x] = across[x] * along
                variance[x] = across[x] * across[x] * along_noise
        else:
            for x in range(n):
                along = along_noise = np.float32(0.0)
                for i in range(len(taps)):
                    w = weights[i * _WIDTH + x]
                    along += w * light[x + i]
                    along_noise += w * w * noise[x + i]
                value[x] += across[x] * along
                variance[x] += across[x] * across[x] * along_noise


@njit(cache=True, nogil=True)
def _single(sci, var, corner, shape, position, at, taps, wx, wy):  # type: ignore[no-untyped-def]
    """Interpolate one pixel, as `_run` does, where the taps reach beyond the frame's first or last column."""
    value = variance = np.float32(0.0)
    for j in range(len(taps)):
        row = clamp(position[0] + j, shape[0] - 1) - corner[0]
        along = along_noise = np.float32(0.0)
        for i in range(len(taps)):
            column = clamp(position[1] + i, shape[1] - 1) - corner[1]
            w = wx[i * _WIDTH + at]
            along += w * sci[row, column]
            along_noise += w * w * var[row, column]
        across = wy[j * _WIDTH + at]
        value += across * along
        variance += across * across * along_noise
    return value, variance


@njit(cache=True, nogil=True)
def _qualities(  # type: ignore[no-untyped-def]
    dq, corner, shape, rows, columns, step_x, step_y, where, width, taps, wx, wy, sizes, reached, limits, bits
):
    """Replace bits by those of the nearest input pixel and of the inputs whose share of the weights exceeds a limit.

    Parameters
    ----------
    limits : tuple of float
        Share from which the bits of an input count, and from which those of a `VOID` do.
    bits : uint16
        For each pixel the bits of all taps that can count, or more. Changed where they are not 0.
    """
    ny, nx = shape
    reach, steps = len(taps) // 2 - 1, sizes.size - 1
    flat, stride = dq.reshape(-1), dq.shape[1]
    for k in range(width):
        everything = bits[k]
        if everything == 0 or where[k] == _OUTSIDE:
            continue
        top, left = rows[k] - reach, columns[k] - reach
        row, column = rows[k] + (2 * step_y[k] > steps), columns[k] + (2 * step_x[k] > steps)
        outside = row < 0 or row >= ny or column < 0 or column >= nx
        found = NO_DATA if outside else dq[row - corner[0], column - corner[1]]
        if found == everything:
            bits[k] = found & ~VOID
            continue
        size = sizes[step_x[k]] * sizes[step_y[k]]
        limit = limits[0] * size
        if everything & VOID or top + reached[0] < 0 or top + reached[1] > ny:
            void_limit = limits[1] * size
            for j in range(len(taps)):
                row = top + j
                for i in range(len(taps)):
                    column = left + i
                    outside = row < 0 or row >= ny or column < 0 or column >= nx
                    one = NO_DATA if outside else dq[row - corner[0], column - corner[1]]
                    if one:
                        part = abs(wy[j * _WIDTH + k] * wx[i * _WIDTH + k])
                        if part > limit or (one & VOID and part > void_limit):
                            found |= one
        else:
            start = (top - corner[0]) * stride + left - corner[1]
            for j in range(reached[0], reached[1]):
                across = abs(wy[np.uint64(j * _WIDTH + k)])
                for i in range(reached[0], reached[1]):
                    one = flat[np.uint64(start + j * stride + i)]
                    if one and across * abs(wx[np.uint64(i * _WIDTH + k)]) > limit:
                        found |= one
        bits[k] = found & ~VOID
