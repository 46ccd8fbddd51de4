"""Magnitudes of the sources of a stack: total fluxes with honest errors, the zero point, the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.figures import Metrics, figure
from imaging.parameters import StepParameters, parameter
from imaging.photometry.aperture_correction import ApertureCorrection, correction_stars, measure_correction
from imaging.photometry.aperture_noise import ApertureNoise, measure_aperture_noise
from imaging.photometry.depth import limiting_flux, magnitude
from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.photometry.zero_point import MAGNITUDES, ZeroPoint, fit_zero_point, match_positions
from imaging.reference_catalogue.reference_stars import MagnitudeSystem
from imaging.sources.detect import Detection, Flag
from imaging.sources.objcat import SourceLight

#: Where a zero point is from if it is not a catalogue: the table of the instrument.
NOMINAL: Final = "nominal"
#: Problems that exclude a star as a standard and from the aperture correction.
_REJECTED: Final = int(
    Flag.BLENDED
    | Flag.BAD_PIXEL
    | Flag.NON_LINEAR
    | Flag.SATURATED
    | Flag.EDGE
    | Flag.SHARP
    | Flag.UNMEASURED
)
#: Stars of the catalogue are matched to sources of at least this signal to noise.
_FAINTEST: Final = 5.0
#: Largest light of another source near a standard, relative to the standard, and how near, FWHM.
_NEIGHBOUR: Final = 0.02
_NEAR: Final = 3.0
#: Largest scatter of the stars about the zero point, mag: more is that of chance matches.
_LARGEST_SCATTER: Final = 0.3
#: A zero point that differs by more from the nominal one is reported, mag.
_FAR_FROM_NOMINAL: Final = 1.0
#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0
#: Standard error of a nominal zero point, mag: what tables state.
_NOMINAL_ERROR: Final = 0.08


class PhotometryParameters(StepParameters):
    """How the sources of a stack are measured and calibrated."""

    aperture: float = parameter(
        1.5, "radius of the aperture of FLUX_AUTO and MAG_AUTO, which are corrected to all light of a star, in FWHM of "
        "the seeing", gt=0.3, le=4,
    )  # fmt: skip
    total_aperture: float = parameter(
        5.0, "radius that is taken to hold all light of a star, in FWHM of the seeing", gt=2, le=20
    )
    system: MagnitudeSystem = parameter(
        "Vega", "magnitude system: Vega, as in catalogues of the near infrared, or AB"
    )
    search: float = parameter(
        5.0, "largest error of the world coordinates with which stars of the catalogue are searched", unit="arcsec",
        gt=0, le=60,
    )  # fmt: skip
    match_radius: float = parameter(
        0.7, "largest distance of a source from its star in the catalogue", unit="arcsec", gt=0, le=5
    )
    star_error: float = parameter(
        0.1, "largest error of a star's magnitude, in the catalogue and measured, for the zero point", unit="mag",
        gt=0, le=1,
    )  # fmt: skip
    least_stars: int = parameter(3, "fewest stars of the catalogue that give a zero point", ge=2)
    colour: str = parameter(
        "", "colour, such as J-H, in which the zero point has a term that is fitted; default: no term",
        pattern=r"^$|^[A-Za-z][\w()-]*-[A-Za-z][\w()]*$",
    )  # fmt: skip


class PhotometryMetrics(Metrics):
    """Figures of the photometry of a stack."""

    zero_point: float | None = figure(
        "magnitude of a point source of 1 electron in the pixels of the stack", "zero point", unit="mag",
        headline=True, history=True, default=None,
    )  # fmt: skip
    zero_point_error: float | None = figure(
        "standard error of the zero point", "error of the zero point", unit="mag", default=None
    )
    zero_point_source: str | None = figure(
        "what the zero point is from: the name of a catalogue, or nominal for the instrument's table",
        "zero point from", default=None,
    )  # fmt: skip
    zero_point_stars: int | None = figure(
        "stars of the catalogue that the zero point is from", "standards", default=None
    )
    zero_point_scatter: float | None = figure(
        "scatter of these stars beyond their stated errors",
        "scatter of the standards",
        unit="mag",
        default=None,
    )
    colour_term: float | None = figure(
        "change of the zero point with the colour of a star, mag per mag", "colour term", default=None
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
        "aperture correction", default=None,
    )  # fmt: skip
    aperture_correction_error: float | None = figure(
        "standard error of the aperture correction", "error of the aperture correction", default=None
    )


@dataclass(frozen=True)
class StandardStars:
    """Stars of a catalogue in the field of a stack, at their pixels.

    Attributes
    ----------
    name
        The catalogue.
    x, y
        Predicted pixels from 0, (n,).
    magnitude, error
        In the band of the stack and in the magnitude system of the zero point, (n,); NaN: unknown.
    colour
        The colour of the term that is fitted; None without one.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    error: NDArray[np.float64]
    colour: NDArray[np.float64] | None = None


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
    nominal: float | None,
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
    nominal
        The zero point for the pixels of the stack from the instrument's table; None if it has none.
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
    known = math.isfinite(found.seeing)
    seeing = found.seeing if known else _USUAL_FWHM
    radius, total = parameters.aperture * seeing, parameters.total_aperture * seeing
    stars = correction_stars(sources, found.seeing, total + seeing, rejected=_REJECTED)
    correction = measure_correction(image, positions[stars], noise, radius, total, seeing)
    flux = circle_sums(image.sky_subtracted, positions, radius) * correction.factor
    error = noise.flux_errors(image, positions, radius) * correction.factor
    # What differs from star to star in addition to the noise, in proportion to the light.
    error = np.hypot(error, correction.scatter * np.maximum(flux, 0.0))
    warnings = _warnings(noise, correction)
    standards, pairs = None, np.full(len(sources), -1, np.intp)
    if reference is not None:
        bright = np.flatnonzero(sources["snr"] > _FAINTEST)
        matched = match_positions(
            positions[bright],
            np.column_stack([reference.x, reference.y]),
            search=parameters.search / pixel_scale,
            radius=parameters.match_radius / pixel_scale,
        )
        pairs[bright[matched.sources]] = matched.reference
        usable = (sources["flags"] & _REJECTED == 0) & (pairs >= 0)
        usable &= MAGNITUDES * error < parameters.star_error * flux
        usable[usable] &= reference.error[pairs[usable]] <= parameters.star_error
        usable &= _isolated(positions, flux, _NEAR * seeing)
        i, j = np.flatnonzero(usable), pairs[usable]
        colour = None if reference.colour is None else reference.colour[j]
        standards = fit_zero_point(
            flux[i],
            error[i],
            reference.magnitude[j],
            reference.error[j],
            colour,
            fewest=parameters.least_stars,
        )
        if standards is not None and standards.scatter > _LARGEST_SCATTER:
            spread = standards.scatter
            standards = None
            warnings.append(
                f"the stars of the catalogue {reference.name} disagree with the sources by {spread:.2f} mag rms: "
                "it is not of this field or band, and the zero point is nominal or missing"
            )
        elif standards is None:
            count, least = len(i), parameters.least_stars
            warnings.append(
                f"too few sources are stars of the catalogue {reference.name} with a good magnitude in this band "
                f"({count} of {least} that photometry.least_stars asks for): the zero point is nominal or missing"
            )
    if standards is not None and nominal is not None and abs(standards.value - nominal) > _FAR_FROM_NOMINAL:
        offset = standards.value - nominal
        warnings.append(
            f"the zero point from the catalogue differs by {offset:+.2f} mag from the nominal one: clouds, or another "
            "filter or exposure than the headers state"
        )
    value, uncertainty, name = _chosen(standards, nominal, reference)
    if correction.stars:
        uncertainty = math.hypot(uncertainty, MAGNITUDES * correction.error / correction.factor)
    return Photometry(
        flux, error, value, uncertainty, name, standards, correction, noise, image,
        limiting_flux(image, noise, correction), pairs, reference, tuple(warnings),
    )  # fmt: skip


def _chosen(
    standards: ZeroPoint | None, nominal: float | None, reference: StandardStars | None
) -> tuple[float, float, str]:
    """Return the zero point, its error, and where it is from."""
    if standards is not None and reference is not None:
        return standards.value, standards.error, reference.name
    if nominal is not None:
        return nominal, _NOMINAL_ERROR, NOMINAL
    return math.nan, math.nan, ""


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


def _isolated(positions: NDArray[np.float64], flux: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Return which sources have little light of other sources near them."""
    from scipy.spatial import cKDTree

    if not len(positions):
        return np.zeros(0, bool)
    light = np.zeros(len(positions))
    for i, j in cKDTree(positions).query_pairs(reach):
        light[i] += max(float(flux[j]), 0.0)
        light[j] += max(float(flux[i]), 0.0)
    return np.asarray(light <= _NEIGHBOUR * flux)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
