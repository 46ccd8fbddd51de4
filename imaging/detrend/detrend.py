"""Detrending: a raw science frame becomes electrons, corrected for dark current and pixel response.

The frame is processed once in bands of rows: prepared, dark subtracted, divided by the flat. Only the result
has the size of a frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.cosmic_rays import CosmicRayParameters, find_cosmic_rays
from imaging.detrend.detrend_kernels import calibrate, count_flagged
from imaging.detrend.persistence import Earlier, Found, expected, find_persistence
from imaging.detrend.prepare import PrepareParameters, prepare, saturated_islands
from imaging.detrend.rows_in_place import add_rows, no_rows, refuse_displaced
from imaging.errors import FrameError, MissingCalibrationError
from imaging.figures import Metrics, figure
from imaging.frames.facts import FrameFacts
from imaging.io.raw_file import RawFile
from imaging.kinds import CalibrationKind
from imaging.parameters import parameter
from imaging.pixels.bands import DEFAULT_MEMORY, rows_for, run_bands, thread_count
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.median_kernels import median, usable_values
from imaging.usual import MAD_TO_SIGMA

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 4

#: Relative difference up to which two exposure times are the same.
_EXPOSURE_TOLERANCE: Final = 1e-3
#: Frames whose stack rejects cosmic rays well.
_ENOUGH_TO_REJECT: Final = 5
_NO_DATA: Final = np.uint16(DQ.NO_DATA)
#: Bytes needed per pixel in addition to the result: raw, dark, flat, their DQ and VAR, BPM.
_BYTES: Final = 32
_MOST_ROWS: Final = 64
#: Interval between the rows that are used for the sky level.
_LEVEL_STEP: Final = 4
_LEVEL_CLIP: Final = 3.0
_NO_PLANE: Final = np.empty((0, 0), np.float32)
_NO_FLAGS: Final = np.empty((0, 0), np.uint16)


class CalibrationFile(Protocol):
    """A calibration open for reading by rows (`imaging.products.product_file.ProductFile`)."""

    @property
    def facts(self) -> FrameFacts:
        """Facts of the product."""

    @property
    def header(self) -> Any:
        """Header of the image extension; a dark's has PEDESTAL."""

    def rows(self, extname: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of SCI, VAR (float32) or DQ (uint16)."""


class MaskFile(Protocol):
    """A bad pixel mask open for reading by rows (`imaging.products.product_file.ProductFile`)."""

    @property
    def facts(self) -> FrameFacts:
        """Facts of the product."""

    def bad_pixels(self, rows: slice | None = None) -> NDArray[np.uint8]:
        """Return 1 on bad pixels."""


class DetrendParameters(CosmicRayParameters):
    """How a science frame is detrended."""

    override: tuple[CalibrationKind, ...] = parameter(
        (), "calibrations that are used although their configuration differs (recorded)"
    )
    allow_missing: tuple[CalibrationKind, ...] = parameter(
        (), "calibrations that may be missing (the product is marked)"
    )
    linearise: bool = parameter(True, "correct for non-linearity")
    cosmic_rays: Literal["auto", "always", "never"] = parameter(
        "auto",
        "flag cosmic rays (DQ 8) in single frames; auto: in groups of fewer than five frames, whose stack "
        "cannot reject them well",
    )
    max_missing_pattern: float = parameter(
        0.5,
        "share of the flat's pixel-to-pixel pattern that rows may lack: more, and they are displaced, and the frame is "
        "refused; 2 or more: never",
        gt=0,
    )
    persistence: float | None = parameter(
        0.5,
        "expected persistence of earlier exposures from which a pixel is flagged (DQ 16); none: not looked for",
        unit="sigma of the frame", gt=0, le=100,
    )  # fmt: skip

    def for_group(self, frames: int) -> DetrendParameters:
        """Return the same with the decision about cosmic rays for a group of so many frames."""
        if self.cosmic_rays != "auto":
            return self
        return self.model_copy(update={"cosmic_rays": "always" if frames < _ENOUGH_TO_REJECT else "never"})

    def misses_hits(self, stacked: int) -> bool:
        """Return whether cosmic rays remain in a stack of so many frames, detrended with these parameters."""
        return self.cosmic_rays != "always" and stacked < _ENOUGH_TO_REJECT


class DetrendMetrics(Metrics):
    """What detrending did to one frame."""

    name: str = figure("the frame's name")
    level: float = figure("median sky level of the usable pixels", unit="electron")
    noise: float = figure("robust scatter of the usable pixels", unit="electron")
    pedestal: float = figure("electrons assumed to have no shot noise", unit="electron")
    pedestal_known: bool = figure("the dark has a recorded pedestal")
    usable: float = figure("fraction of the pixels that measure the sky")
    saturated: int = figure("saturated pixels, filled cores included")
    nonlinear: int = figure("pixels above the linear limit")
    cosmic_rays: int | None = figure(
        "pixels flagged as cosmic rays (DQ 8); none if not searched", default=None
    )
    persistence: int | None = figure(
        "pixels flagged for persistence of earlier exposures (DQ 16); none if there was no exposure that matters",
        default=None,
    )
    persistence_strength: float | None = figure(
        "measured persistence over that expected from the detector's table; none if too few pixels show it",
        default=None,
    )
    persistence_error: float | None = figure("standard error of that ratio", default=None)
    missing: tuple[str, ...] = figure("missing calibrations", default=())
    overridden: tuple[str, ...] = figure("differences that were overridden", default=())


@dataclass(frozen=True)
class Detrended:
    """A detrended frame.

    Attributes
    ----------
    sci, var, dq
        Electrons over the flat, float32; variance, float32: of the random noise only, unless the common noise
        was requested; quality, uint16; (ny, nx) each.
    level
        Median sky level, electrons.
    metrics
        Figures and flags.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    level: float
    metrics: DetrendMetrics


def detrend(
    raw: RawFile,
    *,
    dark: CalibrationFile | None,
    flat: CalibrationFile | None,
    bpm: MaskFile | None,
    parameters: DetrendParameters | None = None,
    prepare_parameters: PrepareParameters | None = None,
    common_noise: bool = False,
    earlier: Sequence[Earlier] = (),
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> Detrended:
    """Detrend one raw science frame.

    Parameters
    ----------
    raw
        The raw frame.
    dark, flat, bpm
        Calibrations, open. None only if ``allow_missing`` names it.
    parameters, prepare_parameters
        See `DetrendParameters` and `PrepareParameters`. Cosmic rays are searched if ``cosmic_rays`` is ``always``;
        for ``auto``, `DetrendParameters.for_group` decides.
    common_noise
        Add the noise of the dark, and that of the flat on the total signal, to VAR: correct for a single
        frame. In a group this noise is common to frame and sky and cancels; there VAR is the random noise
        only.
    earlier
        Exposures before this one, whose persistence is flagged.
    threads, memory
        Threads, and bytes for the bands being processed. The result does not depend on them.

    Returns
    -------
    Detrended
        Pixels without a response in the flat are 0 and keep their DQ bits.

    Raises
    ------
    MissingCalibrationError
        If a required calibration is None, or has another configuration and is not overridden.
    FrameError
        If no pixel is usable, rows are displaced, or a calibration has another shape.
    """
    parameters = parameters or DetrendParameters()
    threads = threads or thread_count()
    missing = _missing(raw.facts, {"dark": dark, "flat": flat, "bpm": bpm}, parameters)
    overridden = tuple(
        difference
        for kind, given in (("dark", dark), ("flat", flat), ("bpm", bpm))
        if given is not None
        for difference in _disagreements(raw.facts, kind, given.facts, parameters)  # type: ignore[arg-type]
    )
    recorded = None if dark is None else dark.header.get("PEDESTAL")
    pedestal = 0.0 if recorded is None else float(recorded)

    sci, var = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.float32)
    dq = np.empty(raw.shape, np.uint16)
    pattern = no_rows(raw.shape[0])

    def work(rows: slice) -> None:
        bad = None if bpm is None else _checked(raw, "bpm", bpm.bad_pixels(rows), rows)
        band = sci[rows], var[rows], dq[rows]
        prepare(
            raw.rows(rows), raw.facts, bpm=bad, pedestal=pedestal, linearise=parameters.linearise,
            parameters=prepare_parameters, out=band,
        )  # fmt: skip
        flat_planes = _planes(raw, "flat", flat, rows, common_noise)
        calibrate(*band, *_planes(raw, "dark", dark, rows, common_noise), *flat_planes)
        if flat is not None:
            add_rows(pattern, rows, band, flat_planes[0], flat.rows("VAR", rows))

    fitting = rows_for(memory, raw.shape[1] * _BYTES, threads=threads)
    run_bands(work, raw.shape[0], rows_per_band=min(fitting, _MOST_ROWS), threads=threads)
    if flat is not None:
        refuse_displaced(raw.facts.name, flat.facts.name, pattern, parameters.max_missing_pattern)
    largest = (prepare_parameters or PrepareParameters()).largest_island
    islands = saturated_islands(dq, largest)
    if islands is not None:
        dq |= islands
    level, noise = sky_level(sci, dq)
    if math.isnan(level):
        raise FrameError(
            raw.facts.name, "no usable pixel after detrending",
            remedy="Inspect the frame, its flat and its bad pixel mask, or leave the frame out.",
        )  # fmt: skip
    latent = _persistence(raw, sci, var, dq, flat, earlier, level, parameters)
    if latent is not None:
        dq.ravel()[latent.pixels] |= _NO_DATA
    hits = None
    if parameters.cosmic_rays == "always":
        hits = find_cosmic_rays(sci, var, dq, raw.facts.readout, parameters)
        dq[hits] |= np.uint16(DQ.COSMIC_RAY)
    metrics = DetrendMetrics(
        name=raw.facts.name,
        level=level,
        noise=noise,
        pedestal=pedestal,
        pedestal_known=recorded is not None,
        usable=(dq.size - count_flagged(dq, np.uint16(UNUSABLE))) / dq.size,
        saturated=count_flagged(dq, np.uint16(DQ.SATURATED)),
        nonlinear=count_flagged(dq, np.uint16(DQ.NON_LINEAR)),
        cosmic_rays=None if hits is None else int(np.count_nonzero(hits)),
        persistence=None if latent is None else len(latent.pixels),
        persistence_strength=None if latent is None else latent.strength,
        persistence_error=None if latent is None else latent.error,
        missing=missing,
        overridden=overridden,
    )
    return Detrended(sci, var, dq, level, metrics)


def _persistence(
    raw: RawFile,
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    flat: CalibrationFile | None,
    earlier: Sequence[Earlier],
    level: float,
    parameters: DetrendParameters,
) -> Found | None:
    """Return the persistence of earlier exposures in a frame; None without such exposures."""
    law = raw.facts.table.detector.persistence
    if law is None or parameters.persistence is None or not earlier:
        return None
    latent = expected(earlier, law, raw.facts.readout, shape=raw.shape, exposure=raw.facts.exposure)
    if flat is not None:
        response = np.asarray(flat.rows("SCI", slice(0, raw.shape[0])), np.float32).ravel()[latent.pixels]
        latent = latent.seen_with(response)
    return find_persistence(sci, var, dq, latent, level=level, limit=parameters.persistence)


def sky_level(sci: NDArray[np.float32], dq: NDArray[np.uint16]) -> tuple[float, float]:
    """Return the median level of the usable pixels and their robust scatter, electrons; NaN without usable pixels.

    Every fourth row is used; values further than 3 sigma from the median are clipped once.
    """
    values = usable_values(sci, dq, _LEVEL_STEP, np.uint16(UNUSABLE))
    if not values.size or np.isnan(values).any():
        return math.nan, math.nan
    middle = median(values)
    sigma = MAD_TO_SIGMA * float(median(np.abs(values - middle)))
    kept = values[np.abs(values - middle) <= _LEVEL_CLIP * sigma]
    return float(median(kept)), sigma


def _missing(
    facts: FrameFacts, given: dict[CalibrationKind, object], parameters: DetrendParameters
) -> tuple[str, ...]:
    """Return the missing calibrations; raise an error for those that are required."""
    absent = tuple(kind for kind, file in given.items() if file is None)
    forbidden = [kind for kind in absent if kind not in parameters.allow_missing]
    if forbidden:
        raise MissingCalibrationError(
            f"{facts.name}: no {' and no '.join(forbidden)}.",
            remedy=f"Provide one, or reduce without it: detrend.allow_missing={','.join(forbidden)}.",
        )
    return absent


def _disagreements(
    facts: FrameFacts, kind: CalibrationKind, other: FrameFacts, parameters: DetrendParameters
) -> tuple[str, ...]:
    """Return the differences between a frame and a calibration; raise an error unless they are overridden."""
    differences = []
    table = facts.table
    for field in ("instrument", *table.same[kind]):
        mine, its = facts.value(field), other.value(field)
        if field == "exposure_time":
            off = table.tolerance.get(field, 0.0)
            same = math.isclose(mine, its, rel_tol=_EXPOSURE_TOLERANCE, abs_tol=off)
        else:
            same = mine == its
        if not same:
            differences.append(f"{field} {its!r}, the frame has {mine!r}")
    if differences and kind not in parameters.override:
        raise MissingCalibrationError(
            f"{facts.name}: the {kind} {other.name} has {'; '.join(differences)}.",
            remedy=f"Use a {kind} of the frame's configuration, or detrend.override={kind}.",
        )
    return tuple(f"{kind} {other.name}: {text}" for text in differences)


def _planes(
    raw: RawFile, kind: CalibrationKind, file: CalibrationFile | None, rows: slice, with_variance: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    """Return SCI, VAR and DQ rows of a calibration in native byte order; of size 0 without one."""
    if file is None:
        return _NO_PLANE, _NO_PLANE, _NO_FLAGS
    sci = np.ascontiguousarray(_checked(raw, kind, file.rows("SCI", rows), rows), np.float32)
    var = np.ascontiguousarray(file.rows("VAR", rows), np.float32) if with_variance else _NO_PLANE
    return sci, var, np.ascontiguousarray(file.rows("DQ", rows), np.uint16)


def _checked(raw: RawFile, kind: str, pixels: NDArray[Any], rows: slice) -> NDArray[Any]:
    expected = (rows.stop - rows.start, raw.shape[1])
    if pixels.shape != expected:
        raise FrameError(
            raw.facts.name, f"its {kind} gives {pixels.shape} pixels for rows of {expected}",
            remedy=f"Use a {kind} of the same size.",
        )  # fmt: skip
    return pixels
