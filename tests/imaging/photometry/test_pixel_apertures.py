"""Sums about pixels are those of circles that are placed one by one."""

import numpy as np
import pytest

from imaging.photometry.measured_image import circle_sums
from imaging.photometry.pixel_apertures import pixel_shares, sums_about_pixels


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.5, 2.0, 4.0, 6.3, 15.0])
def test_the_sums_are_those_of_single_circles(radius):
    rng = np.random.default_rng(3)
    planes = tuple(rng.normal(level, 30, (90, 120)).astype(np.float32) for level in (0.0, 5000.0))
    centres = np.column_stack([rng.integers(17, 103, 200), rng.integers(17, 73, 200)])
    for plane, sums in zip(planes, sums_about_pixels(planes, centres, radius), strict=True):
        assert sums == pytest.approx(circle_sums(plane, centres.astype(float), radius), rel=1e-5, abs=2e-2)


@pytest.mark.parametrize("radius", [1.0, 1.5, 3.7, 15.0])
def test_the_shares_are_the_area_of_the_circle(radius):
    shares = pixel_shares(radius)
    assert shares.sum() == pytest.approx(np.pi * radius**2, rel=1e-5)
    assert shares == pytest.approx(shares.T, abs=1e-6)
    assert shares[0].max() == 0 or shares[0].max() < 1
