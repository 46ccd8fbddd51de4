"""A compressed file that announces, or holds, more than any frame or product is refused before it is unpacked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import FrameError
from imaging.io import announced, compressed, limits
from imaging.io.announced import Announced
from imaging.io.fitsfile import BLOCK
from imaging.io.limits import TooLargeError
from imaging.io.raw_file import digest, open_raw, read_headers, unpack

MB = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),  # a dictionary of 256 kB
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of 1 MB for a frame and 2 MB for a product."""
    monkeypatch.setattr(announced, "frame_bytes", lambda: MB)
    monkeypatch.setattr(announced, "product_bytes", lambda: 2 * MB)


@contextmanager
def memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def headers(*shape: int, **cards: Any) -> bytes:
    """Headers of a frame with an image of int32."""
    image = fits.ImageHDU(np.zeros((1,) * len(shape), np.int32)).header
    for i, n in enumerate(reversed(shape), start=1):
        image[f"NAXIS{i}"] = n
    primary = fits.PrimaryHDU(header=fits.Header([("INSTRUME", "F2"), *cards.items()])).header
    return (primary.tostring() + image.tostring()).encode("ascii")


def nothing_unpacked(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", PACK)
def test_what_a_header_announces(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"S1.fits{suffix}"
    path.write_bytes(PACK[suffix](headers(600, 600) + bytes(20 * MB)))
    for attempt in (
        lambda: unpack(path, tmp_path / "u"),
        lambda: digest(path),
        lambda: open_raw(path, shape=None),
    ):
        with memory(6 * MB), pytest.raises(TooLargeError) as caught:
            attempt()
        assert f"S1.fits{suffix}: it would unpack to 1.4 MB, and no such file is larger than 1.0 MB" in str(
            caught.value
        )
    assert nothing_unpacked(tmp_path / "u")
    path.write_bytes(
        PACK[suffix](headers(600, 600, PROCDARK="now") + bytes(-(-600 * 600 * 4 // BLOCK) * BLOCK))
    )
    assert (
        unpack(path, tmp_path / "u")[0].stat().st_size == 2 * BLOCK + 500 * BLOCK
    )  # a product may have more


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", PACK)
def test_what_comes_behind_what_was_announced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"S1.fits{suffix}"
    path.write_bytes(PACK[suffix](headers(100, 100) + bytes(20 * MB)))
    with memory(6 * MB), pytest.raises(FrameError, match="more than 184320 bytes follow the last HDU"):
        unpack(path, tmp_path / "u")
    assert nothing_unpacked(tmp_path / "u")


@pytest.mark.usefixtures("small")
def test_a_stream_of_many_members(tmp_path: Path) -> None:
    path = tmp_path / "S1.fits.gz"
    path.write_bytes(gzip.compress(headers(100, 100)) + gzip.compress(bytes(MB)) * 20)
    with memory(6 * MB), pytest.raises(FrameError, match="follow the last HDU"):
        unpack(path, tmp_path / "u")
    path.write_bytes(gzip.compress(headers(100, 100)) + gzip.compress(bytes(20 * BLOCK)))
    assert unpack(path, tmp_path / "u")[0].stat().st_size == 22 * BLOCK


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", PACK)
def test_no_fits_file_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"S1.fits{suffix}"
    path.write_bytes(PACK[suffix](bytes(20 * MB)))
    with memory(6 * MB), pytest.raises(FrameError, match="not a FITS file"):
        unpack(path, tmp_path / "u")
    assert nothing_unpacked(tmp_path / "u")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", PACK)
def test_headers_without_end(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imaging.io.fitsfile.LONGEST_HEADERS", 100 * BLOCK)
    path = tmp_path / f"S1.fits{suffix}"
    empty = fits.ImageHDU().header.tostring().encode("ascii")
    for content in (headers(10, 10)[:BLOCK] + empty * 100, b"SIMPLE  =".ljust(20 * MB)):
        path.write_bytes(PACK[suffix](content))
        with memory(6 * MB), pytest.raises(FrameError, match="headers have more than 3600 cards"):
            unpack(path, tmp_path / "u")


@pytest.mark.parametrize("step", [1, 79, 80, 2880, 4000, 10**6])
def test_it_does_not_matter_how_a_stream_is_cut(step: int) -> None:
    extension = fits.ImageHDU(np.zeros((30, 40), np.int16)).header.tostring().encode("ascii")
    content = headers(20, 30) + bytes(BLOCK) + extension + bytes(BLOCK) + b"\1" * 999
    passing = Announced("S1.fits.gz")
    for at in range(0, len(content), step):
        passing.take(content[at : at + step])
    with pytest.raises(FrameError, match="follow the last HDU"):
        passing.take(bytes(64 * BLOCK))


# Tiles


def packed(path: Path, compression: str = "GZIP_1", *, dtype: type = np.int32, **cards: Any) -> Path:
    """A tile-compressed frame of 64 x 64; cards of its table's header by keyword."""
    pixels = np.zeros((64, 64), dtype)
    primary = fits.PrimaryHDU(header=fits.Header([("INSTRUME", "F2")]))
    fits.HDUList([primary, fits.CompImageHDU(pixels, compression_type=compression)]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header.update(cards)
    return path


@pytest.mark.parametrize("compression", ["GZIP_1", "GZIP_2", "RICE_1", "NOCOMPRESS"])
def test_tiles_are_read(tmp_path: Path, compression: str) -> None:
    with open_raw_pixels(packed(tmp_path / "S1.fits.fz", compression)) as pixels:
        assert pixels.shape == (64, 64)


@contextmanager
def open_raw_pixels(path: Path) -> Iterator[Any]:
    plain, _ = unpack(path, path.parent / "u")
    yield fits.getdata(plain)


@pytest.mark.parametrize("compression", ["GZIP_1", "RICE_1"])
def test_more_pixels_than_any_detector(tmp_path: Path, compression: str) -> None:
    path = packed(tmp_path / "S1.fits.fz", compression, ZNAXIS1=16_000, ZNAXIS2=16_000, ZTILE1=16_000)
    with (
        memory(6 * MB),
        pytest.raises(TooLargeError, match=r"would unpack to 1\.0 GB, .* larger than 134\.2 MB"),
    ):
        unpack(path, tmp_path / "u")
    assert nothing_unpacked(tmp_path / "u")


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"ZTILE1": 100_000}, "a tile is larger than the image"),
        ({"ZTILE1": 0}, "ZTILE1 = 0"),
        ({"ZNAXIS1": 2000, "ZNAXIS2": 2000, "ZTILE1": 1}, "more than 100000 tiles"),
        ({"ZNAXIS1": -4}, "ZNAXIS1 = -4"),
        ({"ZBITPIX": 10**6}, "ZBITPIX"),
    ],
)
def test_tiles_that_no_image_has(tmp_path: Path, cards: dict[str, int], message: str) -> None:
    path = packed(tmp_path / "S1.fits.fz", **cards)
    with memory(6 * MB), pytest.raises(FrameError, match=message):
        unpack(path, tmp_path / "u")


@pytest.mark.parametrize(
    "column", ["COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "compressed_data", "gzip_Compressed_data"]
)
def test_a_tile_that_holds_more_than_its_pixels(tmp_path: Path, column: str) -> None:
    bomb = zlib.compressobj(wbits=31)
    stream = bomb.compress(bytes(30 * MB)) + bomb.flush()
    path = tmp_path / "S1.fits.fz"
    tiles = np.empty(1, object)
    tiles[0] = np.frombuffer(stream, np.uint8)
    columns = [fits.Column("ZSCALE", "1D", array=[1.0]), fits.Column(column, "1PB()", array=tiles)]
    if column.upper() != "COMPRESSED_DATA":
        empty = np.empty(1, object)
        empty[0] = np.zeros(0, np.uint8)
        columns.append(fits.Column("COMPRESSED_DATA", "1PB()", array=empty))
    table = fits.BinTableHDU.from_columns(columns, name="COMPRESSED_IMAGE")
    kind = "GZIP_1" if column.upper() == "COMPRESSED_DATA" else "RICE_1"
    table.header.update(
        ZIMAGE=True, ZBITPIX=32, ZNAXIS=2, ZNAXIS1=8, ZNAXIS2=8, ZTILE1=8, ZTILE2=8, ZCMPTYPE=kind
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    with memory(6 * MB), pytest.raises(TooLargeError, match="tile 0 would unpack to more than 513 bytes"):
        unpack(path, tmp_path / "u")


@pytest.mark.parametrize("suffix", [".gz", ".fz"])
@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"TFIELDS": 10**8}, "TFIELDS = 100000000, .* from 0 to 999"),
        ({"NAXIS1": 0, "NAXIS2": 2**31 - 1}, "NAXIS1 = 0, .* each of the 2147483647 rows"),
    ],
)
def test_columns_and_rows_that_take_no_bytes(
    tmp_path: Path, suffix: str, cards: dict[str, int], message: str
) -> None:
    table = fits.BinTableHDU(np.zeros(0, [("a", "i4")])).header
    table.update(cards)
    first = fits.BinTableHDU(np.zeros(1, [("a", "i4")])).header.tostring().encode("ascii")
    content = headers(10, 10) + bytes(BLOCK) if suffix == ".gz" else headers(1)[:BLOCK] + first + bytes(BLOCK)
    content += table.tostring().encode("ascii")
    path = tmp_path / f"S1.fits{suffix}"
    path.write_bytes(content if suffix == ".fz" else gzip.compress(content))
    with memory(6 * MB), pytest.raises(FrameError, match=message):
        unpack(path, tmp_path / "u")


def test_a_tile_file_that_is_another_stream(tmp_path: Path) -> None:
    """astropy would unpack it by its first bytes, whatever its name."""
    path = tmp_path / "S1.fits.fz"
    path.write_bytes(gzip.compress(bytes(20 * MB)))
    for attempt in (lambda: unpack(path, tmp_path / "u"), lambda: read_headers(path)):
        with memory(6 * MB), pytest.raises(FrameError, match="not a FITS file"):
            attempt()


def test_the_limits_are_far_above_what_there_is() -> None:
    """Frames of 16 MB, and stacks of four fields of view with all their planes."""
    frame = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2048, 2048), np.int32))]).writeto(frame)
    assert 7 * len(frame.getvalue()) < limits.frame_bytes()
    assert limits.product_bytes() > 4 * 2048**2 * (4 + 4 + 2 + 1) * 5


def test_an_xz_stream_that_needs_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "S1.fits.xz"
    path.write_bytes(lzma.compress(headers(10, 10) + bytes(BLOCK), preset=6))
    unpack(path, tmp_path / "u")
    monkeypatch.setattr(compressed, "_XZ_MEMORY", MB)
    with pytest.raises(
        FrameError, match=r"S1\.fits\.xz: unpacking it takes more than 1 MiB of memory"
    ) as caught:
        digest(path)
    assert "xz -6" in caught.value.remedy
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes(20) + whole[40:])
    monkeypatch.undo()
    with pytest.raises(FrameError, match="the compressed data are damaged"):
        digest(path)


def test_several_xz_streams_follow_each_other(tmp_path: Path) -> None:
    content = headers(10, 10) + bytes(BLOCK)
    path = tmp_path / "S1.fits.xz"
    path.write_bytes(lzma.compress(content[:3000]) + bytes(8) + lzma.compress(content[3000:]) + bytes(4))
    assert digest(path) == hashlib.sha256(content).hexdigest()
