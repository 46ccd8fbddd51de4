"""Only regular files are opened, and none that is larger than any frame or product."""

from __future__ import annotations

import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.io.compressed import digest_as_is, unpack
from imaging.io.fitsfile import BLOCK
from imaging.io.limits import RECORD_ROWS, TooLargeError, frame_bytes, product_bytes
from imaging.io.raw_file import digest, open_raw, read_headers
from imaging.machine import size_text
from imaging.products.placing import place_product
from imaging.products.product_file import ProductFile, read_table

#: Everything that opens a file which a user named.
OPENERS: dict[str, Callable[[Path], object]] = {
    "open_raw": lambda path: open_raw(path, shape=None),
    "read_headers": read_headers,
    "digest": digest,
    "digest_as_is": digest_as_is,
    "unpack": lambda path: unpack(path, path.parent / "unpacked"),
    "ProductFile": ProductFile,
    "read_table": lambda path: read_table(path, "LINEAGE"),
}


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


IRREGULAR: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a named pipe"),
    "socket": (_socket, "a socket"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "folder": (lambda path: path.mkdir(), "a folder"),
}


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".fz"])
@pytest.mark.parametrize("sort", IRREGULAR)
@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_no_file_is_not_opened(tmp_path: Path, opener: str, sort: str, suffix: str) -> None:
    make, described = IRREGULAR[sort]
    path = tmp_path / f"S1.fits{suffix}"
    make(path)
    with pytest.raises(FrameError, match=rf"S1\.fits{suffix}: .* is {described}, not a file") as caught:
        OPENERS[opener](path)
    assert caught.value.remedy


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_of_the_kernel_is_read_no_further_than_its_size(tmp_path: Path, opener: str) -> None:
    path = tmp_path / "S1.fits"
    path.symlink_to("/proc/self/environ")
    if opener.startswith("digest") or opener == "unpack":
        assert "e3b0c44298fc1c149afbf4c8996fb924" in str(OPENERS[opener](path))  # of no bytes
    else:
        with pytest.raises(FrameError, match="not a FITS file"):
            OPENERS[opener](path)


def test_a_pipe_in_the_output_folder_is_passed_over(
    tmp_path: Path, write_raw: Callable[..., Path], pixels: NDArray[np.int32]
) -> None:
    os.mkfifo(tmp_path / "S1_dark.fits")
    product = tmp_path / "made.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(product)
    placed = place_product(product, tmp_path / "S1_dark.fits", key="ab" * 32)
    assert (placed.path.name, placed.outcome) == ("S1_dark_abababab.fits", "renamed")


