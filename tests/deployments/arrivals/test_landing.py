"""The recognition of complete frames, and the time to wait for them."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from raw_files import raw_bytes

from deployments.arrivals.landing import Landings, signature, why_incomplete
from imaging.frames.file_names import is_frame_name
from imaging.io.fitsfile import BLOCK

COMPLETE = raw_bytes()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.bz2", "a.fits.fz", "a b\n.fits", "é.fits"])
def test_names_of_frames(name: str) -> None:
    assert is_frame_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.fits.part",
        "a.fits.tmp",
        "a.fits.filepart",
        ".a.fits",
        "a.fits~",
        "~a.fits",
        ".a.fits.Ab12Cd",
        "a.txt",
        "a",
    ],
)
def test_names_of_unfinished_files(name: str) -> None:
    assert not is_frame_name(name)


def tiles() -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 9000, (100, 100), dtype=np.int32)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels)]).writeto(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.fits", COMPLETE),
        ("a.fits.gz", gzip.compress(COMPLETE)),
        ("a.fits.bz2", bz2.compress(COMPLETE)),
        ("a.fits.fz", tiles()),
    ],
)
def test_a_file_is_complete_at_its_last_byte_and_not_before(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert why_incomplete(path, tmp_path / "unpacked") is None
    size = len(content)
    lengths = {0, 1, 79, 80, BLOCK - 1, *range(BLOCK, size, BLOCK), size // 2, size - 1, size - 8}
    for length in sorted(length for length in lengths if 0 <= length < size):
        path.write_bytes(content[:length])
        assert why_incomplete(path, tmp_path / "unpacked"), f"{length} of {size} bytes"
    path.write_bytes(content)
    assert why_incomplete(path, tmp_path / "unpacked") is None


def test_a_frame_truncated_before_compression_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(COMPLETE[:-BLOCK]))
    assert "missing" in str(why_incomplete(path, tmp_path / "unpacked"))


def test_reserved_space_and_headers_alone_are_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"\0" * len(COMPLETE))
    assert why_incomplete(path, tmp_path)
    end = COMPLETE.index(b"XTENSION")
    path.write_bytes(COMPLETE[:end])
    assert why_incomplete(path, tmp_path) == "it has headers but no data"


def test_data_after_the_last_hdu_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(COMPLETE + b"\0" * BLOCK)
    assert why_incomplete(path, tmp_path) is None


def begin(landings: Landings, path: Path) -> None:
    found = signature(str(path))
    assert found is not None
    assert landings.is_new(str(path), found)
    landings.add(str(path), found)


@pytest.mark.parametrize("age", [-400 * 86400, 0, 400 * 86400])
def test_a_file_settles_by_our_clock_regardless_of_its_date(tmp_path: Path, clock: Clock, age: float) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"some")
    moment = time.time() - age
    os.utime(path, (moment, moment))
    landings = Landings(1.0, 900.0, clock)
    begin(landings, path)
    assert landings.settled() == []
    clock.time += 0.9
    assert landings.settled() == []
    clock.time += 0.1
    assert landings.settled() == [str(path)]
    assert landings.settled() == [str(path)]  # until it is processed
    was = landings.seen(str(path))
    landings.done(str(path), was)
    assert landings.settled() == []
    assert not landings.is_new(str(path), was)
    path.write_bytes(b"more bytes")
    now = signature(str(path))
    assert now is not None
    assert landings.is_new(str(path), now)


@pytest.mark.parametrize("change", ["size", "date"])
def test_each_change_restarts_the_wait(tmp_path: Path, clock: Clock, change: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"")
    landings = Landings(1.0, 900.0, clock)
    begin(landings, path)
    for turn in range(3):
        if change == "size":
            path.write_bytes(b"x" * (turn + 1))
            os.utime(path, ns=(5, 5))
        else:
            os.utime(path, ns=(turn + 1, turn + 1))
        clock.time += 1.0
        assert landings.settled() == []
    clock.time += 1.0
    assert landings.settled() == [str(path)]


def test_a_deleted_file_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"some")
    landings = Landings(1.0, 900.0, clock)
    begin(landings, path)
    path.rename(tmp_path / "b.fits")
    clock.time += 1.0
    assert landings.settled() == []
    assert len(landings) == 0


def test_the_latest_of_several_comes_first(tmp_path: Path, clock: Clock) -> None:
    landings = Landings(1.0, 900.0, clock)
    for number in (2, 9, 4):
        path = tmp_path / f"{number}.fits"
        path.write_bytes(b"some")
        later = path.stat().st_ctime_ns + number * 10**9  # a date before its last change would not count
        os.utime(path, ns=(later, later))
        begin(landings, path)
    clock.time += 1.0
    assert [Path(path).stem for path in landings.settled()] == ["9", "4", "2"]


def test_a_file_that_stays_incomplete_is_warned_of_once_and_still_checked(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"some")
    landings = Landings(1.0, 100.0, clock)
    begin(landings, path)
    warned: list[float] = []
    looks: list[float] = []
    began = clock.time
    while clock.time < began + 1000:
        clock.time += 0.5
        for found in landings.settled():
            looks.append(clock.time - began)
            if landings.put_off(found, "it ends early"):
                warned.append(clock.time - began)
    assert len(warned) == 1
    assert 100 <= warned[0] <= 200
    pauses = np.diff(looks)
    assert pauses[0] < 3
    assert pauses.max() <= 100.5
    assert 12 < len(looks) < 20
    path.write_bytes(b"some more")
    now = signature(str(path))
    assert now is not None
    assert not landings.is_new(str(path), now)  # it is arriving already, and is checked at once
    assert landings.settled() == []
    clock.time += 1.0
    assert landings.settled() == [str(path)]
    assert not landings.put_off(str(path), "it ends early")


def test_a_file_that_was_incomplete_for_long_before_is_warned_of_at_once(
    tmp_path: Path, clock: Clock
) -> None:
    """An earlier watcher may have seen it for a quarter of an hour: its date shows that."""
    path = tmp_path / "a.fits"
    path.write_bytes(b"some")
    age = [99.0]
    landings = Landings(1.0, 100.0, clock, lambda: path.stat().st_ctime + age[0])
    begin(landings, path)
    clock.time += 1.0
    assert landings.settled() == [str(path)]
    assert not landings.put_off(str(path), "it ends early")
    (listed,) = landings.listed()
    assert (listed.path, listed.size, listed.reason) == (str(path), 4, "it ends early")
    age[0] = 101.0
    assert landings.put_off(str(path), "it ends early")


def test_a_file_that_unpacks_to_more_than_any_frame_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused at the first examination, and not unpacked again and again."""
    monkeypatch.setattr("imaging.io.announced.frame_bytes", lambda: len(COMPLETE) - BLOCK)
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(COMPLETE))
    assert why_incomplete(path, tmp_path / "unpacked") is None
    assert list((tmp_path / "unpacked").iterdir()) == []
