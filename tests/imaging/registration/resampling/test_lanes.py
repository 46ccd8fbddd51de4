"""Vectors in kernels: the same numbers as those of numpy, without touching their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from imaging.registration.resampling.lanes import load, multiply, multiply_add, repeat, store, total


@njit
def products_plus(one, two, three, at, out):  # type: ignore[no-untyped-def]
    store(multiply_add(load(one, at, 8), load(two, at + 1, 8), load(three, at, 8)), out, at)


@njit
def doubled_total(one, at):  # type: ignore[no-untyped-def]
    return total(multiply(repeat(np.float32(2.0), 16), load(one, at, 16)))


@pytest.mark.parametrize("at", [0, 3, 31])
def test_products_and_sums_are_those_of_numpy_at_any_place(at):
    rng = np.random.default_rng(1)
    one, two, three = rng.normal(size=(3, 40)).astype(np.float32)
    out = np.full(40, 7.0, np.float32)
    products_plus(one, two, three, at, out)
    here = slice(at, at + 8)
    expected = one[here].astype(np.float64) * two[at + 1 : at + 9] + three[here]
    assert out[here] == pytest.approx(expected, abs=1e-6)
    assert (np.delete(out, np.r_[here]) == 7.0).all()


def test_a_total_is_over_all_lanes():
    numbers = np.arange(20, dtype=np.float32)
    assert doubled_total(numbers, 2) == 2 * numbers[2:18].sum()
