"""Surfaces and blocks of a frame as meshes of nodes, from which kernels interpolate."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imaging.sky import shapes


def surface_nodes(
    order: int, coefficients: NDArray[np.float64], frame: tuple[float, float], size: int
) -> NDArray[np.float64]:
    """Return a surface at every half block, electrons."""
    rows, columns = (math.ceil(2 * extent) + 1 for extent in frame)
    design = _node_columns(order, rows, columns, *frame, size)
    return np.asarray((design @ coefficients).reshape(rows, columns))


@lru_cache(maxsize=2)
def _node_columns(
    order: int, rows: int, columns: int, height: float, width: float, size: int
) -> NDArray[np.float64]:
    step = size // 2
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    return shapes.columns_at(
        order,
        2 * (x.ravel() * step + 0.5) / (width * size) - 1,
        2 * (y.ravel() * step + 0.5) / (height * size) - 1,
    )


def block_nodes(plane: NDArray[np.float64], rows: int, columns: int, size: int) -> NDArray[np.float64]:
    """Return blocks, known at their centres, at every half block by linear interpolation."""
    step = size // 2

    def along(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        place = (np.arange(2 * count + 1) * step + 0.5) / size - 0.5
        first = np.clip(np.floor(place).astype(np.int64), 0, max(count - 2, 0))
        return first, place - first

    (j, t), (k, u) = along(rows), along(columns)
    lines = plane[j] * (1 - t[:, None]) + plane[np.minimum(j + 1, rows - 1)] * t[:, None]
    return np.asarray(lines[:, k] * (1 - u) + lines[:, np.minimum(k + 1, columns - 1)] * u)


def rms_about_plane(
    surface: NDArray[np.float64], lit: NDArray[np.bool_], frame: tuple[float, float]
) -> float:
    """Return the rms over the lit blocks of a surface about a plane."""
    if not lit.any():
        return 0.0
    design = shapes.grid_columns(shapes.PLANE, *surface.shape, *frame)
    values, inside = surface.ravel(), lit.ravel()
    solution = np.linalg.lstsq(design[inside], values[inside], rcond=None)[0]
    return float(np.std(values[inside] - design[inside] @ solution))


def filled(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return blocks with the missing ones set to the mean of their known neighbours, ring by ring."""
    known = np.isfinite(plane)
    plane = np.where(known, plane, 0.0)
    if not known.any():
        return plane
    ny, nx = plane.shape
    while not known.all():
        padded, weight = np.pad(plane, 1), np.pad(known.astype(np.float64), 1)
        windows = [np.s_[j : j + ny, i : i + nx] for j in range(3) for i in range(3)]
        total = np.sum([padded[w] * weight[w] for w in windows], axis=0)
        count = np.sum([weight[w] for w in windows], axis=0)
        new = ~known & (count > 0)
        plane[new] = total[new] / count[new]
        known = known | new
    return plane
