"""Compressed raw frames: unpacked once, damaged, or with no room."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_files import facts_of
from raw_forms import WriteRaw, compressed

from imaging.errors import FrameError, NirflowError
from imaging.io.raw_file import digest, open_raw, read_headers, unpack


@pytest.mark.parametrize("form", [".gz", ".bz2", ".xz", ".fz"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_streams(write_raw: WriteRaw, tmp_path: Path, form: str, damage: str) -> None:
    packed = compressed(write_raw(data=np.random.default_rng(1).integers(0, 999, (300, 300), np.int32)), form)
    data = bytearray(packed.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif form == ".fz":
        data[: len(data) // 2] = bytes(len(data) // 2)
    else:
        data[len(data) // 2] ^= 0x55
    packed.write_bytes(data)
    for attempt in (lambda: unpack(packed, tmp_path / "u"), lambda: open_raw(packed, shape=None)):
        with pytest.raises(FrameError, match="S20131121S0075") as caught:
            attempt()
        assert "again" in caught.value.remedy
    assert not [p for p in (tmp_path / "u").iterdir() if p.suffix != ".json"]


def test_unpacking_leaves_a_plain_file_where_it_is(write_raw: WriteRaw, tmp_path: Path) -> None:
    path = write_raw()
    assert unpack(path, tmp_path / "u") == (path, digest(path))
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize("form", [".gz", ".bz2", ".xz"])
def test_unpacking(write_raw: WriteRaw, tmp_path: Path, form: str) -> None:
    plain = write_raw()
    path, sha256 = unpack(compressed(plain, form), tmp_path / "u")
    assert path == tmp_path / "u" / f"{sha256}.fits"
    assert path.read_bytes() == plain.read_bytes()
    assert open_raw(path, name="S20131121S0075.fits.bz2", shape=None).name == "S20131121S0075.fits"


def test_the_same_bytes_are_unpacked_once(write_raw: WriteRaw, tmp_path: Path, monkeypatch: Any) -> None:
    packed = compressed(write_raw(), ".bz2")
    first = unpack(packed, tmp_path / "u")
    copy = tmp_path / "other_name.fits.bz2"
    copy.write_bytes(packed.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("imaging.io.compressed.bz2.open", lambda *_: pytest.fail("unpacked again"))
        assert unpack(copy, tmp_path / "u") == first
    first[0].unlink()
    assert unpack(copy, tmp_path / "u") == first
    os.truncate(first[0], 100)
    assert unpack(copy, tmp_path / "u") == first
    assert first[0].stat().st_size > 100


def test_unpacking_at_the_same_time(write_raw: WriteRaw, tmp_path: Path) -> None:
    packed = compressed(write_raw(), ".bz2")
    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(lambda _: unpack(packed, tmp_path / "u"), range(24)))
    assert len(results) == 1
    path, sha256 = results.pop()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert sorted(p.suffix for p in (tmp_path / "u").iterdir()) == [".fits", ".json"]


def test_no_room_to_unpack(write_raw: WriteRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = compressed(write_raw(), ".gz")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("imaging.io.compressed.os.fsync", full)
    with pytest.raises(NirflowError, match="No space left") as caught:
        unpack(packed, tmp_path / "u")
    assert not isinstance(caught.value, FrameError), "it is not the frame's fault"
    assert list((tmp_path / "u").iterdir()) == []


def test_nowhere_to_unpack(write_raw: WriteRaw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NirflowError, match="Could not write to"):
        unpack(compressed(write_raw(), ".gz"), tmp_path / "file" / "u")


def test_headers_of_a_packed_file_need_only_its_start(write_raw: WriteRaw) -> None:
    packed = compressed(
        write_raw(data=np.random.default_rng(1).integers(0, 2**31, (900, 900), np.int32)), ".bz2"
    )
    os.truncate(packed, packed.stat().st_size // 2)
    primary, extension = read_headers(packed)
    assert (primary["OBJECT"], extension["NAXIS1"]) == ("FIELD-A", 900)
    assert facts_of(packed).kind == "object"