def hole(path: Path, side: int, **cards: object) -> Path:
    """A file of a few kilobytes on the disk whose one image has ``side`` rows and columns of float32."""
    primary = fits.PrimaryHDU(header=fits.Header(list(cards.items())))
    image = fits.ImageHDU(np.zeros((1, 1), np.float32), name="SCI")
    header = image.header
    header["NAXIS1"] = header["NAXIS2"] = side
    path.write_bytes((primary.header.tostring() + header.tostring()).encode("ascii"))
    os.truncate(path, path.stat().st_size + -(-4 * side * side // BLOCK) * BLOCK)
    return path


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_full_of_holes_is_not_read(tmp_path: Path, opener: str) -> None:
    path = hole(tmp_path / "S1.fits", 40_000, PROCSCI="2026-01-01T00:00:00")
    assert path.stat().st_blocks < 100
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=r"S1\.fits: it has 6\.4 GB, and .* larger than 1\.1 GB"):
            OPENERS[opener](path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_checksums_are_computed_in_parts(tmp_path: Path) -> None:
    path = hole(tmp_path / "S1.fits", 4096)
    with ProductFile(path) as product:
        tracemalloc.start()
        try:
            assert product.datasums() == product.pixel_sums() == {"SCI": "0"}
            assert tracemalloc.get_traced_memory()[1] < 2**25  # half of the plane
        finally:
            tracemalloc.stop()


def test_headers_without_end(tmp_path: Path) -> None:
    """Each of them is short; there are too many."""
    empty = fits.ImageHDU().header.tostring().encode("ascii")
    path = tmp_path / "S1.fits"
    path.write_bytes(fits.PrimaryHDU().header.tostring().encode("ascii") + empty * 2001)
    with pytest.raises(FrameError, match="headers have more than 72000 cards"):
        read_headers(path)


def test_a_long_tail(tmp_path: Path, write_raw: Callable[..., Path]) -> None:
    path = write_raw()
    size = path.stat().st_size
    os.truncate(path, size + 64 * BLOCK)
    open_raw(path, shape=None).close()
    os.truncate(path, size + 64 * BLOCK + 1)
    with pytest.raises(FrameError, match="more than 184320 bytes follow the last HDU"):
        open_raw(path, shape=None)


def test_tables_that_are_none(tmp_path: Path) -> None:
    rows = np.array([("a", 1)], [("file", "U8"), ("n", np.int32)])
    path = tmp_path / "S1.fits"
    table = fits.BinTableHDU(rows, name="LINEAGE")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    found = read_table(path, "LINEAGE")
    assert found is not None
    assert found["file"].tolist() == ["a"]
    long = fits.BinTableHDU.from_columns(
        [fits.Column("x", "PJ()", array=np.array([[1]], object))], name="LINEAGE"
    )
    fits.HDUList([fits.PrimaryHDU(), long]).writeto(path, overwrite=True)
    with pytest.raises(FrameError, match="table LINEAGE has columns of variable length"):
        read_table(path, "LINEAGE")
    for cards, message in (
        (
            {"NAXIS1": 0, "TFORM1": "0A", "TFORM2": "0A", "NAXIS2": 2**26},
            "NAXIS1 = 0, .* each of the 67108864 rows",
        ),
        ({"TFIELDS": 30_000_000}, r"TFIELDS = 30000000, .* from 0 to 999"),
        ({"TFORM1": f"{10**9}A"}, r"the columns of table LINEAGE do not have 12 bytes per row"),
    ):
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
        with fits.open(path) as hdus:
            at, header = hdus[1].fileinfo()["hdrLoc"], table.header.copy()
        for keyword, value in cards.items():
            header[keyword] = value
        content = path.read_bytes()
        head = header.tostring().encode("ascii")
        path.write_bytes(content[:at] + head + content[at + len(head) :])
        with pytest.raises(FrameError, match=message):
            read_table(path, "LINEAGE")


@pytest.mark.parametrize("extname", ["LINEAGE", "PROVENANCE", "HISTORY"])
def test_no_product_was_made_from_that_much(tmp_path: Path, extname: str) -> None:
    """Each row is asked for in the store."""
    path = tmp_path / "S1.fits"
    for rows, enough in ((RECORD_ROWS, True), (RECORD_ROWS + 1, False)):
        table = fits.BinTableHDU(np.zeros(rows, [("filename", "S1")]), name=extname)
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
        if enough:
            found = read_table(path, extname)
            assert found is not None
            assert len(found) == rows
        else:
            with pytest.raises(FrameError, match=f"table {extname} has 20001 rows, .* at most 20000"):
                read_table(path, extname)


def test_columns_without_bytes(tmp_path: Path) -> None:
    path = tmp_path / "S1.fits"
    table = fits.BinTableHDU(np.zeros(100_000, [("x", "u1")]), name="REASONS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    header = table.header.copy()
    header["TFIELDS"] = 999
    for i in range(2, 1000):
        header[f"TFORM{i}"] = "0A"
    content = fits.PrimaryHDU().header.tostring() + header.tostring()
    path.write_bytes(content.encode("ascii") + bytes(-(-100_000 // BLOCK) * BLOCK))
    with pytest.raises(FrameError, match="table REASONS has 100000 rows of 999 columns"):
        read_table(path, "REASONS")


def test_sizes_for_people() -> None:
    sizes = [size_text(n) for n in (512, frame_bytes(), product_bytes())]
    assert sizes == ["512 bytes", "134.2 MB", "1.1 GB"]
