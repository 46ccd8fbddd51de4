"""The record of a stack: the cards of its header, warnings, and the tables OBJCAT and ALIGNMENT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imaging.astrometry.figures_of_wcs import AstrometryMetrics
from imaging.header import Header
from imaging.listed import counted
from imaging.photometry.magnitudes import PhotometryMetrics
from imaging.products.header_cards import CardValue
from imaging.products.product_file import ProductFile
from imaging.products.product_tables import Table, stamped
from imaging.registration.entries import AlignEntry
from imaging.sources.detect import Detection
from imaging.sources.objcat import COLUMNS, SourceLight, object_catalogue
from imaging.stack.inputs import StackInput
from imaging.stack.stack import StackMetrics, StackResult
from tasks.sky import Persisting, SkyPass
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, ScratchRef
from tasks.support.workspace import Workspace

if TYPE_CHECKING:
    from imaging.mosaic.mosaic import MosaicResult

#: Value, None if it is unknown, and comment of a card.
Known = tuple[CardValue | None, str]

#: What the columns of ALIGNMENT are.
_ALIGNMENT_COLUMNS: Final = {
    "name": "frame", "dx": "shift to the reference", "dy": "shift to the reference",
    "rotation": "rotation to the reference", "scale": "scale to the reference",
    "rms": "residual of the matched stars", "uncertainty": "standard error of a position",
    "n_matched": "matched stars", "flux_scale": "flux over that in the reference",
    "flux_error": "relative error of flux_scale", "seeing": "FWHM of stars",
    "sky": "sky level [electron]", "found_by": "how it was placed", "used": "in the stack",
    "factor": "applied factor", "weight": "weight in the stack; the sum is 1",
    "persistence": "pixels flagged for persistence", "strength": "measured over expected persistence",
    "strength_error": "standard error of strength",
    "zero_point": "magnitude of one electron", "zero_point_error": "its standard error",
}  # fmt: skip


def stack_cards(metrics: StackMetrics, reference: str) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the cards of a stack whose frames are aligned to ``reference``; a figure that is unknown has none."""
    cards: dict[str, Known] = {
        "REFFRAME": (reference, "Frame that the others are aligned to"),
        "REGERR": (metrics.registration, "Standard error of the registration [px]"),
        "NWEAK": (metrics.weakly_aligned or None, "Frames aligned without enough stars"),
        "NCORR": (metrics.noise_correlation, "Noise of large bins over that given by VAR"),
        "TEXPTIME": (metrics.total_exposure, "Total exposure [s]"),
        "EEXPTIME": (metrics.effective_exposure, "Effective exposure [s]"),
        "SCALEBY": (metrics.scaled_by, "What frames are scaled to the reference by"),
        "REFTRANS": (metrics.reference_transparency, "Transparency of REFFRAME over the clearest's"),
        "WEIGHTBY": (metrics.weighted_by, "Weights of the frames"),
        "BGRMS": (metrics.background_rms, "Pixel rms of the background [electron]"),
        "BGERR": (metrics.background_error, "Error of the background in apertures [electron]"),
        "BGADDED": (metrics.raised, "Level added to the stack [electron]"),
        "NSKY": (metrics.sky_frames, "Fewest sky frames of a stacked frame"),
        "SKYLOSSC": (metrics.lost_at_centre, "Extended source: share lost at its centre"),
        "SKYLOSS": (metrics.lost_in_halo, "Extended source: share lost in its halo"),
        "SKYTHROW": (metrics.needed_throw, "Distance of sky frames that it needs [arcsec]"),
        "NPERSIST": (metrics.persistence, "Pixels of the frames flagged for persistence"),
        "PERSFRAC": (metrics.persistence_strength, "Measured over expected persistence"),
        **photometry_cards(metrics),
        **astrometry_cards(metrics),
        "EXPSTART": (stamped(metrics.started), "UT start of the first exposure"),
        "EXPEND": (stamped(metrics.ended), "UT end of the last exposure"),
        "AIRMASS": (metrics.mean_airmass, "Mean airmass"),
    }
    return known_cards(cards)


