"""The stacks that a mosaic is made from, as far as it uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import Prior
from imaging.header import Header
from imaging.pixels.dq import UNUSABLE
from imaging.registration.resampling.resample import RowSource

#: Side of the blocks in which the variance of the background is measured, px.
BLOCK: Final = 4


@dataclass(frozen=True)
class MosaicInput:
    """One stack.

    Attributes
    ----------
    name
        Its name, for messages and tables.
    rows
        Source of its sci, var and dq: electrons, electrons squared, bits.
    shape
        (ny, nx).
    header
        Header with its world coordinates.
    catalogue
        Its sources, `imaging.sources.detect.CATALOGUE`.
    objects
        uint8 (ny, nx), 1 on sources.
    seeing
        FWHM of its stars, px; NaN if unknown.
    exposure
        Total exposure, s.
    started, ended
        Start of its first and end of its last exposure.
    noise_correlation
        NCORR: noise of large bins over what VAR predicts.
    zero_point, zero_point_error
        From a catalogue, mag; None if it is unknown or nominal.
    position_error
        Standard error of world coordinates from a catalogue along one axis, arcsec; None for those of the telescope.
    airmass
        Mean airmass.
    exposures
        Reads rows of its plane EXPOSURE, s; None without one.
    """

    name: str
    rows: RowSource
    shape: tuple[int, int]
    header: Header
    catalogue: NDArray[np.void]
    objects: NDArray[np.uint8]
    seeing: float
    exposure: float
    started: datetime
    ended: datetime
    noise_correlation: float = 1.0
    zero_point: float | None = None
    zero_point_error: float | None = None
    position_error: float | None = None
    airmass: float | None = None
    exposures: Callable[[slice], NDArray[np.float32]] | None = None

    @cached_property
    def sky(self) -> Prior:
        """Its world coordinates.

        Raises
        ------
        ValueError
            If it has none.
        """
        return Prior(self.header, self.shape)

    @cached_property
    def blocks(self) -> SkyBlocks:
        """The variance of its empty sky, and its exposure."""
        return measure_blocks(self)


@dataclass(frozen=True)
class SkyBlocks:
    """The empty sky of a stack in blocks of `BLOCK` x `BLOCK` pixels, each with the value of the nearest known one.

    Attributes
    ----------
    variance
        float32 (blocks in y, blocks in x): variance of a pixel, electrons squared.
    exposure
        float32, of the same shape: exposure, s.
    typical
        Variance of a pixel where all frames contribute, electrons squared.
    """

    variance: NDArray[np.float32]
    exposure: NDArray[np.float32]
    typical: float


#: Share of the blocks with less variance than is usual where all frames contribute.
_DEEP: Final = 0.25


def measure_blocks(stack: MosaicInput) -> SkyBlocks:
    """Measure the variance of the empty sky in blocks, without that of the light of sources.

    A weight must not follow the noise or the sources of its own pixel: the mean would be biased. Blocks average the
    noise, and those on sources have the value of the nearest empty one.

    Raises
    ------
    ValueError
        If the stack has no usable pixel of empty sky.
    """
    ny, nx = stack.shape
    rows, columns = -(-ny // BLOCK), -(-nx // BLOCK)
    total, count = np.zeros((rows, columns)), np.zeros((rows, columns))
    light = np.zeros((rows, columns))
    for first in range(0, ny, 64 * BLOCK):
        band = slice(first, min(first + 64 * BLOCK, ny))
        _, var, dq = stack.rows(band)
        usable = ((dq & np.uint16(UNUSABLE)) == 0) & np.isfinite(var) & (var > 0)
        empty = usable & (stack.objects[band] == 0)
        part = slice(first // BLOCK, -(-band.stop // BLOCK))
        total[part] += _summed(np.where(empty, var, 0.0))
        count[part] += _summed(empty.astype(np.float64))
        if stack.exposures is not None:
            light[part] += _summed(stack.exposures(band).astype(np.float64))
    known = count > 0
    if not known.any():
        raise ValueError("no usable pixel of empty sky")
    variance = _nearest(np.where(known, total / np.maximum(count, 1), 0.0), known)
    typical = float(np.quantile(variance[known], _DEEP))
    if stack.exposures is not None:
        exposure = light / _summed(np.ones((ny, nx)))
    else:
        exposure = stack.exposure * np.minimum(typical / variance, 1.0)
    return SkyBlocks(variance.astype(np.float32), exposure.astype(np.float32), typical)


def _summed(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of blocks; those at the upper edges may be incomplete."""
    ny, nx = plane.shape
    whole = np.zeros((-(-ny // BLOCK) * BLOCK, -(-nx // BLOCK) * BLOCK))
    whole[:ny, :nx] = plane
    return np.asarray(whole.reshape(len(whole) // BLOCK, BLOCK, -1, BLOCK).sum(axis=(1, 3)))


def _nearest(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the values, each unknown one replaced by the nearest known one."""
    if known.all():
        return values
    from scipy.ndimage import distance_transform_edt  # imported late: only mosaics need it

    j, i = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[j, i])
