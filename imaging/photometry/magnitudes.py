"""Magnitudes of the sources of a stack: total fluxes with honest errors, the zero point, the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.figures import Metrics, figure
from imaging.photometry.aperture_correction import ApertureCorrection, correction_stars, measure_correction
from imaging.photometry.aperture_noise import ApertureNoise, measure_aperture_noise
from imaging.photometry.calibrate import (
    REJECTED,
    KnownZeroPoint,
    MeasuredSources,
    StandardStars,
    calibrate,
)
from imaging.photometry.depth import limiting_flux, magnitude
from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.zero_point import MAGNITUDES, ZeroPoint
from imaging.reference_catalogue.reference_stars import MagnitudeSystem
from imaging.sources.detect import Detection
from imaging.sources.objcat import SourceLight

#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0


class PhotometryMetrics(Metrics):
    """Figures of the photometry of a stack."""

    zero_point: float | None = figure(
        "magnitude of a point source of 1 electron in the pixels of the stack", "zero point", unit="mag",
        headline=True, history=True, error="zero_point_error", default=None,
    )  # fmt: skip
    zero_point_error: float | None = figure(
        "standard error of the zero point", "error of the zero point", unit="mag", digits=2, default=None
    )
    zero_point_source: str | None = figure(
        "what the zero point is from: the name of a catalogue, standard and the stack of a standard field, or nominal "
        "for the instrument's table",
        "zero point from", default=None,
    )  # fmt: skip
    zero_point_stars: int | None = figure(
        "stars of the catalogue that the zero point is from", "standards", default=None
    )
    zero_point_scatter: float | None = figure(
        "scatter of these stars beyond their stated errors",
        "scatter of the standards",
        unit="mag",
        digits=2,
        default=None,
    )
    colour_term: float | None = figure(
        "change of the zero point with the colour of a star, mag per mag",
        "colour term",
        digits=2,
        default=None,
    )
    magnitude_system: str | None = figure("magnitude system: Vega or AB", "magnitudes", default=None)
    limiting_magnitude: float | None = figure(
        "magnitude of a point source of five sigma, from empty apertures", "5 sigma limit", unit="mag",
        headline=True, history=True, default=None,
    )  # fmt: skip
    sky_brightness: float | None = figure(
        "median brightness of the frames' skies per square arcsec", "sky brightness", unit="mag", history=True,
        default=None,
    )  # fmt: skip
    aperture_radius: float | None = figure(
        "radius of the aperture of FLUX_AUTO before its correction", "aperture", unit="px", default=None
    )
    aperture_correction: float | None = figure(
        "all light of a star over that within the aperture; missing with too few isolated stars",
        "aperture correction", error="aperture_correction_error", default=None,
    )  # fmt: skip
    aperture_correction_error: float | None = figure(
        "standard error of the aperture correction",
        "error of the aperture correction",
        digits=2,
        default=None,
    )


@dataclass(frozen=True)
class Photometry:
    """The photometry of a stack.

    Attributes
    ----------
    flux, flux_error
        All light of each source, electrons, (n,), if it is a star; the error is that of the noise in the aperture.
    zero_point, zero_point_error
        mag; NaN if neither a catalogue nor the instrument's table gives it.
    source
        Name of the catalogue, or `NOMINAL`; empty if the zero point is unknown.
    standards
        The result of the stars of the catalogue; None if they were not used.
    correction, noise
        Aperture correction; noise of apertures.
    image
        The prepared image.
    limit
        Light of a point source of five sigma, electrons.
    reference
        Index of each source's star in the catalogue; -1 without one, (n,).
    stars
        The stars of the catalogue; None without one.
    notes
        What is missing, and why.
    """

    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    zero_point: float
    zero_point_error: float
    source: str
    standards: ZeroPoint | None
    correction: ApertureCorrection
    noise: ApertureNoise
    image: MeasuredImage
    limit: float
    reference: NDArray[np.intp]
    stars: StandardStars | None
    notes: tuple[str, ...]

    @property
    def limiting_magnitude(self) -> float:
        """Magnitude of a point source of five sigma; NaN without a zero point."""
        return magnitude(self.limit, self.zero_point)

    def light(self) -> SourceLight:
        """Return all light of the sources, for their catalogue."""
        listed = np.full((2, len(self.flux)), np.nan)
        if self.stars is not None:
            there = self.reference >= 0
            chosen = self.reference[there]
            listed[:, there] = self.stars.magnitude[chosen], self.stars.error[chosen]
        zero_point = self.zero_point if math.isfinite(self.zero_point) else 0.0
        return SourceLight(self.flux, self.flux_error, zero_point, self.reference + 1, *listed)

    def figures(self, system: MagnitudeSystem) -> dict[str, float | int | str | None]:
        """Return the figures of `PhotometryMetrics` without the sky."""
        known = math.isfinite(self.zero_point)
        corrected = self.correction.stars > 0
        found = self.standards
        return {
            "zero_point": _finite(self.zero_point),
            "zero_point_error": _finite(self.zero_point_error),
            "zero_point_source": self.source or None,
            "zero_point_stars": found.stars if found else None,
            "zero_point_scatter": found.scatter if found else None,
            "colour_term": found.colour_term if found else None,
            "magnitude_system": system if known else None,
            "limiting_magnitude": _finite(self.limiting_magnitude),
            "aperture_radius": self.correction.radius,
            "aperture_correction": self.correction.factor if corrected else None,
            "aperture_correction_error": self.correction.error if corrected else None,
        }


def measure_photometry(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    found: Detection,
    *,
    noise_correlation: float,
    pixel_scale: float,
    known: KnownZeroPoint | None,
    reference: StandardStars | None,
    parameters: PhotometryParameters | None = None,
) -> Photometry:
    """Measure the sources of a stack, and calibrate them.

    Parameters
    ----------
    sci, var, dq
        The stack, (ny, nx).
    found
        Its sources.
    noise_correlation
        NCORR: noise of large bins over what VAR predicts.
    pixel_scale
        arcsec per pixel.
    known
        A zero point for the pixels of the stack that is not from its own stars; None without any.
    reference
        Stars of a catalogue in the band of the stack; None without a catalogue.
    parameters
        See `PhotometryParameters`.
    """
    parameters = parameters or PhotometryParameters()
    image = MeasuredImage.of(sci, var, dq, found)
    noise = measure_aperture_noise(image, noise_correlation)
    sources = found.catalogue
    positions = np.column_stack([sources["x"], sources["y"]]).astype(np.float64)
    seeing = found.seeing if math.isfinite(found.seeing) else _USUAL_FWHM
    radius, total = parameters.aperture * seeing, parameters.total_aperture * seeing
    stars = correction_stars(sources, found.seeing, total + seeing, rejected=REJECTED)
    correction = measure_correction(image, positions[stars], noise, radius, total, seeing)
    flux = circle_sums(image.sky_subtracted, positions, radius) * correction.factor
    error = noise.flux_errors(image, positions, radius) * correction.factor
    # What differs from star to star in addition to the noise, in proportion to the light.
    error = np.hypot(error, correction.scatter * np.maximum(flux, 0.0))
    calibration = calibrate(
        MeasuredSources(sources, positions, flux, error, seeing), reference, known, pixel_scale, parameters
    )
    uncertainty = calibration.error
    if correction.stars:
        uncertainty = math.hypot(uncertainty, MAGNITUDES * correction.error / correction.factor)
    return Photometry(
        flux, error, calibration.value, uncertainty, calibration.source, calibration.standards, correction, noise,
        image, limiting_flux(image, noise, correction), calibration.pairs, reference,
        (*_warnings(noise, correction), *calibration.notes),
    )  # fmt: skip


def _warnings(noise: ApertureNoise, correction: ApertureCorrection) -> list[str]:
    warnings = []
    if not noise.apertures:
        warnings.append(
            "too little empty sky to measure the noise of apertures: errors of fluxes are those of VAR and NCORR"
        )
    if not correction.stars:
        warnings.append(
            "too few isolated bright stars for an aperture correction: FLUX_AUTO is the light within the aperture"
        )
    return warnings


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
