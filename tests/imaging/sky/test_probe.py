"""The guide probe: found by its shadow and outlined with its glow, and never found in a galaxy."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.pixels.dq import DQ
from imaging.sky.probe import find_deficit, outline

SIZE, BLOCK, LEVEL, RADIUS = 512, 32, 5400.0, 40.0


def scene(rng, centre, *, depth=0.35, glow=0.03):
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    distance = np.hypot(x - centre[0], y - centre[1])
    shadow = 1 - depth / (1 + np.exp(np.clip((distance - RADIUS) / 2.5, -80, 80)))
    light = LEVEL * (shadow + glow * np.exp(-np.maximum(distance - RADIUS, 0) / (0.6 * RADIUS)))
    return (light + np.sqrt(light) * rng.standard_normal(light.shape)).astype(np.float32), distance


def in_blocks(sci):
    n = SIZE // BLOCK
    return np.median(sci.reshape(n, BLOCK, n, BLOCK).swapaxes(1, 2).reshape(n, n, -1), axis=-1) / LEVEL - 1


@pytest.mark.parametrize("centre", [(250, 260), (120, 400), (20, 250)])
def test_shadow_and_glow_are_flagged_and_little_else(centre):
    sci, distance = scene(np.random.default_rng(1), centre)
    deficit = find_deficit(in_blocks(sci), 0.1)
    assert deficit is not None
    dq = np.zeros(sci.shape, np.uint16)
    found = outline(sci - np.float32(LEVEL), dq, deficit, BLOCK, LEVEL)
    found.remove(sci.copy(), dq, 0)
    assert (dq[distance < RADIUS] & DQ.UNILLUMINATED).all()
    assert not (dq[distance > RADIUS + 25] & DQ.UNILLUMINATED).any()
    lit = (distance > RADIUS) & (distance < RADIUS + 0.6 * RADIUS * np.log(0.03 / 0.005))
    assert np.mean((dq[lit] & (DQ.GLOW | DQ.UNILLUMINATED)) > 0) > 0.98
    assert not (dq[distance > 6 * RADIUS] & DQ.GLOW).any()
    assert found.vignetted == np.count_nonzero(dq & DQ.UNILLUMINATED)
    assert found.glow == np.count_nonzero(dq & DQ.GLOW)


def test_bits_are_set_in_bands_as_in_the_frame():
    sci, _ = scene(np.random.default_rng(2), (250, 260))
    deficit = find_deficit(in_blocks(sci), 0.1)
    whole, parts = np.zeros((2, *sci.shape), np.uint16)
    found = outline(sci - np.float32(LEVEL), whole, deficit, BLOCK, LEVEL)
    found.remove(sci.copy(), whole, 0)
    for first in range(0, SIZE, 48):
        found.remove(sci[first : first + 48].copy(), parts[first : first + 48], first)
    assert np.array_equal(whole, parts)


def test_no_probe_in_calm_frames_nor_in_a_galaxy_nor_in_slopes():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:16, 0:16] / 16
    for _ in range(30):
        a, b = rng.uniform(-0.05, 0.05, 2)
        calm = a * x + b * y + 0.001 * rng.standard_normal(x.shape)
        assert find_deficit(calm, 0.1) is None
        galaxy = rng.uniform(0.1, 5) * np.exp(-np.hypot(x - 0.4, y - 0.6) / rng.uniform(0.05, 1))
        assert find_deficit((1 + calm + galaxy) / np.median(1 + galaxy) - 1, 0.1) is None


def test_a_dark_part_of_the_field_is_no_probe():
    plane = np.zeros((16, 16))
    plane[:, :6] = -0.35
    assert find_deficit(plane, 0.1) is None


@pytest.mark.parametrize("centre", [(250, 260), (120, 400), (20, 250)])
def test_the_glow_is_subtracted_and_the_level_is_that_of_the_sky(centre):
    sci, distance = scene(np.random.default_rng(4), centre)
    deficit = find_deficit(in_blocks(sci), 0.1)
    dq = np.zeros(sci.shape, np.uint16)
    left = sci - np.float32(LEVEL)
    outline(left.copy(), dq, deficit, BLOCK, LEVEL).remove(left, dq, 0)
    open_sky = (dq & DQ.UNILLUMINATED) == 0
    # The glow at the shadow's edge has 162 electrons.
    for inner, outer, most in ((14, 24, 10.0), (24, 40, 5.0), (40, 80, 5.0), (80, 160, 3.0)):
        ring = open_sky & (distance > RADIUS + inner) & (distance < RADIUS + outer)
        assert abs(float(left[ring].mean())) < most


def test_stars_have_no_part_in_the_glow_but_are_behind_the_shadow():
    rng = np.random.default_rng(5)
    sci, distance = scene(rng, (250, 260))
    mask = np.zeros(sci.shape, np.uint8)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    for _ in range(60):
        a, b = 250 + rng.uniform(-150, 150), 260 + rng.uniform(-150, 150)
        star = np.hypot(x - a, y - b)
        sci += (3000 * np.exp(-0.5 * (star / 4) ** 2)).astype(np.float32)
        mask[star < 12] = 1
    deficit = find_deficit(in_blocks(sci), 0.1)
    dq = np.zeros(sci.shape, np.uint16)
    left = sci - np.float32(LEVEL)
    outline(left.copy(), dq, deficit, BLOCK, LEVEL, mask).remove(left, dq, 0)
    assert (dq[(distance < RADIUS - 8) & (mask == 0)] & DQ.UNILLUMINATED).all()
    ring = (mask == 0) & (distance > RADIUS + 20) & (distance < RADIUS + 80)
    assert abs(float(left[ring].mean())) < 4
