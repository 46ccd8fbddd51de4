"""Which of a few values are unlike the others, and when no majority decides."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.peer_votes import limit_of, outvoted, undecided
from imaging.calibrations.peers import PeerParameters

LIMITS = PeerParameters()
USUAL = 2.0


def tame(rng, n):
    return np.clip(rng.standard_normal(n), -2.5, 2.5)


def slowly(values, usual, *, only_above=False):
    """The definition, one group after the other."""
    odd = np.zeros(len(values), bool)
    while True:
        order = np.flatnonzero(~odd)[np.argsort(values[~odd], kind="stable")]
        best = None
        for size in range(len(order) - 1, 1, -1):
            if 2 * size <= len(values) or (size < LIMITS.peer_least and (size, len(values)) != (2, 3)):
                break
            groups = [order[k : k + size] for k in range(len(order) - size + 1)]
            found = []
            for group in groups:
                limit = limit_of(values[group], usual, LIMITS, len(values)).value
                off = values[[k for k in order if k not in group]] - np.median(values[group])
                if ((off if only_above else np.abs(off)) > limit).all():
                    found.append((values[group].std(), tuple(group)))
            if found:
                best = min(found)[1]
                break
        if best is None:
            return odd
        odd = np.ones(len(values), bool)
        odd[list(best)] = False


@pytest.mark.parametrize("only_above", [False, True])
def test_the_search_follows_its_definition(only_above):
    rng = np.random.default_rng(8)
    some = 0
    for _ in range(300):
        values = tame(rng, rng.integers(2, 13)) * rng.choice([0.1, 1.0, 2.0, 4.0])
        values[rng.random(values.size) < 0.2] += rng.choice([-60.0, 15.0, 25.0, 300.0])
        want = slowly(values, USUAL, only_above=only_above)
        np.testing.assert_array_equal(outvoted(values, USUAL, LIMITS, only_above=only_above), want)
        some += want.any()
    assert some > 30


@pytest.mark.parametrize("scatter", [0.05, 1.0, 2.0, 3.0])
def test_no_false_alarm_in_sets_that_drift(scatter):
    """Levels that scatter by up to one and a half times the usual, sets of 2 to 36."""
    rng = np.random.default_rng(5)
    for _ in range(2000):
        values = scatter * tame(rng, int(rng.integers(2, 37)))
        assert not outvoted(values, USUAL, LIMITS).any()
        assert not undecided(values, USUAL, LIMITS)


def test_the_scatter_of_a_small_set_is_shrunk_to_the_usual_one():
    """Two equal values do not make a limit of 0, two that differ do not make a wide one."""
    for agreeing, sigma in (([0.0, 0.0], 2.24), ([-2.0, 2.0], 2.65), (np.zeros(36), 0.73)):
        assert limit_of(np.array(agreeing), USUAL, LIMITS, 100).sigma == pytest.approx(sigma, abs=0.01)


def test_the_scatter_of_the_set_raises_the_limit():
    """Among levels that scatter by 5 e- rms one 25 e- off may be chance; one 60 e- off is not."""
    levels = 5.0 * np.array([-1.5, -1.0, -0.7, -0.3, 0.0, 0.3, 0.7, 1.0, 1.5]) / 0.95
    for off, odd in ((25.0, False), (60.0, True)):
        found = outvoted(np.append(levels, off), USUAL, LIMITS)
        assert found.tolist() == [False] * 9 + [odd]


def test_only_what_is_above_is_odd_where_less_is_normal():
    values = np.array([1.0, 1.0, 1.1, 0.9, -40.0])
    assert outvoted(values, USUAL, LIMITS).tolist() == [False] * 4 + [True]
    assert not outvoted(values, USUAL, LIMITS, only_above=True).any()


def test_values_in_two_parts_or_over_a_wide_range_are_undecided():
    good = np.linspace(-3, 3, 10)
    assert not undecided(good, USUAL, LIMITS)
    assert undecided(np.concatenate([good, good + 30]), USUAL, LIMITS)
    assert undecided(np.linspace(0, 100, 20), USUAL, LIMITS)
    assert not undecided(np.linspace(0, 40, 20), USUAL, LIMITS)
    assert not undecided(np.array([1.0]), USUAL, LIMITS)
