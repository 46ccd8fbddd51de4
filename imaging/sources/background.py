"""The background of a frame and its noise on a coarse mesh, robust against sources and gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.pixels.fill import NOT_MEASURED
from imaging.pixels.median_kernels import sort_rows

#: One in this many pixels of a row is used: 512 of a 64 x 64 cell give the median to 0.06 sigma, and the 3 x
#: 3 median over cells reduces that to 0.02.
STRIDE = 8
#: A cell with a smaller fraction of good pixels gets its value from its neighbours.
_LEAST_SHARE = 0.1
#: Clipping: iterations, and the limit in sigmas about the median.
_ITERATIONS, _CLIP = 4, 3.0


@dataclass(frozen=True)
class Background:
    """Background level and noise, interpolated bilinearly between the centres of square cells.

    Attributes
    ----------
    level_mesh, rms_mesh
        float32 (cells in y, cells in x): the level and the standard deviation of one pixel in each cell.
    cell
        Side of a cell in pixels.
    shape
        Shape of the frame, (ny, nx).
    level, rms
        The median over the cells with enough good pixels.
    """

    level_mesh: NDArray[np.float32]
    rms_mesh: NDArray[np.float32]
    cell: int
    shape: tuple[int, int]
    level: float
    rms: float


def measure_background(
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    *,
    cell: int = 64,
    objects: NDArray[np.uint8] | None = None,
    every: int = STRIDE,
) -> Background:
    """Measure the background of a frame.

    In each cell the pixels are clipped at 3 sigma about their median, where sigma is that of the lower half,
    unaffected by sources; the remaining pixels give the median and the noise. A 3 x 3 median over the cells
    then removes those that a bright source fills.

    Parameters
    ----------
    sci
        float32 (ny, nx).
    dq
        uint16 (ny, nx); pixels without a measurement are left out.
    cell
        Side of a cell in pixels.
    objects
        uint8 (ny, nx), 1 on sources to leave out.
    every
        One in this many pixels of a row is used.

    Returns
    -------
    Background
        The mesh.

    Raises
    ------
    ValueError
        If no cell has enough good pixels.
    """
    masked = dq if objects is None else np.where(objects > 0, np.uint16(NOT_MEASURED), dq)
    level, rms = _cells(sci, masked, cell, NOT_MEASURED, every)
    known = np.isfinite(level)
    if not known.any():
        raise ValueError("no part of the frame has enough good pixels to measure a background")
    typical = float(np.median(level[known])), float(np.median(rms[known]))
    level_mesh = _median_of_neighbours(_extend(level, known))
    rms_mesh = _median_of_neighbours(_extend(rms, known))
    # The median over 3 x 3 cells flattens the outermost ring of a gradient; there the cell itself is better
    # unless it is an outlier.
    level_mesh = _keep_edges(_extend(level, known), level_mesh, rms_mesh)
    return Background(level_mesh, rms_mesh, cell, sci.shape, *typical)


def level_at(background: Background, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the background at positions, bilinearly between the centres of the cells.

    Parameters
    ----------
    background
        The mesh.
    positions
        x, y from 0, (n, 2).
    """
    mesh = background.level_mesh.astype(np.float64)
    last = np.array(mesh.shape[::-1]) - 1
    place = np.clip((positions + 0.5) / background.cell - 0.5, 0, last)
    first = np.floor(place).astype(int)
    (x, y), (x1, y1) = first.T, np.minimum(first + 1, last).T
    u, v = (place - first).T
    below, above = (mesh[row, x] + u * (mesh[row, x1] - mesh[row, x]) for row in (y, y1))
    level: NDArray[np.float64] = below + v * (above - below)
    return level


