"""What the photometry of synthetic stacks gives: fluxes, zero points, empty apertures, limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.photometry.synthetic import FIELD, Scene, Stars, SyntheticStack, synthetic_stack
from imaging.photometry.calibrate import MeasuredSources, StandardStars, calibrate
from imaging.photometry.magnitudes import Photometry, measure_photometry
from imaging.photometry.measured_image import circle_sums
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.zero_point import MAGNITUDES
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.sources.detect import Detection, detect

#: True zero point of a stack, mag.
ZERO_POINT: Final = 31.9
#: Stars are on a grid, so that none is blended: its spacing and the largest shift from it, px.
_SPACING, _JITTER = 62.0, 9.0
#: Fluxes: the brightest star that stays in the linear range, and the faintest, electrons of a frame.
FLUXES: Final = (4e2, 2.2e6)
#: The reference catalogue: error of bright stars, magnitude with an error of 0.1, share of stars that are missing or
#: variable, error of the world coordinates (px).
_ERROR, _DEPTH, _MISSING, _VARIABLE, _WRONG = 0.03, 20.0, 0.1, 0.03, 6.0
#: Radii of empty apertures, px.
RADII: Final = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0)
#: True signal to noise of the stars whose scatter gives the depth.
_FAINT: Final = (2.0, 12.0)
#: Share of the stars that are there for it, and the noise of their aperture in that of a pixel of the stack.
_FAINT_SHARE, _PIXELS = 0.4, 12.6


class MeasuredZeroPoint(NamedTuple):
    """A zero point minus the true one, its stated error, the scatter and the number of its stars.

    ``catalogue`` is what the errors of the catalogue alone give: the same with the true fluxes of the sources.
    """

    off: float
    error: float
    scatter: float
    number: int
    catalogue: float

    @property
    def pull(self) -> float:
        """The deviation in stated errors."""
        return self.off / self.error


@dataclass(frozen=True)
class Realisation:
    """The results of one stack.

    Attributes
    ----------
    flux, pull
        True fluxes of the sources, and the deviations of the measured ones, without the mean of all stars, in their
        stated errors, (n,).
    relative
        Stated relative errors, (n,).
    zero_points
        Those of several catalogues of the same stars, the first one that of the figures above.
    forced
        Deviations of the faint stars' fluxes at their true places, over the light of a source of five sigma, (n,).
    empty
        For each radius the sums of empty apertures over their stated errors.
    """

    flux: NDArray[np.float64]
    pull: NDArray[np.float64]
    relative: NDArray[np.float64]
    zero_points: tuple[MeasuredZeroPoint, ...]
    forced: NDArray[np.float64]
    empty: dict[float, NDArray[np.float64]]


def grid_stars(scene: Scene, rng: np.random.Generator) -> Stars:
    """Return isolated stars: some near the limit, the others with equal numbers at all magnitudes."""
    places = np.arange(1.5 * _SPACING, scene.size - 1.2 * _SPACING, _SPACING)
    x, y = (axis.ravel() + rng.uniform(-_JITTER, _JITTER, axis.size) for axis in np.meshgrid(places, places))
    noise = _PIXELS * math.sqrt(scene.frame_variance / scene.frames)
    (low, high), (faint, limit) = np.log(FLUXES), np.log(np.array(_FAINT) * noise)
    few = rng.random(len(x)) < _FAINT_SHARE
    return Stars(
        x, y, np.exp(np.where(few, rng.uniform(faint, limit, len(x)), rng.uniform(low, high, len(x))))
    )


def listed(stars: Stars, rng: np.random.Generator) -> StandardStars:
    """Return what a catalogue lists of the stars: errors, outliers, gaps, and positions that are off."""
    magnitude = ZERO_POINT - 2.5 * np.log10(stars.flux)
    error = np.hypot(_ERROR, 0.1 * 10 ** (0.4 * (magnitude - _DEPTH)))
    value = magnitude + rng.normal(0, error)
    variable = rng.random(len(value)) < _VARIABLE
    value[variable] += rng.uniform(-0.8, 0.8, int(variable.sum()))
    there = rng.random(len(value)) >= _MISSING
    shift = rng.normal(0, _WRONG, 2)
    return StandardStars(
        "synthetic",
        stars.x[there] + shift[0] + rng.normal(0, 0.3, int(there.sum())),
        stars.y[there] + shift[1] + rng.normal(0, 0.3, int(there.sum())),
        value[there],
        error[there],
    )


def photometry_of(stack: SyntheticStack, standards: StandardStars | None, found: Detection) -> Photometry:
    """Return the photometry of a stack with its sources."""
    return measure_photometry(
        stack.sci,
        stack.var,
        stack.dq,
        found,
        noise_correlation=stack.noise_correlation,
        pixel_scale=SKY_SCALE,
        known=None,
        reference=standards,
    )


def zero_points_of(
    measured: Photometry,
    sources: NDArray[np.void],
    true: NDArray[np.float64],
    seeing: float,
    catalogues: Sequence[StandardStars],
) -> tuple[MeasuredZeroPoint, ...]:
    """Return the zero points that catalogues give to a measured stack with these true fluxes of its sources."""
    positions = np.column_stack([sources["x"], sources["y"]]).astype(np.float64)
    given = MeasuredSources(sources, positions, measured.flux, measured.flux_error, seeing)
    common = MAGNITUDES * measured.correction.error / measured.correction.factor
    found = []
    for catalogue in catalogues:
        result = calibrate(given, catalogue, None, SKY_SCALE, PhotometryParameters())
        stars = result.standards
        assert stars is not None
        error = math.hypot(result.error, common)
        ideal = calibrate(replace(given, flux=true), catalogue, None, SKY_SCALE, PhotometryParameters())
        found.append(
            MeasuredZeroPoint(
                result.value - ZERO_POINT, error, stars.scatter, stars.stars, ideal.value - ZERO_POINT
            )
        )
    return tuple(found)


def realise(band: str, seed: int, size: int = FIELD, catalogues: int = 1) -> Realisation:
    """Make a stack of a band and measure it.

    Parameters
    ----------
    band
        Y, H or K-red: each has its own random numbers.
    seed
        Of the random numbers.
    size
        Rows and columns.
    catalogues
        Reference catalogues of its stars, each with errors, gaps and outliers of its own.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng([seed, 18, *band.encode()])
    scene = Scene(band=band, size=size)
    stars = grid_stars(scene, rng)
    stack = synthetic_stack(scene, rng, stars)
    found = detect(stack.sci, stack.dq)
    measured, sources = photometry_of(stack, None, found), found.catalogue
    places = np.column_stack([stars.x, stars.y])
    distance, nearest = cKDTree(places).query(np.column_stack([sources["x"], sources["y"]]))
    there = distance < 2.0
    good = there & (sources["flags"] == 0)
    true = stars.flux[nearest[good]]
    relative = measured.flux_error[good] / true
    off = measured.flux[good] / true - 1.0
    # The error of the aperture correction is common to all stars, and a part of that of the zero point.
    off -= np.average(off, weights=relative**-2.0)
    radius, factor = measured.correction.radius, measured.correction.factor
    forced = circle_sums(measured.image.sky_subtracted, places, radius) * factor
    snr = 5 * stars.flux / measured.limit
    faint = (snr > _FAINT[0]) & (snr < _FAINT[1])
    empty = {}
    for r in RADII:
        centres = measured.image.empty_centres(r, 2.0 * r)
        errors = measured.noise.flux_errors(measured.image, centres, r)
        empty[r] = circle_sums(measured.image.sky_subtracted, centres, r) / errors
    lists = [listed(stars, rng) for _ in range(catalogues)]
    return Realisation(
        true,
        off / relative,
        relative,
        zero_points_of(
            measured, sources, np.where(there, stars.flux[nearest], measured.flux), found.seeing, lists
        ),
        5 * (forced - stars.flux)[faint] / measured.limit,
        empty,
    )
