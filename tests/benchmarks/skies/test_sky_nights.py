"""The table of nights: each can be simulated, and each disturbance of the simulator is in it."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks.skies.judge import Judged
from benchmarks.skies.nights import NIGHTS, SkyNight, parameters_of
from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.score_figures import ScoreRow

#: Parameters that shape a disturbance that another one switches on, or that nights of one filter do not have.
DETAILS = {
    "sky_wave_length", "channels", "persistence_from", "persistence_decay", "exposed_before", "probe_glow",
    "probe_radius", "galaxy_axis_ratio", "trail_level", "aborted_after", "unguided_length",
}  # fmt: skip


def test_names_are_unique_and_patterns_compile() -> None:
    assert len({night.name for night in NIGHTS}) == len(NIGHTS)
    assert all(re.compile(night.message) and re.compile(night.silent) for night in NIGHTS)


@pytest.mark.parametrize("night", NIGHTS, ids=lambda night: night.name)
def test_a_night_can_be_simulated_at_each_size(night: SkyNight) -> None:
    full, half = (parameters_of(night, 2, size) for size in (2048, 1024))
    assert (full.size, half.size, full.seed) == (2048, 1024, 2)
    assert half.galaxy_scale == pytest.approx(
        full.galaxy_scale / (2 if "galaxy_scale" in night.settings else 1)
    )
    assert half.n_stars <= full.n_stars


def test_every_disturbance_has_a_night() -> None:
    tried = {name for night in NIGHTS for name in night.settings}
    assert set(Disturbances.model_fields) - tried - DETAILS == set()
    assert not DETAILS & tried


def test_several_disturbances_are_counted() -> None:
    together = [night for night in NIGHTS if night.disturbances > 1]
    assert len(together) >= 3
    assert all("," in night.name for night in together)


def test_a_night_holds_if_nothing_is_wrong() -> None:
    row = ScoreRow(product="stack", figure="pull", value=1.0)
    assert Judged("calm", 1, (row,), 9, ()).ok
    assert not Judged("calm", 1, (row,), 9, ("8 of 9 frames used",)).ok
    assert Judged("calm", 1, (row,), 9, ()).value("pull") == 1.0
    assert math.isnan(Judged("calm", 1, (row,), 9, ()).value("blocks"))
