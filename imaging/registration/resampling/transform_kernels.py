"""The kernel of `resample` for transforms other than shifts: rotations, scales, distortions.

Along a row of the output, the pixel before a position moves on by one column from pixel to pixel, and stays in its
row, until the transform accumulates a pixel. Such a run has one footprint on the input, and several of its pixels are
interpolated at once, tap by tap. Where runs are short, as in a frame turned by 45 degrees, it is the taps of one pixel
that are computed at once.

The output is computed in boxes of a band's rows and some columns, whose input fits in a core's cache (`box_kernels`).
Positions and weights are single precision, relative to the first pixel of a row of a box.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.fill import REACH
from imaging.registration.resampling.box_kernels import LANES, box_shape, copy_box, fill_box, pad_box
from imaging.registration.resampling.flag_kernels import (
    count_reached,
    list_flags,
    mark_interior,
    sort_flags,
    spread_flags,
)
from imaging.registration.resampling.lanes import load, multiply, multiply_add, repeat, store, total
from imaging.registration.resampling.path_kernels import POWERS, bounds, expand, out_reach, slopes_to_output
from imaging.registration.resampling.shift_kernels import NO_DATA, VOID

#: Taps of a pixel that are computed at once: as many as any interpolant has.
TAP_LANES: Final = 8
#: Pixels of a run below which it is faster to compute the taps of one pixel at once.
SHORT_RUN: Final = 8
#: Share of pixels with flags from which on it is worth to look for those whose neighbours have the same.
DENSE: Final = 0.1
#: Most columns of a box of the output.
MOST_COLUMNS: Final = 256
_WIDTH: Final = MOST_COLUMNS + LANES
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
    span,
    short_runs,
    even,
    odd,
    nearest,
    taps,
    flags_reach,
    void_reach,
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
    span : tuple of int
        First column of the output that the frame may reach, and the one after the last; others are not written.
    short_runs : bool
        Whether few pixels along a row have one footprint: fewer than `SHORT_RUN`.
    even, odd : float32 (taps / 2, terms)
        Polynomials of the weights (`imaging.registration.resampling.interpolants.weight_polynomials`).
    nearest : bool
        The weights are those of the nearest pixel.
    taps : tuple
        As long as there are taps: the length of a tuple is known when the kernel is compiled.
    flags_reach, void_reach : float
        How far on each axis a pixel's flags can reach in the frame, and those of a pixel that could not be filled, px.
    share, area : float
        Limit for the data quality, and factor of the values (conserves flux).
    with_variance : bool
        Whether variances are wanted.
    out_sci, out_var, out_dq
        Written; the second only with variances.
    """
    (ny, nx), out_ny = shape, out_sci.shape[0]
    before = len(taps) // 2 - 1
    around = before + REACH
    column, row = np.empty(_WIDTH, np.int32), np.empty(_WIDTH, np.int32)
    inside, ends = np.zeros(_WIDTH, np.bool_), np.empty(_WIDTH, np.int32)
    of_pixel = np.zeros(TAP_LANES * _WIDTH, np.float32)
    at_x, at_y = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    wx, wy = np.zeros(len(taps) * _WIDTH, np.float32), np.zeros(len(taps) * _WIDTH, np.float32)
    size_x, size_y = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    sizes = np.zeros(_WIDTH, np.float32)
    nearest_column, nearest_row = np.zeros(_WIDTH, np.int32), np.zeros(_WIDTH, np.int32)
    values, variances = np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    bits = np.zeros(_WIDTH, np.uint16)
    along = np.empty((2, POWERS), np.float64)
    for x0 in range(span[0], span[1], MOST_COLUMNS):
        width = min(MOST_COLUMNS, span[1] - x0)
        padded = (width + LANES - 1) // LANES * LANES
        low_x, high_x, low_y, high_y = bounds(path, out_first, out_ny, x0, width)
        if _misses(low_x, high_x, nx) or _misses(low_y, high_y, ny):
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
        places, starts = np.empty(quality.size, np.int32), np.empty(size[0] + 1, np.int32)
        interior, dense = np.zeros(size, np.bool_), False
        list_flags(quality, interior, places, starts)
        if starts[size[0]] > DENSE * quality.size:
            dense = mark_interior(quality, max(np.int64(void_reach + 0.5), REACH), interior)
            list_flags(quality, interior, places, starts)
        void = fill_box(light, noise, quality, dense, interior, places, starts, inner, with_variance)
        pad_box(light, inner)
        if with_variance:
            pad_box(noise, inner)
        n_flagged = starts[size[0]]
        middle = out_first + 0.5 * (out_ny - 1), x0 + 0.5 * (width - 1)
        slopes = slopes_to_output(path, middle[0], middle[1])
        reach = (
            out_reach(path, out_first, out_ny, x0, width, flags_reach),
            out_reach(path, out_first, out_ny, x0, width, void_reach if void else flags_reach),
        )
        n_rows = count_reached(reach[1][0])
        flagged, firsts = np.empty((n_flagged, 4), np.int32), np.empty(out_ny + n_rows, np.int32)
        if n_flagged > 0:
            sort_flags(
                quality, places, starts, (rows[0], columns[0]), path, middle, slopes, reach, out_first,
                (x0, x0 + width - 1), flagged, firsts,
            )  # fmt: skip
        flat, flat_noise = light.reshape(-1), noise.reshape(-1)
        last = size[0] - len(taps), size[1] - len(taps) - LANES
        for y in range(out_ny):
            expand(path, y + out_first, x0, along)
            _locate(along, rows[0], columns[0], shape, before, last, padded, column, row, at_x, at_y, inside)
            _weigh(even, odd, nearest, taps, at_x, padded, np.float32(1.0), wx, size_x)
            _weigh(even, odd, nearest, taps, at_y, padded, np.float32(area), wy, size_y)
            n_runs = 0 if short_runs else _find_runs(column, row, width, ends)
            runs = ends[:n_runs]
            if short_runs and with_variance:
                _by_pixel(
                    flat, flat_noise, size[1], row, column, width, taps, wx, wy, of_pixel, values, variances
                )
            elif short_runs:
                _by_pixel(flat, None, size[1], row, column, width, taps, wx, wy, of_pixel, values, variances)
            elif with_variance:
                _by_run(flat, flat_noise, size[1], row, column, runs, taps, wx, wy, values, variances)
            else:
                _by_run(flat, None, size[1], row, column, runs, taps, wx, wy, values, variances)
            bits[:width] = 0
            if dense or n_flagged > 0:
                for k in range(width):
                    nearest_column[k] = column[k] + before + np.int32(at_x[k] > 0.0)
                    nearest_row[k] = row[k] + before + np.int32(at_y[k] > 0.0)
            if dense:
                for k in range(width):
                    bits[k] = quality[nearest_row[k], nearest_column[k]]
            if n_flagged > 0:
                for k in range(width):
                    sizes[k] = size_x[k] * size_y[k]
                spread_flags(
                    quality, flagged[firsts[y] : firsts[y + n_rows]], y, reach, row, column, nearest_row,
                    nearest_column, width, len(taps), wx, wy, sizes, share, bits,
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
def rows_read(path, first, rows, span, shape, taps):  # type: ignore[no-untyped-def]
    """Return the first row of the frame that `transform_band` reads, and the one after the last; 0 and 0 if none.

    Parameters
    ----------
    path, span, shape
        As for `transform_band`.
    first, rows : int
        First row of the output, and their number.
    taps : int
        Number of taps.
    """
    (ny, nx), around = shape, taps // 2 - 1 + REACH
    begin, end = ny, 0
    for x0 in range(span[0], span[1], MOST_COLUMNS):
        low_x, high_x, low_y, high_y = bounds(path, first, rows, x0, min(MOST_COLUMNS, span[1] - x0))
        if not (_misses(low_x, high_x, nx) or _misses(low_y, high_y, ny)):
            read = _span(low_y, high_y, around, taps, ny)
            begin, end = min(begin, max(read[0], 0)), max(end, min(read[1], ny))
    return (begin, end) if begin < end else (0, 0)


@njit(cache=True, nogil=True)
def _misses(low, high, size):  # type: ignore[no-untyped-def]
    """Return whether positions from the lowest to the highest are all outside of the pixels of an axis."""
    return high < -0.5 or low > size - 0.5


@njit(cache=True, nogil=True)
def _clear(out_sci, out_var, out_dq, x0, width, with_variance):  # type: ignore[no-untyped-def]
    """Mark a box of the output that is outside of the frame."""
    for y in range(out_sci.shape[0]):
        out_sci[y, x0 : x0 + width] = 0.0
        out_dq[y, x0 : x0 + width] = NO_DATA
        if with_variance:
            out_var[y, x0 : x0 + width] = 0.0


@njit(cache=True, nogil=True)
def _span(low, high, around, taps, size):  # type: ignore[no-untyped-def]
    """Return the first row (or column) that a box draws on, and the one after the last; no further out than needed."""
    begin = max(np.int64(np.floor(max(low, -1.0e6))) - around, -taps - REACH)
    end = min(np.int64(np.floor(min(high, 1.0e6))) + taps // 2 + REACH + 1, size + taps + REACH)
    return begin, end


@njit(cache=True, nogil=True)
def _curvature(terms):  # type: ignore[no-untyped-def]
    """Return the terms from the square on."""
    return np.float32(terms[2]), np.float32(terms[3]), np.float32(terms[4]), np.float32(terms[5])


@njit(cache=True, nogil=True, fastmath=_FUSED)
def _locate(along, top, left, shape, before, last, width, column, row, at_x, at_y, inside):  # type: ignore[no-untyped-def]
    """Find the first tap of each position, its distance from the middle of two pixels, and if it is in the frame."""
    base_x, base_y = np.floor(along[0, 0]), np.floor(along[1, 0])
    x_0, x_1 = np.float32(along[0, 0] - base_x), np.float32(along[0, 1] - 1.0)
    x_2, x_3, x_4, x_5 = _curvature(along[0])
    y_0, y_1 = np.float32(along[1, 0] - base_y), np.float32(along[1, 1])
    y_2, y_3, y_4, y_5 = _curvature(along[1])
    # Positions beyond the frame's first and last pixel, relative to base_x + k and base_y.
    first_x, first_y = np.int32(base_x) - left - before, np.int32(base_y) - top - before
    half = np.float32(0.5)
    low_y, high_y = np.float32(-0.5 - base_y), np.float32(shape[0] - 0.5 - base_y)
    low_x, high_x = np.float32(-0.5 - base_x), np.float32(shape[1] - 0.5 - base_x)
    for k in range(width):
        step = np.float32(k)
        to_x = ((((x_5 * step + x_4) * step + x_3) * step + x_2) * step + x_1) * step + x_0
        to_y = ((((y_5 * step + y_4) * step + y_3) * step + y_2) * step + y_1) * step + y_0
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
def _find_runs(column, row, width, ends):  # type: ignore[no-untyped-def]
    """Write where runs of pixels with one footprint end, and return their number."""
    n = 0
    for k in range(1, width):
        ends[n] = k
        # Without branches: where a run ends no processor can predict.
        n += 1 - ((row[k] == row[k - 1]) & (column[k] == column[k - 1] + 1))
    ends[n] = width
    return n + 1


@njit(cache=True, nogil=True)
def _by_run(light, noise, nx, row, column, ends, taps, wx, wy, values, variances):  # type: ignore[no-untyped-def]
    """Interpolate a row of the output, several pixels of a run at once.

    Parameters
    ----------
    light, noise : float32 (rows * nx,)
        Box of the frame; None instead of variances that are not wanted.
    nx : int
        Columns of the box.
    row, column : int32 (columns,)
        First tap of each pixel.
    ends : int32 (runs,)
        From `_find_runs`.
    taps : tuple
        As long as there are taps.
    wx, wy : float32 (taps * columns,)
        Weights along x and y, tap by tap.
    values, variances : float32 (columns,)
        Written, with up to `LANES` more.
    """
    begin = np.int64(0)
    for end in ends:
        first = row[begin] * nx + column[begin] - begin
        for x in range(begin, end, LANES):
            value = variance = repeat(np.float32(0.0), LANES)
            for j in range(len(taps)):
                at = first + j * nx + x
                along = along_noise = repeat(np.float32(0.0), LANES)
                for i in range(len(taps)):
                    weight = load(wx, i * _WIDTH + x, LANES)
                    along = multiply_add(weight, load(light, at + i, LANES), along)
                    if noise is not None:
                        squared = multiply(weight, weight)
                        along_noise = multiply_add(squared, load(noise, at + i, LANES), along_noise)
                weight = load(wy, j * _WIDTH + x, LANES)
                value = multiply_add(weight, along, value)
                if noise is not None:
                    variance = multiply_add(multiply(weight, weight), along_noise, variance)
            store(value, values, x)
            if noise is not None:
                store(variance, variances, x)
        begin = np.int64(end)


@njit(cache=True, nogil=True)
def _by_pixel(light, noise, nx, row, column, width, taps, wx, wy, of_pixel, values, variances):  # type: ignore[no-untyped-def]
    """Interpolate ``width`` pixels of a row as `_by_run` does, all taps along x of a pixel at once.

    ``of_pixel``, float32 (columns * `TAP_LANES`,), has zeros at first, and then the weights along x, pixel by pixel.
    """
    for i in range(len(taps)):
        for x in range(width):
            of_pixel[x * TAP_LANES + i] = wx[i * _WIDTH + x]
    for x in range(width):
        at = row[x] * nx + column[x]
        across = across_noise = repeat(np.float32(0.0), TAP_LANES)
        for j in range(len(taps)):
            weight = repeat(wy[j * _WIDTH + x], TAP_LANES)
            across = multiply_add(weight, load(light, at + j * nx, TAP_LANES), across)
            if noise is not None:
                squared = multiply(weight, weight)
                across_noise = multiply_add(squared, load(noise, at + j * nx, TAP_LANES), across_noise)
        weight = load(of_pixel, x * TAP_LANES, TAP_LANES)
        values[x] = total(multiply(weight, across))
        if noise is not None:
            variances[x] = total(multiply(multiply(weight, weight), across_noise))