def photometry_cards(metrics: PhotometryMetrics) -> dict[str, Known]:
    """Return the cards of the zero point, the depth and the apertures."""
    return {
        "MAGZERO": (metrics.zero_point, "Magnitude of a source of 1 electron [mag]"),
        "MAGZERR": (metrics.zero_point_error, "Standard error of MAGZERO [mag]"),
        "MAGZSRC": (metrics.zero_point_source, "MAGZERO is from: catalogue, standard, nominal"),
        "MAGZN": (metrics.zero_point_stars, "Stars that MAGZERO is from"),
        "MAGZSIG": (metrics.zero_point_scatter, "Their weighted rms about MAGZERO [mag]"),
        "MAGZCOL": (metrics.colour_term, "Change of MAGZERO with colour [mag/mag]"),
        "MAGSYS": (metrics.magnitude_system, "Magnitude system"),
        "MAGLIM": (metrics.limiting_magnitude, "Point source of 5 sigma [mag]"),
        "SKYMAG": (metrics.sky_brightness, "Sky [mag per square arcsec]"),
        "APRADIUS": (metrics.aperture_radius, "Aperture of FLUX_AUTO [px]"),
        "APCORR": (metrics.aperture_correction, "All light over that within APRADIUS"),
        "APCORERR": (metrics.aperture_correction_error, "Standard error of APCORR"),
    }


def astrometry_cards(metrics: AstrometryMetrics) -> dict[str, Known]:
    """Return the cards of the world coordinates."""
    return {
        "WCSFROM": (metrics.wcs_from, "World coordinates: telescope, or a catalogue"),
        "ASTRMS": (metrics.astrometry_rms, "Residual of its stars along one axis [mas]"),
        "ASTERR": (metrics.astrometry_error, "Expected error along one axis [mas]"),
        "ASTSTARS": (metrics.astrometry_stars, "Stars that the world coordinates are from"),
        "ASTCHNCE": (metrics.astrometry_chance, "Probability of such a match by chance"),
        "ASTOFF": (metrics.pointing_error, "Error of the telescope's coordinates [arcsec]"),
        "ASTTURN": (metrics.pointing_rotation, "Error of the telescope's position angle [deg]"),
    }


def known_cards(cards: Mapping[str, Known]) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the cards that have a value."""
    return {keyword: (value, text) for keyword, (value, text) in cards.items() if value is not None}


def registration_error(entries: Sequence[AlignEntry]) -> float | None:
    """Return the root mean square of the frames' standard errors of registration, px."""
    errors = [e.uncertainty for e in entries if e.found_by != "reference"]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None


def mean_starlight(frames: Sequence[ScratchRef]) -> float | None:
    """Return the mean of the light that was kept out of the frames' skies, electrons; None if it was not modelled."""
    known = [float(v) for f in frames if (v := f.metrics.get("starlight")) is not None]
    return float(np.mean(known)) if known else None


def weakly_aligned(entries: Sequence[AlignEntry]) -> tuple[str, ...]:
    """Warn about frames that are placed by their headers, alone or with too few stars."""
    return tuple(f"{e.name} is aligned to {e.uncertainty:.2f} px: {e.reason}" for e in entries)


def missed_hits(inputs: Sequence[StackInput], parameters: ReductionParameters) -> tuple[str, ...]:
    """Warn about cosmic rays in a stack that lost so many frames that it cannot reject them."""
    if not parameters.detrend.misses_hits(len(inputs)):
        return ()
    return (
        f"a stack of {counted(len(inputs), 'frame')} rejects cosmic rays poorly, and they were not flagged in its "
        "frames: detrend.cosmic_rays=always does that",
    )


def glow_warnings(inputs: Sequence[StackInput]) -> tuple[str, ...]:
    """Warn about the glow of the peripheral guide probe, which is only removed where its shadow shows it."""
    n = sum(i.facts.peripheral_guider for i in inputs)
    if not n:
        return ()
    return (f"PWFS2 guided {n} of {len(inputs)} frames: its glow may be in them",)


