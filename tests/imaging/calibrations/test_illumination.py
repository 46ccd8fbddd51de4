"""The circle of light, found in flats with noise, bad pixels, soft edges and frames that cut it."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.illumination import default_circle, measure_circle
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera


def lit(shape, x, y, radius, *, soft=0.05, noise=0.02, bad=0.003, seed=1):
    """A flat with a gradient, 1 % stray light outside, and an edge ``soft`` pixels wide."""
    rng = np.random.default_rng(seed)
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    r = np.hypot(xx - x, yy - y)
    flat = 1 / (1 + np.exp(np.clip((r - radius) / soft, -80, 80))) * (1 + 0.1 * (xx - x) / shape[1])
    flat = 20000 * flat + 20000 * noise * rng.standard_normal(shape, np.float32)
    hit = rng.random(shape) < bad
    flat[hit] = rng.choice([0, -1000, 90000, np.nan], hit.sum())
    return flat.astype(np.float32)


@pytest.mark.parametrize("soft", [0.05, 1.0, 2.0])
@pytest.mark.parametrize(
    ("x", "y", "radius"),
    [
        (255.5, 255.5, 240.0),
        (250.2, 262.7, 238.4),
        (262.0, 264.0, 263.0),  # cut on two sides, as on the real detector
        (300.0, 250.0, 290.0),
    ],
)
def test_found_to_a_fraction_of_a_pixel(x, y, radius, soft):
    got = measure_circle(lit((512, 512), x, y, radius, soft=soft))
    assert got.measured
    assert got.reason == ""
    assert (got.x, got.y, got.radius) == pytest.approx((x, y, radius), abs=0.15 if soft < 2 else 0.4)


def test_real_geometry_is_found_at_full_size():
    (x, y), radius = camera.circle[:2], camera.circle[2]
    got = measure_circle(lit(camera.shape, x, y, radius, soft=1.5, noise=0.01))
    assert got.measured
    assert (got.x, got.y, got.radius) == pytest.approx((x, y, radius), abs=0.3)


def test_a_dead_region_at_the_edge_is_left_out():
    flat = lit((512, 512), 255.5, 255.5, 240.0)
    flat[:80, 200:300] = 0
    got = measure_circle(flat)
    assert (got.x, got.y, got.radius) == pytest.approx((255.5, 255.5, 240.0), abs=0.15)
    assert got.n_points < 720


@pytest.mark.parametrize("kind", ["dark", "whole", "square"])
def test_a_missing_circle_is_reported_and_the_constant_used(kind):
    flat = np.random.default_rng(2).normal(0, 1, camera.shape if kind == "dark" else (512, 512))
    if kind == "whole":
        flat += 1000
    if kind == "square":
        flat[60:450, 60:450] += 1000
    if kind == "dark":
        flat[:] = 0
    got = measure_circle(flat.astype(np.float32), camera.instrument.detector)
    assert not got.measured
    assert got.reason
    if kind == "dark":
        assert (got.x, got.y) == camera.circle[:2]
        assert got.radius == camera.circle[2]


def test_mask_is_one_inside():
    circle = measure_circle(lit((512, 512), 255.5, 255.5, 240.0))
    mask = circle.mask((512, 512))
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert mask.sum() == pytest.approx(np.pi * circle.radius**2, rel=1e-3)
    assert mask[255, 17] == 1
    assert mask[255, 13] == 0
    assert circle.mask((512, 512), margin=10).sum() == pytest.approx(
        np.pi * (circle.radius - 10) ** 2, rel=1e-3
    )


def test_default_of_a_small_frame_leaves_nothing_out():
    assert default_circle((40, 60), "test").mask((40, 60)).all()
