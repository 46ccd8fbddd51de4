"""The watcher with problems: no file, header, server or database ends it or loses a frame."""

from __future__ import annotations

import io
import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from raw_files import SCIENCE, SHAPE, raw_bytes
from watched_folder import Clock, Watch, in_store, known, put, rounds, sha256s

from calib_store.model.records import FrameRecord, IngestReport
from calib_store.store import Store
from deployments.arrivals import watcher as module
from deployments.arrivals.watcher import Watcher
from deployments.settings.watch_settings import WatchSettings
from imaging.errors import NirflowError, StoreError

# --- problems -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # astropy's, about invalid cards
def test_no_garbled_header_ends_the_watcher(watch: Watch, store: Store, clock: Clock, raw: Path) -> None:
    dice = random.Random(3)
    complete = raw_bytes(1, SCIENCE)
    garbled = (
        b"NAXIS1  = ",
        b"NAXIS   = ",
        b"BITPIX  = ",
        b"EXPTIME = ",
        b"PCOUNT  = ",
        b"XTENSION= ",
        b"COADDS  = ",
    )
    values = (b"-1", b"9" * 19, b"1e300", b"'x", b"T", b"\xff", b"NaN", b"", b"2.5", b"65536")
    for number, (card, value) in enumerate(itertools.product(garbled, values)):
        at = complete.rindex(card) + len(card)
        (raw / f"card{number}.fits").write_bytes(complete[:at] + value.rjust(20) + complete[at + 20 :])
    for number in range(80):
        content = bytearray(complete)
        for _ in range(dice.choice((1, 10, 100))):
            content[dice.randrange(len(content) - 2880)] = dice.randrange(256)
        (raw / f"bytes{number}.fits").write_bytes(content)
    put(raw / "good.fits", raw_bytes(2))
    rounds(watch(), clock, 6)
    assert in_store(store)["good.fits"] == 1


class UnheardOfError(Exception):
    """An error as a library might raise it."""


