"""The kernel of `imaging.registration.resample` for transforms other than shifts: rotations, scales, distortions.

Along a row of the output, the pixel before a position moves on by one column from pixel to pixel, and stays in its
row, until the transform accumulates a pixel. Such a run has one footprint on the input, and all its pixels are
interpolated together, tap by tap.

The output is computed in boxes of a band's rows and some columns, whose input fits in a core's cache
(`imaging.registration.box_kernels`). Positions and weights are single precision, relative to the first pixel of a row
of a box.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.fill import REACH
from imaging.registration.box_kernels import (
    LANES,
    box_shape,
    copy_box,
    fill_box,
    is_uniform,
    list_flags,
    pad_box,
)
from imaging.registration.resample_kernels import NO_DATA, VOID, VOID_SHARE, clamp

#: Most columns of a box of the output.
MOST_COLUMNS: Final = 256
_WIDTH: Final = MOST_COLUMNS + LANES
#: How far a curved transform may exceed what it reaches at the corners, edges and middle of a box, px.
CURVED_MARGIN: Final = 0.25
#: Fused multiplications and additions: half of the arithmetic instructions.
_FUSED: Final = {"contract"}


@njit(cache=True, nogil=True)
def transform_band(  # type: ignore[no-untyped-def]
    sci,
    var,
    dq,
    first,
    shape,
    path,
    out_first,
    box_columns,
    even,
    odd,
    nearest,
    taps,
    reached,
    share,
    area,
    with_variance,
    out_sci,
    out_var,
    out_dq,
):
    """Interpolate a band of the output.

    Parameters
    ----------
    sci, var : float32 (rows, nx)
        Rows of the frame from row ``first`` on, with every pixel that the output needs; ``sci`` again instead of
        variances that are not wanted.
    dq : uint16 (rows, nx)
        Data quality.
    first : int
        Row of the frame.
    shape : tuple of int
        Rows and columns of the frame.
    path : float64 (2, n, n)
        Coefficients of the input position, x and y, by the powers of the output's y and x.
    out_first : int
        Row of the output that is row 0 of the outputs.
    box_columns : int
        Columns of a box, up to `MOST_COLUMNS`.
    even, odd : float32 (taps / 2, terms)
        Polynomials of the weights (`imaging.registration.interpolants.weight_polynomials`).
    nearest : bool
        The weights are those of the nearest pixel.
    taps : tuple
        As long as there are taps: the length of a tuple is known when the kernel is compiled.
    reached : tuple of int
        First tap whose bits can count, and the one after the last.
    share, area : float
        Limit for the data quality, and factor of the values (conserves flux).
    with_variance : bool
        Whether variances are wanted.
    out_sci, out_var, out_dq
        Written; the second only with variances.
    """
    (ny, nx), (out_ny, out_nx) = shape, out_sci.shape
    before = len(taps) // 2 - 1
    around = before + REACH
    column, row = np.empty(_WIDTH, np.int32), np.empty(_WIDTH, np.int32)
    inside, same = np.zeros(_WIDTH, np.bool_), np.zeros(_WIDTH + 1, np.bool_)
    at_x, at_y = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    # The kernel of a run looks for overlaps of what it reads and writes: the fewer arrays, the sooner it begins.
    weights = np.zeros(2 * len(taps) * _WIDTH, np.float32)
    wx, wy = weights[: len(taps) * _WIDTH], weights[len(taps) * _WIDTH :]
    size_x, size_y = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    results = np.zeros(2 * _WIDTH, np.float32)
    values, variances = results[:_WIDTH], results[_WIDTH:]
    bits = np.zeros(_WIDTH, np.uint16)
    along = np.empty((2, 4), np.float64)
    for x0 in range(0, out_nx, box_columns):
        width = min(box_columns, out_nx - x0)
        padded = (width + LANES - 1) // LANES * LANES
        low_x, high_x, low_y, high_y = _bounds(path, out_first, out_ny, x0, width)
        if high_x < -0.5 or low_x > nx - 0.5 or high_y < -0.5 or low_y > ny - 0.5:
            _clear(out_sci, out_var, out_dq, x0, width, with_variance)
            continue
        rows = _span(low_y, high_y, around, len(taps), ny)
        columns = _span(low_x, high_x, around, len(taps), nx)
        inner = (
            max(-rows[0], 0), min(rows[1], ny) - rows[0],
            max(-columns[0], 0), min(columns[1], nx) - columns[0],
        )  # fmt: skip
        size = box_shape(rows, columns)
        light, quality = np.empty(size, np.float32), np.empty(size, np.uint16)
        noise = np.empty(size, np.float32) if with_variance else light
        copy_box(sci, var, dq, first, shape, rows, columns, with_variance, light, noise, quality)
        places, starts = np.empty(quality.size, np.int16), np.empty(size[0] + 1, np.int32)
        list_flags(quality, places, starts)
        void = fill_box(light, noise, quality, places, starts, inner, with_variance)
        pad_box(light, inner)
        if with_variance:
            pad_box(noise, inner)
        uniform = is_uniform(quality, columns[1] - columns[0], starts[size[0]])
        last = size[0] - len(taps), size[1] - len(taps) - LANES
        for y in range(out_ny):
            _expand(path, y + out_first, x0, along)
            _locate(along, rows[0], columns[0], shape, before, last, padded, column, row, at_x, at_y, inside)
            _weigh(even, odd, nearest, taps, at_x, padded, np.float32(1.0), wx, size_x)
            _weigh(even, odd, nearest, taps, at_y, padded, np.float32(area), wy, size_y)
            drift = _find_runs(column, row, width, same)
            x = 0
            while x < width:
                end = x + 1
                while same[end]:
                    end += 1
                n, top, left = end - x, np.int64(row[x]), np.int64(column[x])
                m = (n + LANES - 1) // LANES * LANES
                if left + m + len(taps) - 1 > size[1]:
                    m = n
                if with_variance:
                    _run(light, noise, top, left, m, x, taps, weights, results)
                else:
                    _run_values(light, top, left, m, x, taps, wx, wy, values)
                _take_nearest(quality, top + before, left + before, n, x, at_x, at_y, bits)
                x = end
            if starts[size[0]] > 0 and not uniform:
                _spread(
                    quality, places, starts, row, column, width, drift, (0, len(taps)) if void else reached,
                    wx, wy, size_x, size_y, share, bits,
                )  # fmt: skip
            target, flags = out_sci[y, x0 : x0 + width], out_dq[y, x0 : x0 + width]
            for k in range(width):
                target[k] = values[k] if inside[k] else np.float32(0.0)
            if with_variance:
                target = out_var[y, x0 : x0 + width]
                for k in range(width):
                    target[k] = variances[k] if inside[k] else np.float32(0.0)
            for k in range(width):
                flags[k] = bits[k] & ~VOID if inside[k] else NO_DATA


@njit(cache=True, nogil=True)
def _clear(out_sci, out_var, out_dq, x0, width, with_variance):  # type: ignore[no-untyped-def]
    """Mark a box of the output that is outside of the frame."""
    for y in range(out_sci.shape[0]):
        out_sci[y, x0 : x0 + width] = 0.0
        out_dq[y, x0 : x0 + width] = NO_DATA
        if with_variance:
            out_var[y, x0 : x0 + width] = 0.0


@njit(cache=True, nogil=True)
def _bounds(path, first, rows, x0, width):  # type: ignore[no-untyped-def]
    """Return the lowest and highest x and y in the frame of a box of the output."""
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    for j in range(3):
        for i in range(3):
            y, x = first + 0.5 * j * (rows - 1), x0 + 0.5 * i * (width - 1)
            px, py = _position(path[0], y, x), _position(path[1], y, x)
            low_x, high_x = min(low_x, px), max(high_x, px)
            low_y, high_y = min(low_y, py), max(high_y, py)
    margin = CURVED_MARGIN if path.shape[1] > 2 else 0.0
    return low_x - margin, high_x + margin, low_y - margin, high_y + margin


@njit(cache=True, nogil=True)
def _position(terms, y, x):  # type: ignore[no-untyped-def]
    """Return a polynomial's value: ``terms`` by the powers of y and x."""
    value = 0.0
    for j in range(terms.shape[0] - 1, -1, -1):
        line = 0.0
        for i in range(terms.shape[1] - 1, -1, -1):
            line = line * x + terms[j, i]
        value = value * y + line
    return value


