"""The light of a field in the pixels of a frame, and a frame without it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imaging.io.planes import Planes, write_planes
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.geometry import Affine
from imaging.sky.starlight.frame_light import LIGHT, PlanesWithoutLight, crowding, light_on_frame
from tests.imaging.sky.starlight.crowds import stars_at

X, Y, FLUX = np.array([40.0, 70.3, 95.6]), np.array([80.2, 30.0, 61.7]), np.array([1e4, 3e4, 2e3])


def numbers(one: Affine) -> tuple[float, ...]:
    return one.xx, one.xy, one.yx, one.yy, one.x0, one.y0


@pytest.mark.parametrize(
    "to_grid", [Affine.shift(12.4, -7.7), Affine.turn(1.5, 50.0, 60.0).then(Affine.shift(9.0, 4.0))]
)
def test_stars_are_where_the_frame_has_them(to_grid):
    frame = stars_at((120, 110), X, Y, FLUX)
    u, v = to_grid(X, Y)
    grid = stars_at((140, 150), u, v, 3 * FLUX)
    placed = light_on_frame(grid, numbers(to_grid), frame.shape, 1 / 3, None)
    assert placed.dtype == np.float32
    assert placed.sum() == pytest.approx(frame.sum(), rel=0.01)
    # Linear interpolation broadens a star a little.
    assert np.abs(placed - frame).max() < 0.12 * frame.max()
    assert np.hypot(*(np.array(np.unravel_index(placed.argmax(), placed.shape)) - (30, 70))) < 1


def test_stars_are_where_a_distorted_frame_has_them():
    distortion, to_grid = Distortion.radial((160, 110), 0.01), Affine.shift(12.4, -7.7)
    frame = stars_at((160, 110), X, Y, FLUX)
    u, v = to_grid(*distortion(X, Y))
    placed = light_on_frame(
        stars_at((170, 150), u, v, FLUX), numbers(to_grid), frame.shape, 1.0, None, distortion
    )
    assert np.abs(placed - frame).max() < 0.12 * frame.max()


def test_masked_pixels_and_those_beyond_the_grid_have_none():
    mask = np.zeros((20, 20), np.uint8)
    mask[3:6] = 1
    placed = light_on_frame(np.ones((30, 12), np.float32), (1, 0, 0, 1, 0, 0), (20, 20), 2.0, mask)
    assert (placed[3:6] == 0).all()
    assert (placed[:3, :12] == 2).all()
    assert (placed[:, 13:] == 0).all()


def test_planes_are_read_without_the_light(tmp_path):
    rng = np.random.default_rng(1)
    sci, light = rng.normal(0, 1, (2, 12, 8)).astype(np.float32)
    dq = rng.integers(0, 2, (12, 8)).astype(np.uint16)
    planes = Planes(write_planes(tmp_path / "frame", {"sci": sci, "dq": dq}))
    without = PlanesWithoutLight(planes, Planes(write_planes(tmp_path / "light", {LIGHT: light})))
    np.testing.assert_array_equal(without.rows("sci"), sci - light)
    np.testing.assert_array_equal(without.rows("sci", slice(3, 7)), (sci - light)[3:7])
    np.testing.assert_array_equal(without.every("sci", 4, 1), (sci - light)[1::4])
    np.testing.assert_array_equal(without.rows("dq"), dq)
    np.testing.assert_array_equal(planes.rows("sci"), sci)


def test_crowding_is_the_number_of_sources_on_the_area_of_a_star():
    assert crowding(100, 4.0, (400, 400)) == pytest.approx(0.01)
    assert math.isnan(crowding(100, math.nan, (400, 400)))
