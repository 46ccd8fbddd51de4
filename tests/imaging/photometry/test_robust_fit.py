"""Robust fits: unbiased, with errors that agree with the scatter of many realisations, outliers or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.photometry.robust_fit import RobustFit, robust_fit


def fit(seed: int, n: int = 40, scatter: float = 0.02, outliers: float = 0.0) -> RobustFit:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.005, 0.04, n)
    values = rng.normal(0, np.hypot(errors, scatter))
    wrong = rng.random(n) < outliers
    values[wrong] += rng.choice([-1, 1], n)[wrong] * rng.uniform(0.3, 2, n)[wrong]
    found = robust_fit(values, errors, 0.02)
    assert found is not None
    return found


@pytest.mark.parametrize("outliers", [0.0, 0.15])
@pytest.mark.parametrize("scatter", [0.0, 0.03])
@pytest.mark.parametrize("n", [8, 40])
def test_the_error_is_the_scatter_of_many_realisations(n: int, scatter: float, outliers: float) -> None:
    found = [fit(seed, n, scatter, outliers) for seed in range(300)]
    pull = np.array([f.value / f.error for f in found])
    assert 0.8 < np.std(pull) < 1.2
    assert abs(np.mean(pull)) < 0.2
    assert np.abs(pull).max() < 4


def test_the_error_is_that_of_a_mean_where_all_errors_are_alike() -> None:
    rng = np.random.default_rng(1)
    errors = np.full(60, 0.03)
    found = [robust_fit(rng.normal(0, 0.03, 60), errors, 0.02) for _ in range(100)]
    ratio = [f.error / (0.03 / math.sqrt(60)) for f in found if f is not None]
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.08)
    assert np.std(ratio) < 0.1


@pytest.mark.parametrize("factor", [0.7, 1.0])
def test_errors_follow_values_that_agree_better_than_they_state(factor: float) -> None:
    rng = np.random.default_rng(3)
    errors = np.hypot(0.03, 0.1 * rng.random(22) ** 3)
    found = [robust_fit(rng.normal(0, factor * errors), errors, 0.02) for _ in range(400)]
    pull = [f.value / f.error for f in found if f is not None]
    assert 0.8 < np.std(pull) < 1.1


def test_scatter_beyond_the_errors_is_found() -> None:
    assert np.mean([fit(seed, 200, 0.05).scatter for seed in range(20)]) == pytest.approx(0.05, rel=0.05)
    assert np.mean([fit(seed, 200, 0.0).scatter for seed in range(20)]) < 0.008


def test_outliers_do_not_count() -> None:
    found = fit(3, 60, 0.02, 0.2)
    assert 40 <= found.number <= 55
    assert abs(found.value) < 4 * found.error


def test_a_line_is_fitted() -> None:
    rng = np.random.default_rng(2)
    colour = rng.uniform(0, 1, 100)
    values = 25.0 + 0.1 * colour + rng.normal(0, 0.02, 100)
    values[:8] += 1.0
    found = robust_fit(values, np.full(100, 0.01), 0.02, np.column_stack([np.ones(100), colour]))
    assert found is not None
    assert found.values == pytest.approx([25.0, 0.1], abs=0.025)
    assert found.number <= 92


def test_two_values_that_agree_by_chance_keep_an_error() -> None:
    found = robust_fit(np.array([1.0, 1.0]), np.array([1e-6, 1e-6]), 0.02)
    assert found is not None
    assert found.error > 0.005


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [math.nan] * 4])
def test_too_few_values_give_nothing(values: list[float]) -> None:
    assert robust_fit(np.array(values), np.full(len(values), 0.1), 0.02) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(0, 100))
def test_any_values_have_a_finite_mean_within_them(values: list[float], seed: int) -> None:
    errors = np.random.default_rng(seed).uniform(1e-3, 10, len(values))
    found = robust_fit(np.array(values), errors, 0.02)
    assert found is not None
    assert min(values) - 1e-6 <= found.value <= max(values) + 1e-6
    assert 0 < found.error < math.inf
    assert found.number >= 2
