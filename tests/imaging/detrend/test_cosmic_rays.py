"""Cosmic rays in single frames: hits of known place among stars, bad pixels and saturated cores."""

import numpy as np
import pytest

from imaging.detrend.cosmic_rays import CosmicRayParameters, find_cosmic_rays
from imaging.detrend.detrend import DetrendParameters
from imaging.pixels.dq import DQ
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

SIZE, SKY, READ_NOISE = 256, 2800.0, 5.0
READOUT = camera.readout(8)
FULL = READOUT.saturation * READOUT.gain


class Scene:
    """A frame of stars with noise, hits and defects: planes, the hits' electrons, and the light of the stars."""

    def __init__(self, seed, seeing):
        rng = np.random.default_rng(seed)
        fwhm = seeing / camera.pixel_scale
        y, x = np.mgrid[:SIZE, :SIZE]
        self.stars = np.zeros((SIZE, SIZE))
        alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3.5) - 1))
        self.places = rng.uniform(20, SIZE - 20, (40, 2))
        fluxes = 10 ** rng.uniform(4, 6, 40)
        fluxes[0] = 2e7  # saturated
        for (x0, y0), flux in zip(self.places, fluxes, strict=True):
            profile = (1 + ((x - x0) ** 2 + (y - y0) ** 2) / alpha**2) ** -3.5
            self.stars += flux * profile * 2.5 / (np.pi * alpha**2)
        self.var = (SKY + self.stars + READ_NOISE**2).astype(np.float32)
        self.hits = np.zeros((SIZE, SIZE))
        for x0, y0 in rng.integers(2, SIZE - 8, (100, 2)):  # short tracks along a row or diagonal
            for step in range(rng.integers(1, 5)):
                self.hits[y0 + step * (x0 % 2), x0 + step] += rng.uniform(600, 6000)
        sci = rng.normal(SKY + self.stars, np.sqrt(self.var)) + self.hits
        self.dq = np.zeros((SIZE, SIZE), np.uint16)
        self.dq[sci > FULL] = DQ.SATURATED
        self.sci = np.minimum(sci, FULL).astype(np.float32)
        core = self.stars > 3 * FULL
        self.sci[core] = 0.3 * FULL  # a blown core reads low
        self.dq[core] |= np.uint16(DQ.SATURATED)
        bad = rng.random((SIZE, SIZE)) < 0.004
        self.dq[bad] |= np.uint16(DQ.BAD_PIXEL)
        self.sci[bad] = rng.choice([-1e5, 0.0, 3e4], bad.sum())
        self.dq[:, :9] |= np.uint16(DQ.UNILLUMINATED)
        self.sci[:, :9] = 0.0
        empty = rng.random((SIZE, SIZE)) < 0.0005
        self.sci[empty] = np.nan
        self.gaps = ((self.dq & (DQ.BAD_PIXEL | DQ.UNILLUMINATED)) != 0) | empty
        self.var += (self.hits * (self.hits > 0)).astype(np.float32)  # as prepare computes it

    def find(self, **limits):
        return find_cosmic_rays(self.sci, self.var, self.dq, READOUT, CosmicRayParameters(**limits))


def around(mask, reach):
    """A mask grown by some pixels on every side."""
    padded = np.pad(mask, reach)
    span = range(2 * reach + 1)
    return np.any([padded[j : j + SIZE, i : i + SIZE] for j in span for i in span], axis=0)


@pytest.mark.parametrize(("seed", "seeing"), [(1, 0.5), (2, 0.75), (3, 1.2)])
def test_hits_are_found_and_stars_are_not(seed, seeing):
    scene = Scene(seed, seeing)
    found = scene.find()
    noise = np.sqrt(SKY + scene.stars + READ_NOISE**2)
    apart = ~scene.gaps & (scene.stars < 10 * np.sqrt(SKY))
    wanted = (scene.hits > 8 * noise) & apart
    assert wanted.sum() > 120
    assert found[wanted].mean() >= 0.95
    near_hits = around(scene.hits > 0, 3)  # a hit on a star also takes the pixels around it
    starlit = (scene.stars > np.sqrt(SKY)) & ~near_hits & ~scene.gaps
    assert starlit.sum() > 2000
    assert found[starlit].mean() <= 1e-4
    assert (found & ~near_hits).mean() < 5e-5
    assert not found[scene.gaps].any()


def test_hits_next_to_bad_pixels_are_found_and_the_input_is_unchanged():
    rng = np.random.default_rng(5)
    sci = rng.normal(SKY, np.sqrt(SKY), (64, 64)).astype(np.float32)
    var = np.full((64, 64), SKY, np.float32)
    dq = np.zeros((64, 64), np.uint16)
    dq[20, 20:23], sci[20, 20:23] = DQ.BAD_PIXEL, -1e6
    sci[20, 23] += 3000
    sci[21, 21] += 3000
    before = sci.tobytes(), var.tobytes(), dq.tobytes()
    found = find_cosmic_rays(sci, var, dq, READOUT)
    assert found[20, 23]
    assert found[21, 21]
    assert found.sum() <= 6
    assert before == (sci.tobytes(), var.tobytes(), dq.tobytes())


def test_a_strip_boundary_changes_nothing(monkeypatch):
    scene = Scene(4, 0.7)
    complete = scene.find()
    monkeypatch.setattr("imaging.detrend.cosmic_rays._STRIP", 100)
    assert np.array_equal(scene.find(), complete)


def test_a_frame_without_a_measurement_has_no_hits():
    nothing = np.full((40, 40), np.nan, np.float32)
    assert not find_cosmic_rays(nothing, nothing, np.zeros((40, 40), np.uint16), READOUT).any()


def test_a_saturated_hit_is_found():
    sci = np.random.default_rng(6).normal(SKY, np.sqrt(SKY), (64, 64)).astype(np.float32)
    dq = np.zeros((64, 64), np.uint16)
    sci[30, 30], dq[30, 30] = FULL, DQ.SATURATED
    found = find_cosmic_rays(sci, np.full((64, 64), SKY, np.float32), dq, READOUT)
    assert found[30, 30]


@pytest.mark.parametrize(
    ("given", "frames", "decided"),
    [("auto", 4, "always"), ("auto", 5, "never"), ("never", 1, "never"), ("always", 50, "always")],
)
def test_the_size_of_the_group_decides(given, frames, decided):
    assert DetrendParameters(cosmic_rays=given).for_group(frames).cosmic_rays == decided


def test_a_stack_that_lost_its_frames_misses_hits():
    assert DetrendParameters(cosmic_rays="never").misses_hits(4)
    assert not DetrendParameters(cosmic_rays="never").misses_hits(5)
    assert not DetrendParameters(cosmic_rays="always").misses_hits(1)
