"""The watcher: each complete frame is recorded once, and each new one announced at least once, in all cases."""

from __future__ import annotations

import bz2
import gzip
import logging
import os
import random
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from raw_files import SCIENCE, SHAPE, raw_bytes
from sqlalchemy import func, select
from watched_folder import NIGHT, Clock, Server, Watch, in_store, known, put, rounds, sha256s

from calib_store.store import Store
from calib_store.tables.schema import frame_files
from deployments.arrivals import watcher as module
from deployments.prefect_api.events import ARRIVED, COMPLETE
from deployments.settings.watch_settings import WatchSettings
from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import Sequence as Exposures
from tasks.support.noting import record_of


@pytest.mark.parametrize(
    "wrong", [{"expected": {"arc": 3}}, {"expected": {"dark": 0}}, {"settle": -1}, {"fold": 1}]
)
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatchSettings(**wrong)


# --- events of frames ----------------------------------------------------------------------------


def test_a_new_frame_is_recorded_and_announced(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    put(raw / "S1.fits", raw_bytes(1, SCIENCE))
    assert not watcher.step()
    assert server.events == []
    clock.time += 1.0
    watcher.step()
    watcher.deliver()
    (frame,) = store.frames.named("S1")
    assert frame.facts is not None
    sequence = Exposures.of(frame.facts)
    assert sequence is not None
    (event,) = server.events
    assert event.name == ARRIVED
    assert event.resource == f"nirflow.sequence.{sequence.name}"
    assert event.labels == {
        "prefect.resource.name": sequence.label,
        "nirflow.kind": "science",
        "nirflow.night": "2013-11-21",
        "nirflow.urgency": "tonight",
    }
    assert event.payload == {
        "frame": "S1.fits", "sequence": sequence.name, "night": "2013-11-21", "kind": "science", "filter": "Y",
        "arrived": NIGHT.isoformat(),
    }  # fmt: skip
    rounds(watcher, clock)
    rounds(watch(), clock)
    assert len(server.events) == 1


@pytest.mark.parametrize(
    ("later", "after", "urgency"),
    [
        (timedelta(), 18.0, "tonight"),
        (timedelta(hours=-20), 0.0, "tonight"),  # a frame from the future: a clock is wrong
        (timedelta(hours=11), 0.0, "tonight"),  # before the next night begins, or in the morning
        (timedelta(hours=22), 0.0, "backlog"),
        (timedelta(hours=22), 30.0, "tonight"),
        (timedelta(days=400), 18.0, "backlog"),
    ],
)
def test_what_is_urgent(
    watch: Watch, server: Server, clock: Clock, raw: Path, later: timedelta, after: float, urgency: str
) -> None:
    put(raw / "S1.fits", raw_bytes(1))
    rounds(watch(now=NIGHT + later, backlog_after=after), clock)
    assert [event.labels["nirflow.urgency"] for event in server.events] == [urgency]


def test_the_last_frame_of_a_sequence_announces_its_completion(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch(expected={"dark": 5})
    for number in range(3):
        put(raw / f"S{number}.fits", raw_bytes(number))
    put(raw / "copy.fits", raw_bytes(2))
    put(raw / "S2_fixhead.fits", raw_bytes(2, OBSERVER="Ana"))  # the same exposure
    put(raw / "other.fits", raw_bytes(7, EXPTIME=60.0))
    for number in range(6):
        put(raw / f"science{number}.fits", raw_bytes(number, SCIENCE))
    rounds(watcher, clock)
    assert len(server.frames) == 4 + 1 + 6
    assert {event.name for event in server.events} == {ARRIVED}
    server.events.clear()
    for number in range(3, 6):
        put(raw / f"S{number}.fits", raw_bytes(number))
    rounds(watcher, clock)
    assert [(event.payload["frame"], event.name) for event in server.events] == [
        ("S3.fits", ARRIVED), ("S4.fits", COMPLETE), ("S5.fits", ARRIVED),
    ]  # fmt: skip


def test_a_rejected_frame_does_not_complete_a_sequence(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch(expected={"dark": 2})
    put(raw / "S1.fits", raw_bytes(1))
    rounds(watcher, clock)
    store.frames.set_status(store.frames.named("S1")[0], "rejected", author="me", reason="clouds")
    put(raw / "S2.fits", raw_bytes(2))
    rounds(watcher, clock)
    put(raw / "S3.fits", raw_bytes(3))
    rounds(watcher, clock)
    assert [event.name for event in server.events] == [ARRIVED, ARRIVED, COMPLETE]


# --- what is new ---------------------------------------------------------------------------------


def test_copies_and_new_dates_are_not_new_but_new_content_is(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    touched = put(raw / "S0.fits", raw_bytes(0))
    first = put(raw / "S1.fits", raw_bytes(1))
    put(raw / "copy1.fits", raw_bytes(1))
    rounds(watcher, clock)
    assert len(server.events) == 2  # two files of one frame, at once
    server.events.clear()
    put(raw / "copy2.fits", raw_bytes(1))
    (raw / "copy3.fits.gz").write_bytes(gzip.compress(raw_bytes(1)))
    (raw / "copy4.fits.bz2").write_bytes(bz2.compress(raw_bytes(1)))
    os.utime(touched, (1, 1))
    rounds(watcher, clock)
    assert server.events == []
    assert len(sha256s(store)) == 2
    with store.database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(frame_files)) == 6
    put(first, raw_bytes(2))
    rounds(watcher, clock)
    assert server.frames == Counter({"S1.fits": 1})
    assert len(sha256s(store)) == 3


def test_a_frame_that_another_process_records_meanwhile_is_new(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    path = put(raw / "S1.fits", raw_bytes(1))
    watcher.step()
    record = record_of(module.examine(path, CheckParameters(shape=SHAPE), unpacked=raw.parent))
    assert record is not None
    store.frames.ingest([record])
    rounds(watcher, clock)
    assert server.frames == Counter({"S1.fits": 1})


def test_a_file_that_is_not_a_frame_is_logged_and_gives_no_event(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = raw_bytes(1)
    start = len(dead) - 2880
    put(raw / "dead.fits", dead[:start] + b"\0" * 2880)
    put(raw / "acquisition.fits", raw_bytes(2, SCIENCE, OBSCLASS="acq"))
    put(raw / "product.fits", raw_bytes(3, PROCDARK="2026-11-23T00:00:00"))
    put(raw / "instrument.fits", raw_bytes(4, INSTRUME="GSAOI"))
    put(raw / "keyword.fits", raw_bytes(5, LNRS=77))
    put(raw / "small.fits", raw_bytes(6))
    with caplog.at_level(logging.INFO):
        rounds(watch(), clock, 20)
    assert server.frames == Counter({"small.fits": 1})
    assert in_store(store) == Counter({"small.fits": 1, "acquisition.fits": 1})
    refused = sorted(reason for reason in sha256s(store).values() if reason)
    assert len(refused) == 2  # not the product, not the frame of another instrument
    assert "LNRS" in refused[0]
    assert refused[1] == "all pixels have the value 0: the detector was not read out"
    for name in ("dead", "acquisition", "product", "instrument", "keyword"):
        lines = [line for line in caplog.messages if line.startswith("Left out") and f"{name}.fits" in line]
        assert len(lines) == 1, name
    caplog.clear()
    with caplog.at_level(logging.INFO):
        rounds(watch(check=CheckParameters(shape=(7, 7))), clock)
    assert not [line for line in caplog.messages if "dead" in line]  # recorded in quarantine


def test_garbage_and_incomplete_files_are_warned_of_once(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (raw / "garbage.fits").write_bytes(random.Random(1).randbytes(9000))
    (raw / "piece.fits").write_bytes(raw_bytes(1)[:5000])
    watcher = watch()
    with caplog.at_level(logging.WARNING):
        rounds(watcher, clock, 14)
        assert caplog.messages == []
        rounds(watcher, clock, 30)
    assert len(caplog.messages) == 2
    assert any("garbage.fits" in line and "not a FITS file" in line for line in caplog.messages)
    assert any("piece.fits" in line and "truncated" in line for line in caplog.messages)
    assert sorted(one.name for one in known(store, "garbage", "piece")) == ["garbage.fits", "piece.fits"]
    assert all(
        one.facts is None and one.quarantine in "".join(caplog.messages) for one in known(store, "piece")
    )
    (raw / "piece.fits").write_bytes(raw_bytes(1))
    rounds(watcher, clock)
    assert server.frames == Counter({"piece.fits": 1})
    (complete,) = known(store, "piece")  # and the incomplete file is no longer counted
    assert complete.facts is not None
    assert complete.quarantine is None


def test_a_file_that_stays_incomplete_is_known_after_a_restart(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    piece = raw / "S20131121S0075.fits"
    piece.write_bytes(raw_bytes(1)[:5000])
    (raw / "S20131121S0076.fits").touch()
    with watch() as first:
        rounds(first, clock, 40)
    night = date(2013, 11, 21)
    refused = {frame.name: frame.quarantine for frame in store.frames.refused_of_nights(night, night)}
    assert set(refused) == {"S20131121S0075.fits", "S20131121S0076.fits"}
    assert "truncated" in str(refused["S20131121S0075.fits"])
    assert "empty" in str(refused["S20131121S0076.fits"])
    assert store.frames.refused_of_nights(night + timedelta(days=1), night + timedelta(days=9)) == ()
    caplog.clear()
    again = watch()
    rounds(again, clock, 40)
    assert caplog.messages == []
    piece.write_bytes(raw_bytes(1))
    rounds(again, clock)
    assert server.frames == Counter({"S20131121S0075.fits": 1})
    assert [one.name for one in store.frames.refused_of_nights(night, night)] == ["S20131121S0076.fits"]


def test_a_temporary_problem_is_not_recorded_against_the_file(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: after a restart the frame is recorded."""

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    put(raw / "S1.fits", raw_bytes(1))
    with monkeypatch.context() as patch:
        patch.setattr(module, "examine", fail)
        with watch() as first:
            rounds(first, clock, 60)
    assert sha256s(store) == {}
    rounds(watch(), clock)
    assert server.frames == Counter({"S1.fits": 1})


def test_a_frame_that_another_process_found_usable_stays_usable(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    """A nightly run may not need the padding that the watcher waits for."""
    path = put(raw / "S1.fits", raw_bytes(1)[:-10])
    record = record_of(module.examine(path, CheckParameters(shape=SHAPE), unpacked=raw.parent))
    assert record is not None
    assert record.quarantine is None
    watcher = watch()
    watcher.step()
    store.frames.ingest([record])
    rounds(watcher, clock, 60)
    assert sha256s(store) == {record.sha256: None}
    (frame,) = known(store, "S1")
    assert frame.facts is not None


def test_incomplete_frames_of_another_instrument_are_skipped(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    put(raw / "S1.fits", raw_bytes(1, INSTRUME="GMOS-S")[:-10])
    put(raw / "S2.fits", raw_bytes(2)[:-10])
    rounds(watch(), clock, 60)
    (mine,) = known(store, "S1", "S2")
    assert mine.name == "S2.fits"
    assert mine.facts is not None  # its headers are complete
    assert "padding" in str(mine.quarantine)
