"""The aperture correction is that of the stars' true profile, with an error that agrees with its scatter."""

from __future__ import annotations

import numpy as np
import pytest
from moffat import moffat_enclosed

from benchmarks.photometry.synthetic import BETA, SyntheticStack
from imaging.photometry.aperture_correction import correction_stars, measure_correction
from imaging.photometry.aperture_noise import measure_aperture_noise
from imaging.photometry.measured_image import MeasuredImage
from imaging.sources.detect import CATALOGUE, Detection, Flag

Observed = tuple[SyntheticStack, Detection, MeasuredImage]


def correction(stack: Observed, aperture: float):  # type: ignore[no-untyped-def]
    made, found, image = stack
    noise = measure_aperture_noise(image, made.noise_correlation)
    stars = correction_stars(found.catalogue, found.seeing, 6 * found.seeing, rejected=127)
    places = np.column_stack([found.catalogue["x"], found.catalogue["y"]])[stars]
    return measure_correction(image, places, noise, aperture * found.seeing, 5 * found.seeing, found.seeing)


@pytest.mark.parametrize("aperture", [1.5, 2.0])
def test_the_light_outside_is_that_of_the_profile(stack: Observed, aperture: float) -> None:
    """The frames' profiles are Moffat's, whose FWHM is 3 to 5 % less than the measured one."""
    found = correction(stack, aperture)
    fwhm = stack[1].seeing / 1.04
    enclosed = [moffat_enclosed(a * stack[1].seeing, fwhm, BETA) for a in (aperture, 5.0)]
    assert found.factor == pytest.approx(enclosed[1] / enclosed[0], abs=0.008)
    assert 0 < found.error < 0.003
    assert found.stars >= 6


def test_a_wider_aperture_needs_less(stack: Observed) -> None:
    factors = [correction(stack, a).factor for a in (0.8, 1.2, 1.8, 2.5)]
    assert (np.diff(factors) < 0).all()


def rows(*stars: tuple[float, float, float, float, int]) -> np.ndarray:
    table = np.zeros(len(stars), CATALOGUE)
    for row, (x, y, flux, fwhm, flags) in zip(table, stars, strict=True):
        row["x"], row["y"], row["flux"], row["fwhm"], row["flags"] = x, y, flux, fwhm, flags
        row["snr"] = flux / 100
    return table


def test_only_isolated_stars_without_problems_are_used() -> None:
    table = rows(
        (100, 100, 1e5, 4.0, 0),
        (200, 100, 2e5, 4.1, 0),
        (300, 100, 1e5, 4.0, int(Flag.SATURATED)),
        (400, 100, 1e5, 8.0, 0),
        (500, 100, 1e3, 4.0, 0),
        (600, 100, 1e5, 4.0, 0),
        (610, 100, 2e4, 4.0, 0),
        (700, 100, 1e5, 4.0, 0),
        (710, 100, 5e2, 4.0, 0),
    )
    found = correction_stars(table, 4.0, 24.0, rejected=int(Flag.SATURATED))
    assert sorted(found) == [0, 1, 7]
    assert found[0] == 1  # the brightest
    assert len(correction_stars(table, float("nan"), 24.0, rejected=0)) == 0
    assert len(correction_stars(table[:0], 4.0, 24.0, rejected=0)) == 0


def test_without_stars_there_is_no_correction(stack: Observed) -> None:
    _, found, image = stack
    noise = measure_aperture_noise(image, 1.1)
    for places in (np.zeros((0, 2)), np.array([[5.0, 5.0], [3.0, 600.0]])):
        none = measure_correction(image, places, noise, 6.0, 20.0, found.seeing)
        assert (none.factor, none.stars) == (1.0, 0)
