"""A tile-compressed file, however damaged or crafted, is refused by name: its decoder is another process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import FrameError, NirflowError
from imaging.io import announced, tiles
from imaging.io.compressed import opened
from imaging.io.raw_file import digest, open_raw, unpack
from imaging.io.tiles import NoRoomError, unpack_tiles
from imaging.products.product_file import read_table

HCOMPRESS = (
    b"\xdd\x99" + b"\0\0\x10\0" * 2 + b"\0\0\0\1" + (1).to_bytes(8, "big") + b"\x20" * 3 + b"\xff" * 800
)


def one_tile(path: Path, codec: str, stream: bytes, side: int = 2048, **cards: Any) -> Path:
    """A file of one image with one tile, which is that stream."""
    tile = np.empty(1, object)
    tile[0] = np.frombuffer(stream, np.uint8)
    table = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", "1PB()", array=tile)])
    table.header.update(
        ZIMAGE=True, ZCMPTYPE=codec, ZBITPIX=16, ZNAXIS=2, ZNAXIS1=side, ZNAXIS2=side, ZTILE1=side, ZTILE2=side,
        **cards,
    )  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(header=fits.Header([("INSTRUME", "F2")])), table]).writeto(path)
    return path


def packed(path: Path, codec: str = "RICE_1", **tiling: Any) -> Path:
    pixels = np.arange(150 * 130, dtype=np.int32).reshape(130, 150)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type=codec, **tiling)]).writeto(
        path
    )
    return path


CRAFTED: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "a stream larger than its tile": ("HCOMPRESS_1", HCOMPRESS, {}, "stream of tile 0 has another size"),
    "negative sides": ("HCOMPRESS_1", b"\xdd\x99" + b"\xff" * 900, {}, "stream of tile 0 has another size"),
    "no stream at all": ("HCOMPRESS_1", b"\xdd\x99", {}, "stream of tile 0 has another size"),
    "blocks without end": (
        "RICE_1", b"\xff" * 100, {"ZNAME1": "BLOCKSIZE", "ZVAL1": 2**31 - 1}, "BLOCKSIZE .*ZVAL1 = 2147483647",
    ),
    "small letters": (
        "RICE_1", b"\xff" * 100, {"ZNAME1": "blocksize", "ZVAL1": -32}, "blocksize .*ZVAL1 = -32",
    ),
    "no bytes a pixel": (
        "RICE_1", b"\xff" * 100, {"ZNAME1": "BYTEPIX", "ZVAL1": 3}, "BYTEPIX .*ZVAL1 = 3",
    ),
    "an unknown codec": ("XXX", b"\xff" * 100, {}, "ZCMPTYPE = 'XXX'"),
}  # fmt: skip


@pytest.mark.parametrize("sort", CRAFTED)
def test_parameters_that_no_compression_has(
    tmp_path: Path, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, stream, cards, message = CRAFTED[sort]
    path = one_tile(tmp_path / "S1.fits.fz", codec, stream, **cards)
    monkeypatch.setattr(tiles.subprocess, "run", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(FrameError, match=message):
        unpack(path, tmp_path / "u")
    assert not list((tmp_path / "u").iterdir())


@pytest.mark.parametrize("sort", ["a stream larger than its tile", "blocks without end"])
def test_a_file_that_ends_its_decoder_is_refused(
    tmp_path: Path, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the checks do not see."""
    monkeypatch.setattr(announced, "_check_codec", lambda *_: None)
    monkeypatch.setattr(announced, "_check_streams", lambda *_: None)
    codec, stream, cards, _ = CRAFTED[sort]
    path = one_tile(tmp_path / "S1.fits.fz", codec, stream, **cards)
    for attempt in (
        lambda: unpack(path, tmp_path / "u"),
        lambda: digest(path),
        lambda: open_raw(path, shape=None),
    ):
        with pytest.raises(FrameError, match=r"S1\.fits\.fz: cannot be unpacked: .*ended by SIG") as caught:
            attempt()
        assert caught.value.remedy
    assert not list((tmp_path / "u").iterdir())


