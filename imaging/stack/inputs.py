"""The frames of a stack, and their rows on the grid of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.frames.facts import FrameFacts
from imaging.io.planes import Planes
from imaging.pixels.dq import DQ
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.geometry import Affine, Grid
from imaging.registration.resampling.resample import ResampleParameters, resample_into

#: Interval between the rows from which an unknown noise is taken.
_NOISE_STEP: Final = 16

#: Bytes per pixel of a resampled frame: with and without its variance, and of its quality alone.
WITH_VARIANCE: Final = 10
WITHOUT_VARIANCE: Final = 6
QUALITY: Final = 2
#: Of the frame that is being resampled, and of the sums of a mean.
_IN_PROGRESS: Final = 60
_SUMS: Final = 30

_Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]


@dataclass(frozen=True)
class StackInput:
    """One sky-subtracted frame to stack.

    Attributes
    ----------
    name
        The frame's name.
    planes
        Its ``sci``, ``var`` (float32) and ``dq`` (uint16).
    transform
        Frame pixel to reference pixel (`imaging.registration.entries.AlignEntry.transform`).
    facts
        Exposure, airmass and times.
    flux_scale, flux_error
        Flux of the matched stars over their flux in the reference, and its relative standard error (None if
        unknown); used by ``scale`` ``auto`` and ``stars``.
    noise
        Background noise, electrons; used by the weights.
    seeing
        FWHM of stars, pixels; used by the weights and the rejection.
    distortion
        That of the camera, which the stack is without; None: the frame is taken as undistorted.
    """

    name: str
    planes: Planes
    transform: Affine
    facts: FrameFacts
    flux_scale: float = 1.0
    flux_error: float | None = None
    noise: float | None = None
    seeing: float | None = None
    distortion: Distortion | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the frame."""
        ny, nx = self.planes.shape("sci")
        return ny, nx

    def on_grid(
        self, grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the positions on the output's grid of positions in the frame."""
        if self.distortion is not None:
            x, y = self.distortion(x, y)
        return grid.place(self.transform)(x, y)

    def background(self) -> float:
        """Return the background noise, electrons: ``noise``, or if it is unknown what VAR gives."""
        if self.noise is not None and self.noise > 0:
            return self.noise
        rows = [slice(y, y + 1) for y in range(0, self.shape[0], _NOISE_STEP)]
        var = np.concatenate([self.planes.rows("var", r).ravel() for r in rows])
        dq = np.concatenate([self.planes.rows("dq", r).ravel() for r in rows])
        good = (dq == 0) & (var > 0) & np.isfinite(var)
        return float(np.sqrt(np.median(var[good]))) if good.any() else 0.0


def bytes_per_row(frames: int, columns: int, per_pixel: int, *, threads: int = 1) -> int:
    """Return the bytes that a row of all resampled frames takes while so many threads combine them."""
    return columns * (frames * per_pixel + threads * _IN_PROGRESS + (_SUMS if per_pixel == QUALITY else 0))


def resampled(
    inputs: Sequence[StackInput],
    grid: Grid,
    rows: slice,
    scales: NDArray[np.float64],
    parameters: ResampleParameters,
    hits: Sequence[NDArray[np.int64]] | None = None,
) -> _Rows:
    """Return some rows of the grid from every frame, scaled: (n, rows, nx).

    Parameters
    ----------
    inputs, grid
        The frames, and where they go.
    rows
        Rows of the grid.
    scales
        Factor of each frame.
    parameters
        The interpolant.
    hits
        For each frame the flat indices, ascending, of its pixels that are rejected (DQ 8).
    """
    shape = (len(inputs), rows.stop - rows.start, grid.shape[1])
    sci, var, dq = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    for i, frame in enumerate(inputs):
        gone = None if hits is None else hits[i]
        resample_input(frame, grid, rows, float(scales[i]), parameters, gone, (sci[i], var[i], dq[i]))
    return sci, var, dq


def resample_input(
    frame: StackInput,
    grid: Grid,
    rows: slice,
    scale: float,
    parameters: ResampleParameters,
    gone: NDArray[np.int64] | None,
    out: tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint16]],
) -> None:
    """Resample some rows of the grid from one frame, scaled, into arrays (rows, nx); see `resampled`."""

    def source(wanted: slice) -> _Rows:
        quality = frame.planes.rows("dq", wanted)
        if gone is not None:
            first, last = (n * quality.shape[1] for n in (wanted.start, wanted.stop))
            here = gone[np.searchsorted(gone, first) : np.searchsorted(gone, last)] - first
            quality.reshape(-1)[here] |= np.uint16(DQ.COSMIC_RAY)
        return frame.planes.rows("sci", wanted), frame.planes.rows("var", wanted), quality

    sci, var, _ = out
    resample_into(out, source, frame.shape, grid.place(frame.transform), rows, parameters, frame.distortion)
    if scale != 1.0:
        sci *= np.float32(scale)
        if var is not None:
            var *= np.float32(scale**2)