def _median_of_neighbours(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each cell and its eight neighbours; the outermost cells are repeated beyond the edge."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mesh, 1, mode="edge"), (3, 3))
    return np.median(around.reshape(*mesh.shape, 9), axis=-1)


def _keep_edges(
    raw: NDArray[np.float32], smooth: NDArray[np.float32], rms: NDArray[np.float32]
) -> NDArray[np.float32]:
    out = smooth.copy()
    edge = np.ones(raw.shape, bool)
    edge[1:-1, 1:-1] = False
    keep = edge & (np.abs(raw - smooth) < rms)
    out[keep] = raw[keep]
    return out


def _extend(mesh: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Set unknown cells to the mean of their known neighbours, ring by ring."""
    mesh, known = np.where(known, mesh, np.float32(0)), known.copy()
    while not known.all():
        total, count = np.zeros(mesh.shape), np.zeros(mesh.shape)
        padded, weight = np.pad(mesh, 1), np.pad(known, 1)
        for j in range(3):
            for i in range(3):
                window = np.s_[j : j + mesh.shape[0], i : i + mesh.shape[1]]
                total += padded[window] * weight[window]
                count += weight[window]
        new = ~known & (count > 0)
        mesh[new] = (total[new] / count[new]).astype(np.float32)
        known |= new
    return mesh


@njit(cache=True, nogil=True)
def _cells(sci, dq, cell, bits, every):  # type: ignore[no-untyped-def]
    ny, nx = sci.shape
    rows, columns = (ny + cell - 1) // cell, (nx + cell - 1) // cell
    level = np.full((rows, columns), np.nan, np.float32)
    rms = np.full((rows, columns), np.nan, np.float32)
    # The values of the cells of a row of cells, one cell in each column, are sorted together.
    values = np.empty((cell * (cell // every + 1), columns), np.float32)
    one = np.empty(len(values), np.float32)
    n, seen = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for row in range(rows):
        n[:], seen[:], values[:] = 0, 0, np.inf
        for y in range(row * cell, min(ny, row * cell + cell)):
            light, flags = sci[y], dq[y]
            for column in range(columns):
                # The start shifts by 3 from row to row, so that no column is always or never used.
                for x in range(column * cell + (3 * y) % every, min(nx, column * cell + cell), every):
                    seen[column] += 1
                    if (flags[x] & bits) == 0 and np.isfinite(light[x]):
                        values[n[column], column] = light[x]
                        n[column] += 1
        sort_rows(values, n.max())
        for column in range(columns):
            m = n[column]
            if m < 8 or m < _LEAST_SHARE * seen[column]:
                continue
            one[:m] = values[:m, column]
            level[row, column], rms[row, column] = _clipped(one[:m])
    return level, rms


@njit(cache=True, nogil=True)
def _clipped(values):  # type: ignore[no-untyped-def]
    """Return median and standard deviation of sorted values, clipped about the median."""
    first, last = 0, len(values)
    centre, sigma = values[last // 2], np.float32(0.0)
    for _ in range(_ITERATIONS):
        middle = first + (last - first) // 2
        centre = np.float32(0.5) * (values[middle] + values[first + (last - first - 1) // 2])
        # 15.87 % of a normal distribution lies more than one sigma below its centre.
        sigma = centre - values[first + int(0.1587 * (last - first))]
        lower = np.searchsorted(values, np.float32(centre - _CLIP * sigma), side="left")
        upper = np.searchsorted(values, np.float32(centre + _CLIP * sigma), side="right")
        if (lower == first and upper == last) or upper - lower < 8:
            break
        first, last = int(lower), int(upper)
    return centre, sigma


@njit(cache=True, nogil=True)
def mesh_row(mesh, cell, y, out):  # type: ignore[no-untyped-def]
    """Write row ``y`` of the bilinear surface through the cells' centres to ``out`` (float32)."""
    rows, columns = mesh.shape
    v = (y + 0.5) / cell - 0.5
    j = min(max(int(np.floor(v)), 0), max(rows - 2, 0))
    next_j = min(j + 1, rows - 1)
    t = np.float32(v - j) if next_j > j else np.float32(0.0)
    line = np.empty(columns, np.float32)
    for i in range(columns):
        line[i] = mesh[j, i] + t * (mesh[next_j, i] - mesh[j, i])
    nx = len(out)
    for i in range(max(columns - 1, 1)):
        # Beyond the first and the last centre the surface is extrapolated by half a cell.
        x0 = 0 if i == 0 else int(np.ceil((i + 0.5) * cell - 0.5))
        x1 = nx if i >= columns - 2 else int(np.ceil((i + 1.5) * cell - 0.5))
        slope = (line[i + 1] - line[i]) / np.float32(cell) if columns > 1 else np.float32(0.0)
        start = line[i] + slope * np.float32(0.5 - (i + 0.5) * cell)
        for x in range(x0, min(x1, nx)):
            out[x] = start + slope * np.float32(x)