@njit(cache=True, nogil=True)
def _span(low, high, around, taps, size):  # type: ignore[no-untyped-def]
    """Return the first row (or column) that a box draws on, and the one after the last; no further out than needed."""
    begin = max(np.int64(np.floor(max(low, -1.0e6))) - around, -taps - REACH)
    end = min(np.int64(np.floor(min(high, 1.0e6))) + taps // 2 + REACH + 1, size + taps + REACH)
    return begin, end


@njit(cache=True, nogil=True)
def _expand(path, y, x0, along):  # type: ignore[no-untyped-def]
    """Write the positions along a row of the output as polynomials of the pixels after ``x0``, up to the cube."""
    n = path.shape[1]
    for axis in range(2):
        for m in range(4):
            along[axis, m] = 0.0
        for i in range(n):
            term = 0.0
            for j in range(n - 1, -1, -1):
                term = term * y + path[axis, j, i]
            # term * (x0 + k)^i by the binomial theorem.
            part = term
            for m in range(i, -1, -1):
                if m < 4:
                    along[axis, m] += part
                part *= x0 * m / (i - m + 1.0)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _locate(along, top, left, shape, before, last, width, column, row, at_x, at_y, inside):  # type: ignore[no-untyped-def]
    """Find the first tap of each position, its distance from the middle of two pixels, and if it is in the frame."""
    base_x, base_y = np.floor(along[0, 0]), np.floor(along[1, 0])
    x_0, x_1 = np.float32(along[0, 0] - base_x), np.float32(along[0, 1] - 1.0)
    x_2, x_3 = np.float32(along[0, 2]), np.float32(along[0, 3])
    y_0, y_1 = np.float32(along[1, 0] - base_y), np.float32(along[1, 1])
    y_2, y_3 = np.float32(along[1, 2]), np.float32(along[1, 3])
    # Positions beyond the frame's first and last pixel, relative to base_x + k and base_y.
    first_x, first_y = np.int32(base_x) - left - before, np.int32(base_y) - top - before
    half = np.float32(0.5)
    low_y, high_y = np.float32(-0.5 - base_y), np.float32(shape[0] - 0.5 - base_y)
    low_x, high_x = np.float32(-0.5 - base_x), np.float32(shape[1] - 0.5 - base_x)
    for k in range(width):
        step = np.float32(k)
        to_x = ((x_3 * step + x_2) * step + x_1) * step + x_0
        to_y = ((y_3 * step + y_2) * step + y_1) * step + y_0
        floor_x, floor_y = np.floor(to_x), np.floor(to_y)
        at_x[k], at_y[k] = to_x - floor_x - half, to_y - floor_y - half
        i, j = first_x + np.int32(k) + np.int32(floor_x), first_y + np.int32(floor_y)
        column[k] = min(max(i, np.int32(0)), np.int32(last[1]))
        row[k] = min(max(j, np.int32(0)), np.int32(last[0]))
        inside[k] = (to_x + step > low_x) & (to_x + step <= high_x) & (to_y > low_y) & (to_y <= high_y)


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _weigh(even, odd, nearest, taps, at, width, factor, weights, sizes):  # type: ignore[no-untyped-def]
    """Write the weights, times a factor, and the sums of their sizes; those of tap i begin at i * _WIDTH."""
    half = np.float32(0.5)
    sizes[:] = 0.0
    if nearest:
        for k in range(width):
            at[k] = half if at[k] > 0.0 else -half
    for i in range(len(taps) // 2):
        other = len(taps) - 1 - i
        one, two = weights[i * _WIDTH : i * _WIDTH + width], weights[other * _WIDTH : other * _WIDTH + width]
        e0, e1, e2, e3, e4 = even[i, 0], even[i, 1], even[i, 2], even[i, 3], even[i, 4]
        o0, o1, o2, o3, o4 = odd[i, 0], odd[i, 1], odd[i, 2], odd[i, 3], odd[i, 4]
        for k in range(width):
            t = at[k]
            s = t * t
            e = (((e4 * s + e3) * s + e2) * s + e1) * s + e0
            o = ((((o4 * s + o3) * s + o2) * s + o1) * s + o0) * t
            one[k] = (e + o) * factor
            two[k] = (e - o) * factor
            sizes[k] += abs(one[k]) + abs(two[k])


@njit(cache=True, nogil=True)
def _find_runs(column, row, width, same):  # type: ignore[no-untyped-def]
    """Mark the pixels that continue the run of the previous pixel; return the range of ``column[k] - k``."""
    same[0] = False
    for k in range(1, width):
        same[k] = (row[k] == row[k - 1]) & (column[k] == column[k - 1] + 1)
    same[width] = False
    low = high = column[0]
    for k in range(width):
        apart = column[k] - np.int32(k)
        low, high = min(low, apart), max(high, apart)
    return low, high


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _run(light, noise, top, left, n, at, taps, weights, results):  # type: ignore[no-untyped-def]
    """Interpolate ``n`` pixels from ``at`` on; the first tap of the first is on row ``top``, column ``left``."""
    result, weight = results[at:], weights[at:]
    for j in range(len(taps)):
        line = light[top + j, left : left + n + len(taps) - 1]
        noises = noise[top + j, left : left + n + len(taps) - 1]
        of_row = weight[(len(taps) + j) * _WIDTH :]
        if j == 0:
            for x in range(n):
                along = along_noise = np.float32(0.0)
                for i in range(len(taps)):
                    w = weight[i * _WIDTH + x]
                    along += w * line[x + i]
                    along_noise += w * w * noises[x + i]
                result[x] = of_row[x] * along
                result[_WIDTH + x] = of_row[x] * of_row[x] * along_noise
        else:
            for x in range(n):
                along = along_noise = np.float32(0.0)
                for i in range(len(taps)):
                    w = weight[i * _WIDTH + x]
                    along += w * line[x + i]
                    along_noise += w * w * noises[x + i]
                result[x] += of_row[x] * along
                result[_WIDTH + x] += of_row[x] * of_row[x] * along_noise


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _run_values(light, top, left, n, at, taps, wx, wy, values):  # type: ignore[no-untyped-def]
    """Interpolate as `_run` does, without variances."""
    value, weights = values[at : at + n], wx[at:]
    for j in range(len(taps)):
        line = light[top + j, left : left + n + len(taps) - 1]
        across = wy[j * _WIDTH + at : j * _WIDTH + at + n]
        if j == 0:
            for x in range(n):
                along = np.float32(0.0)
                for i in range(len(taps)):
                    along += weights[i * _WIDTH + x] * line[x + i]
                value[x] = across[x] * along
        else:
            for x in range(n):
                along = np.float32(0.0)
                for i in range(len(taps)):
                    along += weights[i * _WIDTH + x] * line[x + i]
                value[x] += across[x] * along


@njit(cache=True, nogil=True)
def _take_nearest(quality, row, column, n, at, at_x, at_y, bits):  # type: ignore[no-untyped-def]
    """Copy the flags of the nearest pixel; that before the first position is on ``row``, ``column``."""
    here, below = quality[row, column : column + n + 1], quality[row + 1, column : column + n + 1]
    target, right, down = bits[at : at + n], at_x[at : at + n], at_y[at : at + n]
    for x in range(n):
        one, two, three, four = here[x], here[x + 1], below[x], below[x + 1]
        upper = two if right[x] > 0.0 else one
        lower = four if right[x] > 0.0 else three
        target[x] = lower if down[x] > 0.0 else upper


@njit(cache=True, nogil=True)
def _spread(  # type: ignore[no-untyped-def]
    quality, places, starts, row, column, width, drift, reached, wx, wy, size_x, size_y, share, bits
):
    """Add the flags of each input pixel to the pixels of a row in whose weights its share exceeds a limit.

    Parameters
    ----------
    quality, places, starts
        Of the box (`imaging.registration.box_kernels`); a pixel with `VOID` has the limit `VOID_SHARE`.
    row, column, width
        First tap of each position, and their number.
    drift : tuple of int
        Range of ``column[k] - k``.
    reached : tuple of int
        First tap to examine, and the one after the last.
    wx, wy, size_x, size_y
        Weights, and the sums of their sizes.
    share : float
        Limit.
    bits : uint16
        Changed.
    """
    begin, stop = reached
    taps, top, bottom = len(wx) // _WIDTH, np.int64(row[0]), np.int64(row[0])
    for k in range(width):
        top, bottom = min(top, np.int64(row[k])), max(bottom, np.int64(row[k]))
    for line in range(top + begin, bottom + stop):
        for p in range(starts[line], starts[line + 1]):
            place = np.int64(places[p])
            flags = quality[line, place]
            limit = min(share, np.float32(VOID_SHARE)) if flags & VOID else share
            for i in range(begin, stop):
                for apart in range(drift[0], drift[1] + 1):
                    # Without branches, which no processor could predict.
                    there = place - i - apart
                    k = clamp(there, width - 1)
                    off = line - row[k]
                    j = clamp(off, taps - 1)
                    large = abs(wx[i * _WIDTH + k] * wy[j * _WIDTH + k]) > limit * size_x[k] * size_y[k]
                    counts = large & (k == there) & (off >= begin) & (off < stop) & (column[k] + i == place)
                    bits[k] |= flags * np.uint16(counts)
