"""The photometry of a stack: its zero point, those of its frames, the brightness of the sky, the maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from imaging.figures import Metric
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.photometry.calibrate import NOMINAL, KnownZeroPoint, StandardStars
from imaging.photometry.depth import depth_map, sky_brightness
from imaging.photometry.magnitude_systems import USUAL_PASSBANDS, conversion, nominal_zero_point
from imaging.photometry.magnitudes import measure_photometry
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.standard_fields import zero_point_from_standard
from imaging.photometry.standards import standards_of
from imaging.photometry.zero_point import frame_zero_points
from imaging.pixels.dq import DQ
from imaging.products.product_tables import Plane
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from imaging.registration.entries import AlignEntry
from imaging.sources.detect import Detection
from imaging.sources.objcat import SourceLight
from imaging.stack.stack import StackMetrics, StackParameters, StackResult
from tasks.photometry.standard_field import UsedStandard


@dataclass(frozen=True)
class CalibratedStack:
    """The photometry of a stack.

    Attributes
    ----------
    light
        All light of its sources; what it was measured in, of the size of the stack, is not kept.
    figures
        Those of `imaging.photometry.magnitudes.PhotometryMetrics`.
    frames
        Zero point of each frame and its error, mag; NaN if unknown.
    planes
        The requested maps, by EXTNAME.
    notes
        What is missing, and why.
    """

    light: SourceLight
    figures: Mapping[str, float | int | str | None]
    frames: Mapping[str, tuple[float, float]]
    planes: Mapping[str, Plane] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def calibrate_stack(
    result: StackResult,
    sources: Detection,
    header: Header,
    facts: Mapping[str, FrameFacts],
    reference: str,
    entries: Sequence[AlignEntry],
    skies: Mapping[str, Metric],
    catalogue: ReferenceCatalogue | None,
    standard: UsedStandard | None,
    parameters: PhotometryParameters,
    maps: StackParameters,
) -> CalibratedStack:
    """Measure and calibrate the sources of a stack.

    Parameters
    ----------
    result, sources
        The stack and its sources.
    header
        Header with its WCS.
    facts
        Facts of its frames by name.
    reference
        The frame that the others are scaled to.
    entries
        Alignment of its frames.
    skies
        Sky level of each frame, electrons.
    catalogue
        Reference stars of its field; None without a catalogue.
    standard
        Standard field of the night that gives the zero point if these stars do not; None without one.
    parameters, maps
        How it is calibrated; which maps are added.
    """
    frame, metrics = facts[reference], result.metrics
    scale = frame.readout.pixel_scale
    stars, warnings = _standards(catalogue, header, result, frame, parameters)
    exposure = _exposure(metrics, frame, facts)
    known, note = _nominal(frame, exposure, parameters)
    if standard is not None:
        known = _of_standard(standard, frame, exposure)
    found = measure_photometry(
        result.sci,
        result.var,
        result.dq,
        sources,
        noise_correlation=metrics.noise_correlation,
        pixel_scale=scale,
        known=known,
        reference=stars,
        parameters=parameters,
    )
    if not math.isfinite(found.zero_point):
        warnings.append(note)
    frames = frame_zero_points(
        found.zero_point,
        found.zero_point_error,
        {e.name: (e.flux_scale, e.flux_error) for e in entries},
        metrics.scales,
        metrics.weights,
    )
    brightness = [
        sky_brightness(float(level), frames[name][0], scale)
        for name, level in skies.items()
        if name in frames and level is not None
    ]
    bright = [one for one in brightness if math.isfinite(one)]
    planes: dict[str, Plane] = {}
    if maps.coverage:
        per_frame, other = metrics.total_exposure / metrics.ncombine, {f.exposure for f in facts.values()}
        measured = (result.dq & np.uint16(DQ.NO_DATA)) == 0
        planes["EXPOSURE"] = Plane((result.count * measured * per_frame).astype(np.float32), "s")
        if len(other) > 1:
            warnings.append(
                "EXPOSURE is the number of frames times their mean exposure: their exposures differ"
            )
    if maps.depth_map:
        if math.isfinite(found.zero_point):
            depth = depth_map(found.image, found.noise, found.correction, found.zero_point)
            planes["DEPTH"] = Plane(depth, "mag")
        else:
            warnings.append("no map of the depth: the zero point is unknown")
    return CalibratedStack(
        found.light(),
        found.figures(parameters.system) | {"sky_brightness": float(np.median(bright)) if bright else None},
        frames,
        planes,
        (*warnings, *found.notes),
    )


def _standards(
    catalogue: ReferenceCatalogue | None,
    header: Header,
    result: StackResult,
    frame: FrameFacts,
    parameters: PhotometryParameters,
) -> tuple[StandardStars | None, list[str]]:
    """Return the stars of the catalogue, and what is missing."""
    if catalogue is None:
        return None, []
    ny, nx = result.sci.shape
    found = standards_of(catalogue, header, (ny, nx), frame.table.standard_bands(frame.filter), parameters)
    return found.stars, [found.note] if found.note else []


def _exposure(metrics: StackMetrics, frame: FrameFacts, facts: Mapping[str, FrameFacts]) -> float:
    """Return the exposure that the pixels of the stack are electrons of, s: that of the reference if it was scaled."""
    if metrics.scaled_by != "none":
        return frame.exposure
    return math.fsum(weight * facts[name].exposure for name, weight in metrics.weights.items())


def _of_standard(standard: UsedStandard, frame: FrameFacts, exposure: float) -> KnownZeroPoint:
    """Return the zero point that a standard field gives, at the airmass of the reference."""
    value, error = zero_point_from_standard(
        standard.measured,
        standard.night,
        exposure=exposure,
        airmass=frame.airmass,
        extinction=frame.table.extinction(frame.values),
    )
    return KnownZeroPoint(value, error, standard.source)


def _nominal(
    frame: FrameFacts, exposure: float, parameters: PhotometryParameters
) -> tuple[KnownZeroPoint | None, str]:
    """Return the zero point from the table of the instrument, and why it is missing."""
    table = frame.table
    value = table.zero_point(frame.values)
    if value is None:
        return None, (
            f"no zero point: the table of {table.name} has none for {frame.filter}, and no catalogue gave one "
            "(catalogue.source); magnitudes have the zero point 0"
        )
    band = table.standard_bands(frame.filter)[0]
    offset = conversion("Vega", parameters.system, USUAL_PASSBANDS, band)
    if offset is None:
        return None, f"no zero point: the conversion of {band} to {parameters.system} is unknown"
    zero_point = nominal_zero_point(
        value, exposure, extinction=table.extinction(frame.values), airmass=frame.airmass
    )
    return KnownZeroPoint(zero_point + offset, table.zero_point_error(frame.values), NOMINAL), ""
