"""Reports of runs, frames of nights, and choices made by some rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from calib_store.model.records import Decision, FrameRecord, Match, Override, Product, Run
from calib_store.store import Store
from calib_store.tables import decisions
from imaging.frames.facts import FrameFacts

NIGHT, NEXT = date(2013, 11, 21), date(2013, 11, 22)
BEGAN = datetime(2013, 11, 21, 4, tzinfo=UTC)
A, B = "2013-11-21.science.Y.aaaaaaaa", "2013-11-21.science.Y.bbbbbbbb"


def run(minutes: float = 0, *nights: date, **changes: Any) -> Run:
    started = BEGAN + timedelta(minutes=minutes)
    values: dict[str, Any] = {
        "id": uuid4(), "nights": nights or (NIGHT,), "flow": "arrival", "started": started,
        "ended": started + timedelta(minutes=1), "report": {"products": []},
    }  # fmt: skip
    return Run(**values | changes)


def waiting(store: Store, since: datetime = BEGAN) -> dict[str | None, tuple[str, ...]]:
    return {one.sequence: one.waits_for for one in store.runs.waiting(since)}


# Runs


def test_the_runs_of_a_night_are_listed_earliest_first(store: Store) -> None:
    later, first, range_, other = run(9), run(0), run(5, NIGHT, NEXT), run(1, NEXT)
    for one in (later, first, range_, other):
        store.runs.add(one)
    assert [one.id for one in store.runs.of_night(NIGHT)] == [first.id, range_.id, later.id]
    assert [one.id for one in store.runs.of_night(NEXT)] == [other.id, range_.id]
    assert store.runs.of_night(date(2014, 1, 1)) == ()
    assert store.runs.nights() == (NEXT, NIGHT)


def test_a_run_is_returned_as_reported_and_recorded_once(store: Store) -> None:
    reported = run(
        sequence=A,
        waits_for=("dark", "flat"),
        report={"figure": float("nan"), "text": "a\0b", "at": [1, None]},
    )
    store.runs.add(reported)
    store.runs.add(reported.model_copy(update={"flow": "other"}))
    (back,) = store.runs.of_night(NIGHT)
    assert back.report == {"figure": "nan", "text": "a\N{REPLACEMENT CHARACTER}b", "at": [1, None]}
    assert back == reported.model_copy(update={"report": back.report})


def test_an_empty_store_has_no_nights_and_nothing_waits(store: Store) -> None:
    assert store.runs.nights() == ()
    assert waiting(store) == {}


def test_the_last_run_of_a_sequence_decides_whether_it_waits(store: Store) -> None:
    store.runs.add(run(0, sequence=A, waits_for=("dark",)))
    store.runs.add(run(0, sequence=B, waits_for=("flat",)))
    assert waiting(store) == {A: ("dark",), B: ("flat",)}
    store.runs.add(run(9, sequence=A, waits_for=("bpm", "flat")))
    store.runs.add(run(9, sequence=B))
    assert waiting(store) == {A: ("bpm", "flat")}
    store.runs.add(run(5, sequence=A))  # recorded late: it ended before the last one
    assert waiting(store) == {A: ("bpm", "flat")}


def test_only_reports_of_what_waits_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher asks every few seconds, and a season of reports is large."""
    for minutes in range(5):
        store.runs.add(run(minutes, sequence=f"{A}{minutes}"))
    store.runs.add(run(0, sequence=B, waits_for=("flat",)))
    read: list[Any] = []
    validate = Run.model_validate

    def noted(row: Any) -> Run:
        read.append(row)
        return validate(row)

    monkeypatch.setattr(Run, "model_validate", noted)
    assert waiting(store) == {B: ("flat",)}
    assert [row["sequence"] for row in read] == [B]


def test_complete_nights_do_not_wait_and_long_waits_are_given_up(store: Store) -> None:
    store.runs.add(run(0, waits_for=("dark",)))
    store.runs.add(run(0, sequence=A, waits_for=("dark",)))
    ended = BEGAN + timedelta(minutes=1)
    assert waiting(store, ended) == {A: ("dark",)}
    assert waiting(store, ended + timedelta(seconds=1)) == {}


# Frames of nights


