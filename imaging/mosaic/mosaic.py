"""Stacks resampled onto one grid and combined, with variance, quality and the exposure of each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.figures_of_wcs import AstrometryMetrics
from imaging.figures import Display, Metrics, figure
from imaging.mosaic.arrange import Arrangement, fwhm
from imaging.mosaic.match_levels import Levels, match_levels
from imaging.mosaic.mosaic_input import BLOCK, MosaicInput
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import NEGLIGIBLE, Placed, SkyGrid, make_sky_grid, place
from imaging.photometry.magnitudes import PhotometryMetrics
from imaging.pixels.bands import run_bands, thread_count
from imaging.pixels.dq import DQ, LEVELS, UNUSABLE
from imaging.registration.geometry import Affine
from imaging.registration.resampling.interpolants import mean_squared_weights
from imaging.registration.resampling.resample import ResampleParameters, resample_rows
from imaging.usual import MAD_TO_SIGMA

#: Version of the algorithm: raise it when pixels or figures change for the same stacks and parameters.
VERSION = 2

#: Rows that are combined at a time. Pixels depend on it where a transform is followed by pieces, so it is fixed.
_ROWS: Final = 32
#: Widths of the pieces of a row in which one affine transform follows a distorted stack, px.
_PIECES: Final = (1024, 256, 64, 16)
#: Positions along each axis at which the noise correlation of an interpolated stack is sampled.
_CORRELATION_GRID: Final = 48
_NOISE_STEP: Final = 4

_Planes = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]


class MosaicMetrics(PhotometryMetrics, AstrometryMetrics, Metrics):
    """Figures of a mosaic."""

    ncombine: int = figure("stacks combined", "stacks combined", headline=True)
    total_exposure: float = figure("sum of the exposures of the stacks", "exposure", unit="s")
    deepest_exposure: float = figure(
        "largest exposure of a pixel, without the highest thousandth of the pixels",
        "deepest exposure",
        unit="s",
    )
    area: float = figure("area with exposure", "area", unit="arcmin2")
    seeing: float | None = figure(
        "FWHM of the stars", "seeing", unit="px", headline=True, default=None,
        also=Display("seeing on the sky", "arcsec", None),
    )  # fmt: skip
    background_rms: float = figure(
        "robust pixel rms where the exposure is at least half of the deepest", "background rms", unit="electron",
        headline=True,
    )  # fmt: skip
    noise_correlation: float = figure(
        "NCORR: noise of large bins over what VAR predicts", "noise correlation"
    )
    background_error: float | None = figure(
        "BGERR: rms error of the background that apertures do not average out", "background error",
        unit="electron", default=None,
    )  # fmt: skip
    registration: float | None = figure(
        "residual of the stars in common along one axis, root mean square of the stacks", "registration",
        unit="arcsec", headline=True, default=None,
    )  # fmt: skip
    level_rms: float = figure(
        "root mean square of the levels that were subtracted to match the backgrounds", "levels matched",
        unit="electron",
    )  # fmt: skip
    sources: int | None = figure("sources detected", "sources", default=None)
    mean_airmass: float | None = figure("mean of the stacks' airmass", "airmass", default=None)
    reference: str = figure("stack whose scale the mosaic has", "reference stack")
    started: datetime = figure("start of the first exposure")
    ended: datetime = figure("end of the last exposure")
    scales: dict[str, float] = figure("factor of each stack")
    weights: dict[str, float] = figure("weight of each stack where all its frames contribute; the sum is 1")

    def completed(self, **measured: Any) -> MosaicMetrics:
        """Return the figures with those ``measured`` after the combination."""
        return MosaicMetrics(**dict(self) | measured)


@dataclass(frozen=True)
class MosaicResult:
    """A mosaic.

    Attributes
    ----------
    sci, var, dq
        Electrons in the exposure of the reference, float32; variance, float32; quality, uint16; (ny, nx).
    exposure
        Exposure of each pixel, s, float32.
    grid
        Its pixels on the sky.
    levels
        What was subtracted from each stack.
    metrics
        Figures.
    notes
        What the user should know.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    exposure: NDArray[np.float32]
    grid: SkyGrid
    levels: Levels
    metrics: MosaicMetrics
    notes: tuple[str, ...]


