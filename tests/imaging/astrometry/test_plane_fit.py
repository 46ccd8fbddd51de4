"""Fits in the tangent plane: weights, wrong pairs, stated errors, and residuals of stars that are left out."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.astrometry.plane_fit import SIMILARITY, Frame, fit_plane, terms

MATRIX = 0.18 * np.array([[-1.0, 0.02], [0.02, 1.0]])
FRAME = Frame((1000, 2000), MATRIX)


def stars(rng, n):
    return rng.uniform([0, 0], [1999, 999], (n, 2))


def truth(pixels):
    return (pixels - FRAME.middle) @ MATRIX.T + np.array([0.3, -0.2])


@pytest.mark.parametrize("order", [SIMILARITY, 1, 2, 3])
def test_a_fit_without_errors_is_exact(order):
    rng = np.random.default_rng(order)
    pixels = stars(rng, 40)
    found = fit_plane(FRAME, pixels, truth(pixels), np.full(40, 0.01), order)
    assert found is not None
    elsewhere = stars(rng, 10)
    assert found(elsewhere) == pytest.approx(truth(elsewhere), abs=1e-6)
    polynomials = found.polynomials()
    assert polynomials[:, :3] == pytest.approx(np.column_stack([[0.3, -0.2], MATRIX]), abs=1e-8)
    u, v = (elsewhere - FRAME.middle).T
    powers = np.column_stack([u**i * v**j for i, j in terms(max(order, 1))])
    assert powers @ polynomials.T == pytest.approx(truth(elsewhere), abs=1e-5)


def test_a_similarity_keeps_the_shape_of_the_pixels():
    skewed = Frame((1000, 2000), 0.18 * np.array([[-1.0, 0.1], [0.05, 1.3]]))
    turn = 1.01 * np.array([[np.cos(0.05), -np.sin(0.05)], [np.sin(0.05), np.cos(0.05)]])
    pixels = stars(np.random.default_rng(1), 5)
    offsets = (pixels - skewed.middle) @ (turn @ skewed.matrix).T
    found = fit_plane(skewed, pixels, offsets, np.full(5, 0.02), SIMILARITY)
    assert found is not None
    assert found.polynomials()[:, 1:] == pytest.approx(turn @ skewed.matrix, abs=1e-9)


def test_stars_count_by_their_errors():
    rng = np.random.default_rng(2)
    errors = np.where(np.arange(60) % 2, 0.01, 0.2)
    scatter = {"weighted": [], "even": []}
    for _ in range(60):
        pixels = stars(rng, 60)
        offsets = truth(pixels) + rng.normal(0, 1, (60, 2)) * errors[:, None]
        middle = FRAME.middle[None, :]
        for name, stated in (("weighted", errors), ("even", np.full(60, 0.2))):
            found = fit_plane(FRAME, pixels, offsets, stated, 1)
            assert found is not None
            scatter[name].append((found(middle) - truth(middle))[0])
    assert np.std(scatter["weighted"]) == pytest.approx(0.01 / np.sqrt(30), rel=0.25)
    assert np.std(scatter["even"]) > 5 * np.std(scatter["weighted"])


@pytest.mark.parametrize("order", [SIMILARITY, 1, 3])
def test_wrong_pairs_are_left_out(order):
    rng = np.random.default_rng(3)
    pixels = stars(rng, 80)
    offsets = truth(pixels) + rng.normal(0, 0.02, (80, 2))
    wrong = np.arange(0, 80, 4)
    offsets[wrong] += rng.choice([-1, 1], (20, 2)) * rng.uniform(0.2, 0.8, (20, 2))
    found = fit_plane(FRAME, pixels, offsets, np.full(80, 0.02), order)
    assert found is not None
    assert not found.used[wrong].any()
    assert found.n >= 58
    assert np.abs(found(pixels) - truth(pixels)).max() < 0.03


@pytest.mark.parametrize(("stated", "expected"), [(0.05, 0.0), (0.02, 0.0458), (0.001, 0.05)])
def test_residuals_beyond_the_stated_errors_become_a_scatter(stated, expected):
    rng = np.random.default_rng(4)
    pixels = stars(rng, 300)
    found = fit_plane(FRAME, pixels, truth(pixels) + rng.normal(0, 0.05, (300, 2)), np.full(300, stated), 1)
    assert found is not None
    assert found.scatter == pytest.approx(expected, rel=0.1, abs=0.02 if expected == 0 else 0)
    assert found.rms == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize(("order", "n"), [(SIMILARITY, 8), (1, 30), (3, 100)])
def test_the_error_is_the_scatter_of_fits(order, n):
    rng = np.random.default_rng(5)
    grid = FRAME.grid()
    pulls, stated = [], []
    for _ in range(80):
        pixels = stars(rng, n)
        found = fit_plane(FRAME, pixels, truth(pixels) + rng.normal(0, 0.05, (n, 2)), np.full(n, 0.05), order)
        assert found is not None
        pulls.append(((found(grid) - truth(grid)) / found.error_at(grid)[:, None]).ravel())
        stated.append(found.error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)
    assert np.mean(stated) > 0


def test_residuals_of_stars_left_out_are_those_of_fits_without_them():
    rng = np.random.default_rng(6)
    pixels = stars(rng, 12)
    offsets = truth(pixels) + rng.normal(0, 0.05, (12, 2))
    errors = rng.uniform(0.04, 0.08, 12)
    everyone = np.ones(12, bool)
    for order in (SIMILARITY, 1, 2):
        found = fit_plane(FRAME, pixels, offsets, np.hypot(errors, 0.2), order, among=everyone)
        assert found is not None
        assert found.scatter == 0.0
        for k in (0, 7):
            others = np.arange(12) != k
            without = fit_plane(FRAME, pixels, offsets, np.hypot(errors, 0.2), order, among=others)
            assert without is not None
            assert found.left_out[k] == pytest.approx((offsets[k] - without(pixels[[k]]))[0], abs=1e-7)


@pytest.mark.parametrize(
    "pixels", [np.full((20, 2), 500.0), np.column_stack([np.arange(20.0) * 50, np.arange(20.0) * 20])]
)
def test_stars_in_one_place_or_on_a_line_determine_no_linear_transform(pixels):
    assert fit_plane(FRAME, pixels, truth(pixels), np.full(20, 0.05), 1) is None


@pytest.mark.parametrize(("order", "n"), [(SIMILARITY, 2), (1, 3), (3, 10)])
def test_too_few_stars_give_no_fit(order, n):
    pixels = stars(np.random.default_rng(7), n)
    assert fit_plane(FRAME, pixels, truth(pixels), np.full(n, 0.05), order) is None
