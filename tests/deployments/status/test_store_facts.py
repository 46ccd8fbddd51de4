"""What the store knows about new frames and about science that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from calib_store.curation.certify import reinstate, reject
from calib_store.model.records import FrameRecord, Product, Run
from calib_store.model.settings import StoreSettings
from calib_store.reader import Reader
from calib_store.store import Store
from deployments.settings.all_settings import Settings
from deployments.settings.watch_settings import WatchSettings
from deployments.status.store_facts import StoreFacts
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import Sequence


@pytest.fixture
def reader(store_settings: StoreSettings) -> Iterator[Reader]:
    opened = Reader(store_settings)
    yield opened
    opened.close()


def test_only_frames_in_watched_folders_are_new(
    store: Store, reader: Reader, record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    here, elsewhere = record("a.fits", path=raw / "deep" / "a.fits"), record("b.fits")
    store.frames.ingest([here, elsewhere])
    facts = StoreFacts(reader, Settings(), [raw])
    found, now = facts.read()
    assert [one.sha256 for one in found.frames] == [here.sha256]
    assert found.frames[0].added_at <= now
    both, _ = StoreFacts(reader, Settings(), None).read()  # what is watched is not known
    assert len(both.frames) == 2
    store.frames.ingest([record("c.fits", path=raw / "c.fits")])
    assert len(facts.read()[0].frames) == 2


def test_exposures_that_are_used_make_a_sequence_complete(
    store: Store, reader: Reader, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts]
) -> None:
    """Not acquisition frames, rejected ones, second files of an exposure and first frames of an observation."""

    def add(name: str, **changes: Any) -> None:
        store.frames.ingest([record(name, facts=facts(name=name, kind="dark", **changes))])

    def number() -> int | None:
        read, _ = StoreFacts(reader, settings, None).read()
        return read.exposures.get(name.name)

    settings = Settings(watch=WatchSettings(expected={"dark": 2}))
    name = Sequence.of(facts(kind="dark"))
    assert name is not None
    add("S20131121S0001.fits", data_label="a-1")
    add("S20131121S0001_fixhead.fits", data_label="a-1")
    add("acquisition.fits", data_label="a-9", observation_class="acq")
    assert number() == 1
    add("S20131121S0002.fits", data_label="a-2", started=datetime(2013, 11, 21, 4, tzinfo=UTC))
    assert number() == 2
    store.frames.set_status(store.frames.named("S20131121S0002")[0], "rejected", author="me", reason="x")
    assert number() == 1
    assert StoreFacts(reader, Settings(), None).read()[0].exposures == {}


@pytest.mark.parametrize(("first_frames", "n"), [("leave_out", 0), ("use", 1)])
def test_first_frames_of_observations_start_nothing_unless_they_are_used(
    store: Store, reader: Reader, record: Callable[..., FrameRecord], monkeypatch: pytest.MonkeyPatch,
    first_frames: Any, n: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(FrameFacts, "first_frame", lambda _: "the first frame")
    store.frames.ingest([record("S1.fits")])
    watch = WatchSettings(check=CheckParameters(first_frames=first_frames))
    read, _ = StoreFacts(reader, Settings(watch=watch), None).read()
    assert len(read.frames) == n


def test_what_serves_waiting_science_changes_with_every_decision(
    store: Store, reader: Reader, add: Callable[..., Product], record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts],
) -> None:  # fmt: skip
    one = Sequence.of(facts())
    assert one is not None
    store.frames.ingest([record("S1.fits")])
    now = datetime.now(UTC)
    run = Run(id=uuid4(), nights=(date(2013, 11, 21),), flow="arrival", sequence=one.name, waits_for=("dark",),
              started=now, ended=now, report={"flow_run": "science Y"})  # fmt: skip
    store.runs.add(run)

    def served_by() -> str:
        (waits,) = StoreFacts(reader, Settings(), ()).read()[0].waiting
        assert (waits.sequence, waits.label, waits.instrument) == (one.name, "science Y", "F2")
        return waits.served_by

    assert served_by() == ""
    dark = add()
    first = served_by()
    assert str(dark.id) in first
    reject(store, dark, author="Ana", reason="a test")
    assert served_by() == ""
    reinstate(store, store.get(dark.id), author="Ana", reason="no")
    assert served_by() not in ("", first)
