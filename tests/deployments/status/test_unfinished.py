"""Where sequences stand that arrived lately, from what the store has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.tables.arrivals.recent_frames import Arrival
from calib_store.tables.runs import RunTimes
from deployments.settings.all_settings import Settings
from deployments.settings.watch_settings import WatchSettings
from deployments.status.unfinished import SequenceState, arriving, waiting, with_runs
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence

NOW = datetime(2013, 11, 21, 4, tzinfo=UTC)
RAW = Path("/raw")
SETTINGS = Settings(watch=WatchSettings(quiet=60.0, expected={"dark": 2}))
NIGHT = date(2013, 11, 21)


@pytest.fixture
def arrival(facts: Callable[..., FrameFacts]) -> Callable[..., Arrival]:
    """Return a frame that arrived some seconds ago."""

    def make(ago: float, name: str = "S1.fits", folder: Path = RAW, **changes: Any) -> Arrival:
        started = datetime(2013, 11, 21, 3, tzinfo=UTC)
        values = facts(name=name, started=started, **changes)
        return Arrival(values, (folder / name,), NOW - timedelta(seconds=ago))

    return make


def run(began: float, ended: float, sequence: str | None = None, **changes: Any) -> RunTimes:
    """Return a run by the seconds since its beginning and its end."""
    values: dict[str, Any] = {
        "nights": (NIGHT,), "flow": "arrival", "sequence": sequence, "waits_for": (), "name": "",
        "started": NOW - timedelta(seconds=began), "ended": NOW - timedelta(seconds=ended),
    }  # fmt: skip
    return RunTimes(**values | changes)


def stages(*arrivals: Arrival, runs: tuple[RunTimes, ...] = ()) -> list[tuple[str, int | None]]:
    found = arriving(arrivals, runs, NOW, SETTINGS, [RAW])
    return [(one.stage, one.frames) for one in found]


def test_a_sequence_is_quiet_until_its_time_is_over_and_then_due(arrival: Callable[..., Arrival]) -> None:
    (state,) = arriving([arrival(50, "S1.fits"), arrival(20, "S2.fits")], (), NOW, SETTINGS, [RAW])
    assert (state.stage, state.frames, state.until) == ("quiet", 2, NOW + timedelta(seconds=40))
    assert state.label.startswith("science Y ")
    assert stages(arrival(61)) == [("due", 1)]
    darks = [arrival(5, f"S{n}.fits", kind="dark") for n in (1, 2)]
    assert stages(*darks) == [("due", 2)]  # complete
    assert stages(darks[0]) == [("quiet", 1)]
    elsewhere = arrival(5, folder=Path("/elsewhere"))
    assert stages(elsewhere) == []
    assert len(arriving([elsewhere], (), NOW, SETTINGS, None)) == 1  # what is watched is not known


def test_frames_that_a_run_had_are_not_due(arrival: Callable[..., Arrival]) -> None:
    one = arrival(100)
    named = Sequence.of(one.facts)
    assert named is not None
    assert stages(one, runs=(run(30, 10, named.name),)) == []
    assert stages(one, runs=(run(30, 10, flow="nightly"),)) == []
    assert stages(one, runs=(run(30, 10, "2013-11-21.science.J.00000000"),)) == [("due", 1)]
    assert stages(one, runs=(run(30, 10, nights=(date(2013, 11, 20),)),)) == [("due", 1)]
    # It arrived after the run had chosen its frames; nirflow reduce records them while it runs.
    assert stages(one, runs=(run(200, 10, named.name),)) == [("due", 1)]
    assert stages(one, runs=(run(200, 10, flow="night"),)) == []


def test_waiting_is_that_of_the_last_run_until_it_is_given_up() -> None:
    allowed = SETTINGS.nightly.waiting_days * 86400.0
    a, b, c = (f"2013-11-21.science.Y.0000000{one}" for one in "abc")
    runs = (
        run(allowed + 9, allowed + 1, c, waits_for=("dark",)),
        run(90, 80, a, waits_for=("dark", "flat"), name="science Y A 2013-11-21"),
        run(70, 60, b, waits_for=("dark",)),
        run(50, 40, b),
    )
    (state,) = waiting(runs, NOW, SETTINGS)
    assert (state.sequence, state.label, state.waits_for) == (a, "science Y A 2013-11-21", ("dark", "flat"))
    assert (state.since, state.until) == (runs[1].ended, runs[1].ended + timedelta(seconds=allowed))


def test_a_sequence_with_a_run_is_queued_or_running() -> None:
    def state(sequence: str, stage: Any) -> SequenceState:
        return SequenceState(sequence=sequence, label=sequence, stage=stage, since=NOW)

    science, dark = "2013-11-21.science.Y.0000000a", "2013-11-21.dark.0000000b"
    states = [state(science, "due"), state(dark, "due"), state(science, "quiet"), state(science, "waiting")]
    requests: list[Any] = [(science, "arrival", "queued"), ("2013-11-21", "calibrations", "running")]
    assert [one.stage for one in with_runs(states, requests)] == ["queued", "running", "quiet", "queued"]
    assert [one.stage for one in with_runs(states, requests[1:])] == [
        "running",
        "running",
        "quiet",
        "waiting",
    ]
    assert with_runs(states, []) == tuple(states)
