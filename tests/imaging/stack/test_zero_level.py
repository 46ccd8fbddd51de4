"""The level of the empty sky of a stack is that without the wings and the faint stars that no mask covers."""

from functools import cache

import numpy as np
import pytest

from imaging.simulator.star_field import add_stars
from imaging.sources.detect import detect
from imaging.stack.zero_level import zero_level

SIZE, NOISE, FWHM = 900, 26.0, 4.2


@cache
def field(stars, halo=0.0):
    """Return a stack with the true level 0, and its quality."""
    rng = np.random.default_rng(5)
    light = np.zeros((SIZE, SIZE), np.float32)
    x, y = rng.uniform(-20, SIZE + 20, (2, stars))
    # Counts of stars: dN/dF ~ F^-1.25, as in the simulated nights.
    low, high = 1.2e3**-0.25, 3e6**-0.25
    flux = (low + (high - low) * rng.random(stars)) ** -4.0
    add_stars(light, x, y, flux, fwhm=FWHM, beta=3.5, level=0.02)
    v, u = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    light += np.float32(halo) * np.exp(-np.hypot(u, v) / 150).astype(np.float32)
    sci = light + np.sqrt(NOISE**2 + light / 9) * rng.standard_normal(light.shape)
    return sci.astype(np.float32), np.zeros(light.shape, np.uint16)


def level(sci, dq):
    seen = detect(sci, dq)
    return zero_level(sci, np.full(sci.shape, NOISE**2, np.float32), dq, seen.object_mask, FWHM), seen


@pytest.mark.parametrize("lack", [0.0, 11.5])
@pytest.mark.parametrize(("stars", "near"), [(0, 0.2), (240, 0.3), (3860, 0.9)])
def test_the_level_is_that_of_the_empty_sky(stars, near, lack):
    sci, dq = field(stars)
    found, seen = level(sci - np.float32(lack), dq)
    assert found == pytest.approx(-lack, abs=near)
    if stars > 1000:  # the plain median of what the mask leaves is far from it
        assert np.median(sci[seen.object_mask == 0]) > 6.0


def test_a_halo_is_no_lack_of_light():
    found, _ = level(*field(240, 40.0))
    assert found > 0


def test_without_sky_there_is_no_level():
    sci, dq = field(240)
    assert np.isnan(zero_level(sci, np.ones_like(sci), dq, np.ones(sci.shape, np.uint8), FWHM))
