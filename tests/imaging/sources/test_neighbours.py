"""The light of neighbours in an aperture: exact for two sources, true on average in a crowded field, 0 alone."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.simulator.star_field import add_stars, moffat_alpha
from imaging.sources.measure import aperture_sums
from imaging.sources.neighbours import light_of_neighbours, light_within

FWHM, RADIUS = 4.0, 8.0


def test_the_light_within_a_circle_is_that_of_the_profile():
    alpha = moffat_alpha(1.0, 3.0)
    for radius in (0.5, 1.0, 2.0):
        expected = 1 - (1 + (radius / alpha) ** 2) ** -2.0
        assert light_within(np.zeros(1), radius)[0] == pytest.approx(expected, abs=0.005)
    distances = light_within(np.arange(0, 6.0, 0.25), 2.0)
    assert (np.diff(distances) < 0).all()
    # On the edge of a circle wider than a star, almost half of its light is within.
    assert light_within(np.array([4.0]), 4.0)[0] == pytest.approx(0.45, abs=0.03)


def test_two_overlapping_sources_are_told_apart():
    own, part = light_within(np.array([0.0, 2.25]), RADIUS / FWHM)
    true = np.array([1e5, 4e4])
    sums = own * true + part * true[::-1]
    found = light_of_neighbours(np.array([10.0, 19.0]), np.array([5.0, 5.0]), sums, RADIUS, FWHM)
    assert found == pytest.approx(part * true[::-1], rel=0.02)


def test_sources_apart_have_no_neighbours_and_negative_fluxes_no_light():
    x = np.array([10.0, 100.0, 104.0])
    found = light_of_neighbours(x, np.zeros(3), np.array([1e4, 1e5, -50.0]), RADIUS, FWHM)
    assert found[0] == 0
    assert found[1] == 0
    assert found[2] > 0
    assert light_of_neighbours(np.zeros(0), np.zeros(0), np.zeros(0), RADIUS, FWHM).shape == (0,)


@pytest.mark.parametrize("beta", [2.6, 3.0, 3.5])
def test_the_light_in_a_crowded_field_is_about_right_for_usual_profiles(beta):
    rng = np.random.default_rng(3)
    size = 512
    # As close as a catalogue can have them.
    x, y = (grid.ravel() + rng.uniform(-4, 4, grid.size) for grid in np.mgrid[7:512:14, 7:512:14])
    n = len(x)
    flux = 10 ** rng.uniform(3.5, 6, n)
    plane = np.zeros((size, size), np.float32)
    add_stars(plane, x, y, flux, fwhm=FWHM, beta=beta, level=0.01)
    sums = _sums(plane, x, y)
    alone = flux * (1 - (1 + (RADIUS / moffat_alpha(FWHM, beta)) ** 2) ** (1 - beta))
    true, found = sums - alone, light_of_neighbours(x, y, sums, RADIUS, FWHM)
    inside = (np.minimum(x, y) > 20) & (np.maximum(x, y) < size - 20)
    part = true[inside] / alone[inside]
    some = (part > 0.03) & (part < 0.5)
    assert some.sum() > 100
    left = np.abs(found - true)[inside][some] / alone[inside][some]
    assert np.median(left) < 0.4 * np.median(part[some])


def _sums(plane, x, y):
    n = len(x)
    sums, area, lost = np.empty(n), np.empty(n), np.empty(n)
    bits, core = np.empty(n, np.uint16), np.empty(n, np.uint16)
    quality = np.zeros(plane.shape, np.uint16)
    aperture_sums(plane, quality, np.column_stack([x, y]), RADIUS, FWHM, 0, sums, area, bits, core, lost)
    return sums
