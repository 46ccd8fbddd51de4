"""The simulator's random numbers follow their laws and depend on the counter alone."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats

from imaging.simulator import noise


@njit
def _draw(key, n, mean):
    counts, normals, uniforms = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        state = noise.start(key, np.uint64(i))
        state, z, other = noise.normal(state)
        state, counts[i] = noise.poisson(state, mean, z)
        normals[i] = other
        state, uniforms[i] = noise.uniform(state)
    return counts, normals, uniforms


@pytest.mark.parametrize("mean", [0.0, 0.66, 39.6, 99.0, 101.0, 2900.0])
def test_counts_have_the_mean_variance_and_skewness_of_a_poisson_law(mean: float) -> None:
    n = 200_000
    counts, normals, uniforms = _draw(np.uint64(5), n, mean)
    if mean == 0:
        assert not counts.any()
        return
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / n))
    assert counts.var() == pytest.approx(mean, rel=5 * np.sqrt((2 + 1 / mean) / n))
    assert stats.skew(counts) == pytest.approx(mean**-0.5, abs=5 * np.sqrt(6 / n) + 0.02 * mean**-0.5)
    assert (counts == np.floor(counts)).all()
    assert abs(np.corrcoef(counts, normals)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(counts, uniforms)[0, 1]) < 5 / np.sqrt(n)


def test_small_means_follow_the_law_bin_by_bin() -> None:
    n = 100_000
    counts, _, _ = _draw(np.uint64(8), n, 3.0)
    seen = np.bincount(counts.astype(int), minlength=13)[:13]
    expected = n * stats.poisson.pmf(np.arange(13), 3.0)
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected) + 1).all()


def test_normals_are_normal_and_neighbouring_counters_independent() -> None:
    _, normals, uniforms = _draw(np.uint64(9), 100_000, 1.0)
    assert stats.kstest(normals, "norm").pvalue > 1e-3
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(normals[1:], normals[:-1])[0, 1]) < 5 / np.sqrt(normals.size)


def test_keys_give_other_numbers_and_the_same_key_the_same() -> None:
    a, b, again = (_draw(np.uint64(k), 1000, 50.0)[0] for k in (1, 2, 1))
    assert (a == again).all()
    assert (a != b).mean() > 0.9
