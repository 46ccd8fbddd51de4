"""The median without sorting: exactly that of numpy, whatever the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imaging.pixels.median_kernels import median, median_in_place, usable_values

KINDS = {
    "noise": lambda rng, n: rng.normal(1000, 30, n),
    "steps": lambda rng, n: np.round(rng.normal(1000, 30, n) / 25) * 25,
    "two values": lambda rng, n: np.where(rng.random(n) < 0.4, 7.0, 5.0),
    "equal": lambda rng, n: np.full(n, 3.0),
    "ascending": lambda rng, n: np.sort(rng.normal(size=n)),
    "outliers": lambda rng, n: np.where(rng.random(n) < 0.3, 1e9, rng.normal(size=n)),
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.3, -np.inf, rng.normal(size=n)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 47, 48, 49, 50, 63, 64, 65, 1000, 2047, 2048, 100_001])
def test_it_is_that_of_numpy(kind, n):
    values = KINDS[kind](np.random.default_rng(n), n).astype(np.float32)
    before = values.copy()
    assert median(values) == np.median(values)
    assert (values == before).all()


@given(values=arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)))
@settings(max_examples=100)
def test_it_is_that_of_any_values(values):
    assert np.float32(median_in_place(values.copy(), values.size)) == np.median(values)


def test_only_the_first_values_count():
    values = np.arange(1000, dtype=np.float32)[::-1].copy()
    assert median_in_place(values, 901) == 549.0


def test_without_values_there_is_no_median():
    assert np.isnan(median(np.empty(0, np.float32)))


def test_usable_values_are_those_without_the_bits():
    plane = np.arange(35, dtype=np.float32).reshape(5, 7)
    dq = np.zeros((5, 7), np.uint16)
    dq[0, 2], dq[2, 6], dq[4] = 1, 4, 2
    assert usable_values(plane, dq, 2, np.uint16(3)).tolist() == [0, 1, 3, 4, 5, 6, *range(14, 21)]
