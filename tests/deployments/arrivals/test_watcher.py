"""The watcher: each whole frame into the store once, each new one announced at least once, whatever happens."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from pydantic import ValidationError
from raw_files import DARK, SCIENCE, SHAPE, raw_bytes
from sqlalchemy import func, select
from waiting import PATIENCE, wait_until

from calib_store.model.records import Frame, FrameRecord, IngestReport
from calib_store.store import Store
from calib_store.tables.schema import frame_files, frame_headers, frames
from deployments.arrivals import watcher as module
from deployments.arrivals.watcher import Watcher
from deployments.prefect_api.events import ARRIVED, COMPLETE, Event, EventsError, EventsRefusedError
from deployments.settings.watch_settings import WatchSettings
from imaging.errors import NirflowError, StoreError
from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import Sequence as Exposures

#: In the middle of the night of the frames.
NIGHT = datetime(2013, 11, 21, 4, tzinfo=UTC)


class Clock:
    """A clock that goes when it is told to."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


class Server:
    """Takes events, or does not."""

    def __init__(self) -> None:
        self.up = True
        self.events: list[Event] = []
        self.tries = 0

    def emit(self, events: Sequence[Event]) -> None:
        self.tries += 1
        if not self.up:
            raise EventsError("The server does not answer.")
        self.events += events

    @property
    def frames(self) -> Counter[str]:
        """How often each frame was announced."""
        return Counter(event.payload["frame"] for event in self.events)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


Watch = Callable[..., Watcher]


@pytest.fixture
def watch(store: Store, server: Server, clock: Clock, raw: Path, tmp_path: Path) -> Iterator[Watch]:
    """Make a watcher of the folder ``raw``; settings by keyword. One that was made before is closed."""
    made: list[Watcher] = []

    def make(*, send: Any = None, real_time: bool = False, now: datetime = NIGHT, **settings: Any) -> Watcher:
        while made:
            made.pop().close()
        values: dict[str, Any] = {"folders": (raw,), "check": CheckParameters(shape=SHAPE)}
        made.append(
            Watcher(
                WatchSettings(**(values | settings)), store, send or server.emit, data_dir=tmp_path / "data",
                threads=2, clock=time.monotonic if real_time else clock, now=lambda: now,
            )
        )  # fmt: skip
        return made[0]

    yield make
    while made:
        made.pop().close()


def rounds(watcher: Watcher, clock: Clock, n: int = 3) -> None:
    """Let enough time go by for every file that is whole to be taken in, and send the events."""
    for _ in range(n):
        clock.time += 60.0
        while watcher.step():
            pass
    watcher.deliver()


@contextmanager
def running(watcher: Watcher) -> Iterator[None]:
    stop = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            watcher.run(stop)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert errors == []


def in_store(store: Store) -> Counter[str]:
    """Names of the frames, with the number of frames of that name; not those in quarantine."""
    with store.database.engine.connect() as connection:
        return Counter(connection.scalars(select(frames.c.name).where(frames.c.quarantine.is_(None))))


def sha256s(store: Store) -> dict[str, str | None]:
    with store.database.engine.connect() as connection:
        return {
            row.sha256: row.quarantine
            for row in connection.execute(select(frames.c.sha256, frames.c.quarantine))
        }


