"""Raw frames that no run has had, and those in quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from calib_store.model.records import FrameRecord, Run
from calib_store.model.settings import StoreSettings
from calib_store.reader import Reader
from calib_store.store import Store


@pytest.fixture
def reader(store: Store, store_settings: StoreSettings) -> Iterator[Reader]:
    opened = Reader(store_settings)
    yield opened
    opened.close()


def run(*sha256s: str, **more: Any) -> Run:
    now = datetime.now(UTC)
    return Run(id=uuid4(), nights=(date(2013, 11, 21),), flow="arrival", started=now, ended=now, report={},
               frames=frozenset(sha256s), **more)  # fmt: skip


def names(reader: Reader) -> list[str]:
    return [one.facts.name for one in reader.new_frames().unknown.values() if one.facts is not None]


def test_a_reader_sees_new_frames_quarantine_and_what_waits(
    store: Store, reader: Reader, record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    good = record("good.fits")
    store.frames.ingest([good, record("bad.fits", facts=None, quarantine="it ends early")])
    store.frames.ingest([record("again.fits", "part", facts=None, quarantine="it ends early")])
    whole = record("again.fits", "whole", path=tmp_path / "copy" / "again.fits")
    store.frames.ingest([whole])
    news = reader.new_frames([good.sha256])
    assert list(news.there) == [good.sha256, whole.sha256]
    assert news.unknown.keys() == {whole.sha256}
    assert news.unknown[whole.sha256].paths == (whole.path,)
    assert news.there[whole.sha256] <= news.now
    number, (bad,) = reader.quarantined(10)
    assert (number, bad.name, bad.reason) == (1, "bad.fits", "it ends early")
    assert reader.quarantined(0) == (1, ())
    store.runs.add(run(sequence="S", waits_for=("dark",)))
    (waits,) = reader.waiting(datetime.now(UTC) - timedelta(hours=1))
    assert (waits.sequence, waits.waits_for) == ("S", ("dark",))
    assert reader.waiting(datetime.now(UTC) + timedelta(hours=1)) == ()


def test_a_frame_is_new_until_a_run_has_had_it(
    store: Store, reader: Reader, record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    a, b = record("a.fits"), record("b.fits")
    store.frames.ingest([a, b])
    store.runs.add(run(a.sha256, "0" * 64))  # a file of something else is no frame
    assert names(reader) == ["b.fits"]
    store.frames.ingest([replace(a, path=tmp_path / "copy.fits", changed_ns=9)])
    assert names(reader) == ["b.fits"]  # a copy is no new frame
    store.frames.set_status(store.frames.named("b")[0], "rejected", author="me", reason="clouds")
    assert names(reader) == []


def test_a_frame_that_leaves_quarantine_is_new(
    store: Store, reader: Reader, record: Callable[..., FrameRecord]
) -> None:
    one = record("a.fits", quarantine="it has 512 x 512 pixels")
    store.frames.ingest([one])
    store.runs.add(run(one.sha256))
    assert names(reader) == []
    store.frames.ingest([replace(one, quarantine=None)])
    assert names(reader) == ["a.fits"]
    store.runs.add(run(one.sha256))
    store.frames.ingest([one])
    store.frames.ingest([replace(one, quarantine=None)])
    assert names(reader) == ["a.fits"]


def test_a_frame_of_another_store_is_new_when_its_file_arrives(
    store: Store, reader: Reader, record: Callable[..., FrameRecord]
) -> None:
    one = record("a.fits")
    store.frames.note([(one.sha256, "a.fits", one.facts, None, {})])
    assert names(reader) == []
    store.frames.ingest([one])
    assert names(reader) == ["a.fits"]


def test_facts_of_another_version_do_not_hide_other_frames(
    store: Store, reader: Reader, record: Callable[..., FrameRecord]
) -> None:
    a, b = record("a.fits"), record("b.fits")
    store.frames.ingest([a, b])
    with store.database.engine.begin() as connection:
        connection.execute(text("UPDATE frames SET facts = '{}' WHERE sha256 = :a"), {"a": a.sha256})
    assert names(reader) == ["b.fits"]