def test_a_damaged_stream(tmp_path: Path) -> None:
    path = one_tile(tmp_path / "S1.fits.fz", "RICE_1", b"\xff" * 100)
    with pytest.raises(
        FrameError, match=r"S1\.fits\.fz: cannot be unpacked: .*end of compressed byte stream"
    ):
        unpack(path, tmp_path / "u")


@pytest.mark.parametrize("attempt", ["unpack", "read_table"])
def test_whatever_a_parser_raises_is_an_error_of_the_file(
    tmp_path: Path, attempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the table has no column of tiles."""

    class UnheardOfError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise UnheardOfError("of a new kind")

    path = one_tile(tmp_path / "S1.fits.fz", "RICE_1", b"\xff" * 100)
    content = path.read_bytes().replace(b"'COMPRESSED_DATA'", b"'SOMETHING_ELSE '")
    path.write_bytes(content)
    if attempt == "unpack":
        with pytest.raises(FrameError, match=r"S1\.fits\.fz: cannot be unpacked: KeyError"):
            unpack(path, tmp_path / "u")
        return
    monkeypatch.setattr(fits, "open", fail)
    path = tmp_path / "S1.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(1, "i4,i4"), name="LINEAGE")]).writeto(path)
    with pytest.raises(FrameError, match=r"the file is invalid \(UnheardOfError: of a new kind\)"):
        read_table(path, "LINEAGE")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"_MEMORY": 1 << 20, "_MEMORY_A_BYTE": 0}, "needs far more memory than its size"),
        ({"_WAITING": 0}, "takes far more time than its size"),
        ({"LONGEST_HEADERS": -60_000}, "unpacks to far more than it announces"),
    ],
)
def test_limits_of_the_decoder(
    tmp_path: Path, limits: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "S1.fits.fz")
    for name, value in limits.items():
        monkeypatch.setattr(tiles, name, value)
    with pytest.raises(FrameError, match=f"cannot be unpacked: it {message}"):
        unpack(path, tmp_path / "u")


@pytest.mark.parametrize(
    ("codec", "tiling"),
    [
        ("RICE_1", {}),
        ("GZIP_2", {"tile_shape": (64, 64)}),
        ("HCOMPRESS_1", {"tile_shape": (60, 70)}),  # those at the edges are smaller
        ("HCOMPRESS_1", {"tile_shape": (130, 70)}),
    ],
)
def test_pixels_come_through(tmp_path: Path, codec: str, tiling: dict[str, Any]) -> None:
    path = packed(tmp_path / "S1.fits.fz", codec, **tiling)
    plain, sha256 = unpack(path, tmp_path / "u")
    assert sha256 == digest(path) == digest(plain)
    assert np.array_equal(fits.getdata(plain), np.arange(150 * 130).reshape(130, 150))


def test_no_room_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "S1.fits.fz")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with opened(path) as file, pytest.raises(NoRoomError, match="No space left"):
            unpack_tiles(file, full, path.name)
    finally:
        os.close(full)

    def no_room(*_: object) -> None:
        raise NoRoomError(0, "No space left on device")

    monkeypatch.setattr("imaging.io.compressed.unpack_tiles", no_room)
    with pytest.raises(NirflowError, match=r"Could not write to .*: No space left on device") as caught:
        unpack(path, tmp_path / "u")
    assert not isinstance(caught.value, FrameError)
    assert not list((tmp_path / "u").iterdir())


def test_the_decoder_knows_nothing_of_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", "postgresql://nirflow:secret@db/nirflow")
    given: dict[str, Any] = {}
    run = tiles.subprocess.run
    monkeypatch.setattr(tiles.subprocess, "run", lambda *a, **k: (given.update(k), run(*a, **k))[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "astropy.py").write_text("raise SystemExit('from the folder')\n")
    unpack(packed(tmp_path / "S1.fits.fz"), tmp_path / "u")
    assert "secret" not in str(given["env"])
    assert given["cwd"] == "/"
