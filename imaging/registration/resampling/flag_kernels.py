"""The kernels that bring the flags of a box of a frame to the output, for `transform_kernels`.

Flags go from each pixel that has any to the pixels of the output in whose weights it has enough of a share; nothing is
looked for from each pixel of the output. Where many pixels have flags, as outside the field of view, most of them need
no weights: all around them have the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.registration.resampling.path_kernels import position
from imaging.registration.resampling.shift_kernels import VOID, VOID_SHARE, clamp

#: Columns of a box are a multiple of this, so that its flags can be searched 64 bits at a time.
FLAGS_AT_ONCE: Final = 4
#: Steps from a linear path to the place of a pixel on a curved one.
_NEWTON_STEPS: Final = 4


@njit(cache=True, nogil=True)
def list_flags(quality, interior, places, starts):  # type: ignore[no-untyped-def]
    """List the columns of the pixels with flags, row by row, but for those that are interior.

    Parameters
    ----------
    quality : uint16 (`box_shape`)
        Data quality.
    interior : bool (`box_shape`)
        From `mark_interior`.
    places : int32 (n,)
        Written: the columns.
    starts : int32 (rows + 1,)
        Written: those of row i begin at ``starts[i]``.
    """
    ny, nx = quality.shape
    # Little or big endian: only whether any of four flags is set.
    four_at_once = quality.reshape(-1).view(np.uint64)
    groups = nx // FLAGS_AT_ONCE
    k = 0
    for y in range(ny):
        starts[y] = k
        line, inside, flags = quality[y], interior[y], four_at_once[y * groups : (y + 1) * groups]
        for group in range(groups):
            if flags[group] != 0:
                for x in range(FLAGS_AT_ONCE * group, FLAGS_AT_ONCE * (group + 1)):
                    if (line[x] != 0) & (not inside[x]):
                        places[k] = x
                        k += 1
    starts[ny] = k


@njit(cache=True, nogil=True)
def mark_interior(quality, half, interior):  # type: ignore[no-untyped-def]
    """Mark the pixels whose neighbours all have their flags, and maybe more.

    Whatever they contribute to, the nearest pixel has their flags: these need not be spread.

    Parameters
    ----------
    quality : uint16 (`box_shape`)
        Data quality.
    half : int
        Half-width of the neighbourhood, px; only pixels in the box count.
    interior : bool (`box_shape`)
        Written.

    Returns
    -------
    bool
        Whether any are.
    """
    ny, nx = quality.shape
    along, common = np.empty((ny, nx), np.uint16), np.empty(nx, np.uint16)
    for y in range(ny):
        line, target = quality[y], along[y]
        target[:] = line
        for step in range(1, half + 1):
            for x in range(nx - step):
                target[x] &= line[x + step]
            for x in range(step, nx):
                target[x] &= line[x - step]
    found = False
    for y in range(ny):
        common[:] = along[y]
        for near in range(max(y - half, 0), min(y + half + 1, ny)):
            other = along[near]
            for x in range(nx):
                common[x] &= other[x]
        line, target = quality[y], interior[y]
        for x in range(nx):
            target[x] = (line[x] != 0) & (line[x] & ~common[x] == 0)
            found |= target[x]
    return found


@njit(cache=True, nogil=True)
def sort_flags(  # type: ignore[no-untyped-def]
    quality, places, starts, corner, path, middle, slopes, reach, out_first, span, flagged, firsts
):
    """Sort the pixels with flags by the first row of the output that they may reach.

    Parameters
    ----------
    quality : uint16 (`box_shape`)
        Data quality, after `fill_box`.
    places, starts
        From `list_flags`.
    corner : tuple of int
        Row and column of the frame at which the box begins.
    path : float64 (2, n, n)
        Coefficients of the input position, x and y, by the powers of the output's y and x.
    middle : tuple of float
        Row and column of the output at which the slopes hold.
    slopes : tuple
        From `slopes_to_output`.
    reach : tuple
        From `out_reach`.
    out_first : int
        First row of the box of the output.
    span : tuple of int
        First and last column of it.
    flagged : int32 (n, 4)
        Written: row and column in the box, and the first row and column of the output's box that may be reached; the
        row may be negative.
    firsts : int32 (rows + n_rows,)
        Written, with n_rows the rows that a pixel with `VOID` may reach: those pixels that may reach row i are from
        ``firsts[i]`` to before ``firsts[i + n_rows]``.
    """
    n, (left, right), ((xx, xy), (yx, yy)) = starts[-1], span, slopes
    at_x, at_y = position(path[0], middle[0], middle[1]), position(path[1], middle[0], middle[1])
    before = count_reached(reach[1][0]) - 1
    on_row, found = np.empty(n, np.int32), np.empty((n, 2), np.int32)
    firsts[:] = 0
    for line in range(len(starts) - 1):
        off_y = corner[0] + line - at_y
        for p in range(starts[line], starts[line + 1]):
            off_x = corner[1] + places[p] - at_x
            y, x = middle[0] + yx * off_x + yy * off_y, middle[1] + xx * off_x + xy * off_y
            for _ in range(0 if path.shape[1] == 2 else _NEWTON_STEPS):
                step_x = corner[1] + places[p] - position(path[0], y, x)
                step_y = corner[0] + line - position(path[1], y, x)
                x, y = x + xx * step_x + xy * step_y, y + yx * step_x + yy * step_y
            rows, columns = reach[1] if quality[line, places[p]] & VOID else reach[0]
            row = np.int64(np.ceil(y - rows)) - out_first
            near = (
                (row >= -before)
                & (row < len(firsts) - 1 - before)
                & (x + columns >= left)
                & (x - columns <= right)
            )
            on_row[p] = row + before if near else -1
            firsts[on_row[p] + 1] += 1
            found[p, 0] = row if near else 0
            found[p, 1] = max(np.int64(np.ceil(x - columns)) - left, 0) if near else 0
    firsts[0] = 0
    for row in range(len(firsts) - 1):
        firsts[row + 1] += firsts[row]
    for line in range(len(starts) - 1):
        for p in range(starts[line], starts[line + 1]):
            row = on_row[p]
            if row >= 0:
                k = firsts[row]
                firsts[row] = k + 1
                flagged[k, 0], flagged[k, 1], flagged[k, 2], flagged[k, 3] = (
                    line,
                    places[p],
                    found[p, 0],
                    found[p, 1],
                )
    # Each has moved to the beginning of the next.
    for row in range(len(firsts) - 1, 0, -1):
        firsts[row] = firsts[row - 1]
    firsts[0] = 0


@njit(cache=True, nogil=True)
def count_reached(reach):  # type: ignore[no-untyped-def]
    """Return the largest number of pixels in a row whose distance from a place is at most ``reach``."""
    return np.int64(np.floor(2.0 * reach)) + 1


@njit(cache=True, nogil=True)
def spread_flags(  # type: ignore[no-untyped-def]
    quality,
    flagged,
    y,
    reach,
    row,
    column,
    nearest_row,
    nearest_column,
    width,
    taps,
    wx,
    wy,
    sizes,
    share,
    bits,
):
    """Give flags to the pixels of a row of the output to which they are nearest, or in whose weights they have a share.

    Parameters
    ----------
    quality
        Of the box (`copy_box`); a pixel with `VOID` has the limit `VOID_SHARE`.
    flagged : int32 (n, 4)
        From `sort_flags`, those that may reach the row.
    y : int
        The row.
    reach : tuple
        From `out_reach`: of all pixels, and of those with `VOID`.
    row, column, nearest_row, nearest_column : int32 (columns,)
        First tap, and the nearest pixel, of each position in the box.
    width : int
        Columns of the output's box.
    taps : int
        Number of taps.
    wx, wy : float32 (taps * columns,)
        Weights along x and y, tap by tap.
    sizes : float32 (columns,)
        Product of the sums of their sizes.
    share : float
        Limit.
    bits : uint16
        Changed.
    """
    stride = len(wx) // taps
    void_share = min(share, np.float32(VOID_SHARE))
    n_rows = count_reached(reach[0][0]), count_reached(reach[1][0])
    n_columns = count_reached(reach[0][1]), count_reached(reach[1][1])
    for p in range(len(flagged)):
        line, place, first = flagged[p, 0], flagged[p, 1], np.int64(flagged[p, 3])
        flags = quality[line, place]
        void = (flags & VOID) != 0
        if y - flagged[p, 2] >= (n_rows[1] if void else n_rows[0]):
            continue
        limit = void_share if void else share
        for k in range(first, min(first + (n_columns[1] if void else n_columns[0]), width)):
            # Without branches, which no processor could predict.
            i, j = place - column[k], line - row[k]
            tap_x, tap_y = clamp(i, taps - 1), clamp(j, taps - 1)
            large = abs(wx[tap_x * stride + k] * wy[tap_y * stride + k]) > limit * sizes[k]
            nearest = (place == nearest_column[k]) & (line == nearest_row[k])
            bits[k] |= flags * np.uint16(nearest | (large & (i == tap_x) & (j == tap_y)))
