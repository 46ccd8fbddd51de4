"""Move a frame onto the output's grid: one interpolation from detector to output, in bands of rows.

Values go through the interpolant; variances through the square of its weights, which gives the variance of
the result and is never negative; data quality bits to the output pixels to which the input pixel contributes
significantly. A pixel without a measurement is filled from its neighbours before the interpolation, so that
its value cannot leak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import DQ
from imaging.pixels.fill import NOT_MEASURED, REACH, fill_gaps, find_gaps
from imaging.registration import resample_kernels as kernels
from imaging.registration.geometry import Affine
from imaging.registration.interpolants import TAPS, Interpolant, weights
from imaging.registration.transform_kernels import transform_rows

__all__ = [
    "ResampleParameters",
    "RowSource",
    "array_source",
    "input_rows_needed",
    "resample_into",
    "resample_rows",
]

Planes = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]
#: Planes to write; None instead of a variance that is not wanted.
Outputs = tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint16]]
#: Function that returns sci, var and dq of the rows of a slice.
RowSource = Callable[[slice], Planes]

#: Steps of the table of weights for rotations and scales. The nearest step is at most 1/16384 px away, and no weight
#: is wrong by more than 9e-5.
_TABLE_STEPS = 8192
#: A row of the output is divided into pieces that cross at most this many rows of the frame, but are not shorter
#: than a number of pixels: rows that only some of a band's columns need are not filled for the others.
_ROWS_CROSSED, _SHORTEST_PIECE = 16, 256


class ResampleParameters(StepParameters):
    """Parameters of resampling."""

    interpolant: Interpolant = parameter(
        "lanczos3", "interpolant: lanczos3, lanczos4, bicubic, linear or nearest"
    )
    extent: Literal["union", "intersection"] = parameter(
        "union", "the output contains the fields of all frames (union), or their common field (intersection)"
    )
    dq_threshold: float = parameter(
        0.03, "share of an output pixel's (absolute) weights above which an input pixel's data quality bits "
        "are its own", ge=0, lt=0.25,
    )  # fmt: skip


def array_source(sci: NDArray[np.float32], var: NDArray[np.float32], dq: NDArray[np.uint16]) -> RowSource:
    """Return a source of rows for a frame in memory."""

    def rows(wanted: slice) -> Planes:
        return sci[wanted], var[wanted], dq[wanted]

    return rows


def input_rows_needed(
    transform: Affine,
    out_rows: slice,
    out_nx: int,
    in_shape: tuple[int, int],
    parameters: ResampleParameters | None = None,
) -> slice:
    """Return the rows of a frame that contribute to some rows of the output.

    Parameters
    ----------
    transform
        Frame pixel to output pixel.
    out_rows
        Rows of the output, ``slice(first, last)``.
    out_nx
        Columns of the output.
    in_shape
        (ny, nx) of the frame.
    parameters
        The interpolant determines the reach.

    Returns
    -------
    slice
        Rows of the frame; empty if the frame does not reach these rows.
    """
    parameters = parameters or ResampleParameters()
    _, y = _corners(transform.inverse(), out_rows, slice(0, out_nx))
    return _needed(y, in_shape[0], TAPS[parameters.interpolant])


def _corners(back: Affine, rows: slice, columns: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions in the frame of the corners of a box of the output."""
    x, y = np.meshgrid([columns.start, columns.stop - 1.0], [rows.start, rows.stop - 1.0])
    return back(x.ravel(), y.ravel())


