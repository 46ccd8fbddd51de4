"""Zero points of a crowded cluster: from the stars that are alone, or none."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.photometry.measured import ZERO_POINT, photometry_of
from benchmarks.photometry.synthetic import Scene, Stars, synthetic_stack
from imaging.photometry.calibrate import StandardStars
from imaging.sources.detect import detect

SIZE = 512
SCENE = Scene(size=SIZE, frames=3)


def cluster(seed: int, alone: int) -> tuple[Stars, np.random.Generator]:
    """Return 500 stars within 80 px of the centre, and some around it that are alone."""
    rng = np.random.default_rng(seed)
    radius, angle = 80 * rng.uniform(0, 1, 500) ** 0.7, rng.uniform(0, 2 * np.pi, 500)
    x, y = SIZE / 2 + radius * np.cos(angle), SIZE / 2 + radius * np.sin(angle)
    corner = [(i, j) for i in range(60, SIZE - 50, 55) for j in range(60, SIZE - 50, 55)]
    outside = [one for one in corner if np.hypot(one[0] - SIZE / 2, one[1] - SIZE / 2) > 140][:alone]
    stars = np.array(outside, float).reshape(-1, 2)
    flux = np.concatenate([np.exp(rng.uniform(8, 12.5, 500)), np.exp(rng.uniform(10.5, 13, len(stars)))])
    return Stars(np.append(x, stars[:, 0]), np.append(y, stars[:, 1]), flux), rng


def catalogue(stars: Stars, rng: np.random.Generator) -> StandardStars:
    magnitude = ZERO_POINT - 2.5 * np.log10(stars.flux)
    error = np.full(len(magnitude), 0.03)
    return StandardStars("cluster", stars.x, stars.y, magnitude + rng.normal(0, error), error)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_stars_that_are_alone_give_the_zero_point(seed: int) -> None:
    stars, rng = cluster(seed, 25)
    stack = synthetic_stack(SCENE, rng, stars)
    found = detect(stack.sci, stack.dq)
    measured = photometry_of(stack, catalogue(stars, rng), found)
    assert measured.standards is not None
    assert measured.standards.stars >= 12
    assert abs(measured.zero_point - ZERO_POINT) < 3.5 * measured.zero_point_error
    assert measured.zero_point_error < 0.03


def test_a_cluster_alone_gives_no_wrong_zero_point() -> None:
    stars, rng = cluster(3, 0)
    stack = synthetic_stack(SCENE, rng, stars)
    measured = photometry_of(stack, catalogue(stars, rng), detect(stack.sci, stack.dq))
    if measured.standards is None:
        assert any("the zero point is missing" in note for note in measured.notes)
    else:
        assert abs(measured.zero_point - ZERO_POINT) < max(0.1, 4 * measured.zero_point_error)