@pytest.mark.parametrize("where", ["why_incomplete", "examine"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_no_error_of_one_file_ends_the_watcher(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, where: str, in_pieces: bool,
) -> None:  # fmt: skip
    original = getattr(module, where)
    tries: list[float] = []

    def fail(path: Path, *rest: Any, **keywords: Any) -> Any:
        if path.name == "S1.fits":
            tries.append(clock.time)
            raise UnheardOfError("of a new kind")
        return original(path, *rest, **keywords)

    monkeypatch.setattr(module, where, fail)
    put(raw / "S1.fits", raw_bytes(1)[: -10 if in_pieces else None])
    put(raw / "S2.fits", raw_bytes(2))
    watcher = watch()
    for _ in range(100):
        clock.time += 1.0
        watcher.step()
    rounds(watcher, clock, 60)
    assert in_store(store) == Counter({"S2.fits": 1})
    logged = [one for one in caplog.messages if "S1.fits" in one and "UnheardOfError: of a new kind" in one]
    assert len(logged) == 1
    first = [later - earlier for earlier, later in itertools.pairwise(tries)][:4]
    assert in_pieces or first == [2.0, 4.0, 8.0, 16.0]


def tiled(content: bytes, stream: bytes) -> bytes:
    """Write a frame whose image is one tile with that stream."""
    tile = np.empty(1, object)
    tile[0] = np.frombuffer(stream, np.uint8)
    table = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", "1PB()", array=tile)])
    table.header.update(ZIMAGE=True, ZCMPTYPE="RICE_1", ZBITPIX=32, ZNAXIS=2)
    table.header.update({f"{card}{i}": SHAPE[2 - i] for card in ("ZNAXIS", "ZTILE") for i in (1, 2)})
    out = io.BytesIO()
    with fits.open(io.BytesIO(content)) as frame:
        fits.HDUList([frame[0], table]).writeto(out)
    return out.getvalue()


def test_a_damaged_tile_does_not_end_the_watcher(watch: Watch, store: Store, clock: Clock, raw: Path) -> None:
    put(raw / "S1.fits.fz", tiled(raw_bytes(1), b"\xff" * 100))
    put(raw / "S2.fits", raw_bytes(2))
    rounds(watch(), clock)
    assert in_store(store) == Counter({"S2.fits": 1})
    (damaged,) = known(store, "S1.fits")
    assert "cannot be unpacked" in str(damaged.quarantine)


def test_a_growing_file_is_recorded_when_it_is_complete(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch(settle=1.0)
    complete = raw_bytes(1)
    path = raw / "S1.fits"
    for length in range(0, len(complete), 1500):
        path.write_bytes(complete[:length])
        os.utime(path, (5, 5))  # a date that shows no change
        for _ in range(2):
            clock.time += 1.0
            watcher.step()
    assert sha256s(store) == {}
    path.write_bytes(complete)
    rounds(watcher, clock)
    assert in_store(store) == Counter({"S1.fits": 1})


def test_a_file_that_changes_during_its_examination_is_examined_again(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(raw / "S1.fits", raw_bytes(1))
    watcher = watch()
    original = module.examine

    def examine(*arguments: Any, **keywords: Any) -> Any:
        looked = original(*arguments, **keywords)
        monkeypatch.undo()
        put(path, raw_bytes(2))
        return looked

    monkeypatch.setattr(module, "examine", examine)
    rounds(watcher, clock, 5)
    assert len(sha256s(store)) == 1
    assert store.frames.header_of(next(iter(sha256s(store))))["DATALAB"] == "label-000002"
    assert in_store(store) == Counter({"S1.fits": 1})


@pytest.mark.parametrize("where", ["why_incomplete", "examine", "permission"])
def test_an_unreadable_file_is_tried_until_it_can_be_read(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from imaging.io import examine as look

    target, name = (look, "read_layout") if where == "permission" else (module, where)
    original = getattr(target, name)
    tries: list[float] = []

    def fail(path: Path, *rest: Any, **keywords: Any) -> Any:
        if path.name == "S1.fits" and len(tries) < 4:
            tries.append(clock.time)
            error = PermissionError(13, "Permission denied")
            if where == "permission":
                from imaging.io.compressed import reading

                with reading(path):
                    raise error
            raise error
        return original(path, *rest, **keywords)

    monkeypatch.setattr(target, name, fail)
    put(raw / "S1.fits", raw_bytes(1))
    put(raw / "S2.fits", raw_bytes(2))
    watcher = watch()
    for _ in range(40):
        clock.time += 1.0
        watcher.step()
    assert in_store(store) == Counter({"S1.fits": 1, "S2.fits": 1})
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == [2.0, 4.0, 8.0]


class PowerCutError(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("after", [False, True])
def test_a_process_that_ends_at_any_point_loses_nothing(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    original = store.frames.ingest

    def ingest(records: Sequence[FrameRecord]) -> IngestReport:
        if after:
            original(records)
        raise PowerCutError

    monkeypatch.setattr(store.frames, "ingest", ingest)
    names = [f"S{number}.fits" for number in range(3)]
    for number, name in enumerate(names):
        put(raw / name, raw_bytes(number))
    with pytest.raises(PowerCutError):
        rounds(watch(), clock)
    monkeypatch.undo()
    rounds(watch(), clock)
    assert in_store(store) == Counter(names)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("method", ["ingest", "known_files"])
def test_a_database_that_is_down_is_waited_for(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
    method: str, committed: bool, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original = getattr(store.frames, method)
    away = [0]

    def call(argument: Any) -> Any:
        if away[0] < 6:
            away[0] += 1
            if committed:
                original(argument)
            raise StoreError("The database does not answer.")
        return original(argument)

    watcher = watch()
    put(raw / "S1.fits", raw_bytes(1))
    put(raw / "S2.fits", raw_bytes(2))
    monkeypatch.setattr(store.frames, method, call)
    with caplog.at_level(logging.ERROR):
        for _ in range(40):
            clock.time += 5.0
            watcher.step()
    assert away[0] == 6
    assert caplog.messages
    assert in_store(store) == Counter({"S1.fits": 1, "S2.fits": 1})


def test_a_record_that_the_store_refuses_does_not_block_others(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = store.frames.ingest

    def ingest(records: Sequence[FrameRecord]) -> IngestReport:
        if any(record.path.name == "S3.fits" for record in records):
            raise StoreError("The database gave up: index row is too long.")
        return original(records)

    monkeypatch.setattr(store.frames, "ingest", ingest)
    for number in range(8):
        put(raw / f"S{number}.fits", raw_bytes(number))
    rounds(watch(), clock)
    assert in_store(store) == Counter({f"S{n}.fits": 1 for n in range(8) if n != 3})


def test_events_that_an_earlier_version_left_are_removed(watch: Watch, raw: Path) -> None:
    folder = raw.parent / "data" / "watcher"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text('{"announcements": [')
    watch()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_data_folder_has_one_watcher(watch: Watch, store: Store, raw: Path) -> None:
    watcher = watch()
    with pytest.raises(NirflowError, match="Another watcher"):
        Watcher(WatchSettings(), store, data_dir=raw.parent / "data")
    watcher.close()
    Watcher(WatchSettings(), store, data_dir=raw.parent / "data").close()
