"""Votes, pairs and fits of positions, against truth and against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.registration.geometry import Affine
from imaging.registration.star_matching import LEAST_STARS, chance_of, fit, pair_up, robust_fit, vote

TRUE = {
    "shift": Affine.shift(12.3, -45.6),
    "shift_rotation": Affine(math.cos(0.01), -math.sin(0.01), math.sin(0.01), math.cos(0.01), 5.0, -3.0),
    "similarity": Affine(1.002, -0.01, 0.01, 1.002, 5.0, -3.0),
    "affine": Affine(1.002, -0.01, 0.012, 0.998, 5.0, -3.0),
}


def moved(transform, points):
    return np.column_stack(transform(points[:, 0], points[:, 1]))


def test_vote_finds_the_offset_among_strangers():
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 1000, (60, 2))
    b = np.vstack(
        [a[:25] + np.array([83.4, -120.7]) + rng.normal(0, 0.1, (25, 2)), rng.uniform(0, 1000, (40, 2))]
    )
    won = vote(a, b, 300)
    assert (won.dx, won.dy) == pytest.approx((83.4, -120.7), abs=0.15)
    assert won.count >= 24
    assert won.false_alarm < 1e-12


def test_vote_does_not_find_what_is_beyond_its_reach():
    a = np.random.default_rng(2).uniform(0, 1000, (40, 2))
    assert vote(a, a + np.array([200.0, 0.0]), 150).false_alarm > 1e-3


@pytest.mark.parametrize(("n", "reach"), [(5, 11), (30, 11), (30, 400), (150, 400)])
def test_false_alarms_of_the_vote_are_as_rare_as_stated(n, reach):
    rng = np.random.default_rng(n)
    p = np.array([vote(*rng.uniform(0, 1000, (2, n, 2)), reach).false_alarm for _ in range(60)])
    assert p.min() > 1e-4
    assert (p < 0.05).mean() < 0.15


def test_pairs_are_mutual_and_within_tolerance():
    a = np.array([[0.0, 0], [10, 0], [20, 0], [100, 100]])
    b = np.array([[10.4, 0], [0.3, 0.4], [9.8, 0.0], [23, 0]])
    i, j = pair_up(a, b, 1.0)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert len(pair_up(a, np.empty((0, 2)), 1.0)[0]) == 0


@pytest.mark.parametrize("kind", list(TRUE))
def test_fit_recovers_each_kind(kind):
    a = np.random.default_rng(3).uniform(0, 2000, (LEAST_STARS[kind] + 3, 2))
    found = fit(a, moved(TRUE[kind], a), np.full(len(a), 0.1), kind)
    for name in ("xx", "xy", "yx", "yy", "x0", "y0"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE[kind], name), abs=1e-8)


def test_fit_weights_by_the_errors():
    a = np.zeros((2, 2))
    found = fit(a, np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0.1, 0.2]), "shift")
    assert found.x0 == pytest.approx(0.2)


@pytest.mark.parametrize("kind", list(TRUE))
def test_robust_fit_leaves_wrong_pairs_out(kind):
    rng = np.random.default_rng(4)
    a = rng.uniform(0, 2000, (40, 2))
    errors = rng.uniform(0.02, 0.2, 40)
    b = moved(TRUE[kind], a) + rng.normal(0, 1, (40, 2)) * errors[:, None]
    wrong = [3, 11, 17, 30]
    b[wrong] += rng.choice([-1, 1], (4, 2)) * 2.0
    found = robust_fit(a, b, errors, kind, (2000, 2000))
    assert not found.used[wrong].any()
    assert found.used.sum() >= 35
    centre = np.array([[1000.0, 1000.0]])
    assert moved(found.transform, centre) == pytest.approx(moved(TRUE[kind], centre), abs=0.03)


def test_uncertainty_is_the_scatter_of_the_shift():
    rng = np.random.default_rng(5)
    errors = rng.uniform(0.02, 0.3, 15)
    a = rng.uniform(0, 500, (15, 2))
    fits = [
        robust_fit(a, a + rng.normal(0, 1, a.shape) * errors[:, None], errors, "shift", (500, 500))
        for _ in range(300)
    ]
    scatter = np.std([f.transform.x0 for f in fits])
    assert np.mean([f.uncertainty for f in fits]) == pytest.approx(scatter, rel=0.2)


def test_chance_of_a_few_matches():
    rng = np.random.default_rng(6)
    a, b = rng.uniform(0, 1000, (2, 100, 2))
    assert chance_of(0, a, b, 1.5) == 1.0
    assert chance_of(1, a, b, 1.5) > 0.01
    assert chance_of(8, a, b, 1.5) < 1e-8


numbers = st.floats(-0.2, 0.2)


@given(numbers, numbers, numbers, numbers, st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=60)
def test_affine_and_its_inverse_undo_each_other(a, b, c, d, x0, y0):
    there = Affine(1 + a, b, c, 1 + d, x0, y0)
    both = there.then(there.inverse())
    assert both(np.array([0.0, 2000.0]), np.array([1000.0, 0.0]))[0] == pytest.approx([0, 2000], abs=1e-6)
    assert both.determinant == pytest.approx(1)
