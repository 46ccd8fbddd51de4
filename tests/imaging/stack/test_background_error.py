"""The error of the background is what apertures find beyond the noise of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.sources.measure import aperture_sums
from imaging.stack.background_error import background_error

SHAPE = (600, 640)
NOISE = 10.0


def planes(error: float, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noise of pixels, and a background that is off by ``error`` rms on a scale of 42 pixels."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, error, (SHAPE[0] // 42 + 1, SHAPE[1] // 42 + 1)).repeat(42, 0).repeat(42, 1)
    sci = rng.normal(0, NOISE, SHAPE) + steps[: SHAPE[0], : SHAPE[1]]
    return sci.astype(np.float32), np.full(SHAPE, NOISE**2, np.float32)


def none() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    return np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint8)


@pytest.mark.parametrize("error", [1.0, 2.0])
def test_the_error_of_the_background_is_measured(error: float) -> None:
    found = [background_error(*planes(error, seed), *none(), 1.0) for seed in range(4)]
    assert np.mean(found) == pytest.approx(error, rel=0.15)


def test_noise_alone_has_none() -> None:
    """The measurement is the excess of a scatter over its expectation: it is 0, or small by chance."""
    for seed in range(5):
        error = background_error(*planes(0.0, seed), *none(), 1.0)
        assert error is not None
        assert error < 0.25 * NOISE / 21 * 2


def test_correlated_noise_is_not_an_error_of_the_background() -> None:
    rng = np.random.default_rng(3)
    wide = rng.normal(0, 2 * NOISE, (SHAPE[0] + 1, SHAPE[1] + 1))
    sci = (wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]).astype(np.float32) / 4
    var = np.full(SHAPE, NOISE**2, np.float32)
    with_factor, without = (background_error(sci, var, *none(), factor) for factor in (2.0, 1.0))
    assert with_factor is not None
    assert without is not None
    assert with_factor < 0.3
    assert without > 0.7


def test_sources_and_bad_pixels_are_left_out() -> None:
    sci, var = planes(0.0)
    dq, objects = none()
    sci[:, ::100] = 1e6
    objects[:, ::100] = 1
    sci[::150] = -1e6
    dq[::150] = int(DQ.BAD_PIXEL)
    error = background_error(sci, var, dq, objects, 1.0)
    assert error is not None
    assert error < 0.5


def test_too_few_blank_blocks() -> None:
    sci, var = planes(1.0)
    dq, objects = none()
    objects[20:, :] = 1
    assert background_error(sci, var, dq, objects, 1.0) is None


def test_the_noise_of_apertures_of_all_sizes_follows() -> None:
    sci, var = planes(1.5, 7)
    dq, objects = none()
    error = background_error(sci, var, dq, objects, 1.0)
    assert error is not None
    rng = np.random.default_rng(8)
    places = rng.uniform(20, [SHAPE[1] - 20, SHAPE[0] - 20], (1500, 2))
    for radius in (2.0, 5.0, 8.0, 12.0):
        sums, areas, lost = (np.empty(len(places)) for _ in range(3))
        bits, core = np.empty(len(places), np.uint16), np.empty(len(places), np.uint16)
        aperture_sums(sci, dq, places, radius, 1.0, 0, sums, areas, bits, core, lost)
        expected = np.sqrt(areas * NOISE**2 + (areas * error) ** 2)
        assert np.std(sums / expected) == pytest.approx(1.0, abs=0.12)
