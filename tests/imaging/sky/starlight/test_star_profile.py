"""The profile of a stack's stars."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.pixels.dq import DQ
from imaging.simulator.star_field import moffat_alpha
from imaging.sky.starlight.star_profile import StarProfile, measure_profile
from imaging.sources.detect import detect
from tests.imaging.sky.starlight.crowds import FWHM, NOISE, crowd, stars_at


def inside(radius):
    """Part of a star's light within a radius: Moffat 3.5."""
    return 1 - (1 + (radius / moffat_alpha(FWHM, 3.5)) ** 2) ** -2.5


@pytest.fixture(scope="module")
def field():
    one = crowd(np.random.default_rng(11), size=512, n=1200)
    seen = detect(one.sci, np.zeros(one.sci.shape, np.uint16))
    return one, seen


def test_the_profile_among_many_stars_is_that_of_one(field):
    one, seen = field
    profile = measure_profile(one.sci, np.zeros(one.sci.shape, np.uint16), seen.catalogue, seen.seeing)
    stamp = profile.stamp().astype(np.float64)
    half = len(stamp) // 2
    at = np.arange(-half, half + 1)
    distance = np.hypot(at, at[:, None])
    assert stamp.sum() == pytest.approx(1, abs=1e-5)
    for radius in (4.0, 8.0, 16.0):
        assert stamp[distance <= radius].sum() == pytest.approx(inside(radius), abs=0.02)
    assert (np.diff(profile.values) <= 0).all()


def test_wider_stars_have_the_same_light(field):
    one, seen = field
    profile = measure_profile(one.sci, np.zeros(one.sci.shape, np.uint16), seen.catalogue, seen.seeing)
    narrow, wide = profile.stamp(), profile.stamp(1.5)
    assert wide.sum() == pytest.approx(1, abs=1e-5)
    assert wide.max() == pytest.approx(narrow.max() / 1.5**2, rel=0.05)
    assert len(wide) > len(narrow)
    assert len(wide) % 2 == 1


def test_pixels_with_a_flag_do_not_count(field):
    one, seen = field
    rng = np.random.default_rng(12)
    bad = rng.random(one.sci.shape) < 0.1
    sci = np.where(bad, 1e5, one.sci).astype(np.float32)
    dq = np.where(bad, DQ.BAD_PIXEL, 0).astype(np.uint16)
    zero = np.zeros(dq.shape, np.uint16)
    clean = measure_profile(one.sci, zero, seen.catalogue, seen.seeing)
    flagged = measure_profile(sci, dq, seen.catalogue, seen.seeing)
    assert flagged.stamp().max() == pytest.approx(clean.stamp().max(), rel=0.05)


def test_too_few_stars_have_no_profile():
    x = np.array([100.0, 200.0, 300.0, 250.0])
    rng = np.random.default_rng(13)
    sci = stars_at((400, 400), x, x[::-1].copy(), np.full(4, 1e5))
    sci += (NOISE * rng.standard_normal(sci.shape)).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint16)
    seen = detect(sci, dq)
    assert measure_profile(sci, dq, seen.catalogue, FWHM) is None


def test_a_profile_ends_at_its_last_radius():
    profile = StarProfile(np.array([0.0, 2.0]), np.array([1.0, 0.5]))
    stamp = profile.stamp()
    assert stamp.shape == (5, 5)
    assert stamp[2, 2] == stamp.max()