def pedestal_warnings(calibrations: Calibrations, workspace: Workspace) -> tuple[str, ...]:
    """Warn about the effect on the variance of a dark without PEDESTAL (one made elsewhere).

    Detrending assumes a pedestal of 0 for such a dark, so that its electrons count as if they had shot noise.
    """
    used = calibrations.of("dark")
    if used is None:
        return ()
    with ProductFile(workspace.file_of(used)) as dark:
        known = "PEDESTAL" in dark.header
    return () if known else ("the dark does not record its pedestal: VAR is too large",)


def persistence_figures(frames: Sequence[Persisting]) -> dict[str, Any]:
    """Return the figures of a stack about persistence in its frames; none if no exposure before them matters."""
    if not frames:
        return {}
    measured = [one.strength for one in frames if one.strength is not None]
    return {
        "persistence": sum(one.pixels for one in frames),
        "persistence_strength": median(measured) if measured else None,
    }


def _persistence_row(frame: Persisting | None) -> tuple[int, float, float]:
    """Return the columns of ALIGNMENT about persistence in a frame."""
    if frame is None:
        return 0, float("nan"), float("nan")
    strength, error = (float("nan") if v is None else v for v in (frame.strength, frame.error))
    return frame.pixels, strength, error


def source_table(
    result: StackResult | MosaicResult,
    sources: Detection,
    header: Header,
    aperture: float,
    light: SourceLight,
) -> Table:
    """Return OBJCAT of a stack or mosaic."""
    rows = object_catalogue(result.sci, result.dq, sources, header, aperture, light)
    units = {column.name: column.unit for column in COLUMNS if column.unit}
    return Table(rows, units, {column.name: column.meaning for column in COLUMNS})


def alignment_table(
    entries: tuple[AlignEntry, ...],
    catalogues: Mapping[str, ScratchRef],
    sky: SkyPass,
    metrics: StackMetrics,
    zero_points: Mapping[str, tuple[float, float]],
) -> Table:
    """Return the measurements of each frame of the group, used or not; NaN if not measured."""

    def measured(ref: ScratchRef | None, what: str) -> float:
        value = ref.metrics[what] if ref is not None else None
        return float(value) if value is not None else float("nan")

    rows = [
        (
            e.name,
            e.dx,
            e.dy,
            e.rotation,
            e.scale,
            e.rms,
            e.uncertainty,
            e.n_matched,
            e.flux_scale,
            float("nan") if e.flux_error is None else e.flux_error,
            measured(catalogues.get(e.name), "seeing"),
            measured(sky.frame(e.name), "level"),
            e.found_by,
            e.used,
            metrics.scales.get(e.name, float("nan")),
            metrics.weights.get(e.name, 0.0),
            *_persistence_row(sky.persistence.get(e.name)),
            *zero_points.get(e.name, (float("nan"), float("nan"))),
        )
        for e in entries
    ]
    layout = [
        ("name", "U40"), ("dx", "f8"), ("dy", "f8"), ("rotation", "f8"), ("scale", "f8"), ("rms", "f8"),
        ("uncertainty", "f8"), ("n_matched", "i4"), ("flux_scale", "f8"), ("flux_error", "f8"),
        ("seeing", "f8"), ("sky", "f8"), ("found_by", "U12"), ("used", "?"),
        ("factor", "f8"), ("weight", "f8"), ("persistence", "i4"), ("strength", "f8"), ("strength_error", "f8"),
        ("zero_point", "f8"), ("zero_point_error", "f8"),
    ]  # fmt: skip
    units = dict.fromkeys(("dx", "dy", "rms", "uncertainty", "seeing"), "pix")
    units |= {"rotation": "deg", "zero_point": "mag", "zero_point_error": "mag"}
    return Table(np.array(rows, layout), units, _ALIGNMENT_COLUMNS)
