"""Stack sky-subtracted frames: resampled and combined band by band, with no resampled frame on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.figures_of_wcs import AstrometryMetrics
from imaging.errors import GroupError
from imaging.figures import Display, Metrics, figure, share
from imaging.parameters import parameter
from imaging.photometry.magnitudes import PhotometryMetrics
from imaging.pixels.bands import DEFAULT_MEMORY, rows_for, run_bands, thread_count
from imaging.pixels.combine import Combined, CombineParameters, RunningMean, combine
from imaging.pixels.dq import UNUSABLE
from imaging.registration.geometry import Grid
from imaging.registration.resampling.interpolants import mean_squared_weights
from imaging.registration.resampling.resample import ResampleParameters
from imaging.stack.frame_limits import LimitParameters
from imaging.stack.inputs import (
    QUALITY,
    WITH_VARIANCE,
    StackInput,
    bytes_per_row,
    resample_input,
    resampled,
)
from imaging.stack.psf_kernels import even_out
from imaging.stack.rejection import RejectionParameters, find_hits
from imaging.stack.scaling import Scaling, ScalingParameters, Weighting, choose_scaling, choose_weights
from imaging.usual import MAD_TO_SIGMA

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 9

_MOST_ROWS: Final = 64
#: Positions along each axis at which the noise correlation of a rotated frame is sampled.
_CORRELATION_GRID: Final = 48
#: Interval between the rows that are used for the background noise.
_NOISE_STEP: Final = 4
_CLIP: Final = 3.0


class StackParameters(RejectionParameters, ScalingParameters, LimitParameters):
    """How aligned frames are stacked."""

    operation: Literal["mean", "median"] = parameter("mean", "how the remaining values are combined")
    reject: Literal["none", "variance"] = parameter(
        "variance",
        "reject nothing, or pixels of a frame further from the median of the frames, in the frame's seeing, than VAR "
        "allows (DQ 8)",
    )  # fmt: skip
    zero_level: bool = parameter(
        True, "raise the stack by the light of stars that no mask covers, and that was subtracted as sky"
    )
    distortion: Literal["auto", "never"] = parameter(
        "auto",
        "distortion of the camera, removed in the resampling: auto (if the store has one that serves) or never",
    )
    coverage: bool = parameter(False, "add a plane EXPOSURE: exposure at each pixel of the stack")
    depth_map: bool = parameter(
        False, "add a plane DEPTH: magnitude of a point source of five sigma at each pixel"
    )


class CombinationMetrics(Metrics):
    """Figures of a stack without those of its world coordinates and its photometry."""

    ncombine: int = figure("frames combined", "frames stacked", headline=True, history=True)
    total_exposure: float = figure("sum of the exposures", "exposure", unit="s")
    effective_exposure: float = figure(
        "exposure of frames like the reference with the background noise of the stack", "effective exposure",
        unit="s",
    )  # fmt: skip
    scaled_by: str = figure(
        "what the frames are scaled to the reference by: stars, exposure or none", "scaled by"
    )
    weighted_by: str = figure("weights of the frames: point_source, noise or none", "weighted by")
    reference_transparency: float | None = share(
        "transparency of the reference, and so of the stack, over that of the clearest frame",
        "transparency of the reference", digits=2, default=None,
    )  # fmt: skip
    seeing: float | None = figure(
        "FWHM of the stack's stars", "seeing", unit="px", headline=True, history=True, digits=2, default=None,
        also=Display("seeing on the sky", "arcsec", None),
    )  # fmt: skip
    background_rms: float = figure(
        "robust pixel rms where all frames contribute", "background rms",
        unit="electron", headline=True, history=True,
    )  # fmt: skip
    sky: float | None = figure(
        "median of the frames' sky levels", "sky", unit="electron", history=True, default=None
    )
    starlight: float | None = figure(
        "mean light of stars outside the masks of the frames that was kept out of their skies; missing if the field is "
        "not crowded",
        "starlight kept out of the sky", unit="electron", default=None,
    )  # fmt: skip
    sky_frames: int | None = figure(
        "fewest sky frames of a stacked frame; 0: its own smooth background", "sky frames", default=None
    )
    lost_at_centre: float | None = share(
        "estimated share of the light at the centre of an extended source that the stack lacks, because its sky frames "
        "contain it; missing if it is below sky.loss there and in the halo",
        "lost at the centre of an extended source", default=None,
    )  # fmt: skip
    lost_in_halo: float | None = share(
        "the same in its halo, at two scale lengths if these are seen", "lost in its halo", default=None
    )
    needed_throw: float | None = figure(
        "median distance of its frames from their sky frames, or that of frames of the sky next to it, which would "
        "keep these below sky.loss", "sky frames needed at", unit="arcsec", default=None,
    )  # fmt: skip
    transparency: float | None = share(
        "least flux of the matched stars over their flux in the reference", "least transparency",
        history=True, digits=2, default=None,
    )  # fmt: skip
    registration: float | None = figure(
        "root mean square of the frames' standard errors of registration", "registration",
        unit="px", headline=True, history=True, digits=2, default=None,
    )  # fmt: skip
    weakly_aligned: int | None = figure(
        "frames placed by their headers, alone or with too few stars",
        "aligned without enough stars",
        default=None,
    )
    sources: int | None = figure("sources detected in the stack", "sources", default=None)
    persistence: int | None = figure(
        "pixels of the frames flagged for persistence of earlier exposures (DQ 16), all frames",
        "persistence flagged", default=None,
    )  # fmt: skip
    persistence_strength: float | None = figure(
        "median of the frames' measured persistence over that expected from the detector's table",
        "persistence over expected", default=None,
    )  # fmt: skip
    rejected: int = figure("rejected values, all frames")
    rejected_share: float = share(
        "rejected values over all the values on the detectors' good pixels", "rejected"
    )
    noise_correlation: float = figure(
        "NCORR: noise of large bins over what VAR predicts", "noise correlation", digits=3
    )
    background_error: float | None = figure(
        "BGERR: rms error of the background that apertures do not average out", "background error",
        unit="electron", digits=2, default=None,
    )  # fmt: skip
    raised: float | None = figure(
        "level added to the stack: light of stars outside the masks that was subtracted as sky",
        "level added", unit="electron", default=None,
    )  # fmt: skip
    mean_airmass: float | None = figure("mean of the frames' airmass", "airmass", digits=3)
    reference: str | None = figure("frame that the others are aligned to", "reference frame", default=None)
    started: datetime = figure("start of the first exposure")
    ended: datetime = figure("end of the last exposure")
    scales: dict[str, float] = figure("factor of each frame")
    weights: dict[str, float] = figure("weight of each frame; the sum is 1")


class StackMetrics(PhotometryMetrics, AstrometryMetrics, CombinationMetrics):
    """Figures of a stack.

    `make_stack` provides those of the combination. Those of the alignment, the sky and the sources are None
    until the step adds them (`completed`).
    """

    def completed(self, **measured: Any) -> StackMetrics:
        """Return the figures with those ``measured`` after the combination."""
        return StackMetrics(**dict(self) | measured)


@dataclass(frozen=True)
class StackResult:
    """A stack on the output's grid.

    Attributes
    ----------
    sci, var, dq
        Electrons in the exposure of the reference, float32; variance, float32; quality, uint16.
    count
        Frames that contribute to each pixel, uint16.
    metrics
        Figures.
    notes
        What was done in another way than requested, and why.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    count: NDArray[np.uint16]
    metrics: StackMetrics
    notes: tuple[str, ...] = ()


