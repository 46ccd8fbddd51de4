"""Offsets of channels and rows: found where they are significant, with their size."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.sky.patterns import find_layout, periodic_pattern, row_pattern

ROWS, PIXELS, NOISE = 1024, 900, 70.0


def means(rng, rms):
    noise = NOISE / np.sqrt(PIXELS) * rng.standard_normal(ROWS)
    true = rms * rng.standard_normal(ROWS)
    return true, true + noise


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_are_corrected_with_less_error_than_they_have(seed):
    true, seen = means(np.random.default_rng(seed), 3.0)
    offsets, rms = row_pattern(seen, np.full(ROWS, PIXELS), NOISE, 9)
    assert rms == pytest.approx(3.0, rel=0.15)
    assert np.std(true - offsets) < 0.7 * 3.0


@pytest.mark.parametrize("seed", range(10))
def test_noise_alone_is_no_pattern_of_rows(seed):
    _, seen = means(np.random.default_rng(seed), 0.0)
    offsets, rms = row_pattern(seen, np.full(ROWS, PIXELS), NOISE, 9)
    assert rms == 0
    assert not offsets.any()


def quadrants(values, turned):
    """Return 32 x 32 blocks with eight strips in each quadrant, along rows where ``turned``."""
    plane = np.zeros((32, 32))
    for corner in range(4):
        strips = np.repeat(values[corner], 2)
        part = np.s_[corner // 2 * 16 :, corner % 2 * 16 :]
        plane[part][:16, :16] = strips[:, None] if turned[corner] else strips[None, :]
    return plane


@pytest.mark.parametrize("turned", [(0, 1, 1, 0), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_each_quadrant_has_its_own_direction(turned):
    rng = np.random.default_rng(4)
    frames = [
        quadrants(8 * rng.standard_normal((4, 8)), turned) + 2 * rng.standard_normal((32, 32))
        for _ in range(5)
    ]
    found = find_layout(frames, 32)
    wanted = quadrants(np.arange(32).reshape(4, 8), turned)
    assert np.array_equal(found, wanted)


def test_noise_has_no_layout():
    rng = np.random.default_rng(5)
    assert find_layout([2 * rng.standard_normal((32, 32)) for _ in range(5)], 32) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rms", [0.0, 4.0])
def test_offsets_that_repeat_are_found_where_they_are_significant(seed, rms):
    rng = np.random.default_rng(seed)
    true = rms * rng.standard_normal((4, 8))
    true -= true.mean(axis=1, keepdims=True)
    noise = NOISE / np.sqrt(2048) * rng.standard_normal((4, 8))
    counts = np.full((4, 8), 2048)
    offsets, found = periodic_pattern(true + 30 + noise, counts, NOISE, 9)  # a level of 30 is the sky's
    assert found == pytest.approx(np.std(true), rel=0.3)
    assert np.abs(offsets.mean(axis=1)).max() < 0.1
    assert np.std(true - offsets) < (0.6 * rms if rms else 1e-12)


def test_a_quadrant_without_a_pattern_is_left_alone():
    rng = np.random.default_rng(4)
    true = 20 * rng.standard_normal((4, 8)) * np.array([[1], [0], [1], [1]])
    noise = NOISE / np.sqrt(2048) * rng.standard_normal((4, 8))
    offsets, _ = periodic_pattern(true + noise, np.full((4, 8), 2048), NOISE, 9)
    assert np.std(offsets[1]) < np.std(noise[1])
    assert np.std(offsets[0]) > 10


def test_columns_without_values_have_no_offset():
    seen, counts = np.full((4, 8), 5.0), np.full((4, 8), 2048)
    seen[:, ::2] = -5.0
    seen[2, 3], counts[2, 3] = 1e6, 0
    offsets, _ = periodic_pattern(seen, counts, NOISE, 9)
    assert offsets[2, 3] == 0
    assert np.abs(offsets).max() < 10
    blind, rms = periodic_pattern(seen, np.where(np.arange(8) < 5, 0, counts), NOISE, 9)
    assert (rms, blind.any()) == (0.0, False)