def make_mosaic(
    arrangement: Arrangement,
    parameters: MosaicParameters | None = None,
    resample_parameters: ResampleParameters | None = None,
    *,
    threads: int | None = None,
) -> MosaicResult:
    """Resample stacks onto one grid, match their backgrounds and combine them.

    Parameters
    ----------
    arrangement
        The stacks, their positions and factors (`imaging.mosaic.arrange.arrange`).
    parameters, resample_parameters
        See `MosaicParameters` and `ResampleParameters`.
    threads
        Threads. The result does not depend on them.

    Returns
    -------
    MosaicResult
        VAR is that of single pixels if those of a stack were independent; the noise of a large bin is
        ``noise_correlation`` times that from VAR, because each frame, and each stack, was interpolated.

    Raises
    ------
    GroupError
        If the mosaic would be too large, or a stack is too distorted.
    """
    parameters = parameters or MosaicParameters()
    how = resample_parameters or ResampleParameters()
    stacks, base = arrangement.stacks, arrangement.stacks[arrangement.reference]
    grid = make_sky_grid(
        stacks,
        arrangement.moves,
        arrangement.reference,
        north=parameters.orientation == "north",
        max_side=parameters.max_side,
    )
    placed = [place(s, m, grid) for s, m in zip(stacks, arrangement.moves, strict=True)]
    levels = match_levels(stacks, placed, list(map(float, arrangement.factors)), grid, parameters)
    sizes = [fwhm(s) * s.sky.scale if parameters.weights == "point_source" else 1.0 for s in stacks]
    out = (
        np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32),
        np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.float32),
    )  # fmt: skip

    def work(rows: slice) -> None:
        _combine_rows(stacks, placed, arrangement.factors, levels, sizes, how, rows, out)

    run_bands(work, grid.shape[0], rows_per_band=_ROWS, threads=threads or thread_count())
    sci, var, dq, exposure = out
    deepest = float(np.quantile(exposure[exposure > 0], 0.999)) if (exposure > 0).any() else 0.0
    strength = np.array([
        1 / (f**2 * s.blocks.typical * w.area**2 * size**2)
        for s, f, w, size in zip(stacks, arrangement.factors, placed, sizes, strict=True)
    ])  # fmt: skip
    share = strength / strength.sum()
    airmasses = [s.airmass for s in stacks if s.airmass is not None]
    known = arrangement.rms[np.isfinite(arrangement.rms)]
    constants = levels.terms[levels.matched, 0]
    names = [s.name for s in stacks]
    metrics = MosaicMetrics(
        ncombine=len(stacks),
        total_exposure=math.fsum(s.exposure for s in stacks),
        deepest_exposure=deepest,
        area=float((exposure > 0).sum()) * grid.scale**2 / 3600,
        background_rms=_background_rms(sci, dq, exposure, deepest),
        noise_correlation=_noise_correlation(stacks, placed, arrangement.factors, share, how),
        registration=float(np.sqrt(np.mean(known**2))) if len(known) else None,
        level_rms=float(np.sqrt(np.mean(constants**2))) if len(constants) else 0.0,
        mean_airmass=math.fsum(airmasses) / len(airmasses) if airmasses else None,
        reference=base.name,
        started=min(s.started for s in stacks),
        ended=max(s.ended for s in stacks),
        scales={name: float(f) for name, f in zip(names, arrangement.factors, strict=True)},
        weights={name: float(w) for name, w in zip(names, share, strict=True)},
    )
    return MosaicResult(
        sci, var, dq, exposure, grid, levels, metrics, _level_notes(stacks, levels, parameters)
    )


def _level_notes(
    stacks: Sequence[MosaicInput], levels: Levels, parameters: MosaicParameters
) -> tuple[str, ...]:
    alone = [s.name for s, matched in zip(stacks, levels.matched, strict=True) if not matched]
    if not alone or parameters.level == "none":
        return ()
    return (
        f"the background of {', '.join(alone)} is not matched: too little empty sky in common with another stack",
    )


def _combine_rows(
    stacks: Sequence[MosaicInput],
    placed: Sequence[Placed],
    factors: NDArray[np.float64],
    levels: Levels,
    sizes: Sequence[float],
    how: ResampleParameters,
    rows: slice,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16], NDArray[np.float32]],
) -> None:
    """Combine some rows of the grid, each pixel from the stacks at the least bad level that any has there.

    The weight of a pixel is 1 over the variance of the empty sky at its place, so that edges with fewer frames count
    less; it does not follow the light of sources.
    """
    n, nx = len(stacks), out[0].shape[1]
    height = rows.stop - rows.start
    shape = height, nx
    least = np.full(shape, len(LEVELS) + 1, np.uint8)
    parts = []
    for k in range(n):
        box = placed[k].box
        if box[0].stop <= rows.start or box[0].start >= rows.stop or box[1].start >= box[1].stop:
            continue
        columns = box[1]
        sci, var, dq = resampled(stacks[k], placed[k], rows, columns, how)
        factor = np.float32(factors[k])
        sci *= factor
        var *= factor**2
        levels.subtract(k, sci, rows, columns)
        weight, seconds = _weights(stacks[k], placed[k], rows, columns, float(factors[k]), sizes[k])
        level = _level(sci, var, dq)
        least[:, columns] = np.minimum(least[:, columns], level)
        parts.append((columns, sci, var, dq, level, weight, seconds))
    total, variance, sum_ = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    bits, exposed = np.zeros(shape, np.uint16), np.zeros(shape)
    worst = len(LEVELS)  # NO_DATA and values that are not finite
    for columns, sci, var, dq, level, weight, seconds in parts:
        used = (level == least[:, columns]) & (level <= worst)
        w = np.where(used, weight, 0.0)
        total[:, columns] += np.where(used, w * sci, 0.0)
        variance[:, columns] += np.where(used, w**2 * var, 0.0)
        sum_[:, columns] += w
        bits[:, columns] |= np.where(used, dq, np.uint16(0))
        exposed[:, columns] += np.where(used & (level < worst), seconds, 0.0)
    there = sum_ > 0
    safe = np.where(there, sum_, 1.0)
    out[0][rows] = np.where(there, total / safe, 0.0)
    out[1][rows] = np.where(there, variance / safe**2, 0.0)
    out[2][rows] = np.where(there, bits, np.uint16(DQ.NO_DATA))
    out[3][rows] = exposed


