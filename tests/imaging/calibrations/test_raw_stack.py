"""Stacks of raw frames: alike or refused by name, every row read once."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations import raw_stack as rawstack
from imaging.calibrations.raw_stack import RawStack, check_alike, rows_per_band, stacked_variance
from imaging.errors import GroupError
from imaging.pixels.bands import bands
from imaging.pixels.combine import CombineParameters
from imaging.pixels.noise import NoiseModel


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"EXPTIME": 60.0}, ["exposure (s)", "60.0", "120.0"]),
        ({"LNRS": 4, "NREADS": 4}, ["LNRS", "(4)", "have 8"]),
        ({"COADDS": 2}, ["coadds", "(2)"]),
        ({"DETID": "7"}, ["detector", "(7)"]),
        ({"shape": (40, 48)}, ["shape", "(40, 48)"]),
    ],
)
def test_the_odd_frame_is_named(expose, cards, words):
    frames = expose(10.0, 3) + expose(10.0, 1, seed=9, **cards)
    with pytest.raises(GroupError) as caught:
        check_alike(frames, "darks")
    for word in [*words, "S20131120S0900.fits"]:
        assert word in str(caught.value)
    if "shape" not in cards:
        assert "S20131120S0100" not in str(caught.value)


def test_too_few_frames_are_named_and_counted(expose):
    with pytest.raises(
        GroupError, match=r"2 darks \(S20131120S0100.fits, S20131120S0101.fits\), 3 are needed"
    ):
        check_alike(expose(10.0, 2), "darks", least=3)
    with pytest.raises(GroupError, match="0 darks"):
        check_alike([], "darks")


@pytest.mark.parametrize(
    ("rows", "memory", "most"), [(16, 2**30, 1), (7, 2**30, 2), (96, 2**30, 2), (16, 400_000, 2)]
)
def test_every_row_is_read_once_where_there_is_room(expose, rows, memory, most):
    frames = expose(np.arange(96.0)[:, None] * 10, 3)
    stack = RawStack(frames, rows=rows, memory=memory)
    sample = stack.sample()
    every = np.stack([frame.adu for frame in frames]) * np.float32(frames[0].facts.gain)
    np.testing.assert_allclose(sample, every.reshape(3, -1), rtol=1e-6)
    parts = [stack.prepared(band, pedestal=65.0, linearise=False)[0] for band in bands(96, rows)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), every, rtol=1e-6)
    for frame in frames:
        assert frame.reads.min() >= 1
        assert frame.reads.max() == most


def test_sample_is_spread_over_the_frame_and_bounded(expose, monkeypatch):
    monkeypatch.setattr(rawstack, "_SAMPLE_PIXELS", 3 * 16 * 128 * 2)
    frames = expose(np.arange(96.0)[:, None] * 100, 3)
    sample = RawStack(frames, rows=16, memory=2**30).sample()
    assert sample.shape == (3, 2 * 16 * 128)
    assert sample[0, : 16 * 128].mean() < 5000 < sample[0, 16 * 128 :].mean()


def test_bands_shrink_with_memory_and_number_of_frames():
    few = rows_per_band(4, 2048, memory=192 * 2**20, threads=2)
    assert few == 16
    many = rows_per_band(200, 2048, memory=64 * 2**20, threads=2)
    assert 1 <= many < few
    assert many * 200 * 2048 * 18 * 2 <= 64 * 2**20


@pytest.mark.parametrize("operation", ["mean", "median"])
def test_variance_of_a_stack_is_one_frames_over_the_count(operation):
    level = np.full((1, 4), 165, np.float32)
    count = np.array([[0, 1, 3, 4]], np.uint16)
    parameters = CombineParameters(operation=operation)
    got = stacked_variance(level, count, NoiseModel(5.0, 0.0, 65.0), parameters, linearised=False)
    factors = [1, 1.34601, 1.19280] if operation == "median" else [1, 1, 1]
    np.testing.assert_allclose(got, [[0, 125, 125 / 3 * factors[1], 125 / 4 * factors[2]]], rtol=1e-5)
