"""What is due: one function of the store, the runs and the time; whatever happens, no frame is forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.settings.all_settings import Settings
from deployments.settings.watch_settings import WatchSettings
from deployments.status.due import Facts, KnownRun, NewFrame, Start, WaitingScience, due, due_but, starts
from imaging.frames.sequences import Sequence as Exposures

NOW = datetime(2013, 11, 21, 4, tzinfo=UTC)
SETTINGS = Settings(watch=WatchSettings(quiet=60.0, expected={"dark": 2}))
NIGHT = date(2013, 11, 21)
Y, J = (f"{NIGHT}.science.{band}.00000000" for band in "YJ")
DARK, SHORT, FLAT = f"{NIGHT}.dark.00000001", f"{NIGHT}.dark.00000002", f"{NIGHT}.flat.Y.00000003"
OLD_DARK = "2013-09-01.dark.00000004"


def exposures(name: str, instrument: str = "F2") -> Exposures:
    night, kind, *_ = name.split(".")
    return Exposures.model_validate(
        {"name": name, "kind": kind, "night": night, "instrument": instrument, "filter": "", "label": name}
    )


def frame(ago: float, sequence: str = Y, number: int = 0, instrument: str = "F2") -> NewFrame:
    """Return a frame that arrived some seconds ago."""
    arrived = NOW - timedelta(seconds=ago)
    return NewFrame(exposures(sequence, instrument), f"{sequence} {number} {ago}", arrived, arrived)


def run(stage: Any, request: str = Y, deployment: str = "arrival", **more: Any) -> KnownRun:
    return KnownRun(name="a run", stage=stage, request=request, deployment=deployment, **more)


def night_run(stage: Any, deployment: str, night: date = NIGHT) -> KnownRun:
    return run(stage, str(night), deployment, nights=(night, night))


def stages(facts: Facts, now: datetime = NOW) -> dict[str, str]:
    return {one.sequence: one.stage for one in due(facts, now, SETTINGS)}


def waits(served_by: str = "") -> WaitingScience:
    return WaitingScience(Y, "F2", "science Y", NOW - timedelta(hours=1), ("dark", "flat"), served_by)


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        pytest.param(Facts(), {}, id="all frames reduced"),
        pytest.param(Facts([frame(59)]), {Y: "quiet"}, id="quiet time not over"),
        pytest.param(Facts([frame(60)]), {Y: "due"}, id="quiet time over"),
        pytest.param(Facts([frame(600), frame(5)]), {Y: "quiet"}, id="another frame arrived"),
        pytest.param(Facts([frame(600), frame(600, J)]), {Y: "due", J: "due"}, id="two sequences"),
        pytest.param(Facts([frame(5, DARK)], exposures={DARK: 2}), {DARK: "due"}, id="complete"),
        pytest.param(Facts([frame(5, DARK)], exposures={DARK: 3}), {DARK: "quiet"}, id="more than complete"),
        pytest.param(Facts([frame(90)], runs=[run("queued")]), {Y: "queued"}, id="a run of it is queued"),
        pytest.param(Facts([frame(90)], runs=[run("running")]), {Y: "running"}, id="a run of it is running"),
        pytest.param(Facts([frame(90)], runs=[run("queued", J)]), {Y: "due"}, id="a run of another sequence"),
        pytest.param(Facts([frame(90)], runs=[run("ended")]), {Y: "due"}, id="a run that had other frames"),
        pytest.param(
            Facts([frame(90)], runs=[night_run("queued", "nightly")]), {Y: "queued"}, id="a run of its night"
        ),
        pytest.param(
            Facts([frame(90)], runs=[night_run("running", "calibrations")]), {Y: "due"},
            id="science does not wait for a run of calibrations",
        ),
        pytest.param(
            Facts([frame(90, DARK)], runs=[night_run("running", "calibrations")]), {DARK: "running"},
            id="calibrations do",
        ),
        pytest.param(
            Facts([frame(90, DARK)], runs=[night_run("running", "calibrations", date(2013, 11, 22))]), {DARK: "due"},
            id="a run of another night",
        ),
        pytest.param(Facts([frame(90)], paused=frozenset({"arrival"})), {Y: "paused"}, id="paused"),
        pytest.param(Facts([frame(-3600)]), {Y: "due"}, id="from before the clock was set back"),
        pytest.param(Facts([frame(-3600), frame(5)]), {Y: "quiet"}, id="the clock was set back, and another frame"),
        pytest.param(Facts(waiting=[waits()]), {Y: "waiting"}, id="a calibration is missing"),
        pytest.param(Facts(waiting=[waits("dark 1")]), {Y: "due"}, id="the calibration is there"),
        pytest.param(
            Facts(waiting=[waits("dark 1")], runs=[night_run("running", "calibrations")]), {Y: "running"},
            id="more are being made",
        ),
        pytest.param(Facts(waiting=[waits()], runs=[run("queued")]), {Y: "queued"}, id="a user started it again"),
        pytest.param(Facts([frame(5)], waiting=[waits("dark 1")]), {Y: "quiet"}, id="it waits, and gets more frames"),
        pytest.param(
            Facts([frame(90, Y, 1, "F2"), frame(90, J, 2, "NIRI")]), {Y: "due", J: "due"}, id="two instruments"
        ),
    ],
)  # fmt: skip
def test_where_a_sequence_stands(facts: Facts, wanted: dict[str, str]) -> None:
    assert stages(facts) == wanted


def started(facts: Facts, now: datetime = NOW) -> tuple[Start, ...]:
    return starts(due(facts, now, SETTINGS))


def test_a_run_is_requested_for_its_frames() -> None:
    first, second = frame(90), frame(80, number=1)
    (one,) = started(Facts([first, second]))
    assert (one.deployment, one.request, one.tags) == (
        "arrival",
        {"sequence": Y, "label": Y},
        ("new frames",),
    )
    assert one.cause == "2 new frames"
    (same,) = started(Facts([second, first]))
    (other,) = started(Facts([first]))
    assert one.key == same.key != other.key
    old = dataclasses.replace(first, exposed_until=NOW - timedelta(days=400))
    assert started(Facts([old]), NOW + timedelta(days=400))[0].deployment == "backlog"


def test_a_run_that_ended_without_a_report_is_not_repeated_until_there_is_something_new() -> None:
    (start,) = started(Facts([frame(90)]))
    ended = run("ended", key=start.key, state="Crashed")
    (state,) = due_but(Facts([frame(90)]), NOW, SETTINGS, lambda keys: [ended] if start.key in keys else [])
    assert (state.stage, state.run, state.start) == ("ended", "a run (Crashed)", None)
    assert started(Facts([frame(90), frame(80)], runs=[ended]))


def test_science_is_started_once_for_the_calibrations_that_serve_it() -> None:
    (start,) = started(Facts(waiting=[waits("dark 1")]))
    assert start.tags == ("new calibrations",)
    assert start.cause == "now available: dark, flat"
    (state,) = due(Facts(waiting=[waits("dark 1")], runs=[run("ended", key=start.key)]), NOW, SETTINGS)
    assert (state.stage, state.run) == ("waiting", "a run")
    assert started(Facts(waiting=[waits("dark 2")], runs=[run("ended", key=start.key)]))
    paused = Facts(waiting=[waits("dark 1")], paused=frozenset({"arrival", "backlog"}))
    assert stages(paused) == {Y: "paused"}


def test_calibrations_that_arrive_together_get_one_run() -> None:
    facts = Facts([frame(60, SHORT), frame(50, FLAT), frame(46, FLAT)])
    assert stages(facts) == {SHORT: "quiet", FLAT: "quiet"}
    assert started(facts) == ()
    (one,) = started(facts, NOW + timedelta(seconds=14))
    assert (one.deployment, one.request, one.cause) == (
        "calibrations", {"first": str(NIGHT)}, "3 new frames of 2 sequences"
    )  # fmt: skip


def test_late_darks_of_one_exposure_do_not_delay_those_of_another() -> None:
    facts = Facts([frame(60, SHORT), frame(5, FLAT)])
    assert stages(facts) == {SHORT: "due", FLAT: "quiet"}
    assert len(started(facts)) == 1
    # It is waited for a quarter of the quiet time, but no longer, whatever else arrives.
    (one,) = started(Facts([frame(76, SHORT), frame(46, FLAT)]))
    assert one.cause == "1 new frame of 1 sequence"


def test_nights_too_far_apart_for_one_run_get_two() -> None:
    found = started(Facts([frame(90, SHORT), frame(90, FLAT), frame(90, OLD_DARK)]))
    assert [one.nights for one in found] == [(date(2013, 9, 1), date(2013, 9, 1)), (NIGHT, NIGHT)]
    near = f"{NIGHT - timedelta(days=9)}.dark.00000005"
    (one,) = started(Facts([frame(90, near), frame(90, FLAT)]))
    assert one.request == {"first": str(NIGHT - timedelta(days=9)), "last": str(NIGHT)}


class World:
    """A store, a server and a worker, whose runs begin, end, crash; frames arrive, and clocks are set back."""

    names = (Y, J, DARK, SHORT, FLAT, OLD_DARK)

    def __init__(self) -> None:
        self.now = NOW
        self.frames: dict[str, NewFrame] = {}
        self.had: set[str] = set()
        self.runs: dict[str, KnownRun] = {}
        self.of_run: dict[str, set[str]] = {}
        self.crashed: set[str] = set()
        self.orders = 0

    def facts(self) -> Facts:
        new = [one for sha256, one in self.frames.items() if sha256 not in self.had]
        return Facts(new, runs=[one for one in self.runs.values() if one.stage != "ended"])

    def ask(self) -> None:
        def with_keys(keys: Sequence[str]) -> list[KnownRun]:
            return [self.runs[key] for key in keys if key in self.runs]

        facts = self.facts()
        states = due_but(facts, self.now, SETTINGS, with_keys)
        assert {one.sequence for one in states} == {one.sequence.name for one in facts.frames}
        for one in starts(states):
            assert one.key not in self.runs
            over = self.concerned(one.sequence, one.nights)
            for other in self.runs.values():
                there = self.concerned(other.request if not other.nights else "", other.nights)
                assert other.stage == "ended" or not over & there, "two runs over one sequence"
            self.runs[one.key] = KnownRun(
                name=one.key, stage="queued", deployment=one.deployment, request=one.sequence, nights=one.nights,
                key=one.key,
            )  # fmt: skip

    def concerned(self, sequence: str, nights: tuple[date, date] | None) -> set[str]:
        if nights is None:
            return {sequence}
        return {
            name for name in self.names
            if ".science." not in name and nights[0] <= date.fromisoformat(name[:10]) <= nights[1]
        }  # fmt: skip

    def arrive(self, which: int) -> None:
        number = len(self.frames)
        sequence = self.names[which % len(self.names)]
        self.frames[str(number)] = NewFrame(exposures(sequence), str(number), self.now, self.now)

    def work(self, *, crash: bool = False) -> None:
        """Let the first run that has not ended begin, or end."""
        one = next((one for one in self.runs.values() if one.stage != "ended"), None)
        if one is None:
            return
        if one.stage == "queued":
            over = self.concerned(one.request, one.nights)
            self.of_run[one.key] = {sha for sha, frame in self.frames.items() if frame.sequence.name in over}
            self.runs[one.key] = one.model_copy(update={"stage": "running"})
            return
        self.runs[one.key] = one.model_copy(update={"stage": "ended"})
        if crash:
            self.crashed |= self.concerned(one.request, one.nights)
        else:
            self.had |= self.of_run[one.key]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), st.integers(0, 5)),
        st.tuples(st.just("time"), st.integers(1, 90)),
        st.tuples(st.just("clock back"), st.integers(1, 5000)),
        st.tuples(st.sampled_from(["work", "crash", "ask"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTS)
def test_no_frame_is_forgotten_and_no_run_doubled(acts: list[tuple[str, int]]) -> None:
    world = World()
    for act, value in acts:
        match act:
            case "frame":
                world.arrive(value)
            case "time":
                world.now += timedelta(seconds=value)
            case "clock back":
                world.now -= timedelta(seconds=value)
            case "work" | "crash":
                world.work(crash=act == "crash")
        world.ask()
    for _ in range(200):
        world.now += timedelta(seconds=20)
        world.ask()
        world.work()
    left = {one.sequence.name for sha256, one in world.frames.items() if sha256 not in world.had}
    assert left <= world.crashed  # these are shown as ended
    assert all(one.stage == "ended" for one in world.runs.values())
