"""A season of nights with disturbances: its plan, the growth of memory, and a sample of two nights."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.season.__main__ import season
from benchmarks.season.checks import growth
from benchmarks.season.plan import SAMPLE, VICTIMS, plan_season
from benchmarks.season.season import Course


@pytest.mark.parametrize("seed", range(5))
def test_a_season_has_every_disturbance_and_is_repeatable(seed: int) -> None:
    nights = plan_season(seed, 30)
    assert nights == plan_season(seed, 30)
    assert [one.number for one in nights] == list(range(30))
    assert {kill.victim for one in nights for kill in one.kills} == set(VICTIMS)
    assert any(one.late for one in nights)
    assert {one.rejected for one in nights} == {None, "frame", "master"}
    assert any(one.clock for one in nights)
    assert any(one.full for one in nights)
    # A late night waits, as no other night has darks of its exposure time.
    late = [one.exposure for one in nights if one.late]
    assert None not in late
    assert len(set(late)) == len(late)
    assert not any(one.full for one in plan_season(seed, 30, full=False))


def test_without_kills_everything_else_happens() -> None:
    nights = plan_season(1, 30, kills=False)
    assert not any(one.kills for one in nights)
    assert any(one.late for one in nights)
    assert {one.rejected for one in nights} == {None, "frame", "master"}


def test_a_process_that_grows_after_its_caches_have_filled_is_noticed() -> None:
    memory = [
        {
            "server": (1, 200_000_000 + 2_000_000 * night),
            "worker": (2, 120_000_000 + 3_000_000 * min(night, 12)),
            "watcher": (3 if night < 20 else 4, 90_000_000 + 4_000_000 * (night >= 20)),
            "judge": (5 + night // 10, 90_000_000 + 5_000_000 * (night % 10)),
        }
        for night in range(30)
    ]
    found = {figure.name: figure for figure in growth(Course(memory=memory))}
    assert found["growth of the server"].value == pytest.approx(2.0)
    assert found["growth of the server"].good is False
    for part in ("worker", "watcher"):
        assert found[f"growth of the {part}"].value == pytest.approx(0.0)
        assert found[f"growth of the {part}"].good
    # Each of its processes lived through ten nights only: its growth cannot be judged.
    assert found["memory of the judge"].good is None


@pytest.mark.long
def test_a_sample_of_a_season(tmp_path: Path) -> None:
    """Every sequence has one current stack with the pixels of a quiet run, whatever happened meanwhile."""
    figures = season(SAMPLE, seed=1, size=256, folder=tmp_path)
    beyond = {figure.name: figure.note for figure in figures if figure.good is False}
    assert beyond == {}
    (failed,) = [figure for figure in figures if figure.name == "runs that failed for good"]
    assert failed.detail["found"] == []
    done = figures[0].detail["course"]["done"]
    happened = ("killed flow", "killed server", "late calibrations", "rejected frames")
    assert [done[what] for what in happened] == [1, 1, 1, 1]