def put(path: Path, content: bytes) -> Path:
    """Write aside and rename, as a good copying program does."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(content)
    return aside.rename(path)


@pytest.mark.parametrize(
    "wrong", [{"expected": {"arc": 3}}, {"expected": {"dark": 0}}, {"settle": -1}, {"fold": 1}]
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatchSettings(**wrong)


# --- what an event says --------------------------------------------------------------------------


def test_a_new_frame_is_noted_and_announced(
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
        (timedelta(hours=11), 0.0, "tonight"),  # before the next night begins, or the morning after
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


def test_the_frame_that_completes_a_sequence_says_so(
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


# --- what is news ---------------------------------------------------------------------------------


def test_copies_and_new_dates_are_no_news_and_new_content_is(
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


def test_a_frame_that_another_process_notes_meanwhile_is_news(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch()
    path = put(raw / "S1.fits", raw_bytes(1))
    watcher.step()
    looked = module.look_at(path, None, CheckParameters(shape=SHAPE), raw.parent)
    assert looked.record is not None
    store.frames.ingest([looked.record])
    rounds(watcher, clock)
    assert server.frames == Counter({"S1.fits": 1})


def test_what_is_no_frame_gives_no_event_and_a_line(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = raw_bytes(1)
    start = len(dead) - 2880
    put(raw / "dead.fits", dead[:start] + b"\0" * 2880)
    put(raw / "acquisition.fits", raw_bytes(2, SCIENCE, OBSCLASS="acq"))
    put(raw / "product.fits", raw_bytes(3, PROCDARK="2026-11-23T00:00:00"))
    put(raw / "instrument.fits", raw_bytes(4, INSTRUME="NIRI"))
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
        assert len([line for line in caplog.messages if f"{name}.fits takes no part" in line]) == 1, name
    caplog.clear()
    with caplog.at_level(logging.INFO):
        rounds(watch(check=CheckParameters(shape=(7, 7))), clock)
    assert not [line for line in caplog.messages if "dead" in line]  # known in quarantine


def test_garbage_and_pieces_are_warned_of_once(
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
    (whole,) = known(store, "piece")  # and nobody means the pieces any more
    assert whole.facts is not None
    assert whole.quarantine is None


def known(store: Store, *names: str) -> list[Frame]:
    return [frame for name in names for frame in store.frames.named(name)]


def test_a_file_that_stays_in_pieces_is_known_after_a_restart(
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


def test_a_trouble_that_passes_is_no_fault_of_the_file(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: after a restart the frame is taken in."""

    def fail(*_: Any) -> Any:
        raise MemoryError

    put(raw / "S1.fits", raw_bytes(1))
    with monkeypatch.context() as patch:
        patch.setattr(module, "look_at", fail)
        with watch() as first:
            rounds(first, clock, 60)
    assert sha256s(store) == {}
    rounds(watch(), clock)
    assert server.frames == Counter({"S1.fits": 1})