@pytest.fixture
def taken(
    store: Store, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts]
) -> Callable[..., None]:
    def take(name: str, started: datetime, **changes: Any) -> None:
        store.frames.ingest([record(name, facts=facts(name=name, started=started, **changes))])

    return take


def names(store: Store, first: date, last: date, **more: Any) -> list[str]:
    return [frame.name for frame in store.frames.of_nights(first, last, **more)]


def test_a_night_goes_from_14_to_14_at_the_telescope(store: Store, taken: Callable[..., None]) -> None:
    edge = datetime(2013, 11, 20, 17, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    taken("before.fits", edge - tick)
    taken("first.fits", edge)
    taken("last.fits", edge + timedelta(days=1) - tick)
    taken("after.fits", edge + timedelta(days=1))
    assert names(store, NIGHT, NIGHT) == ["first.fits", "last.fits"]
    assert names(store, NIGHT, NEXT) == ["first.fits", "last.fits", "after.fits"]
    assert names(store, NEXT, NIGHT) == []
    night_of = {
        frame.name: frame.facts.night for frame in store.frames.of_nights(NIGHT, NIGHT) if frame.facts
    }
    assert set(night_of.values()) == {NIGHT}


def test_only_frames_of_the_requested_kinds_in_order_of_time(
    store: Store, taken: Callable[..., None]
) -> None:
    taken("c.fits", BEGAN, kind="object")
    taken("b.fits", BEGAN, kind="dark")
    taken("a.fits", BEGAN + timedelta(minutes=1), kind="flat")
    assert names(store, NIGHT, NIGHT) == ["b.fits", "c.fits", "a.fits"]
    assert names(store, NIGHT, NIGHT, kinds=("dark", "flat")) == ["b.fits", "a.fits"]
    assert names(store, NIGHT, NIGHT, kinds=("arc",)) == []


def test_a_frame_without_facts_belongs_to_no_night(store: Store, record: Callable[..., FrameRecord]) -> None:
    store.frames.ingest([record("bad.fits", facts=None, quarantine="no header")])
    assert names(store, date(2000, 1, 1), date(2099, 1, 1)) == []


# Choices by rules


@pytest.fixture
def decide(store: Store, record: Callable[..., FrameRecord]) -> Callable[..., str]:
    """Record a choice for a frame and return the frame's sha256."""

    def note(frame: str, product: Product | None, kind: str = "dark", **how: Any) -> str:
        raw = record(frame)
        store.frames.ingest([raw])
        match = Match(frame, kind, product, (), how.pop("rules", "1"), how.pop("as_of", None))
        store.record_decisions([Decision(raw.sha256, match, product, **how)])
        return raw.sha256

    return note


def by_rules(store: Store, version: str) -> set[tuple[str, str, UUID | None]]:
    rows = store.database.read(lambda connection: decisions.last_by_rules(connection, version))
    return {(row.frame_sha256, row.kind, row.product_id) for row in rows}


def test_the_last_choice_of_each_frame_and_kind_counts_if_made_by_those_rules(
    store: Store, add: Callable[..., Product], decide: Callable[..., str]
) -> None:
    old, new = add(), add(hours=1)
    one = decide("S1.fits", old)
    decide("S1.fits", None, "flat")
    other = decide("S2.fits", old)
    assert by_rules(store, "1") == {(one, "dark", old.id), (one, "flat", None), (other, "dark", old.id)}
    decide("S1.fits", new)
    decide("S2.fits", new, rules="2")
    assert by_rules(store, "1") == {(one, "dark", new.id), (one, "flat", None)}
    assert by_rules(store, "2") == {(other, "dark", new.id)}
    assert by_rules(store, "3") == set()


def test_neither_overrides_nor_choices_of_the_past_are_choices_by_rules(
    store: Store, add: Callable[..., Product], decide: Callable[..., str]
) -> None:
    product, other = add(), add(hours=1)
    one = decide("S1.fits", product)
    decide("S1.fits", other, as_of=BEGAN)
    assert by_rules(store, "1") == {(one, "dark", product.id)}
    # An override made a different product: that of the choice before it counts as well.
    decide("S1.fits", other, override=Override("Ana", "better"))
    assert by_rules(store, "1") == {(one, "dark", product.id)}
