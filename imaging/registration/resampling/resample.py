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
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import DQ
from imaging.pixels.fill import NOT_MEASURED, REACH, fill_gaps, find_gaps
from imaging.registration.distortion.camera_distortion import Distortion, path_of
from imaging.registration.geometry import Affine
from imaging.registration.resampling import shift_kernels as kernels
from imaging.registration.resampling.interpolants import TAPS, Interpolant, weight_polynomials, weights
from imaging.registration.resampling.transform_kernels import SHORT_RUN, rows_read, transform_band

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

#: Fractions at which the reach of the taps is examined.
_FRACTIONS = 8192
#: Positions along an edge of a distorted frame that determine what it reaches.
_POINTS = 65


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
    distortion: Distortion | None = None,
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
    distortion
        That of the frame.

    Returns
    -------
    slice
        Rows of the frame; empty if the frame does not reach these rows.
    """
    parameters = parameters or ResampleParameters()
    taps = TAPS[parameters.interpolant]
    if transform.is_shift and distortion is None:
        first = out_rows.start - transform.y0
        return _needed(first, first + (out_rows.stop - 1 - out_rows.start), in_shape[0], taps)
    rows, columns = _covered(transform, distortion, in_shape, out_rows, out_nx)
    begin, end = rows_read(
        path_of(transform, distortion),
        rows.start,
        rows.stop - rows.start,
        (columns.start, columns.stop),
        in_shape,
        taps,
    )
    return slice(begin, end)


def _needed(low: float, high: float, size: int, taps: int) -> slice:
    """Return the rows of the frame that positions from the lowest to the highest draw on."""
    if high < -0.5 or low > size - 0.5:
        return slice(0, 0)
    first = math.floor(low) - (taps // 2 - 1) - REACH
    last = math.floor(high) + taps // 2 + REACH + 1
    # Beyond an edge the outermost row is repeated, so that one is always needed.
    return slice(min(max(first, 0), size - 1), max(min(last, size), 1))


def _covered(
    transform: Affine, distortion: Distortion | None, in_shape: tuple[int, int], out_rows: slice, out_nx: int
) -> tuple[slice, slice]:
    """Return the rows and columns of the output that a frame may reach: with distortion no others.

    Beyond the frame the polynomial of a distortion may lead anywhere.
    """
    if distortion is None:
        return out_rows, slice(0, out_nx)
    (x_first, x_last), (y_first, y_last) = _outline(transform, distortion, in_shape)
    begin, end = max(out_rows.start, y_first), min(out_rows.stop, y_last)
    left, right = max(0, x_first), min(out_nx, x_last)
    return slice(begin, max(begin, end)), slice(left, max(left, right))


@lru_cache(maxsize=256)
def _outline(
    transform: Affine, distortion: Distortion, in_shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first column of the output that a frame reaches, and the one after the last; and the same of rows."""
    along_x, along_y = (np.linspace(-0.5, n - 0.5, _POINTS) for n in in_shape[::-1])
    x = np.concatenate([along_x, along_x, np.full(_POINTS, along_x[0]), np.full(_POINTS, along_x[-1])])
    y = np.concatenate([np.full(_POINTS, along_y[0]), np.full(_POINTS, along_y[-1]), along_y, along_y])
    columns, rows = (
        (math.floor(there.min()) - 1, math.ceil(there.max()) + 2) for there in transform(*distortion(x, y))
    )
    return columns, rows