def test_a_frame_that_another_process_found_fit_stays_so(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    """A nightly run may do without the padding that the watcher waits for."""
    path = put(raw / "S1.fits", raw_bytes(1)[:-10])
    looked = module.look_at(path, None, CheckParameters(shape=SHAPE), raw.parent)
    assert looked.record is not None
    assert looked.record.quarantine is None
    watcher = watch()
    watcher.step()
    store.frames.ingest([looked.record])
    rounds(watcher, clock, 60)
    assert sha256s(store) == {looked.record.sha256: None}
    (frame,) = known(store, "S1")
    assert frame.facts is not None


def test_pieces_of_another_instruments_frames_are_passed_over(
    watch: Watch, store: Store, clock: Clock, raw: Path
) -> None:
    put(raw / "S1.fits", raw_bytes(1, INSTRUME="GMOS-S")[:-10])
    put(raw / "S2.fits", raw_bytes(2)[:-10])
    rounds(watch(), clock, 60)
    (mine,) = known(store, "S1", "S2")
    assert mine.name == "S2.fits"
    assert mine.facts is not None  # its headers are whole
    assert "padding" in str(mine.quarantine)


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # astropy's, of cards that make no sense
def test_no_header_however_garbled_ends_the_watch(
    watch: Watch, server: Server, clock: Clock, raw: Path
) -> None:
    dice = random.Random(3)
    whole = raw_bytes(1, SCIENCE)
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
        at = whole.rindex(card) + len(card)
        (raw / f"card{number}.fits").write_bytes(whole[:at] + value.rjust(20) + whole[at + 20 :])
    for number in range(80):
        content = bytearray(whole)
        for _ in range(dice.choice((1, 10, 100))):
            content[dice.randrange(len(content) - 2880)] = dice.randrange(256)
        (raw / f"bytes{number}.fits").write_bytes(content)
    put(raw / "good.fits", raw_bytes(2))
    rounds(watch(), clock, 6)
    assert server.frames["good.fits"] == 1


class UnheardOfError(Exception):
    """As a library might raise it."""


@pytest.mark.parametrize("where", ["lacking", "look_at"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_no_error_of_one_file_ends_the_watch(
    watch: Watch, server: Server, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, where: str, in_pieces: bool,
) -> None:  # fmt: skip
    original = getattr(module, where)
    tries: list[float] = []

    def fail(path: Path, *rest: Any) -> Any:
        if path.name == "S1.fits":
            tries.append(clock.time)
            raise UnheardOfError("of a new kind")
        return original(path, *rest)

    monkeypatch.setattr(module, where, fail)
    put(raw / "S1.fits", raw_bytes(1)[: -10 if in_pieces else None])
    put(raw / "S2.fits", raw_bytes(2))
    watcher = watch()
    for _ in range(100):
        clock.time += 1.0
        watcher.step()
    rounds(watcher, clock, 60)
    assert server.frames == Counter({"S2.fits": 1})
    told = [one for one in caplog.messages if "S1.fits" in one and "UnheardOfError: of a new kind" in one]
    assert len(told) == 1
    first = [later - earlier for earlier, later in itertools.pairwise(tries)][:4]
    assert in_pieces or first == [2.0, 4.0, 8.0, 16.0]


def tiled(content: bytes, stream: bytes) -> bytes:
    """A frame whose image is one tile with that stream."""
    tile = np.empty(1, object)
    tile[0] = np.frombuffer(stream, np.uint8)
    table = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", "1PB()", array=tile)])
    table.header.update(ZIMAGE=True, ZCMPTYPE="RICE_1", ZBITPIX=32, ZNAXIS=2)
    table.header.update({f"{card}{i}": SHAPE[2 - i] for card in ("ZNAXIS", "ZTILE") for i in (1, 2)})
    out = io.BytesIO()
    with fits.open(io.BytesIO(content)) as frame:
        fits.HDUList([frame[0], table]).writeto(out)
    return out.getvalue()


def test_a_damaged_tile_does_not_end_the_watch(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    put(raw / "S1.fits.fz", tiled(raw_bytes(1), b"\xff" * 100))
    put(raw / "S2.fits", raw_bytes(2))
    rounds(watch(), clock)
    assert server.frames == Counter({"S2.fits": 1})
    (damaged,) = known(store, "S1.fits")
    assert "cannot be unpacked" in str(damaged.quarantine)


def test_a_file_that_grows_is_taken_in_when_it_is_whole(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    watcher = watch(settle=1.0)
    whole = raw_bytes(1)
    path = raw / "S1.fits"
    for length in range(0, len(whole), 1500):
        path.write_bytes(whole[:length])
        os.utime(path, (5, 5))  # a date that does not tell
        for _ in range(2):
            clock.time += 1.0
            watcher.step()
    assert sha256s(store) == {}
    path.write_bytes(whole)
    rounds(watcher, clock)
    assert server.frames == Counter({"S1.fits": 1})


def test_a_file_that_changes_while_it_is_looked_at_is_looked_at_again(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(raw / "S1.fits", raw_bytes(1))
    watcher = watch()
    original = module.look_at

    def look_at(*arguments: Any) -> Any:
        looked = original(*arguments)
        monkeypatch.undo()
        put(path, raw_bytes(2))
        return looked

    monkeypatch.setattr(module, "look_at", look_at)
    rounds(watcher, clock, 5)
    assert len(sha256s(store)) == 1
    assert store.frames.header_of(next(iter(sha256s(store))))["DATALAB"] == "label-000002"
    assert server.frames == Counter({"S1.fits": 1})


@pytest.mark.parametrize("where", ["lacking", "look_at", "permission"])
def test_a_file_that_cannot_be_read_is_tried_until_it_can(
    watch: Watch, server: Server, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from tasks.support import examine as look

    target, name = (look, "read_headers") if where == "permission" else (module, where)
    original = getattr(target, name)
    tries: list[float] = []

    def fail(path: Path, *rest: Any) -> Any:
        if path.name == "S1.fits" and len(tries) < 4:
            tries.append(clock.time)
            error = PermissionError(13, "Permission denied")
            if where == "permission":
                from imaging.io.compressed import reading

                with reading(path):
                    raise error
            raise error
        return original(path, *rest)

    monkeypatch.setattr(target, name, fail)
    put(raw / "S1.fits", raw_bytes(1))
    put(raw / "S2.fits", raw_bytes(2))
    watcher = watch()
    for _ in range(40):
        clock.time += 1.0
        watcher.step()
    watcher.deliver()
    assert server.frames == Counter({"S1.fits": 1, "S2.fits": 1})
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == [2.0, 4.0, 8.0]


def test_events_wait_for_the_server_and_frames_do_not(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path
) -> None:
    server.up = False
    watcher = watch()
    for number in range(5):
        put(raw / f"S{number}.fits", raw_bytes(number))
        rounds(watcher, clock)
    assert server.tries == 5
    assert server.events == []
    assert len(in_store(store)) == 5
    put(raw / "S5.fits", raw_bytes(5))
    watcher = watch()  # a new process: the journal is what remembers
    rounds(watcher, clock)
    assert server.events == []
    server.up = True
    assert watcher.deliver()
    assert server.frames == Counter({f"S{number}.fits": 1 for number in range(6)})
    assert watcher.deliver()
    rounds(watch(), clock)
    assert len(server.events) == 6


class PowerCutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["before ingest", "after ingest", "before sending", "after sending"])
def test_a_process_that_ends_anywhere_loses_nothing(
    watch: Watch,
    server: Server,
    store: Store,
    clock: Clock,
    raw: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    original = store.frames.ingest

    def ingest(records: Sequence[FrameRecord]) -> IngestReport:
        if point == "after ingest":
            original(records)
        raise PowerCutError

    def send(events: Sequence[Event]) -> None:
        if point == "after sending":
            server.emit(events)
        raise PowerCutError

    if "ingest" in point:
        monkeypatch.setattr(store.frames, "ingest", ingest)
    names = [f"S{number}.fits" for number in range(3)]
    for number, name in enumerate(names):
        put(raw / name, raw_bytes(number))
    watcher = watch(send=send)
    with pytest.raises(PowerCutError):
        rounds(watcher, clock)
    monkeypatch.undo()
    watcher = watch()
    rounds(watcher, clock)
    assert in_store(store) == Counter(names)
    assert set(server.frames) == set(names)
    times = 2 if point == "after sending" else 1
    assert set(server.frames.values()) == {times}
    assert len({event.id for event in server.events}) == 3
    assert list((raw.parent / "data" / "watcher").glob("*.json")) == []


def test_an_event_of_a_frame_that_is_gone_before_it_was_noted_is_dropped(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ingest(_: Sequence[FrameRecord]) -> IngestReport:
        raise PowerCutError

    monkeypatch.setattr(store.frames, "ingest", ingest)
    path = put(raw / "S1.fits", raw_bytes(1))
    with pytest.raises(PowerCutError):
        rounds(watch(), clock)
    monkeypatch.undo()
    path.unlink()
    rounds(watch(), clock)
    assert server.events == []
    assert list((raw.parent / "data" / "watcher").glob("*.json")) == []


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("method", ["ingest", "known_files", "with_sha256s", "facts_of"])
def test_a_database_that_is_away_is_waited_for(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
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
            watcher.deliver()
    assert away[0] == 6
    assert caplog.messages
    assert in_store(store) == Counter({"S1.fits": 1, "S2.fits": 1})
    assert set(server.frames) == {"S1.fits", "S2.fits"}


def test_a_record_that_the_store_cannot_take_does_not_keep_the_others_out(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
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
    assert server.frames == in_store(store) == Counter({f"S{n}.fits": 1 for n in range(8) if n != 3})


def test_events_that_the_server_refuses_keep_none_back(
    watch: Watch, server: Server, clock: Clock, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def send(events: Sequence[Event]) -> None:
        if any(event.payload["frame"] == "S1.fits" for event in events):
            raise EventsRefusedError("What is this?")
        server.emit(events)

    watcher = watch(send=send)
    for number in range(3):
        put(raw / f"S{number}.fits", raw_bytes(number))
        rounds(watcher, clock)
    assert set(server.frames) == {"S0.fits", "S2.fits"}
    assert "What is this?" in caplog.text
    rounds(watch(), clock)
    assert set(server.frames) == {"S0.fits", "S1.fits", "S2.fits"}


def test_a_journal_that_is_damaged_is_told_and_put_aside(
    watch: Watch, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = raw.parent / "data" / "watcher"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text('{"announcements": [')
    watch()
    assert "1.damaged" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == ["1.damaged", "lock"]


def test_there_is_one_watcher_a_data_folder(watch: Watch, store: Store, server: Server, raw: Path) -> None:
    watcher = watch()
    with pytest.raises(NirflowError, match="Another watcher"):
        Watcher(WatchSettings(), store, server.emit, data_dir=raw.parent / "data")
    watcher.close()
    Watcher(WatchSettings(), store, server.emit, data_dir=raw.parent / "data").close()


def test_an_error_of_the_program_ends_the_watch(
    watch: Watch, server: Server, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(_: Sequence[Event]) -> None:
        raise AttributeError("a mistake")

    put(raw / "S1.fits", raw_bytes(1))
    watcher = watch(send=send, real_time=True, settle=0.01)
    with pytest.raises(AttributeError, match="a mistake"):
        watcher.run(threading.Event())


# --- start and scale ------------------------------------------------------------------------------


def test_known_files_are_not_opened_again(
    watch: Watch, server: Server, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    n = 500
    for number in range(n):
        path = raw / f"S{number}.fits"
        path.write_bytes(b"known")
    records = []
    for path in raw.iterdir():
        about = path.stat()
        records.append(record(path.name, path=path, size=about.st_size, mtime_ns=about.st_mtime_ns))
    store.frames.ingest(records)
    opened: list[Path] = []
    monkeypatch.setattr(module, "lacking", lambda path, _: opened.append(path))
    put(raw / "new.fits", raw_bytes(1))
    watcher = watch()
    rounds(watcher, clock)
    assert [path.name for path in opened] == ["new.fits"]
    assert set(server.frames) == {"new.fits"}


def test_the_process_does_not_import_prefect() -> None:
    script = """
        import sys, deployments.arrivals.watcher, deployments.prefect_api.events
        print([name for name in ("prefect", "fastapi", "numba", "scipy") if name in sys.modules])
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_it_polls_where_it_is_told_to(
    watch: Watch, server: Server, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: object, **__: object) -> None:
        raise AssertionError("the kernel was asked")

    monkeypatch.setattr("deployments.arrivals.folders.watch", no_kernel)
    with running(watch(polling=True, poll=0.05, settle=0.1, rescan=1000.0, real_time=True)):
        put(raw / "S1.fits", raw_bytes(1))
        (raw / "sub").mkdir()
        put(raw / "sub" / "S2.fits", raw_bytes(2))
        assert wait_until(lambda: len(server.frames) == 2)


def test_the_kernel_tells_of_new_files_and_folders(watch: Watch, server: Server, raw: Path) -> None:
    put(raw / "S0.fits", raw_bytes(0))
    with running(watch(poll=1000.0, settle=0.1, rescan=1000.0, real_time=True)):
        assert wait_until(lambda: len(server.frames) == 1)
        time.sleep(1.2)  # the watch has begun, and with it came the last scan
        put(raw / "S1.fits", raw_bytes(1))
        aside = raw.parent / "night"
        (aside / "deep").mkdir(parents=True)
        put(aside / "deep" / "S2.fits", raw_bytes(2))
        aside.rename(raw / "night")
        assert wait_until(lambda: len(server.frames) == 3)
        put(raw / "night" / "deep" / "S3.fits", raw_bytes(3))
        (raw / "S4.fits").write_bytes(raw_bytes(4)[:3000])
        assert wait_until(lambda: len(server.frames) == 4)
        (raw / "S4.fits").write_bytes(raw_bytes(4))
        assert wait_until(lambda: len(server.frames) == 5)


def test_a_notice_that_is_lost_is_made_good_by_the_next_scan(
    watch: Watch, server: Server, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch(rescan=60.0)
    monkeypatch.setattr(watcher._notices, "seeing", True)
    watcher.step()
    put(raw / "S1.fits", raw_bytes(1))
    for _ in range(59):
        clock.time += 1.0
        watcher.step()
    watcher.deliver()
    assert server.events == []
    clock.time += 1.0
    watcher.step()
    clock.time += 1.0
    watcher.step()
    watcher.deliver()
    assert len(server.events) == 1


def test_hostile_names(watch: Watch, server: Server, store: Store, raw: Path) -> None:
    names = [
        "new\nline.fits", "bad\udcff\udcfe.fits", "x" * 250 + ".fits", " .fits", "a'b\"c\\.fits", "%s{}.fits",
        "é\u202e.fits", "-rf.fits", "tab\t.fits.gz",
    ]  # fmt: skip
    watcher = watch(poll=0.2, settle=0.1, rescan=1000.0, real_time=True)
    with running(watcher):
        (raw / "loop").symlink_to(raw)
        (raw / "self.fits").symlink_to("self.fits")
        deep = raw
        for _ in range(12):
            deep /= "y" * 250
        deep.mkdir(parents=True)
        for number, name in enumerate(names):
            content = raw_bytes(number)
            (raw / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        (deep / "deep.fits").write_bytes(raw_bytes(99))
        assert wait_until(lambda: len(server.frames) == len(names) + 1)
    assert set(in_store(store).values()) == {1}
    assert len(in_store(store)) == len(names) + 1
    for event in server.events:
        event.model_dump_json().encode()
    assert "bad\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.fits" in server.frames


def test_a_thousand_files_at_once_with_all_that_goes_wrong(
    watch: Watch, server: Server, store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good files by renaming, by growing and compressed; copies, a file written anew, rubbish; two restarts."""
    n = 1000
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.2)
    dice = random.Random(7)
    settings: dict[str, Any] = {"poll": 0.5, "settle": 0.2, "rescan": 5.0, "real_time": True}
    numbers = list(range(n))
    dice.shuffle(numbers)
    wanted: set[str] = set()
    pieces: list[tuple[Path, bytes]] = []

    def drop(numbers: Sequence[int]) -> None:
        for number in numbers:
            content = raw_bytes(number, SCIENCE if number % 3 else DARK)
            path = raw / f"night{number % 4}" / f"S{number:04d}.fits"
            path.parent.mkdir(exist_ok=True)
            match number % 10:
                case 0 | 1 | 2:
                    put(path, content)
                case 3:
                    path.write_bytes(content[: dice.randrange(len(content))])
                    pieces.append((path, content))
                case 4:
                    (path.with_suffix(".fits.gz")).write_bytes(gzip.compress(content))
                case 5:
                    packed = bz2.compress(content)
                    path = path.with_suffix(".fits.bz2")
                    path.write_bytes(packed[: dice.randrange(len(packed))])
                    pieces.append((path, packed))
                case 6:
                    path.write_bytes(content)
                    put(path.with_name(f"copy{number}.fits"), content)
                case 7:
                    path.write_bytes(dice.randbytes(3000))
                    path.with_name(f"{path.name}.tmp").write_bytes(content)
                    continue
                case _:
                    path.write_bytes(content)
            wanted.add(f"label-{number:06d}")

    with running(watch(**settings)):
        drop(numbers[:400])
        wait_until(lambda: len(server.frames) > 50)
    server.up = False
    with running(watch(**settings)):
        drop(numbers[400:800])
        wait_until(lambda: len(in_store(store)) > 300)
    taken = in_store(store)
    rewritten = [path for path in sorted(raw.rglob("S*8.fits")) if path.name in taken][:20]
    assert rewritten
    with running(watch(**settings)):
        drop(numbers[800:])
        for path, content in pieces:
            path.write_bytes(content)
        for serial, path in enumerate(rewritten):
            put(path, raw_bytes(5000 + serial))
            wanted.add(f"label-{5000 + serial:06d}")
        wait_until(lambda: len(in_store(store)) > 600)
        server.up = True

        def all_there() -> bool:
            return len(sha256s(store)) >= len(wanted) and len({e.id for e in server.events}) >= len(wanted)

        wait_until(all_there, "all frames and events")
    with store.database.engine.connect() as connection:
        labels = Counter(header["DATALAB"] for header in connection.scalars(select(frame_headers.c.header)))
    assert set(labels) == wanted
    assert set(labels.values()) == {1}
    assert not [reason for reason in sha256s(store).values() if reason]
    announced = server.frames
    by_name = in_store(store)
    for name, times in by_name.items():
        twin = name.replace("S0", "copy") if name.startswith("S") else name
        assert announced[name] + announced[twin] >= times, name
    assert {event.payload["frame"] for event in server.events} <= set(by_name) | {
        f"copy{number}.fits" for number in numbers
    }
