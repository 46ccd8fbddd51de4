"""The score's measurements on images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moffat import moffat_enclosed

from imaging.simulator import measure_stars as m
from imaging.simulator.star_field import add_stars


def _gaussian(x: float, y: float, fwhm: float, size: int = 61) -> np.ndarray:
    yy, xx = np.indices((size, size))
    sigma = fwhm / m.SIGMA_TO_FWHM
    return np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / sigma**2)


@given(st.floats(29, 31), st.floats(29, 31), st.floats(3.0, 6.0), st.floats(0.8, 1.2))
def test_a_gaussian_star_is_measured_exactly(x: float, y: float, fwhm: float, guess: float) -> None:
    shape = m.measure_star(1e4 * _gaussian(x, y, fwhm), 30.0, 30.0, fwhm=guess * fwhm)
    assert shape is not None
    assert (shape.x, shape.y) == pytest.approx((x, y), abs=1e-3)
    assert shape.fwhm == pytest.approx(fwhm, rel=2e-3)


def test_a_blurred_star_measures_broader() -> None:
    from scipy.ndimage import gaussian_filter

    plane = np.zeros((81, 81), np.float32)
    add_stars(plane, np.array([40.2]), np.array([39.9]), np.array([1e5]), fwhm=4.0, beta=3.5, level=1e-3)
    sharp = m.measure_star(plane, 40, 40, fwhm=4.0)
    blurred = m.measure_star(gaussian_filter(plane, 0.7), 40, 40, fwhm=4.0)
    assert sharp is not None
    assert blurred is not None
    assert 1.05 < blurred.fwhm / sharp.fwhm < 1.15


@pytest.mark.parametrize(("x", "y"), [(3.0, 30.0), (30.0, 58.0)])
def test_a_star_at_the_edge_is_not_measured(x: float, y: float) -> None:
    assert m.measure_star(_gaussian(x, y, 4.0), x, y, fwhm=4.0) is None


def test_empty_sky_is_no_star() -> None:
    assert m.measure_star(-np.ones((61, 61)), 30, 30, fwhm=4.0) is None


@pytest.mark.parametrize("background", [0.0, 250.0])
def test_aperture_flux_is_the_light_inside_less_the_background(background: float) -> None:
    plane = np.full((121, 121), background, np.float32)
    add_stars(plane, np.array([60.3]), np.array([59.6]), np.array([1e5]), fwhm=4.0, beta=3.5, level=1e-4)
    plane[90, 60] += 5000  # a hot pixel in the annulus is clipped
    flux = m.aperture_flux(plane, 60.3, 59.6, radius=12.0, annulus=(24.0, 36.0))
    assert flux == pytest.approx(1e5 * moffat_enclosed(12.0, 4.0, 3.5), rel=1e-3)


def test_robust_sigma_and_clipped_rms_ignore_outliers() -> None:
    values = np.random.default_rng(1).normal(0, 2.0, 100_000)
    values[:50] = 1e6
    assert m.robust_sigma(values) == pytest.approx(2.0, rel=0.02)
    assert m.clipped_rms(values, 5.0) == pytest.approx(2.0, rel=0.02)
    assert np.isnan(m.robust_sigma(np.empty(0)))


def test_bins_with_a_bad_pixel_are_left_out() -> None:
    plane = np.arange(20 * 17, dtype=np.float32).reshape(20, 17)
    good = np.ones(plane.shape, bool)
    good[9, 9] = False
    means = m.bin_means(plane, good, 8)
    assert means.shape == (2, 2)
    assert np.isnan(means[1, 1])
    assert means[0, 1] == plane[:8, 8:16].mean()


def test_block_means_come_back_at_the_shape_of_the_values() -> None:
    values = np.ones((5, 7))
    values[0, 0] = np.nan
    values[4:, :] = np.nan
    mean, count = m.block_means(values, 4, least=3)
    assert mean.shape == count.shape == values.shape
    assert count[0, 0] == 15
    assert np.isnan(mean[4, 0])
    assert mean[2, 6] == 1.0


@pytest.mark.parametrize("shift", [(0.0, 0.0), (37.3, -88.1)])
def test_the_common_shift_is_found_among_strangers(shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    expected = rng.uniform(0, 1000, (15, 2))
    found = np.concatenate(
        [expected[:12] + shift + rng.normal(0, 0.1, (12, 2)), rng.uniform(0, 1000, (60, 2))]
    )
    assert m.common_shift(found, expected, reach=150) == pytest.approx(shift, abs=0.2)


def test_no_shift_where_nothing_matches() -> None:
    assert m.common_shift(np.array([[900.0, 900.0]]), np.array([[0.0, 0.0]]), reach=50) is None
    assert m.common_shift(np.empty((0, 2)), np.array([[0.0, 0.0]]), reach=50) is None


def test_the_sigma_from_pairs_is_true_and_scatters_less_than_that_from_the_median() -> None:
    draws = np.random.default_rng(1).standard_normal((400, 130))
    pairs, median = (np.array([of(row) for row in draws]) for of in (m.pairwise_sigma, m.robust_sigma))
    assert pairs.mean() == pytest.approx(1.0, abs=0.012)
    assert pairs.std() == pytest.approx(np.sqrt(0.5 / 0.82 / 130), rel=0.15)
    assert median.std() > 1.35 * pairs.std()


@pytest.mark.parametrize("n", [2, 3, 10, 11, 31])
def test_the_sigma_of_few_values_is_about_true(n: int) -> None:
    draws = np.random.default_rng(n).standard_normal((2000, n))
    assert np.mean([m.pairwise_sigma(row) for row in draws]) == pytest.approx(1.0, abs=0.15 if n > 3 else 0.6)


def test_outliers_hardly_change_the_sigma_from_pairs() -> None:
    values = np.random.default_rng(2).standard_normal(200)
    values[:20] = 1000.0
    assert m.pairwise_sigma(values) < 1.4
    assert np.isnan(m.pairwise_sigma(np.ones(1)))
