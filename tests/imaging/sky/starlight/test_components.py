"""Points of light: the light of stars is found, that of noise is not."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from imaging.sky.starlight.components import Convolution, Points, find_points, spread_points
from imaging.sky.starlight.star_profile import StarProfile
from tests.imaging.sky.starlight.crowds import NOISE, crowd, stars_at


def true_stamp(half=30):
    """A star in the middle of a pixel."""
    middle = np.array([float(half)])
    plane = stars_at((2 * half + 1, 2 * half + 1), middle, middle, np.array([1e6])).astype(np.float64)
    return (plane / plane.sum()).astype(np.float32)


def model_of(field, good=None):
    good = np.ones(field.sci.shape, bool) if good is None else good
    points = find_points(field.sci, field.var, good, true_stamp())
    return points, spread_points(points, field.sci.shape, [true_stamp()])[0]


def test_the_light_that_masks_miss_is_found_with_a_small_part_of_its_structure_left():
    field = crowd(np.random.default_rng(1))
    _, model = model_of(field)
    outside = field.light < 2 * 75 / np.sqrt(8)  # of a single frame, where its mask would end
    left = np.where(outside, field.light - model, 0)
    before = np.where(outside, field.light, 0)
    assert 8 < before[outside].mean() < 30
    assert abs(left[outside].mean()) < 0.1 * before[outside].mean()
    scale = 6  # px: apertures and annuli
    smooth, was = gaussian_filter(left, scale), gaussian_filter(before - before[outside].mean(), scale)
    assert smooth[outside].std() < 0.35 * was[outside].std()


def test_the_fluxes_of_stars_are_kept_wherever_in_a_pixel_they_are():
    size, flux = 128, np.array([2e3, 2e4, 2e5])
    x = np.array([30.3, 64.5, 97.8])
    light = stars_at((size, size), x, x[::-1].copy(), flux)
    points = find_points(light, np.full_like(light, NOISE**2), light > -1, true_stamp())
    for at, (column, row) in enumerate(zip(x, x[::-1], strict=True)):
        near = np.hypot(points.x - column, points.y - row) < 6
        assert abs(points.flux[near].sum() / flux[at] - 1) < 0.01
        brightest = np.argmax(points.flux * near)
        assert np.hypot(points.x[brightest] - column, points.y[brightest] - row) < 0.1
    assert abs(points.flux.sum() / flux.sum() - 1) < 0.01


def test_noise_has_no_points():
    rng = np.random.default_rng(2)
    sci = (NOISE * rng.standard_normal((400, 400))).astype(np.float32)
    found = find_points(sci, np.full_like(sci, NOISE**2), np.ones(sci.shape, bool), true_stamp())
    assert len(found.flux) <= 2


def test_correlated_noise_has_no_points_if_its_correlation_is_known():
    rng = np.random.default_rng(3)
    sci = gaussian_filter(NOISE * rng.standard_normal((400, 400)), 0.7).astype(np.float32)
    # The filter averages four pixels: the variance of one is 1 / (4 pi 0.49) of that of a large area.
    var = np.full_like(sci, sci.var())
    good = np.ones(sci.shape, bool)
    known = find_points(sci, var, good, true_stamp(), noise_correlation=NOISE / float(sci.std()))
    unknown = find_points(sci, var, good, true_stamp())
    assert len(known.flux) <= 2 < len(unknown.flux)


def test_pixels_without_a_measurement_neither_count_nor_hide_a_star():
    field = crowd(np.random.default_rng(4), size=200, n=190)
    good = np.random.default_rng(5).random(field.sci.shape) > 0.05
    sci = np.where(good, field.sci, np.nan).astype(np.float32)
    found = find_points(sci, field.var, good, true_stamp())
    complete, _ = model_of(field)
    assert np.isfinite(found.flux).all()
    assert abs(found.flux.sum() / complete.flux.sum() - 1) < 0.02


def test_the_result_does_not_depend_on_the_threads():
    field = crowd(np.random.default_rng(6), size=150, n=100)
    good = np.ones(field.sci.shape, bool)
    one, two = (find_points(field.sci, field.var, good, true_stamp(), threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.flux, two.flux)
    np.testing.assert_array_equal(one.x, two.x)


def test_light_is_spread_about_its_pixel_and_ends_at_the_edges():
    points = Points(np.array([0.0, 30.0]), np.array([0.0, 20.0]), np.array([100.0, 10.0]))
    profile = StarProfile(np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.5, 0.0]))
    narrow, wide = spread_points(points, (40, 50), [profile.stamp(), profile.stamp(2.0)])
    assert abs(narrow[17:24, 27:34].sum() - 10) < 1e-4
    assert narrow[20, 30] > wide[20, 30] > 0
    assert abs(wide[13:28, 23:38].sum() - 10) < 1e-4
    np.testing.assert_allclose(narrow[20, 31], narrow[21, 30], rtol=1e-5)
    assert abs(narrow[-5:, -5:]).max() < 1e-5  # nothing comes around the edge
    assert 25 < narrow[:5, :5].sum() < 60


def test_a_convolution_has_room_for_the_stamp():
    one = Convolution((30, 30), 12, 1)
    plane = np.zeros((30, 30), np.float32)
    plane[29, 29] = 1
    stamp = np.zeros((25, 25), np.float32)
    stamp[0, 0] = 1  # moves light by 12 pixels up and left
    moved = one.back(one.of_plane(plane) * one.of_stamp(stamp))
    assert np.unravel_index(moved.argmax(), moved.shape) == (17, 17)
    assert abs(moved.sum() - 1) < 1e-5


def test_points_between_pixels_keep_place_and_width():
    shape, rng = (60, 60), np.random.default_rng(7)
    x, y = rng.uniform(20, 40, (2, 5))
    for column, row in zip(x, y, strict=True):
        one = Points(np.array([column]), np.array([row]), np.array([1e4]))
        (light,) = spread_points(one, shape, [true_stamp(25)])
        truth = stars_at(shape, one.x, one.y, one.flux)
        assert np.abs(light - truth).max() < 0.04 * truth.max()
        at = np.arange(60)
        assert abs(light.sum() / truth.sum() - 1) < 1e-3
        for axis, place in ((0, column), (1, row)):
            profile = light.sum(axis=axis) / light.sum()
            assert abs((profile * at).sum() - place) < 0.02
            width = (profile * (at - place) ** 2)[abs(at - place) < 12].sum()
            true = truth.sum(axis=axis) / truth.sum()
            assert abs(width / (true * (at - place) ** 2)[abs(at - place) < 12].sum() - 1) < 0.02
