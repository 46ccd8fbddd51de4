"""An image prepared for photometry: without its background, without gaps, with the variance of its empty sky."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.sky_around_sources import sky_around_sources
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.fill import NOT_MEASURED, fill_in_place, find_gaps
from imaging.sources import segmentation
from imaging.sources.background import Background, level_at, measure_background
from imaging.sources.detect import Detection

#: Margin of apertures from sources and from pixels without a measurement, px.
_MARGIN: Final = 1.0


@dataclass(frozen=True)
class MeasuredImage:
    """An image, with what its photometry needs.

    Attributes
    ----------
    sky_subtracted
        float32 (ny, nx), electrons: the image without its background, gaps filled from their neighbours.
    var
        float32 (ny, nx), electrons squared: its variance, gaps filled.
    sky_variance
        The variance on a mesh, without sources.
    usable, empty
        bool (ny, nx): pixels with a measurement, and those of them that are on no source.
    """

    sky_subtracted: NDArray[np.float32]
    var: NDArray[np.float32]
    sky_variance: Background
    usable: NDArray[np.bool_]
    empty: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        sci: NDArray[np.float32],
        var: NDArray[np.float32],
        dq: NDArray[np.uint16],
        found: Detection,
    ) -> MeasuredImage:
        """Prepare an image whose sources were found.

        Parameters
        ----------
        sci, var, dq
            The image, (ny, nx).
        found
            Its sources.

        Raises
        ------
        ValueError
            If it has no good pixels.
        """
        filled, noise = (np.array(plane, np.float32, order="C") for plane in (sci, var))
        mesh, surroundings = sky_around_sources(sci, dq, found)
        segmentation.subtract_mesh(filled, mesh.level_mesh, mesh.cell)
        gaps = find_gaps(filled, filled, dq, NOT_MEASURED)
        for plane in (filled, noise):
            fill_in_place(plane, gaps)
        usable = ((dq & np.uint16(UNUSABLE)) == 0) & np.isfinite(sci) & np.isfinite(var) & (var > 0)
        empty = usable & (found.object_mask == 0)
        flags = np.where(usable, np.uint16(0), np.uint16(DQ.NO_DATA))
        sky = measure_background(noise, flags, cell=mesh.cell, objects=surroundings)
        return cls(filled, noise, sky, usable, empty)

    @cached_property
    def _empty_above(self) -> NDArray[np.int32]:
        """Return the number of empty pixels in the rows below and the columns left of each: (ny + 1, nx + 1)."""
        ny, nx = self.empty.shape
        counts = np.zeros((ny + 1, nx + 1), np.int32)
        np.cumsum(self.empty, axis=0, dtype=np.int32, out=counts[1:, 1:])
        np.cumsum(counts, axis=1, out=counts)
        return counts

    def empty_centres(self, radius: float, spacing: float) -> NDArray[np.float64]:
        """Return centres (x, y) of circles, on a square grid, in squares of empty sky: (n, 2).

        Parameters
        ----------
        radius
            Of the circles, px.
        spacing
            Of the grid, px; not less than 1.
        """
        half = math.ceil(radius + _MARGIN)
        ny, nx = self.empty.shape
        step = max(spacing, 1.0)
        rows, columns = (np.arange(half, max(n - half, half), step).astype(int) for n in (ny, nx))
        low, high = np.ix_(rows - half, columns - half), np.ix_(rows + half + 1, columns + half + 1)
        counts = self._empty_above
        inside = counts[high] - counts[low[0], high[1]] - counts[high[0], low[1]] + counts[low]
        j, i = np.nonzero(inside == (2 * half + 1) ** 2)
        return np.column_stack([columns[i], rows[j]]).astype(np.float64)

    def sky_variance_at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the variance of a pixel of the empty sky at positions (x, y), electrons squared."""
        return np.maximum(level_at(self.sky_variance, positions), 0.0)


def circle_sums(
    plane: NDArray[np.float32], positions: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Return the sums of a plane in circles; pixels cut by a circle count with the share of their area (SEP).

    Parameters
    ----------
    plane
        float32 (ny, nx), C order.
    positions
        Centres x, y from 0, (n, 2).
    radius
        px.
    """
    import sep  # late: its import takes time, and only stacks need it

    if not len(positions):
        return np.zeros(0)
    sums, _, _ = sep.sum_circle(plane, positions[:, 0], positions[:, 1], radius, subpix=0)
    return np.asarray(sums, np.float64)
