"""The stated noise of apertures is the scatter of empty ones, and that of sources."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.photometry.synthetic import SyntheticStack
from imaging.photometry.aperture_noise import measure_aperture_noise
from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.sources.detect import Detection, detect

Observed = tuple[SyntheticStack, Detection, MeasuredImage]


def white(size: int = 500, noise: float = 10.0, seed: int = 1) -> MeasuredImage:
    """Uncorrelated noise, with a background that is known to be 0."""
    sci = np.random.default_rng(seed).normal(0, noise, (size, size)).astype(np.float32)
    return replace(prepared(sci, noise), sky_subtracted=sci)


def share_of_squares(radius: float) -> float:
    """Return the sum of the squares of the pixels' shares in a circle over the sum of the shares."""
    fine, half = 25, math.ceil(radius + 1)
    centre = (2 * half + 1) * fine / 2
    v, u = np.indices(((2 * half + 1) * fine,) * 2) + 0.5 - centre
    inside = (np.hypot(u, v) <= radius * fine).astype(float)
    shares = inside.reshape(2 * half + 1, fine, 2 * half + 1, fine).mean(axis=(1, 3))
    return float((shares**2).sum() / shares.sum())


def prepared(sci: NDArray[np.float32], noise: float) -> MeasuredImage:
    dq = np.zeros(sci.shape, np.uint16)
    return MeasuredImage.of(sci, np.full(sci.shape, noise**2, np.float32), dq, detect(sci, dq))


@pytest.mark.parametrize("radius", [2.0, 4.0, 6.0, 8.0, 12.0])
def test_apertures_between_those_of_the_fit_scatter_as_stated(stack: Observed, radius: float) -> None:
    made, _, image = stack
    noise = measure_aperture_noise(image, made.noise_correlation)
    places = image.empty_centres(radius, 1.1 * radius)
    z = circle_sums(image.sky_subtracted, places, radius) / noise.flux_errors(image, places, radius)
    error = 1.5 / math.sqrt(2 * 640**2 / (1.6 * radius) ** 2)
    kept = z[np.abs(z - np.median(z)) < 4 * z.std()]
    assert 0.97 - 2 * error < kept.std() < 1.05 + 2 * error


def test_uncorrelated_noise_has_the_ratio_one() -> None:
    """Almost: a pixel that the circle cuts counts with its share, whose square is in the variance."""
    noise = measure_aperture_noise(white(), 1.0)
    assert share_of_squares(2.0) < 0.85
    for radius in (2.0, 4.0, 8.0):
        assert noise.ratio(radius) == pytest.approx(share_of_squares(radius), abs=0.06)


def test_a_common_error_of_the_background_grows_with_the_area() -> None:
    rng = np.random.default_rng(4)
    steps = rng.normal(0, 1.0, (16, 16)).repeat(60, 0).repeat(60, 1)
    sci = (rng.normal(0, 10.0, steps.shape) + steps).astype(np.float32)
    noise = measure_aperture_noise(replace(prepared(sci, 10.0), sky_subtracted=sci), 1.0)
    expected = 1.0 + math.pi * 9.0**2 * 1.0**2 / 10.0**2
    # Apertures across a border average two errors.
    assert 0.65 * expected < noise.ratio(9.0) < 1.1 * expected
    assert noise.ratio(2.0) < 1.2


def test_the_shot_noise_of_a_source_is_that_of_its_electrons(stack: Observed) -> None:
    made, found, image = stack
    noise = measure_aperture_noise(image, made.noise_correlation)
    bright = found.catalogue["snr"] > 300
    places = np.column_stack([found.catalogue["x"], found.catalogue["y"]])[bright]
    radius = 3 * found.seeing
    flux = circle_sums(image.sky_subtracted, places, radius)
    sky = noise.ratio(radius) * math.pi * radius**2 * image.sky_variance_at(places)
    own = noise.flux_errors(image, places, radius) ** 2 - sky
    assert np.median(own / (flux / 9)) == pytest.approx(1.0, abs=0.1)


def test_ratios_do_not_fall_with_the_radius(stack: Observed) -> None:
    noise = measure_aperture_noise(stack[2], stack[0].noise_correlation)
    ratios = [noise.ratio(r) for r in np.arange(1.0, 30.0)]
    assert (np.diff(ratios) >= 0).all()


def test_without_empty_sky_the_factor_of_large_bins_is_stated_as_such() -> None:
    image = white(30)
    noise = measure_aperture_noise(image, 1.3)
    assert noise.apertures == 0
    assert noise.ratio(5.0) == pytest.approx(1.69)


def test_pixels_without_a_measurement_hold_no_aperture() -> None:
    rng = np.random.default_rng(2)
    sci = rng.normal(0, 1, (300, 300)).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint16)
    dq[:, 150:] = 16
    sci[:, 150:] = np.nan
    dq[100, 50] = 1
    image = MeasuredImage.of(sci, np.ones(sci.shape, np.float32), dq, detect(sci, dq))
    places = image.empty_centres(5.0, 2.0)
    assert len(places) > 100
    assert places[:, 0].max() < 145
    assert np.hypot(*(places - (50, 100)).T).min() > 5
    assert np.isfinite(circle_sums(image.sky_subtracted, places, 5.0)).all()
