"""Zero points: the truth within the stated error, and no zero point from too few or wrong stars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.photometry.zero_point import ZeroPoint, fit_zero_point, match_positions

TRUTH = 31.85


def standards(seed: int, n: int = 50, outliers: int = 0, **options: float) -> ZeroPoint | None:
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(13, 18, n)
    flux = 10 ** (-0.4 * (magnitude - TRUTH))
    error = np.hypot(0.002 * flux, 300.0)
    stated = rng.uniform(0.02, 0.06, n)
    listed = magnitude + rng.normal(0, stated)
    listed[:outliers] -= rng.uniform(0.3, 2, outliers)
    return fit_zero_point(rng.normal(flux, error), error, listed, stated, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("outliers", [0, 6])
def test_the_zero_point_is_true_within_its_error(outliers: int) -> None:
    found = [standards(seed, outliers=outliers) for seed in range(100)]
    off = np.array([f.value - TRUTH for f in found if f])
    pull = off / np.array([f.error for f in found if f])
    assert abs(off.mean()) < 0.003
    assert 0.8 < pull.std() < 1.2
    assert np.abs(pull).max() < 3.5
    assert min(f.outliers for f in found if f) >= outliers - 1


def test_three_stars_give_one_and_two_do_not() -> None:
    found = standards(1, 3)
    assert found is not None
    assert (found.stars, found.outliers) == (3, 0)
    assert abs(found.value - TRUTH) < 3 * found.error
    assert standards(1, 2) is None
    assert standards(1, 3, fewest=5) is None


def test_unknown_magnitudes_and_negative_fluxes_do_not_count() -> None:
    n = 30
    magnitude = np.full(n, 15.0)
    flux = np.full(n, 10 ** (-0.4 * (15 - TRUTH)))
    magnitude[:10], flux[10:15] = np.nan, -5.0
    found = fit_zero_point(flux, np.full(n, 10.0), magnitude, np.full(n, 0.03))
    assert found is not None
    assert (found.stars, found.outliers) == (15, 0)
    assert found.value == pytest.approx(TRUTH)
    assert fit_zero_point(flux, flux, np.full(n, np.nan), np.full(n, 0.03)) is None


def test_a_colour_term_is_fitted() -> None:
    rng = np.random.default_rng(3)
    colour = rng.uniform(0, 1.2, 80)
    magnitude = rng.uniform(13, 17, 80)
    flux = 10 ** (-0.4 * (magnitude - TRUTH - 0.08 * colour))
    colour[:4] = np.nan
    listed = magnitude + rng.normal(0, 0.02, 80)
    found = fit_zero_point(flux, 0.003 * flux, listed, np.full(80, 0.02), colour)
    assert found is not None
    assert found.colour_term is not None
    assert found.colour_error is not None
    assert found.colour_term == pytest.approx(0.08, abs=4 * found.colour_error)
    assert found.value == pytest.approx(TRUTH, abs=4 * found.error)
    assert found.stars + found.outliers == 76


@pytest.mark.parametrize("shift", [(0.0, 0.0), (14.0, -9.0), (-20.0, 5.0)])
def test_shifted_catalogues_are_matched(shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    stars = rng.uniform(0, 1000, (60, 2))
    sources = np.vstack([stars[:50] + shift + rng.normal(0, 0.3, (50, 2)), rng.uniform(0, 1000, (80, 2))])
    found = match_positions(sources, stars, search=28.0, radius=3.0)
    right = found.sources == found.reference
    assert right.sum() >= 49
    assert len(right) <= 55
    assert found.shift == pytest.approx(shift, abs=0.5)


def test_fields_without_common_stars_match_by_chance_only() -> None:
    rng = np.random.default_rng(6)
    found = match_positions(rng.uniform(0, 1e3, (60, 2)), rng.uniform(0, 1e3, (60, 2)), search=28, radius=3)
    assert len(found.sources) < 6
    far = match_positions(rng.uniform(0, 1e3, (60, 2)), rng.uniform(2e3, 3e3, (60, 2)), search=28, radius=3)
    assert len(far.sources) == 0
    assert len(match_positions(np.zeros((0, 2)), np.zeros((3, 2)), search=1, radius=1).sources) == 0


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_a_match_is_one_to_one(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    found = match_positions(rng.uniform(0, 50, (n, 2)), rng.uniform(0, 50, (m, 2)), search=10, radius=4)
    assert len(set(found.sources)) == len(found.sources)
    assert len(set(found.reference)) == len(found.reference)
