"""The sky of a frame that no other frame shows: its own smooth background.

It is not a sky subtraction: what the detector adds on small scales stays, and an object larger than a cell of the mesh
is taken for sky. What remains is marked wherever it is shown.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.sky import residual
from imaging.sky.subtract import SkyMetrics
from imaging.sources.background import measure_background, mesh_row

_NO_DATA: Final = np.uint16(DQ.NO_DATA)


def subtract_own_background(
    name: str,
    sci: NDArray[np.float32],
    var: NDArray[np.float32] | None,
    dq: NDArray[np.uint16],
    *,
    mask: NDArray[np.uint8] | None,
    cell: int,
    level: float,
    dark_variance: NDArray[np.float32] | None = None,
    flat_variance: NDArray[np.float32] | None = None,
) -> SkyMetrics:
    """Subtract, in place, the smooth background of a detrended frame.

    With sky frames, the noise of dark and flat on the sky cancels; here it does not, and is added to ``var``.

    Parameters
    ----------
    name
        The frame's name.
    sci, var, dq
        The frame: electrons, variance of the random noise (None if only the sources are wanted), quality, (ny, nx).
    mask
        1 on sources, (ny, nx), or None.
    cell
        Side of a cell of the mesh, px.
    level
        Sky level of the frame, electrons.
    dark_variance
        Variance of the dark over the flat squared, electrons squared, (ny, nx).
    flat_variance
        Relative variance of the flat, (ny, nx).

    Returns
    -------
    SkyMetrics
        Its figures, without sky frames.

    Raises
    ------
    ValueError
        If no cell has enough good pixels.
    """
    background = measure_background(sci, dq, cell=cell, objects=mask)
    if var is not None:
        if dark_variance is not None:
            var += dark_variance
        if flat_variance is not None:
            var += sci * sci * flat_variance
    _subtract(sci, dq, background.level_mesh, background.cell)
    left = residual.measure_background(sci, dq, mask, "level")
    return SkyMetrics(
        name=name, sky_frames=(), level=level, residual_level=0.0, residual_slope_x=0.0, residual_slope_y=0.0,
        residual_rms=left.rms, structure=math.nan, surface_terms=0, surface_rms=0.0, channel_rms=0.0, row_rms=0.0,
        periodic_rms=0.0, vignetted=0, glow=0, behind_sources=0, without_sky=0,
    )  # fmt: skip


def _subtract(sci: NDArray[np.float32], dq: NDArray[np.uint16], mesh: NDArray[np.float32], cell: int) -> None:
    """Subtract the bilinear surface through the cells' centres in place where ``dq`` has no `DQ.NO_DATA`."""
    line = np.empty(sci.shape[1], np.float32)
    for y, (row, flags) in enumerate(zip(sci, dq, strict=True)):
        mesh_row(mesh, cell, y, line)
        row -= np.where((flags & _NO_DATA) == 0, line, np.float32(0.0))