def _needed(positions: NDArray[np.float64], size: int, taps: int) -> slice:
    """Return the rows (or columns) of the frame that positions between the outermost of these draw on."""
    if positions.max() < -0.5 or positions.min() > size - 0.5:
        return slice(0, 0)
    first = math.floor(positions.min()) - (taps // 2 - 1) - REACH
    last = math.floor(positions.max()) + taps // 2 + REACH + 1
    # Beyond an edge the outermost row is repeated, so that one is always needed.
    return slice(min(max(first, 0), size - 1), max(min(last, size), 1))


def resample_rows(
    source: RowSource,
    in_shape: tuple[int, int],
    transform: Affine,
    out_rows: slice,
    out_nx: int,
    parameters: ResampleParameters | None = None,
) -> Planes:
    """Resample a frame onto some rows of the output.

    Flux is conserved: if the transform changes the scale, values are multiplied by the number of input
    pixels that an output pixel covers.

    Parameters
    ----------
    source
        Source of the frame's rows; called once, with the rows of `input_rows_needed`.
    in_shape
        (ny, nx) of the frame.
    transform
        Frame pixel to output pixel (`Grid.place`).
    out_rows
        Rows of the output, ``slice(first, last)``.
    out_nx
        Columns of the output.
    parameters
        Interpolant and threshold.

    Returns
    -------
    sci, var, dq
        float32, float32, uint16 (rows, out_nx), contiguous. Outside the frame 0, 0 and NO_DATA.
    """
    parameters = parameters or ResampleParameters()
    shape = (out_rows.stop - out_rows.start, out_nx)
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    resample_into(out, source, in_shape, transform, out_rows, parameters)
    return out


def resample_into(
    out: Outputs,
    source: RowSource,
    in_shape: tuple[int, int],
    transform: Affine,
    out_rows: slice,
    parameters: ResampleParameters | None = None,
) -> None:
    """Resample a frame onto some rows of the output, as `resample_rows`, into arrays that exist.

    Parameters
    ----------
    out
        sci, var and dq, (rows, out_nx), contiguous; None instead of var if variances are not wanted.
    source, in_shape, transform, out_rows, parameters
        See `resample_rows`.
    """
    parameters = parameters or ResampleParameters()
    needed = input_rows_needed(transform, out_rows, out[0].shape[1], in_shape, parameters)
    sci, var, dq = out
    if needed.stop == needed.start:
        sci[:], dq[:] = 0.0, DQ.NO_DATA
        if var is not None:
            var[:] = 0.0
        return
    planes = source(needed)
    if transform.is_shift:
        filled, void = _without_gaps(*planes, variance=var is not None)
        _shift(*filled, void, needed.start, in_shape[0], transform, out_rows.start, parameters, out)
    else:
        _transform(planes, needed.start, in_shape, transform.inverse(), out_rows, parameters, out)


def _without_gaps(
    sci: NDArray[np.float32], var: NDArray[np.float32], dq: NDArray[np.uint16], *, variance: bool
) -> tuple[Planes, bool]:
    """Return the planes with their gaps filled, and whether any could not be; without ``variance``, var is sci."""
    sci, var = np.ascontiguousarray(sci, np.float32), np.ascontiguousarray(var, np.float32)
    dq = np.ascontiguousarray(dq, np.uint16)
    gaps = find_gaps(sci, var, dq, NOT_MEASURED)
    filled, quality = np.empty_like(sci), np.empty_like(dq)
    fill_gaps(sci, gaps, filled)
    void = kernels.mark_gaps(dq, gaps, quality)
    if not variance:
        return (filled, filled, quality), void
    noise = np.empty_like(var)
    fill_gaps(var, gaps, noise)
    return (filled, noise, quality), void


def _shift(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    void: bool,
    first: int,
    ny: int,
    transform: Affine,
    out_first: int,
    parameters: ResampleParameters,
    out: Outputs,
) -> None:
    x, y = -transform.x0, out_first - transform.y0  # of the first output pixel, in the frame
    ix, iy = math.floor(x), math.floor(y)
    wx, wy = weights(parameters.interpolant, x - ix), weights(parameters.interpolant, y - iy)
    reach = TAPS[parameters.interpolant] // 2 - 1
    left, top = ix - reach, iy - reach
    f4 = np.float32
    kernels.shift_rows(sci, first, ny, left, top, wx.astype(f4), wy.astype(f4), out[0])
    if out[1] is not None:
        kernels.shift_rows(var, first, ny, left, top, (wx**2).astype(f4), (wy**2).astype(f4), out[1])
    # Half-way between two pixels, the first counts as the nearest, as on the general path.
    main_x, main_y = reach + (x - ix > 0.5), reach + (y - iy > 0.5)
    sx, sy = np.abs(wx) / np.abs(wx).sum(), np.abs(wy) / np.abs(wy).sum()
    light, noise = out[0], out[0] if out[1] is None else out[1]
    kernels.shift_quality(
        dq, first, ny, left, top, main_x, main_y, sx, sy, parameters.dq_threshold, void, light, noise, out[2]
    )


@lru_cache
def _table(interpolant: Interpolant) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights at equal steps of the fraction from 0 to 1, (taps, steps + 1), and their absolute sums."""
    table = weights(interpolant, np.arange(_TABLE_STEPS + 1) / _TABLE_STEPS).T.astype(np.float32, order="C")
    sizes = np.abs(table).sum(axis=0)
    table.flags.writeable = sizes.flags.writeable = False
    return table, sizes


@lru_cache
def _reached(interpolant: Interpolant, share: float) -> tuple[int, int]:
    """Return the first tap whose share of the weights can exceed a limit or be the largest, and that after the last."""
    table, sizes = _table(interpolant)
    largest = (np.abs(table) / sizes).max(axis=1)
    taps = np.flatnonzero((largest * largest.max() > share) | (largest == largest.max()))
    return int(taps[0]), int(taps[-1]) + 1


def _transform(
    planes: Planes,
    first: int,
    in_shape: tuple[int, int],
    back: Affine,
    out_rows: slice,
    parameters: ResampleParameters,
    out: Outputs,
) -> None:
    light, quality = out[0], out[2]
    noise = np.empty_like(light) if out[1] is None else out[1]
    ny, nx = in_shape
    taps = TAPS[parameters.interpolant]
    before = taps // 2 - 1
    table, sizes = _table(parameters.interpolant)
    reached = _reached(parameters.interpolant, parameters.dq_threshold)
    inverse = np.array([back.xx, back.xy, back.yx, back.yy, back.x0, back.y0])
    out_nx = light.shape[1]
    piece = max(_SHORTEST_PIECE, min(out_nx, int(_ROWS_CROSSED / max(abs(back.yx), 1e-9))))
    for left in range(0, out_nx, piece):
        columns = slice(left, min(left + piece, out_nx))
        x, y = _corners(back, out_rows, columns)
        rows, used = _needed(y, ny, taps), _needed(x, nx, taps)
        if rows.stop == rows.start or used.stop == used.start:
            light[:, columns] = noise[:, columns] = 0.0
            quality[:, columns] = DQ.NO_DATA
            continue
        inner = slice(rows.start - first, rows.stop - first), used
        box = planes[0][inner], planes[1][inner], planes[2][inner]
        filled, void = _without_gaps(*box, variance=out[1] is not None)
        corner = rows.start, used.start
        near = np.zeros_like(filled[2])
        kernels.spread_bits(filled[2], corner, in_shape, before - reached[0], reached[1] - 1 - before, near)
        if void:  # its bits reach further
            of_voids = np.where(filled[2] & kernels.VOID, filled[2], np.uint16(0))
            kernels.spread_bits(of_voids, corner, in_shape, before, taps - 1 - before, near)
        transform_rows(
            *filled, near, corner, in_shape, inverse, out_rows.start, (columns.start, columns.stop), table, sizes,
            (0,) * taps, reached, parameters.dq_threshold, abs(back.determinant), light, noise, quality,
        )  # fmt: skip