def _level(sci: NDArray[np.float32], var: NDArray[np.float32], dq: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the number of the worst of `imaging.pixels.dq.LEVELS` of each pixel, 0 if it is good."""
    level = np.zeros(sci.shape, np.uint8)
    for number, bit in enumerate(LEVELS, start=1):
        level[(dq & np.uint16(bit)) != 0] = number
    level[~(np.isfinite(sci) & np.isfinite(var))] = len(LEVELS) + 1
    return level


def _weights(
    stack: MosaicInput, where: Placed, rows: slice, columns: slice, factor: float, size: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight and the exposure of each pixel of a box of the grid."""
    x, y = np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
    i, j = where.back(x, y)
    ny, nx = stack.shape
    bx = np.clip(np.rint(i).astype(np.intp), 0, nx - 1) // BLOCK
    by = np.clip(np.rint(j).astype(np.intp), 0, ny - 1) // BLOCK
    variance = stack.blocks.variance[by, bx].astype(np.float64) * (factor * where.area) ** 2
    return 1 / (variance * size**2), stack.blocks.exposure[by, bx].astype(np.float64)


def resampled(
    stack: MosaicInput, where: Placed, rows: slice, columns: slice, parameters: ResampleParameters
) -> _Planes:
    """Return a box of the grid from one stack: sci, var and dq.

    One affine transform is used where it agrees with the world coordinates to `NEGLIGIBLE`, otherwise one for each
    piece of the rows.
    """
    width = columns.stop - columns.start
    if where.affine is not None:
        return _piece(stack, where.affine, rows, columns, parameters)
    size = _PIECES[-1]
    for size in _PIECES:
        middle = (columns.start + columns.stop) // 2
        worst = max(
            where.local(rows, slice(at, at + size))[1]
            for at in (columns.start, middle - size // 2, max(columns.stop - size, columns.start))
        )
        if worst <= NEGLIGIBLE:
            break
    shape = rows.stop - rows.start, width
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    for left in range(columns.start, columns.stop, size):
        part = slice(left, min(left + size, columns.stop))
        affine, _ = where.local(rows, part)
        at = slice(left - columns.start, part.stop - columns.start)
        for plane, its in zip(out, _piece(stack, affine, rows, part, parameters), strict=True):
            plane[:, at] = its
    return out


def _piece(
    stack: MosaicInput, affine: Affine, rows: slice, columns: slice, parameters: ResampleParameters
) -> _Planes:
    shifted = affine.then(Affine.shift(-columns.start, 0.0))
    return resample_rows(stack.rows, stack.shape, shifted, rows, columns.stop - columns.start, parameters)


def _noise_correlation(
    stacks: Sequence[MosaicInput],
    placed: Sequence[Placed],
    factors: NDArray[np.float64],
    share: NDArray[np.float64],
    parameters: ResampleParameters,
) -> float:
    """Return the noise of large bins over that from VAR, for pixels of the weights of the stacks.

    Large bins keep their noise when a stack is interpolated, and VAR is that of its pixels times the squared weights.
    """
    noise = (share * factors) ** 2 * np.array([s.blocks.typical for s in stacks])
    gains = np.array([_squared_weights(s, w, parameters) for s, w in zip(stacks, placed, strict=True)])
    before = np.array([s.noise_correlation for s in stacks])
    return float(math.sqrt((noise * before**2).sum() / (noise * gains).sum()))


def _squared_weights(stack: MosaicInput, where: Placed, parameters: ResampleParameters) -> float:
    rows, columns = where.box
    x, y = np.meshgrid(
        np.linspace(columns.start, columns.stop - 1, _CORRELATION_GRID).round(),
        np.linspace(rows.start, rows.stop - 1, _CORRELATION_GRID).round(),
    )
    if where.affine is not None:
        return mean_squared_weights(parameters.interpolant, *where.affine.inverse()(x, y))
    return mean_squared_weights(parameters.interpolant, *where.back(x, y))


def _background_rms(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], exposure: NDArray[np.float32], deepest: float
) -> float:
    """Return the robust scatter of the empty sky, sources clipped, in the better half of the exposure."""
    part = slice(None, None, _NOISE_STEP)
    good = ((dq[part] & np.uint16(UNUSABLE)) == 0) & (exposure[part] >= 0.5 * deepest)
    values = sci[part][good].astype(np.float64)
    if not len(values):
        return 0.0
    for _ in range(3):
        middle = float(np.median(values))
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
        kept = np.abs(values - middle) <= 3 * sigma
        if kept.all() or not sigma > 0:
            break
        values = values[kept]
    return sigma
