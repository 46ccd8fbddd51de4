"""The pixels of raw frames: what has no data, what cannot be a measurement, and no alarm for ordinary noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.instruments.detector import Readout
from imaging.pixels.raw_pixels import Measured, measure, possible, run_length, unread

SHAPE = (256, 512)


def readout(noise: float = 1.2, gain: float = 4.0) -> Readout:
    """Return the numbers of a frame with a read noise in ADU."""
    return Readout(gain, noise * gain, 30000, 120000.0, 0.8, (1.0, 0.0, 0.0), 0.2)


def noise(
    level: float = 800.0, sigma: float = 14.0, seed: int = 1, shape: tuple[int, int] = SHAPE
) -> NDArray[Any]:
    """Return pixels of a level with noise, int32."""
    return np.rint(np.random.default_rng(seed).normal(level, sigma, shape)).astype(np.int32)


def measured(pixels: NDArray[Any], numbers: Readout | None = None) -> Measured:
    return measure(lambda rows: pixels[rows], (pixels.shape[0], pixels.shape[1]), numbers or readout())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("level", "sigma"), [(0, 1.2), (3, 0.9), (800, 14), (25000, 80)])
def test_noise_is_a_measurement(level: float, sigma: float, seed: int) -> None:
    found = measured(noise(level, sigma, seed, (2048, 2048)), readout(min(sigma, 1.2)))
    assert (found.state.no_data, found.one_value, found.swapped, found.offset) == (0, None, False, 0)
    assert found.state.level == pytest.approx(level, abs=sigma / 10 + 0.5)
    assert found.state.noise == pytest.approx(sigma, rel=0.3)


def test_a_quiet_detector_has_longer_runs_by_chance() -> None:
    """Noise of 0.25 ADU gives the same value nearly always: a run of it needs more pixels to mean anything."""
    assert run_length(readout(1.2)) == 32
    assert 100 < run_length(readout(0.3)) < 2000
    quiet = noise(10, 0.3, shape=(512, 2048))
    assert unread(quiet, readout(0.3)) is None
    quiet[:, 512:] = 0
    found = unread(quiet, readout(0.3))
    assert found is not None
    np.testing.assert_array_equal(found.sum(axis=1), 1536)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((slice(150, None), slice(None)), 0),
        ((slice(None, 128), slice(256, None)), 77),
        ((slice(None), slice(64, 128)), 0),
        ((slice(3, 4), slice(100, 140)), 5),
    ],
)
def test_blocks_of_one_value_are_unread(where: tuple[slice, slice], value: int) -> None:
    pixels = noise()
    pixels[where] = value
    expected = np.zeros(SHAPE, bool)
    expected[where] = True
    found = unread(pixels, readout())
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    assert measured(pixels).state.no_data == expected.mean()


def test_rows_filled_with_a_value_of_their_own_are_unread() -> None:
    pixels = noise()
    pixels[200:] = np.arange(56)[:, None]
    assert measured(pixels).state.no_data == 56 / 256


def test_a_band_gives_the_same_as_the_frame() -> None:
    pixels = noise()
    pixels[90:, 300:] = 0
    whole = unread(pixels, readout())
    bands = [unread(pixels[k : k + 7], readout()) for k in range(0, 256, 7)]
    parts = [np.zeros((min(7, 256 - 7 * k), 512), bool) if b is None else b for k, b in enumerate(bands)]
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_saturated_areas_were_read_out() -> None:
    pixels = noise()
    pixels[50:100, 50:150] = 30000
    found = measured(pixels)
    assert found.state.no_data == 0
    assert found.state.saturated == 5000 / pixels.size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_undefined_values(value: float) -> None:
    pixels = noise().astype(np.float32)
    pixels[7, 10:13] = value
    assert measured(pixels).state.no_data == 3 / pixels.size


def test_impossible_values() -> None:
    low, high = possible(readout())
    assert (low, high) == (-15000, 3_000_000)
    pixels = noise()
    pixels[5, ::7] = -(2**31)
    pixels[9, 3] = 2**30
    assert measured(pixels).state.no_data == (74 + 1) / pixels.size


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int16, np.float32])
def test_swapped_bytes(dtype: type) -> None:
    pixels = noise(1200, 15).astype(dtype)
    if dtype is np.uint16:  # stored with an offset
        swapped = (pixels ^ dtype(32768)).byteswap() ^ dtype(32768)
    else:
        swapped = pixels.byteswap()
    assert not measured(pixels).swapped
    found = measured(swapped)
    assert found.swapped or found.state.no_data > 0.5


@pytest.mark.parametrize("level", [0, 3, 900, 5000])
def test_all_values_off_by_32768(level: float) -> None:
    sigma = float(np.hypot(1.2, np.sqrt(level / 4)))
    pixels = noise(level, sigma)
    assert measured(pixels).offset == 0
    assert measured(pixels - 32768).offset == -32768
    assert measured(pixels + 32768).offset == 32768


@pytest.mark.parametrize("level", [20000, 29000, 33000, 50000])
def test_a_bright_frame_is_not_taken_for_an_offset(level: float) -> None:
    assert measured(noise(level, np.sqrt(level / 4))).offset == 0


def test_steps_across_quadrants() -> None:
    pixels = noise()
    pixels[128:, 256:] += 112
    steps = measured(pixels).state.steps
    np.testing.assert_allclose(steps, (0, 112, 0, 112), atol=8)
    assert measured(noise(shape=(40, 40))).state.steps == ()


def test_the_checksum_is_that_of_the_pixels() -> None:
    one, other = noise(), noise(seed=2)
    assert measured(one).state.checksum == measured(one.copy()).state.checksum
    sums = {
        measured(p).state.checksum for p in (one, other, one + 1, one[::-1], one[:, ::-1], np.roll(one, 1, 1))
    }
    assert len(sums) == 6


def test_a_frame_of_one_value() -> None:
    assert measured(np.full(SHAPE, 7, np.int32)).one_value == 7
    assert measured(np.full(SHAPE, np.nan, np.float32)).state.no_data == 1


def test_steps_at_an_unread_quadrant_are_unknown() -> None:
    pixels = noise()
    pixels[128:, 256:] = 0
    steps = measured(pixels).state.steps
    assert (steps[1], steps[3]) == (None, None)
    np.testing.assert_allclose((steps[0], steps[2]), 0, atol=8)
