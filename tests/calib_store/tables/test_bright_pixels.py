"""The bright pixels of raw frames in the store: which exposures a frame's persistence may come from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from calib_store.model.records import FrameRecord
from calib_store.store import Store
from calib_store.tables.database import Database
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.pixels.bright_pixels import BrightPixels

#: Frames of a store that has been in use for years.
MANY = 300_000


def bright(*pixels: int, charge: float = 1000.0) -> BrightPixels:
    return BrightPixels((8, 8), 60000.0, np.array(pixels, np.int64), np.full(len(pixels), charge, np.float32))


ONE = bright(3)


@pytest.fixture
def seen(
    store: Store, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts], epoch: datetime
) -> Callable[..., FrameRecord]:
    """Record a frame of 120 s that ended some seconds after the epoch."""

    def make(name: str, ended: float, *, pixels: BrightPixels | None = ONE, **changes: Any) -> FrameRecord:
        more = {k: changes.pop(k) for k in ("quarantine", "content") if k in changes}
        start = epoch + timedelta(seconds=ended - 120)
        one = record(name, facts=facts(name=name, started=start, **changes), bright=pixels, **more)
        store.frames.ingest([one])
        return one

    return make


@pytest.fixture
def before(store: Store, facts: Callable[..., FrameFacts], epoch: datetime) -> Callable[..., list[str]]:
    """Return the names of the exposures that ended in the seconds before the epoch."""

    def ask(seconds: float = 1000.0, **changes: Any) -> list[str]:
        found = store.frames.exposed(facts(**changes), epoch - timedelta(seconds=seconds), epoch)
        return [one.name for one in found]

    return ask


def test_exposures_within_the_horizon_are_found_in_order_of_time(
    seen: Callable[..., FrameRecord], before: Callable[..., list[str]]
) -> None:
    seen("S3.fits", -10)
    seen("S1.fits", -900)
    seen("S2.fits", -400, kind="flat", filter_id="H_G0803", target="Lamp")
    seen("S0.fits", -1001)
    seen("S4.fits", 5)
    seen("S5.fits", -300, pixels=bright())  # nothing bright in it
    seen("S6.fits", -300, pixels=None)  # not looked for
    assert before() == ["S1.fits", "S2.fits", "S3.fits"]
    assert before(500) == ["S2.fits", "S3.fits"]


def test_only_exposures_of_the_same_pixels_of_one_detector_are_found(
    seen: Callable[..., FrameRecord], before: Callable[..., list[str]]
) -> None:
    seen("S1.fits", -100)
    seen("S2.fits", -90, detector="110")
    seen("S3.fits", -80, section="[1:4,1:4]")
    seen("S4.fits", -70, binning="2x2")
    assert before() == ["S1.fits"]
    assert before(detector="110") == ["S2.fits"]
    assert before(section="[1:4,1:4]") == ["S3.fits"]


def test_frames_that_are_not_reduced_count_and_frames_without_a_time_do_not(
    seen: Callable[..., FrameRecord],
    before: Callable[..., list[str]],
    store: Store,
    record: Callable[..., FrameRecord],
) -> None:
    seen("S1.fits", -100, quarantine="70% of the pixels are saturated")
    seen("S2.fits", -90, observation_class="acq")
    store.frames.ingest([record("S3.fits", facts=None, quarantine="no time", bright=bright(3))])
    assert before() == ["S1.fits", "S2.fits"]
    frame = store.frames.get("S2.fits")
    assert frame is not None
    store.frames.set_status(frame, "rejected", author="ana", reason="clouds")
    assert before() == ["S1.fits", "S2.fits"]


def test_pixels_are_returned_as_recorded_and_replaced_when_a_frame_is_read_again(
    seen: Callable[..., FrameRecord], before: Callable[..., list[str]], store: Store
) -> None:
    one = seen("S1.fits", -100, pixels=bright(3, 9, charge=float("inf")))
    assert store.frames.bright_pixels([one.sha256, "0" * 64])[one.sha256].pixels.tolist() == [3, 9]
    assert np.isinf(store.frames.bright_pixels([one.sha256])[one.sha256].charge).all()
    seen("S1.fits", -100, pixels=None)  # known, so its pixels were not read
    assert store.frames.bright_pixels([one.sha256])[one.sha256].pixels.tolist() == [3, 9]
    seen("S1.fits", -100, pixels=bright(5))
    assert store.frames.bright_pixels([one.sha256])[one.sha256].pixels.tolist() == [5]
    seen("S1.fits", -100, pixels=bright())
    assert not store.frames.bright_pixels([one.sha256])[one.sha256].pixels.size


def test_as_of_an_earlier_time_only_what_was_known_then_counts(
    seen: Callable[..., FrameRecord], store: Store, facts: Callable[..., FrameFacts], epoch: datetime
) -> None:
    seen("S1.fits", -100)
    moment = store.database.run(lambda c: c.scalar(text("SELECT clock_timestamp()")))
    seen("S2.fits", -50)

    def names(as_of: datetime | None) -> list[str]:
        found = store.frames.exposed(facts(), epoch - timedelta(seconds=1000), epoch, as_of=as_of)
        return [one.name for one in found]

    assert names(moment) == ["S1.fits"]
    assert names(None) == ["S1.fits", "S2.fits"]


def test_a_damaged_record_is_named(seen: Callable[..., FrameRecord], store: Store, owner: Database) -> None:
    one = seen("S1.fits", -100)
    owner.run(lambda c: c.execute(text("UPDATE bright_pixels SET pixels = '\\x00'")))
    with pytest.raises(StoreError, match="bright pixels cannot be read"):
        store.frames.bright_pixels([one.sha256])


def test_an_index_finds_them_among_very_many(
    seen: Callable[..., FrameRecord], before: Callable[..., list[str]], owner: Database
) -> None:
    seen("S1.fits", -100)
    many = """
        WITH made AS (
            INSERT INTO frames (sha256, name, started, quarantine)
            SELECT lpad(to_hex(n), 64, '0'), 'R' || n, timestamptz '2001-01-01' + n * interval '80 s', 'none'
            FROM generate_series(1, :many) n RETURNING sha256, started
        )
        INSERT INTO bright_pixels
            (frame_sha256, instrument, detector, section, binning, started, ended, pixels)
        SELECT m.sha256, 'F2', '109', '[1:8,1:8]', '1x1', m.started, m.started + interval '60 s', b.pixels
        FROM made m CROSS JOIN (SELECT pixels FROM bright_pixels LIMIT 1) b
    """
    owner.run(lambda c: c.execute(text(many), {"many": MANY}))
    owner.run(lambda c: c.execute(text("ANALYZE bright_pixels")))
    plan = """
        EXPLAIN SELECT frame_sha256 FROM bright_pixels
        WHERE instrument = 'F2' AND detector = '109' AND section = '[1:8,1:8]' AND binning = '1x1'
          AND ended BETWEEN '2001-03-01 03:00' AND '2001-03-01 03:20'
    """
    lines = " ".join(owner.run(lambda c: c.execute(text(plan)).scalars().all()))
    assert "bright_pixels_ended_idx" in lines
    assert before() == ["S1.fits"]
