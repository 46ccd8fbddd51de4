"""The watcher: each complete frame is recorded once, in all cases."""

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
from watched_folder import Clock, Watch, in_store, known, put, rounds, sha256s

from calib_store.store import Store
from calib_store.tables.schema import frame_files
from deployments.arrivals import watcher as module
from deployments.settings.watch_settings import WatchSettings
from imaging.frames.find_files import CheckParameters
from tasks.support.noting import record_of


@pytest.mark.parametrize(
    "wrong", [{"expected": {"arc": 3}}, {"expected": {"dark": 0}}, {"settle": -1}, {"fold": 1}]
)
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatchSettings(**wrong)


def test_a_new_frame_is_recorded_once(watch: Watch, store: Store, clock: Clock, raw: Path) -> None:
    calls: list[Counter[str]] = []
    watcher = watch(recorded=lambda: calls.append(in_store(store)))
    put(raw / "S1.fits", raw_bytes(1, SCIENCE))
    assert not watcher.step()
    assert calls == []
    clock.time += 1.0
    watcher.step()
    (frame,) = store.frames.named("S1")
    assert frame.facts is not None
    rounds(watcher, clock)
    rounds(watch(), clock)
    assert calls == [Counter({"S1.fits": 1})]


# --- what is new ---------------------------------------------------------------------------------


def test_copies_and_new_dates_are_not_new_but_new_content_is(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    touched = put(raw / "S0.fits", raw_bytes(0))
    first = put(raw / "S1.fits", raw_bytes(1))
    put(raw / "copy1.fits", raw_bytes(1))
    rounds(watcher, clock)
    assert len(sha256s(store)) == 2  # two files of one frame, at once
    put(raw / "copy2.fits", raw_bytes(1))
    (raw / "copy3.fits.gz").write_bytes(gzip.compress(raw_bytes(1)))
    (raw / "copy4.fits.bz2").write_bytes(bz2.compress(raw_bytes(1)))
    os.utime(touched, (1, 1))
    rounds(watcher, clock)
    assert len(sha256s(store)) == 2
    with store.database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(frame_files)) == 6
    put(first, raw_bytes(2))
    rounds(watcher, clock)
    assert len(sha256s(store)) == 3


def test_a_file_that_is_not_a_frame_is_logged_and_not_recorded(
    watch: Watch, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
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
    watch: Watch, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
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
    assert in_store(store) == Counter({"piece.fits": 1})
    (complete,) = known(store, "piece")  # and the incomplete file is no longer counted
    assert complete.facts is not None
    assert complete.quarantine is None


def test_a_file_that_stays_incomplete_is_known_after_a_restart(
    watch: Watch, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
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
    assert in_store(store) == Counter({"S20131121S0075.fits": 1})
    assert [one.name for one in store.frames.refused_of_nights(night, night)] == ["S20131121S0076.fits"]


def test_frames_in_quarantine_are_accepted_after_a_change_of_the_settings(
    watch: Watch, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(raw / "S1.fits", raw_bytes(1, SCIENCE))
    other = CheckParameters(shape=(2048, 2048))
    with watch(check=other) as first:
        rounds(first, clock)
    (refused,) = store.frames.named("S1")
    assert refused.quarantine is not None
    caplog.clear()
    with watch(check=other) as same:
        rounds(same, clock)
    assert caplog.messages == []
    rounds(watch(), clock)
    (accepted,) = store.frames.named("S1")
    assert accepted.facts is not None
    assert accepted.quarantine is None


def test_a_temporary_problem_is_not_recorded_against_the_file(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
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
    assert in_store(store) == Counter({"S1.fits": 1})


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
