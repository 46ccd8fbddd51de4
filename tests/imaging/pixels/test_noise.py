"""The noise model against a simulated detector, and the pedestal that a stack of frames gives."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.pixels.noise import NoiseModel, measure_pedestal
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera


def electrons(frames):
    return np.stack([frame.adu for frame in frames]).astype(np.float32) * np.float32(frames[0].facts.gain)


@pytest.mark.parametrize(("lnrs", "n"), [(8, 2), (8, 4), (8, 10), (1, 4), (4, 6)])
def test_pedestal_is_found_among_warm_pixels_and_cosmic_rays(expose, lnrs, n):
    rng = np.random.default_rng(3)
    light = rng.normal(38, 12, (256, 256)).clip(1)
    light[rng.random(light.shape) < 0.02] = 900
    frames = expose(light, n, shape=light.shape, LNRS=lnrs, NREADS=lnrs)
    for frame in frames:
        frame.adu[rng.random(light.shape) < 1e-3] += 2000
    got = measure_pedestal(electrons(frames), NoiseModel.of(frames[0].facts))
    assert got.reason == ""
    assert got.value == pytest.approx(65, abs=4 * got.uncertainty + 0.4)
    assert 0 < got.uncertainty < 1.2
    # the scatter is that of the usual pixels: read noise, rounding and 38 e- or so of dark current
    assert got.scatter**2 == pytest.approx(NoiseModel.of(frames[0].facts).floor + 37.5, rel=0.03)


def test_shifts_of_complete_frames_are_not_noise(expose):
    x = electrons(expose(30.0, 4, shape=(200, 200)))
    model = NoiseModel(5.0, 4.44 / 8)
    still = measure_pedestal(x, model).value
    moved = measure_pedestal(x + np.float32([-20, 0, 15, 5])[:, None, None], model).value
    assert moved == pytest.approx(still, abs=0.3)


def test_stated_uncertainty_is_the_scatter_of_the_estimate(expose):
    model = NoiseModel(5.0, 4.44 / 8)
    got = [measure_pedestal(electrons(expose(40.0, 3, shape=(60, 60), seed=k)), model) for k in range(60)]
    values = np.array([one.value for one in got])
    assert values.std() == pytest.approx(np.mean([one.uncertainty for one in got]), rel=0.35)
    assert values.mean() == pytest.approx(65, abs=4 * values.std() / 60**0.5 + 0.1)


def test_one_frame_is_not_enough(expose):
    got = measure_pedestal(electrons(expose(30.0, 1)), NoiseModel(5.0, 0.555))
    assert (got.value, got.n_pixels) == (0, 0)
    assert "two frames" in got.reason


def test_few_pixels_are_not_enough(expose):
    got = measure_pedestal(electrons(expose(30.0, 4, shape=(8, 8))), NoiseModel(5.0, 0.555))
    assert got.value == 0
    assert "too few" in got.reason


def test_copies_of_one_frame_are_noticed(expose):
    x = electrons(expose(30.0, 1))
    got = measure_pedestal(np.repeat(x, 4, axis=0), NoiseModel(5.0, 0.555))
    assert got.value == 0
    assert "copies" in got.reason


def test_more_scatter_than_all_electrons_explain_is_noticed(expose):
    frames = expose(10.0, 4, pedestal=0.0, read_noise=12.0)
    got = measure_pedestal(electrons(frames), NoiseModel.of(frames[0].facts))
    assert got.value == 0
    assert "more than" in got.reason


def test_bright_frames_do_not_know_their_pedestal(expose):
    frames = expose(24000.0, 3, LNRS=1, NREADS=1)
    got = measure_pedestal(electrons(frames), NoiseModel.of(frames[0].facts))
    assert got.value == 0
    assert "only known to" in got.reason


def test_all_pedestal_where_there_is_no_light(expose):
    frames = expose(0.0, 4, read_noise=4.95)
    got = measure_pedestal(electrons(frames), NoiseModel.of(frames[0].facts))
    assert got.value == pytest.approx(65, abs=0.5)
    assert got.value <= got.level


def test_rounding_adds_a_twelfth_of_the_gain_squared(expose):
    """With hardly any other noise, the scatter of a ramp's pixels about it is the rounding alone."""
    ramp = np.linspace(100, 400, 96 * 128).reshape(96, 128)
    frame = expose(0.0, 1, pedestal=ramp, read_noise=0.0, LNRS=1, NREADS=1)[0]
    off = frame.adu * frame.facts.gain - ramp
    assert off.var() == pytest.approx(NoiseModel(0.0, 4.44).floor, rel=0.03)


@pytest.mark.parametrize("linearised", [False, True])
def test_variance_is_shot_noise_above_the_pedestal_and_the_floor(linearised):
    level = np.array([[-50.0, 65.0, 165.0, 90000.0]], np.float32)
    got = NoiseModel(6.0, 1.11, pedestal=65.0, nonlinearity=camera.nonlinearity).variance(
        level, linearised=linearised
    )
    floor = 36 + 1.11**2 / 12
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0, :3], [floor, floor, floor + 100], rtol=2e-4)
    assert got[0, 3] == pytest.approx(89935 + floor * (1.0168**2 if linearised else 1), rel=1e-5)
