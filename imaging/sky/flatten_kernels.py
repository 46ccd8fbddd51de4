"""Kernels of the surfaces and patterns of the sky: surfaces between nodes, means of rows, medians of small cells."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ, UNUSABLE

_UNUSABLE = np.uint16(UNUSABLE)
#: Bits that leave nothing to look at, whatever another step flagged.
_BLIND = np.uint16(DQ.BAD_PIXEL | DQ.SATURATED | DQ.NO_DATA | DQ.UNILLUMINATED)


@njit(cache=True, nogil=True)
def node_row(nodes, origin, step, y, line, out):  # type: ignore[no-untyped-def]
    """Write row ``y`` of the bilinear surface through nodes at ``origin + k step`` to ``out``.

    Beyond the outermost nodes the surface is extrapolated. ``line`` has room for a row of nodes.
    """
    rows, columns = nodes.shape
    v = (y - origin) / step
    j = min(max(int(np.floor(v)), 0), max(rows - 2, 0))
    k = min(j + 1, rows - 1)
    t = v - j if k > j else 0.0
    for i in range(columns):
        line[i] = nodes[j, i] + t * (nodes[k, i] - nodes[j, i])
    nx = len(out)
    if columns == 1:
        out[:] = np.float32(line[0])
        return
    for i in range(columns - 1):
        x0 = 0 if i == 0 else int(np.ceil(origin + i * step))
        x1 = nx if i == columns - 2 else int(np.ceil(origin + (i + 1) * step))
        slope = np.float32((line[i + 1] - line[i]) / step)
        start = np.float32(line[i] - (line[i + 1] - line[i]) / step * (origin + i * step))
        for x in range(x0, min(x1, nx)):
            out[x] = start + slope * np.float32(x)


@njit(cache=True, nogil=True)
def subtract_structure(sci, first, nodes, step, steps, size, row_offsets):  # type: ignore[no-untyped-def]
    """Subtract a frame's surface, channels and rows from some of its rows, in place.

    Parameters
    ----------
    sci
        Rows from ``first``, (rows, nx), float32.
    first
        Number of the first row.
    nodes, step
        The surface at pixels 0, step, 2 step...; of size 0 without one.
    steps, size
        Offsets of the channels in blocks of ``size`` pixels; of size 0 without.
    row_offsets
        Offsets of the frame's rows; of size 0 without.
    """
    ny, nx = sci.shape
    out = np.zeros(nx, np.float32)
    line = np.empty(max(1, nodes.shape[1]), np.float64)
    for r in range(ny):
        y = first + r
        if nodes.size > 0:
            node_row(nodes, 0.0, step, y, line, out)
        else:
            out[:] = np.float32(0.0)
        if row_offsets.size > 0:
            out += np.float32(row_offsets[y])
        if steps.size > 0:
            for c in range(steps.shape[1]):
                offset = np.float32(steps[y // size, c])
                for x in range(c * size, min(nx, (c + 1) * size)):
                    out[x] += offset
        row = sci[r]
        for x in range(nx):
            row[x] -= out[x]


@njit(cache=True, nogil=True)
def subtract_cells(sci, first, cells, size):  # type: ignore[no-untyped-def]
    """Subtract a surface, known at the centres of cells of ``size`` pixels, from rows from ``first``, in place."""
    ny, nx = sci.shape
    out = np.zeros(nx, np.float32)
    line = np.empty(cells.shape[1], np.float64)
    for r in range(ny):
        node_row(cells, 0.5 * (size - 1), float(size), first + r, line, out)
        for x in range(nx):
            sci[r, x] -= out[x]


# The sums may be taken in any order, so that the compiler uses vector instructions; NaN remains NaN.
@njit(cache=True, nogil=True, fastmath={"reassoc"})
def row_means(sci, dq, mask, nodes, origin, step, limit, means, counts):  # type: ignore[no-untyped-def]
    """Compute the mean of each row about a surface, values beyond ``limit`` from it left out.

    Parameters
    ----------
    sci, dq, mask
        The frame; ``mask`` (1 on sources) has its shape or size 0.
    nodes, origin, step
        The surface, see `node_row`.
    limit
        Electrons.
    means, counts
        Written: means (0 without values) and numbers of values, (ny,).
    """
    ny, nx = sci.shape
    out = np.zeros(nx, np.float32)
    line = np.empty(nodes.shape[1], np.float64)
    masked = mask.size > 0
    limit = np.float32(limit)
    for y in range(ny):
        node_row(nodes, origin, step, y, line, out)
        total, n = 0.0, 0
        values, flags = sci[y], dq[y]
        if masked:
            source = mask[y]
            for x in range(nx):
                value = values[x] - out[x]
                good = ((flags[x] & _UNUSABLE) == 0) & (abs(value) <= limit) & (source[x] == 0)
                total += np.float64(value) if good else 0.0
                n += good
        else:
            for x in range(nx):
                value = values[x] - out[x]
                good = ((flags[x] & _UNUSABLE) == 0) & (abs(value) <= limit)
                total += np.float64(value) if good else 0.0
                n += good
        counts[y] = n
        means[y] = total / n if n > 0 else 0.0


@njit(cache=True, nogil=True)
def phase_means(sci, dq, mask, nodes, origin, step, limit, means, counts):  # type: ignore[no-untyped-def]
    """Compute the means, about a surface, of the columns of each phase of a pattern in each quadrant.

    Columns are counted from the quadrant's outer edge.

    Parameters
    ----------
    sci, dq, mask, nodes, origin, step, limit
        As of `row_means`.
    means, counts
        Written: means (0 without values) and numbers of values, (4, period): lower left, lower right, upper left,
        upper right.
    """
    ny, nx = sci.shape
    period = means.shape[1]
    out = np.zeros(nx, np.float32)
    line = np.empty(nodes.shape[1], np.float64)
    masked = mask.size > 0
    means[:] = 0.0
    counts[:] = 0
    for y in range(ny):
        node_row(nodes, origin, step, y, line, out)
        for x in range(nx):
            value = sci[y, x] - out[x]
            if (dq[y, x] & _UNUSABLE) != 0 or not abs(value) <= limit or (masked and mask[y, x] != 0):
                continue
            right = 1 if x >= nx // 2 else 0
            quadrant = (2 if y >= ny // 2 else 0) + right
            phase = (nx - 1 - x if right == 1 else x) % period
            means[quadrant, phase] += np.float64(value)
            counts[quadrant, phase] += 1
    for quadrant in range(4):
        for phase in range(period):
            if counts[quadrant, phase] > 0:
                means[quadrant, phase] /= counts[quadrant, phase]


@njit(cache=True, nogil=True)
def subtract_periodic(sci, first, ny, offsets):  # type: ignore[no-untyped-def]
    """Subtract offsets that repeat along the columns of each quadrant from some rows of a frame, in place.

    Parameters
    ----------
    sci
        Rows from ``first``, (rows, nx), float32.
    first, ny
        Number of the first row, and rows of the frame.
    offsets
        (4, period), as the means of `phase_means`.
    """
    rows, nx = sci.shape
    period = offsets.shape[1]
    for r in range(rows):
        upper = 2 if first + r >= ny // 2 else 0
        for x in range(nx):
            if x >= nx // 2:
                sci[r, x] -= np.float32(offsets[upper + 1, (nx - 1 - x) % period])
            else:
                sci[r, x] -= np.float32(offsets[upper, x % period])


@njit(cache=True, nogil=True)
def cell_medians(sci, dq, first_y, first_x, size, least, out):  # type: ignore[no-untyped-def]
    """Write the medians of cells of ``size`` pixels to ``out``; NaN with fewer than ``least`` seeing pixels."""
    ny, nx = sci.shape
    buffer = np.empty(size * size, np.float32)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            n = 0
            y0, x0 = first_y + r * size, first_x + c * size
            for y in range(y0, min(ny, y0 + size)):
                for x in range(x0, min(nx, x0 + size)):
                    if (dq[y, x] & _BLIND) == 0:
                        buffer[n] = sci[y, x]
                        n += 1
            out[r, c] = np.median(buffer[:n]) if n >= least else np.nan
