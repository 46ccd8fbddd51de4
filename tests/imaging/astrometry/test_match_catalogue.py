"""Stars matched with a catalogue wherever the telescope pointed, and refused where they could match by chance."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.astrometry.match_catalogue import (
    CatalogueMatch,
    CatalogueMatchParameters,
    match_catalogue,
    moved,
    rotations,
)
from imaging.registration.geometry import Affine

RADIUS = 260.0
PARAMETERS = CatalogueMatchParameters()


def lists(rng, n, others=(0, 0), *, turn=0.0, shift=(0.0, 0.0), error=0.05):
    """Return positions of an image and of a catalogue with ``n`` stars in common, and the transform."""
    true = Affine.turn(turn, 0, 0).then(Affine.shift(*shift))
    a = rng.uniform(-184, 184, (n + others[0], 2))
    b = moved(true, a[:n]) + rng.normal(0, error, (n, 2))
    around = rng.uniform(-250, 250, (others[1], 2))
    return rng.permutation(a), rng.permutation(np.vstack([b, around])), true


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("n", "others", "turn", "shift"),
    [
        (15, (15, 15), 0.0, (0.0, 0.0)), (15, (15, 40), 5.0, (60.0, -60.0)), (30, (45, 90), -4.95, (-60.0, 55.0)),
        (75, (100, 200), 3.3, (59.0, 60.0)), (8, (4, 8), 1.0, (20.0, 10.0)),
    ],
)  # fmt: skip
def test_the_match_is_found_within_the_range(seed, n, others, turn, shift):
    a, b, true = lists(np.random.default_rng(seed), n, others, turn=turn, shift=shift)
    found = match_catalogue(a, b, RADIUS, PARAMETERS)
    assert isinstance(found, CatalogueMatch)
    assert found.n >= 0.75 * n
    assert found.chance < 1e-5
    assert moved(found.transform, a) == pytest.approx(moved(true, a), abs=0.3)


def test_a_field_beyond_the_range_is_not_found():
    rng = np.random.default_rng(1)
    a, b, _ = lists(rng, 40, turn=8.0, shift=(20.0, 0.0))
    reason = match_catalogue(a, b, RADIUS, PARAMETERS)
    assert isinstance(reason, str)
    assert "probability by chance" in reason
    further = PARAMETERS.model_copy(update={"max_rotation": 10.0})
    assert isinstance(match_catalogue(a, b, RADIUS, further), CatalogueMatch)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (10, 40), (30, 60), (150, 500)])
def test_unrelated_fields_are_refused(n, m):
    rng = np.random.default_rng(n)
    for _ in range(6):
        a, b = rng.uniform(-184, 184, (n, 2)), rng.uniform(-250, 250, (m, 2))
        assert isinstance(match_catalogue(a, b, RADIUS, PARAMETERS), str)


@pytest.mark.parametrize(("n", "m"), [(8, 16), (30, 60), (100, 200)])
def test_the_probability_by_chance_is_not_understated(n, m):
    """Of searches in unrelated lists, as many may be accepted as the limit states; a limit of 0.3 shows it."""
    rng = np.random.default_rng(m)
    lenient = PARAMETERS.model_copy(
        update={"false_alarm": 0.3, "max_rotation": 1.0, "pointing_error": 20.0, "min_matches": 4}
    )
    accepted = [
        isinstance(
            match_catalogue(rng.uniform(-184, 184, (n, 2)), rng.uniform(-210, 210, (m, 2)), RADIUS, lenient),
            CatalogueMatch,
        )
        for _ in range(30)
    ]
    assert np.mean(accepted) < 0.5  # two searches of 0.3 each


@pytest.mark.parametrize("scale", [15.0, 60.0])
def test_a_cluster_is_matched_and_two_clusters_are_not(scale):
    rng = np.random.default_rng(int(scale))

    def cluster(n):
        radius, angle = scale * rng.exponential(1.0, n), rng.uniform(0, 2 * np.pi, n)
        return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])

    a = cluster(150)
    b = rng.permutation(
        np.vstack([a[:80] + np.array([25.0, -10.0]) + rng.normal(0, 0.05, (80, 2)), cluster(80)])
    )
    found = match_catalogue(a, b, RADIUS, PARAMETERS)
    assert isinstance(found, CatalogueMatch)
    assert (found.transform.x0, found.transform.y0) == pytest.approx((25.0, -10.0), abs=0.2)
    for _ in range(4):
        assert isinstance(match_catalogue(cluster(150), cluster(300), RADIUS, PARAMETERS), str)


def test_few_stars_are_refused_with_their_number():
    rng = np.random.default_rng(3)
    a, b, _ = lists(rng, 3, (0, 30))
    assert match_catalogue(a, b, RADIUS, PARAMETERS) == "the stack has 3 stars to match, 5 are needed"
    a, b, _ = lists(rng, 3, (30, 0))
    assert match_catalogue(a, b, RADIUS, PARAMETERS) == "the catalogue has 3 stars in the field, 5 are needed"
    assert isinstance(match_catalogue(a, np.empty((0, 2)), RADIUS, PARAMETERS), str)


def test_too_small_a_share_is_refused():
    rng = np.random.default_rng(4)
    a, b, _ = lists(rng, 15, (120, 120))
    strict = PARAMETERS.model_copy(update={"min_share": 0.5})
    assert isinstance(
        match_catalogue(a, b, RADIUS, PARAMETERS.model_copy(update={"min_share": 0.05})), CatalogueMatch
    )
    reason = match_catalogue(a, b, RADIUS, strict)
    assert isinstance(reason, str)
    assert "stars in common match (limit 0.5)" in reason


def test_rotations_leave_no_gap():
    angles = sorted(rotations(RADIUS, PARAMETERS))
    step = np.diff(angles)
    assert step == pytest.approx(step[0])
    assert np.radians(step[0] / 2) * RADIUS <= 1.5 * 0.4 * PARAMETERS.tolerance + 1e-9
    assert angles[-1] + step[0] / 2 >= PARAMETERS.max_rotation
    assert rotations(RADIUS, PARAMETERS.model_copy(update={"max_rotation": 0.0})) == [0.0]
