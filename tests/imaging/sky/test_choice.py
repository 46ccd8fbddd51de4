"""The choice of sky frames in long sequences, against a search through all of them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from imaging.frames.facts import FrameFacts
from imaging.sky.choice import SkyParameters, choose_sky

START = datetime(2020, 1, 4, 1, 0, tzinfo=UTC)


def sequence(n, seed):
    rng = np.random.default_rng(seed)
    values = {
        "instrument": "F2", "kind": "object", "observation_class": "science", "target": "W", "exposure_time": 5.0,
        "coadds": 1, "read_pairs": 1, "filter_id": "K-red_G0814", "filter": "K-red", "lyot": "f/16_G5830",
        "focal_mask": "Open", "disperser": "Open", "detector": "H2", "ra": 63.49, "dec": -47.84,
    }  # fmt: skip
    return [
        FrameFacts(
            **values, name=f"f{i:03d}", poffset=float(rng.integers(0, 3) * 4.0), qoffset=0.0,
            started=START + timedelta(seconds=int(rng.integers(0, 25 * n))),
        )
        for i in range(n)
    ]  # fmt: skip


def searched(frames, facts, p):
    """Every frame far enough away, in the order of the distance in time."""
    away = [f for f in frames if f is not facts and abs(f.poffset - facts.poffset) > p.least_distance]
    away.sort(key=lambda f: (abs(f.middle - facts.middle), f.middle, f.name))
    within = sum(abs((f.middle - facts.middle).total_seconds()) <= p.window for f in away)
    return {f.name for f in away[: min(max(within, p.fewest), p.maximum)]}


@pytest.mark.parametrize(
    "changes", [{}, {"window": 60.0, "fewest": 3}, {"maximum": 5}, {"window": 1.0, "fewest": 4}]
)
def test_the_nearest_in_time_up_to_the_maximum(changes):
    frames, parameters = sequence(60, 3), SkyParameters(**changes)
    choice = choose_sky(frames, parameters)
    assert {name: set(skies) for name, skies in choice.skies.items()} == {
        f.name: searched(frames, f, parameters) for f in frames
    }
    when = {f.name: (f.middle, f.name) for f in frames}
    assert all(list(skies) == sorted(skies, key=when.__getitem__) for skies in choice.skies.values())
    assert max(map(len, choice.skies.values())) <= parameters.maximum


def test_a_frame_without_enough_skies_is_refused_with_the_counts():
    frames = sequence(6, 1)
    frames[0] = frames[0].model_copy(update={"filter": "J", "filter_id": "J_G0802"})
    choice = choose_sky(frames, SkyParameters(least_distance=1.0))
    assert "of 5 other frames 0 have its configuration and 0 of these" in choice.refused["f000"]
