"""Frames by the time at which the store first had them, and those in quarantine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from calib_store.model.records import FrameRecord, Run
from calib_store.model.settings import StoreSettings
from calib_store.reader import Reader
from calib_store.store import Store


def test_a_reader_sees_arrivals_quarantine_and_runs(
    store: Store, store_settings: StoreSettings, record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    good = record("good.fits")
    store.frames.ingest([good, record("bad.fits", facts=None, quarantine="it ends early")])
    store.frames.ingest([record("again.fits", "part", facts=None, quarantine="it ends early")])
    store.frames.ingest([record("again.fits", "whole", path=tmp_path / "copy" / "again.fits")])
    ended = datetime.now(UTC)
    run = Run(id=uuid4(), nights=(date(2013, 11, 21),), flow="arrival", sequence="S", waits_for=("dark",),
              started=before, ended=ended, report={"flow_run": "science Y"})  # fmt: skip
    store.runs.add(run)
    reader = Reader(store_settings)
    try:
        arrived = reader.arrived(before, 10)
        assert [(one.facts.name, one.paths) for one in arrived] == [
            ("again.fits", (tmp_path / "copy" / "again.fits",)), ("good.fits", (good.path,))
        ]  # fmt: skip
        assert len(reader.arrived(before, 1)) == 1
        assert reader.arrived(ended + timedelta(seconds=5), 10) == ()
        number, (bad,) = reader.quarantined(10)
        assert (number, bad.name, bad.reason) == (1, "bad.fits", "it ends early")
        assert reader.quarantined(0) == (1, ())
        (times,) = reader.runs_since(ended)
        assert (times.sequence, times.name, times.waits_for) == ("S", "science Y", ("dark",))
        assert reader.runs_since(ended + timedelta(seconds=1)) == ()
    finally:
        reader.close()