def resample_rows(
    source: RowSource,
    in_shape: tuple[int, int],
    transform: Affine,
    out_rows: slice,
    out_nx: int,
    parameters: ResampleParameters | None = None,
    distortion: Distortion | None = None,
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
    distortion
        That of the frame, which the output is without. It does not change the values: a flat field has divided by the
        areas of the pixels, so that what is interpolated is a surface brightness.

    Returns
    -------
    sci, var, dq
        float32, float32, uint16 (rows, out_nx), contiguous. Outside the frame 0, 0 and NO_DATA.
    """
    parameters = parameters or ResampleParameters()
    shape = (out_rows.stop - out_rows.start, out_nx)
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    resample_into(out, source, in_shape, transform, out_rows, parameters, distortion)
    return out


def resample_into(
    out: Outputs,
    source: RowSource,
    in_shape: tuple[int, int],
    transform: Affine,
    out_rows: slice,
    parameters: ResampleParameters | None = None,
    distortion: Distortion | None = None,
) -> None:
    """Resample a frame onto some rows of the output, as `resample_rows`, into arrays that exist.

    Parameters
    ----------
    out
        sci, var and dq, (rows, out_nx), contiguous; None instead of var if variances are not wanted.
    source, in_shape, transform, out_rows, parameters, distortion
        See `resample_rows`.
    """
    parameters = parameters or ResampleParameters()
    needed = input_rows_needed(transform, out_rows, out[0].shape[1], in_shape, parameters, distortion)
    rows, columns = _covered(transform, distortion, in_shape, out_rows, out[0].shape[1])
    if needed.stop == needed.start or (rows, columns) != (out_rows, slice(0, out[0].shape[1])):
        out[0][:], out[2][:] = 0.0, DQ.NO_DATA
        if out[1] is not None:
            out[1][:] = 0.0
    if needed.stop == needed.start:
        return
    planes = source(needed)
    if transform.is_shift and distortion is None:
        filled, void = _without_gaps(*planes, variance=out[1] is not None)
        _shift(*filled, void, needed.start, in_shape[0], transform, out_rows.start, parameters, out)
    else:
        inner = slice(rows.start - out_rows.start, rows.stop - out_rows.start)
        reached = out[0][inner], None if out[1] is None else out[1][inner], out[2][inner]
        _transform(
            planes, needed.start, in_shape, transform, distortion, rows.start, columns, parameters, reached
        )


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
    along, across = _tapped(parameters.interpolant, x - ix), _tapped(parameters.interpolant, y - iy)
    reach = TAPS[parameters.interpolant] // 2 - 1
    left, top = ix - reach, iy - reach
    kernels.shift_rows(sci, first, ny, left, top, along.weights, across.weights, out[0])
    if out[1] is not None:
        kernels.shift_rows(var, first, ny, left, top, along.squares, across.squares, out[1])
    # Half-way between two pixels, the first counts as the nearest, as on the general path.
    main_x, main_y = reach + (x - ix > 0.5), reach + (y - iy > 0.5)
    light, noise = out[0], out[0] if out[1] is None else out[1]
    kernels.shift_quality(
        dq, first, ny, left, top, main_x, main_y, along.shares, across.shares, parameters.dq_threshold, void,
        light, noise, out[2],
    )  # fmt: skip


class _Tapped(NamedTuple):
    """Weights of the pixels along one axis, their squares, and their shares in the sum of absolute weights."""

    weights: tuple[np.float32, ...]
    squares: tuple[np.float32, ...]
    shares: NDArray[np.float64]


@lru_cache(maxsize=5000)  # the bands of a frame have the same, but for the last bits
def _tapped(interpolant: Interpolant, fraction: float) -> _Tapped:
    found = weights(interpolant, fraction)
    shares = np.abs(found) / np.abs(found).sum()
    return _Tapped(tuple(found.astype(np.float32)), tuple((found**2).astype(np.float32)), shares)


@lru_cache
def _reach(interpolant: Interpolant, share: float) -> float:
    """Return how far from a position, on either axis, a pixel can be the nearest, or exceed a share of the weights."""
    fractions, taps = np.arange(_FRACTIONS + 1) / _FRACTIONS, TAPS[interpolant]
    found = np.abs(weights(interpolant, fractions))
    shares = found / found.sum(axis=1, keepdims=True)
    distances = np.abs(fractions[:, None] - (np.arange(taps) - (taps // 2 - 1)))
    return max(float(distances[shares * shares.max() > share].max()) + 1 / _FRACTIONS, 0.5)


def _transform(
    planes: Planes,
    first: int,
    in_shape: tuple[int, int],
    transform: Affine,
    distortion: Distortion | None,
    out_first: int,
    columns: slice,
    parameters: ResampleParameters,
    out: Outputs,
) -> None:
    back, path = transform.inverse(), path_of(transform, distortion)
    sci, var, dq = (np.ascontiguousarray(plane) for plane in planes)
    light, noise, quality = out
    interpolant, share = parameters.interpolant, parameters.dq_threshold
    even, odd = weight_polynomials(interpolant)
    # Along a row of the output, the row of the frame changes with yx, and the column by other than 1 with xx - 1.
    short_runs = (abs(back.yx) + abs(back.xx - 1.0)) * SHORT_RUN > 1.0
    transform_band(
        sci, sci if noise is None else var, dq, first, in_shape, path, out_first, (columns.start, columns.stop),
        short_runs, even, odd,
        interpolant == "nearest", (0,) * TAPS[interpolant], _reach(interpolant, share),
        _reach(interpolant, min(share, kernels.VOID_SHARE)), np.float32(share), abs(back.determinant),
        noise is not None, light, light if noise is None else noise, quality,
    )  # fmt: skip
