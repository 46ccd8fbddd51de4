"""What columns differ by: the readout's offset or charge, distinguished by the scatter between frames."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.dark import make_dark
from imaging.pixels.columns import column_pattern


@pytest.fixture
def columns():
    """Electrons by which each of 160 columns is above the others, 30 e- rms."""
    return np.random.default_rng(8).normal(0, 30, 160).clip(-60, 90).astype(np.float32)


def exposures(charge, offset, n=4, rows=128, seed=5):
    rng = np.random.default_rng(seed)
    shape = (n, rows, len(offset))
    light = rng.poisson(np.broadcast_to(np.maximum(charge, 0), shape))
    return (65 + light + offset + rng.normal(0, 5, shape)).astype(np.float32)


def test_an_offset_of_the_readout_is_all_pattern(columns):
    got = column_pattern(exposures(38.0, columns))
    expected = columns - np.median(columns)
    assert np.abs(got - expected).std() < 3
    assert np.polyfit(expected, got, 1)[0] == pytest.approx(1, abs=0.08)


def test_dark_current_is_none(columns):
    charge = 100 + columns
    got = column_pattern(exposures(charge, np.zeros_like(columns)))
    assert np.abs(got).max() < 0.2 * np.ptp(columns)


def test_half_of_each_is_distinguished(columns):
    got = column_pattern(exposures(100 + columns / 2, columns / 2))
    assert np.polyfit(columns, got, 1)[0] == pytest.approx(0.5, abs=0.12)


def test_columns_that_are_alike_give_exactly_nothing():
    assert not column_pattern(exposures(38.0, np.zeros(160, np.float32))).any()


@pytest.mark.parametrize(("n", "rows"), [(1, 128), (4, 8)])
def test_too_few_frames_or_rows(columns, n, rows):
    assert not column_pattern(exposures(38.0, columns, n=n, rows=rows)).any()


def test_the_dark_s_variance_is_the_scatter_in_every_column(expose, columns):
    """Without the pattern the pull would run from 0.8 in the high columns to 1.2 in the low ones."""
    shape = (256, 160)
    frames = expose(38.0, 4, shape=shape)
    step = frames[0].facts.gain
    offset = np.round(columns / step)
    for frame in frames:
        frame.adu[...] += offset.astype(frame.adu.dtype)
    result = make_dark(frames)
    error = result.image.sci - (65 + 38 + offset * step)
    pull = error / np.sqrt(result.image.var)
    for part in np.array_split(np.argsort(columns), 4):
        assert pull[:, part].std() == pytest.approx(1, abs=0.06)
    assert result.metrics.rejected < 0.01
