"""Photometry of a synthetic stack: zero point, magnitudes and limit against the truth, and bad catalogues."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.photometry.measured import ZERO_POINT, listed
from benchmarks.photometry.synthetic import SyntheticStack
from imaging.photometry.calibrate import NOMINAL, KnownZeroPoint, StandardStars
from imaging.photometry.depth import depth_map
from imaging.photometry.magnitudes import Photometry, measure_photometry
from imaging.photometry.measured_image import MeasuredImage
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.sources.detect import Detection, Flag

Observed = tuple[SyntheticStack, Detection, MeasuredImage]


def photometry(
    stack: Observed, standards: StandardStars | None, nominal: float | None = None, **parameters: object
) -> Photometry:
    made, found, _ = stack
    return measure_photometry(
        made.sci,
        made.var,
        made.dq,
        found,
        noise_correlation=made.noise_correlation,
        pixel_scale=SKY_SCALE,
        known=None if nominal is None else KnownZeroPoint(nominal, 0.08, NOMINAL),
        reference=standards,
        parameters=PhotometryParameters.model_validate(parameters),
    )


def catalogue(stack: Observed) -> StandardStars:
    return listed(stack[0].stars, np.random.default_rng(7))


def test_the_zero_point_and_the_magnitudes_are_true(stack: Observed) -> None:
    measured = photometry(stack, catalogue(stack))
    assert measured.source == "synthetic"
    assert measured.standards is not None
    assert measured.standards.stars >= 10
    assert abs(measured.zero_point - ZERO_POINT) < 3 * measured.zero_point_error
    assert measured.zero_point_error < 0.02
    table = stack[1].catalogue
    true = stack[0].stars
    distance = np.hypot(table["x"][:, None] - true.x, table["y"][:, None] - true.y)
    nearest, bright = distance.argmin(axis=1), (table["flags"] == 0) & (table["snr"] > 200)
    bright &= distance.min(axis=1) < 1
    ratio = measured.flux[bright] / true.flux[nearest[bright]]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.005)
    light = measured.light()
    assert (light.reference > 0).sum() >= measured.standards.stars
    listed_here = light.reference > 0
    off = light.zero_point - 2.5 * np.log10(light.flux[listed_here]) - light.reference_magnitude[listed_here]
    assert abs(np.median(off)) < 0.03


def test_without_a_catalogue_the_nominal_zero_point_is_marked_as_such(stack: Observed) -> None:
    measured = photometry(stack, None, 31.5)
    figures = measured.figures("Vega")
    assert figures["zero_point_source"] == NOMINAL
    assert figures["zero_point_stars"] is None
    assert measured.zero_point == 31.5
    assert measured.zero_point_error > 0.05
    assert (measured.light().reference == 0).all()
    assert measured.notes == ()


def test_without_any_zero_point_the_limit_is_unknown_and_fluxes_are_not(stack: Observed) -> None:
    measured = photometry(stack, None)
    figures = measured.figures("Vega")
    assert {figures[name] for name in ("zero_point", "limiting_magnitude", "magnitude_system")} == {None}
    assert figures["aperture_correction"] is not None
    assert measured.light().zero_point == 0
    assert (measured.flux_error > 0).all()


@pytest.mark.parametrize(
    "problem", ["nan", "other stars", "elsewhere", "three", "saturated", "too uncertain"]
)
def test_bad_catalogues_do_not_give_a_wrong_zero_point(stack: Observed, problem: str) -> None:
    stars = catalogue(stack)
    _, found, _ = stack
    if problem == "nan":
        stars = replace(stars, magnitude=np.full(len(stars.x), np.nan))
    elif problem == "elsewhere":
        rng = np.random.default_rng(3)
        stars = replace(stars, x=rng.uniform(0, 640, len(stars.x)), y=rng.uniform(0, 640, len(stars.y)))
    elif problem == "other stars":
        stars = replace(stars, magnitude=np.random.default_rng(5).permutation(stars.magnitude))
    elif problem == "three":
        order = np.argsort(stars.magnitude)[:3]
        stars = StandardStars("few", *(a[order] for a in (stars.x, stars.y, stars.magnitude, stars.error)))
    elif problem == "too uncertain":
        stars = replace(stars, error=np.full(len(stars.x), 0.5))
    elif problem == "saturated":
        flagged = found.catalogue.copy()
        flagged["flags"] |= int(Flag.SATURATED)
        stack = stack[0], replace(found, catalogue=flagged), stack[2]
    measured = photometry(stack, stars, 31.5)
    if measured.source == NOMINAL:
        assert any("the zero point is nominal" in note for note in measured.notes)
    else:
        assert problem in ("three", "elsewhere")
        assert abs(measured.zero_point - ZERO_POINT) < 4 * measured.zero_point_error
    if problem in ("nan", "other stars", "saturated", "too uncertain"):
        assert measured.source == NOMINAL


def test_a_zero_point_far_from_the_nominal_one_is_reported(stack: Observed) -> None:
    measured = photometry(stack, catalogue(stack), ZERO_POINT + 1.5)
    assert measured.source == "synthetic"
    assert any("-1.5" in note and "from the nominal one" in note for note in measured.notes)
    assert photometry(stack, catalogue(stack), ZERO_POINT + 0.5).notes == ()


def test_a_fit_of_the_colour_needs_the_colours(stack: Observed) -> None:
    stars = catalogue(stack)
    colour = np.random.default_rng(1).uniform(0, 1, len(stars.x))
    measured = photometry(
        stack, replace(stars, colour=colour, magnitude=stars.magnitude + 0.1 * colour), colour="J-H"
    )
    assert measured.standards is not None
    assert measured.standards.colour_term is not None
    assert measured.standards.colour_error is not None
    assert abs(measured.standards.colour_term - 0.1) < 4 * measured.standards.colour_error


def test_the_map_of_the_depth_has_the_limit_where_the_noise_is_the_median(stack: Observed) -> None:
    measured = photometry(stack, None, 31.5)
    depth = depth_map(measured.image, measured.noise, measured.correction, 31.5)
    assert np.nanmedian(depth) == pytest.approx(measured.limiting_magnitude, abs=0.03)
    assert (np.isnan(depth) == ~measured.image.usable).all()
    bright = stack[1].catalogue[0]
    assert depth[round(bright["y"]), round(bright["x"])] == pytest.approx(
        measured.limiting_magnitude, abs=0.1
    )


def test_a_smaller_aperture_goes_deeper(stack: Observed) -> None:
    limits = [photometry(stack, None, 31.5, aperture=a).limiting_magnitude for a in (1.0, 1.5, 2.5)]
    assert limits[0] > limits[1] > limits[2]


def test_a_frame_without_sources_has_figures(stack: Observed) -> None:
    made, found, image = stack
    empty = made, replace(found, catalogue=found.catalogue[:0], seeing=math.nan), image
    measured = photometry(empty, catalogue(stack), 31.5)
    assert measured.source == NOMINAL
    assert len(measured.flux) == 0
    assert math.isfinite(measured.limiting_magnitude)
    assert any("aperture correction" in note for note in measured.notes)