def make_stack(
    inputs: Sequence[StackInput],
    grid: Grid,
    resample_parameters: ResampleParameters | None = None,
    parameters: StackParameters | None = None,
    *,
    reference: str | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> StackResult:
    """Resample frames onto a grid and combine them.

    Parameters
    ----------
    inputs
        Aligned frames.
    grid
        Where they go (`imaging.registration.geometry.make_grid`).
    resample_parameters, parameters
        See `ResampleParameters` and `StackParameters`.
    reference
        The frame whose exposure the others are scaled to; default: the first.
    threads, memory
        Threads, and bytes for the bands being processed. The result does not depend on them.

    Returns
    -------
    StackResult
        VAR is that of single pixels; the interpolation correlates neighbours, and the noise of a large bin is
        ``noise_correlation`` times that from VAR.

    Raises
    ------
    GroupError
        Without frames, or if a scale or weight is not available.
    """
    if not inputs:
        raise GroupError("No frame to stack.", remedy="Check why the frames were left out.")
    parameters = parameters or StackParameters()
    resample_parameters = resample_parameters or ResampleParameters()
    threads = threads or thread_count()
    scaling = choose_scaling(inputs, parameters, reference)
    scales = scaling.factors
    weighting = choose_weights(inputs, parameters, scales)
    weights = weighting.shares if parameters.operation == "mean" else None
    median = CombineParameters(operation="median", reject="none")
    ny, nx = grid.shape
    out = (
        np.empty(grid.shape, np.float32), np.empty(grid.shape, np.float32),
        np.empty(grid.shape, np.uint16), np.empty(grid.shape, np.uint16),
    )  # fmt: skip
    found = find_hits(inputs, grid, scales, resample_parameters, parameters, threads=threads, memory=memory)
    hits = found.pixels if parameters.reject == "variance" else None
    share = np.full(len(inputs), 1.0 / len(inputs)) if weights is None else weights
    even = parameters.operation != "median" and not found.unmatched

    def work(rows: slice) -> None:
        if parameters.operation == "median":
            sci, var, dq = resampled(inputs, grid, rows, scales, resample_parameters, hits)
            combined = combine(sci, var, dq, median)
        else:
            combined, dq = _mean(inputs, grid, rows, scales, resample_parameters, hits, weights)
        if even:
            even_out(
                found.template.median,
                found.template.kinds,
                found.kernels,
                share,
                rows.start,
                dq,
                combined.sci,
            )
        planes: list[NDArray[Any]] = [*out]
        for plane, rows_of_it in zip(planes, combined, strict=True):
            plane[rows] = rows_of_it

    each = WITH_VARIANCE if parameters.operation == "median" else QUALITY
    fitting = rows_for(memory, bytes_per_row(len(inputs), nx, each), threads=threads)
    run_bands(work, ny, rows_per_band=min(fitting, _MOST_ROWS), threads=threads)
    rejected = sum(len(pixels) for pixels in hits or ())
    metrics = _metrics(
        inputs, grid, resample_parameters, scaling, weighting, share, reference, rejected, found.tested, out
    )
    notes = (
        scaling.note,
        weighting.note if parameters.operation == "mean" else "",
        _unmatched(found.unmatched),
    )
    return StackResult(*out, metrics, tuple(note for note in notes if note))


def _mean(
    inputs: Sequence[StackInput],
    grid: Grid,
    rows: slice,
    scales: NDArray[np.float64],
    parameters: ResampleParameters,
    hits: Sequence[NDArray[np.int64]] | None,
    weights: NDArray[np.float64] | None,
) -> tuple[Combined, NDArray[np.uint16]]:
    """Return the mean of some rows of all frames, and the quality of each, (n, rows, nx): one frame after the other."""
    shape = rows.stop - rows.start, grid.shape[1]
    quality = np.empty((len(inputs), *shape), np.uint16)
    sci, var = np.empty(shape, np.float32), np.empty(shape, np.float32)
    mean = RunningMean(shape)
    for i, (frame, dq) in enumerate(zip(inputs, quality, strict=True)):
        gone = None if hits is None else hits[i]
        resample_input(frame, grid, rows, float(scales[i]), parameters, gone, (sci, var, dq))
        mean.add(sci, var, dq, 1.0 if weights is None else float(weights[i]))
    return mean.result(), quality


def _unmatched(names: Sequence[str]) -> str:
    """Return a note on the frames whose seeing could not be matched; empty without such frames."""
    if not names:
        return ""
    return (
        f"too few bright stars to match the seeing of {', '.join(names)}: under sources, only deviations beyond "
        "stack.tolerance are rejected"
    )


def _metrics(
    inputs: Sequence[StackInput],
    grid: Grid,
    parameters: ResampleParameters,
    scaling: Scaling,
    weighting: Weighting,
    share: NDArray[np.float64],
    reference: str | None,
    rejected: int,
    tested: int,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16], NDArray[np.uint16]],
) -> StackMetrics:
    n = len(inputs)
    # Contribution of each frame to the variance of a pixel, as in VAR, and to the true variance of a large
    # bin.
    known = all(f.noise is not None and f.noise > 0 for f in inputs)
    noise = scaling.factors * np.array([f.noise if known else 1.0 for f in inputs], np.float64)
    pixel = (share * noise) ** 2
    gains = np.array([_squared_weights(f, grid, parameters) for f in inputs])
    home = next((i for i, f in enumerate(inputs) if f.name == reference), 0)
    airmasses = [f.facts.airmass for f in inputs if f.facts.airmass is not None]
    exposures = np.array([f.facts.exposure for f in inputs])
    return StackMetrics(
        ncombine=n,
        rejected=rejected,
        rejected_share=rejected / max(tested, 1),
        background_rms=_background_rms(*out, n),
        noise_correlation=float(math.sqrt(pixel.sum() / (pixel * gains).sum())),
        total_exposure=float(exposures.sum()),
        effective_exposure=float(exposures[home] * noise[home] ** 2 / pixel.sum())
        if known
        else float(exposures.mean() / (share**2).sum()),
        scaled_by=scaling.by,
        reference_transparency=scaling.transparency,
        weighted_by=weighting.by if weighting.shares is not None else "none",
        mean_airmass=math.fsum(airmasses) / len(airmasses) if airmasses else None,
        started=min(f.facts.started for f in inputs),
        ended=max(f.facts.ended for f in inputs),
        scales={f.name: float(s) for f, s in zip(inputs, scaling.factors, strict=True)},
        weights={f.name: float(s) for f, s in zip(inputs, share, strict=True)},
    )


