"""Runs that are due are started once, whatever asks, and whatever ends in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fake_runs import FakePrefect
from sqlalchemy import text
from waiting import wait_until

from calib_store.model.records import FrameRecord, Product, Run
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from deployments.arrivals.starting import Starter, pause, start_waiting
from deployments.settings.all_settings import Settings
from deployments.settings.watch_settings import WatchSettings
from deployments.status.due import SequenceState
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence

NIGHT = date(2013, 11, 21)


@pytest.fixture
def prefect() -> FakePrefect:
    return FakePrefect()


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path) -> Settings:
    watch = WatchSettings(folders=(tmp_path,), expected={"science": 1, "dark": 1})
    return Settings(data_dir=store_settings.data_dir, database_url=store_settings.database_url, watch=watch)


@pytest.fixture
def starter(settings: Settings, store: Store, prefect: FakePrefect) -> Iterator[Callable[[], Starter]]:
    """Return a function that makes a starter, as that of another process."""
    made: list[Starter] = []

    def make() -> Starter:
        made.append(Starter(settings, store, prefect, threading.Event()))
        return made[-1]

    yield make
    for one in made:
        one._reader.close()


def test_a_complete_sequence_is_started_once(
    store: Store, record: Callable[..., FrameRecord], prefect: FakePrefect, starter: Callable[[], Starter]
) -> None:
    one = starter()
    one.ask()
    assert prefect.asked == 0  # nothing is due, whatever the server has
    store.frames.ingest([record("S1.fits")])
    for _ in range(2):
        one.ask()
        starter().ask()
    (run,) = prefect.runs_by_key.values()
    assert run["deployment_id"] == "backlog"
    assert run["body"]["tags"] == ["new frames"]
    assert run["body"]["state"]["message"] == "1 new frame"
    assert run["body"]["parameters"]["request"]["sequence"].startswith("2013-11-21.science.Y.")


def test_one_process_at_a_time_starts_runs(
    store: Store, record: Callable[..., FrameRecord], prefect: FakePrefect, starter: Callable[[], Starter]
) -> None:
    """Two that ask at once may see different frames, and would start two runs."""
    held: list[int] = []
    original = prefect.post

    def post(path: str, body: Any) -> Any:
        with store.database.engine.connect() as connection:
            held.append(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")))
        return original(path, body)

    prefect.post = post  # type: ignore[method-assign]
    store.frames.ingest([record("S1.fits")])
    starter().ask()
    assert len(prefect.runs_by_key) == 1
    assert set(held) == {1}


@pytest.mark.parametrize("state_type", ["CRASHED", "FAILED", "CANCELLED"])
def test_a_run_that_ended_without_a_report_is_not_repeated(
    store: Store, record: Callable[..., FrameRecord], prefect: FakePrefect, starter: Callable[[], Starter],
    state_type: str,
) -> None:  # fmt: skip
    store.frames.ingest([record("S1.fits")])
    starter().ask()
    prefect.end(state_type)
    starter().ask()
    assert len(prefect.runs_by_key) == 1


def test_a_lost_answer_and_a_server_that_is_down_neither_lose_nor_double_a_run(
    store: Store, record: Callable[..., FrameRecord], prefect: FakePrefect, starter: Callable[[], Starter],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO")
    store.frames.ingest([record("S1.fits")])
    one = starter()
    prefect.up = False
    one.ask()
    one.ask()
    prefect.up, prefect.answers = True, False
    one.ask()
    prefect.answers = True
    one.ask()
    starter().ask()
    assert len(prefect.runs_by_key) == 1
    assert [line for line in caplog.messages if "No run can be started" in line] == [
        "No run can be started: The server does not answer."
    ]
    assert "Runs are started again." in caplog.messages


def test_a_paused_deployment_starts_nothing(
    store: Store, record: Callable[..., FrameRecord], prefect: FakePrefect, starter: Callable[[], Starter]
) -> None:
    store.frames.ingest([record("S1.fits")])
    prefect.paused = True
    starter().ask()
    assert prefect.runs_by_key == {}
    prefect.paused = False
    starter().ask()
    assert len(prefect.runs_by_key) == 1


def test_a_flow_starts_the_science_that_waited_for_what_it_made(
    settings: Settings, store: Store, prefect: FakePrefect, add: Callable[..., Product],
    record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts],
) -> None:  # fmt: skip
    one = Sequence.of(facts())
    assert one is not None
    raw = record("S1.fits")
    store.frames.ingest([raw])
    now = datetime.now(UTC)
    run = Run(id=uuid4(), nights=(NIGHT,), flow="arrival", sequence=one.name, waits_for=("dark",), started=now,
              ended=now, report={}, frames=frozenset({raw.sha256}))  # fmt: skip
    store.runs.add(run)
    own = {
        "id": "own", "name": "calibrations", "state_type": "RUNNING", "state_name": "Running", "start_time": None,
        "deployment_id": "calibrations", "parameters": {"request": {"first": str(NIGHT)}},
    }  # fmt: skip
    prefect.runs_by_key["own"] = own
    start_waiting(settings, store, prefect, own_run="own")
    assert list(prefect.runs_by_key) == ["own"]  # there is no dark yet
    add()
    start_waiting(settings, store, prefect, own_run="another")
    assert list(prefect.runs_by_key) == ["own"]  # more may be made
    for _ in range(2):
        start_waiting(settings, store, prefect, own_run="own")
    _, science = prefect.runs_by_key.values()
    assert science["body"]["tags"] == ["new calibrations"]
    assert science["body"]["parameters"]["request"]["sequence"] == one.name


def test_the_thread_starts_what_arrives_and_a_defect_ends_the_watcher(
    settings: Settings, store: Store, prefect: FakePrefect, record: Callable[..., FrameRecord]
) -> None:
    stop = threading.Event()
    with Starter(settings, store, prefect, stop) as one:
        store.frames.ingest([record("S1.fits")])
        one.wake()
        assert wait_until(lambda: len(prefect.runs_by_key) == 1)
    prefect.runs = lambda *_, **__: 1 / 0  # type: ignore[method-assign, assignment]
    store.frames.ingest([record("S2.fits")])
    with pytest.raises(ZeroDivisionError), Starter(settings, store, prefect, stop):
        assert stop.wait(60)


def test_it_asks_again_when_something_may_be_due() -> None:
    now = datetime(2013, 11, 21, tzinfo=UTC)

    def state(stage: Any, seconds: float = 0.0) -> SequenceState:
        until = now + timedelta(seconds=seconds)
        return SequenceState(sequence="S", label="S", stage=stage, since=now, until=until)

    assert pause([], now) == pause([state("ended")], now) == pause([state("quiet", 100)], now) == 15.0
    assert pause([state("queued")], now) == pause([state("running"), state("quiet", 9)], now) == 2.0
    assert pause([state("quiet", 1.5)], now) == 1.5
    assert pause([state("quiet", -3)], now) > 0