def _squared_weights(frame: StackInput, grid: Grid, parameters: ResampleParameters) -> float:
    """Return the mean over the frame of the summed squares of the interpolant's weights."""
    ny, nx = frame.planes.shape("sci")
    back = grid.place(frame.transform).inverse()
    steps = 1 if back.is_shift and frame.distortion is None else _CORRELATION_GRID
    x, y = np.meshgrid(np.linspace(0, nx - 1, steps).round(), np.linspace(0, ny - 1, steps).round())
    if frame.distortion is not None:
        # Output pixels near those: the phases of the pixels of the output are what counts.
        x, y = (np.round(one) for one in frame.on_grid(grid, x, y))
        return mean_squared_weights(parameters.interpolant, *frame.distortion.inverse(*back(x, y)))
    return mean_squared_weights(parameters.interpolant, *back(x, y))


def _background_rms(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    count: NDArray[np.uint16],
    n: int,
) -> float:
    """Return the robust scatter, sources clipped, where every frame contributes (or, if nowhere, where most do)."""
    some = (slice(None, None, _NOISE_STEP), slice(None))
    good = (dq[some] & np.uint16(UNUSABLE)) == 0
    counts = count[some]
    if not good.any():
        return math.nan
    values = sci[some][good & (counts == min(n, int(counts[good].max())))]
    middle = np.median(values)
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    kept = values[np.abs(values - middle) <= _CLIP * sigma]
    return MAD_TO_SIGMA * float(np.median(np.abs(kept - np.median(kept))))
