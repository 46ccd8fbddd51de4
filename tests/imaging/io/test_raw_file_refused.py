"""Files that are no raw frames, each refused with its reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from raw_files import facts_of
from raw_forms import FORMS, WriteRaw, compressed

from imaging.errors import FrameError
from imaging.header import Header
from imaging.io.raw_file import check_shape, digest, open_raw, read_headers
from imaging.products.astropy_hdus import fits_header


def refused(path: Path, shape: tuple[int, int] | None = (40, 48)) -> FrameError:
    with pytest.raises(FrameError) as caught:
        open_raw(path, shape=shape)
    assert caught.value.name == path.name.removesuffix(".bz2").removesuffix(".gz")
    assert caught.value.remedy
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert f"no such file: {tmp_path}" in str(refused(tmp_path / "S1.fits"))
    with pytest.raises(FrameError, match="no such file"):
        digest(tmp_path / "S1.fits.bz2")


def test_unreadable_file(write_raw: WriteRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raw()

    def no_permission(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.open", no_permission)  # root may read anything, so pretend
    assert "chmod u+r" in str(refused(path))


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "S1.fits").mkdir()
    with pytest.raises(FrameError, match=r"S1\.fits"):
        open_raw(tmp_path / "S1.fits")


def test_a_broken_disk(write_raw: WriteRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raw()

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.open", broken)
    assert "Input/output error" in str(refused(path))


@pytest.mark.parametrize("form", FORMS)
def test_empty_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"S1.fits{form}"
    path.write_bytes(b"")
    with pytest.raises(FrameError, match="empty"):
        open_raw(path)
    with pytest.raises(FrameError, match="empty"):
        facts_of(path)


def test_not_fits(tmp_path: Path) -> None:
    path = tmp_path / "S1.fits"
    path.write_text("<html>404 not found</html>" * 200)
    assert "not a FITS file but a page of a web server" in str(refused(path))
    path.write_text("404 not found " * 200)
    assert "begins with b'404 not foun'" in str(refused(path))


@pytest.mark.parametrize("missing", [1, 2880, 4000, 7680])
def test_truncated_pixels_are_counted(write_raw: WriteRaw, pixels: NDArray[Any], missing: int) -> None:
    path = write_raw()
    with fits.open(path) as hdus:
        end = hdus.fileinfo(1)["datLoc"] + pixels.nbytes
    os.truncate(path, end - missing)
    assert f"truncated: {missing} of the {pixels.nbytes} bytes" in str(refused(path))


def test_missing_padding_is_forgiven(write_raw: WriteRaw, pixels: NDArray[Any]) -> None:
    path = write_raw()
    with fits.open(path) as hdus:
        end = hdus.fileinfo(1)["datLoc"] + pixels.nbytes
    os.truncate(path, end)
    np.testing.assert_array_equal(open_raw(path, shape=None).rows(), pixels)


@pytest.mark.parametrize(("size", "problem"), [(1000, "no END card"), (2 * 2880 - 80, "no END card")])
def test_truncated_header(write_raw: WriteRaw, size: int, problem: str) -> None:
    path = write_raw()
    with fits.open(path) as hdus:
        start = hdus.fileinfo(1)["hdrLoc"]
    os.truncate(path, min(size, start) if size == 1000 else start + 400)
    assert problem in str(refused(path))


def test_cut_short_after_it_was_opened(write_raw: WriteRaw) -> None:
    path = write_raw()
    with open_raw(path, shape=None) as raw:
        os.truncate(path, 9000)
        with pytest.raises(FrameError, match="rows 30 to 39"):
            raw.rows(slice(30, 40))


def test_no_image(tmp_path: Path, primary: Header) -> None:
    path = tmp_path / "S1.fits"
    fits.PrimaryHDU(header=fits_header(primary.cards)).writeto(path)
    assert "no image extension" in str(refused(path))


def test_several_images(tmp_path: Path, primary: Header, pixels: NDArray[Any]) -> None:
    path = tmp_path / "S1.fits"
    images = [fits.ImageHDU(pixels, name="A"), fits.ImageHDU(pixels)]
    fits.HDUList([fits.PrimaryHDU(header=fits_header(primary.cards)), *images]).writeto(path)
    assert "2 image extensions (A, unnamed)" in str(refused(path))


def test_tables_are_no_images(tmp_path: Path, primary: Header, pixels: NDArray[Any]) -> None:
    path = tmp_path / "S1.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1, 2, 3])])
    fits.HDUList([fits.PrimaryHDU(header=fits_header(primary.cards)), table, fits.ImageHDU(pixels)]).writeto(
        path
    )
    np.testing.assert_array_equal(open_raw(path, shape=None).rows(), pixels)


@pytest.mark.parametrize("shape", [(20, 48), (2, 40, 48), (1920,)])
def test_wrong_shape(write_raw: WriteRaw, shape: tuple[int, ...]) -> None:
    path = write_raw(data=np.ones(shape, np.int32))
    stated = " x ".join(map(str, shape))
    assert f"the shape {stated}, expected 40 x 48" in str(refused(path))


def test_the_default_shape_is_the_detector(write_raw: WriteRaw) -> None:
    with pytest.raises(FrameError, match="40 x 48, expected 2048 x 2048"):
        open_raw(write_raw())


@pytest.mark.parametrize(("keyword", "value"), [("BITPIX", 12), ("NAXIS1", "wide"), ("NAXIS", 2.5)])
def test_a_header_that_does_not_describe_its_data(write_raw: WriteRaw, keyword: str, value: object) -> None:
    path = write_raw()
    card = fits.Card(keyword, value).image.encode()
    raw = path.read_bytes()
    at = raw.index(f"{keyword:8}=".encode(), raw.index(b"XTENSION"))
    path.write_bytes(raw[:at] + card + raw[at + 80 :])
    error = refused(path)
    assert (error.keyword, error.found) == (keyword, value)


def doctored(path: Path, extra: dict[str, object], *, replaced: dict[str, object] | None = None) -> Path:
    """The frame with cards of its image's header replaced as they are, and others put before its END."""
    raw = path.read_bytes()
    start = raw.index(b"XTENSION")
    head, image = raw[:start], raw[start:]
    for keyword, value in (replaced or {}).items():
        at = image.index(f"{keyword:8}=".encode())
        image = image[:at] + f"{keyword:8}= {value!s:>20}".ljust(80).encode() + image[at + 80 :]
    end = image.index(b"END" + b" " * 77)
    cards = b"".join(f"{k:8}= {v!s:>20}".ljust(80).encode() for k, v in extra.items())
    block = -(-(end + 80) // 2880) * 2880
    assert end + 80 + len(cards) <= block, "no room for the cards in the header's last block"
    header = (image[:end] + cards + b"END".ljust(80)).ljust(block)
    path.write_bytes(head + header + image[block:])
    return path


@pytest.mark.parametrize("form", ["", ".gz"])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("NAXIS", -1), ("NAXIS", 10**9), ("NAXIS1", -48), ("NAXIS1", 10**30), ("NAXIS2", "T"),
        ("PCOUNT", -1), ("PCOUNT", "'many'"), ("PCOUNT", 10**30), ("GCOUNT", -1), ("GCOUNT", 0),
        ("GCOUNT", 0.5),
    ],
)  # fmt: skip
def test_sizes_that_no_file_can_have(write_raw: WriteRaw, form: str, keyword: str, value: object) -> None:
    path = compressed(doctored(write_raw(), {}, replaced={keyword: value}), form)
    for attempt in (lambda: open_raw(path, shape=None), lambda: read_headers(path)):
        with pytest.raises(FrameError) as caught:
            attempt()
        assert caught.value.keyword == keyword
        assert caught.value.remedy
        assert "compressed" not in str(caught.value)


def test_a_negative_group_count_does_not_lead_in_circles(write_raw: WriteRaw, pixels: NDArray[Any]) -> None:
    # A length of data that leads back to the header's own beginning.
    assert pixels.nbytes % 2880
    with pytest.raises(FrameError, match="GCOUNT = -1"):
        open_raw(doctored(write_raw(), {}, replaced={"GCOUNT": -1}), shape=None)


@pytest.mark.parametrize("keyword", ["BSCALE", "BZERO"])
@pytest.mark.parametrize("value", ["'abc'", "T", "1E300", "", str(10**40)])
def test_a_scaling_that_is_none(write_raw: WriteRaw, keyword: str, value: str) -> None:
    assert refused(doctored(write_raw(), {keyword: value})).keyword == keyword


def test_an_unreadable_card_of_the_size(write_raw: WriteRaw) -> None:
    error = refused(doctored(write_raw(), {}, replaced={"NAXIS2": "'x 40"}))
    assert "NAXIS2" in str(error)


def test_compression_is_blamed_for_compressed_files_only(
    write_raw: WriteRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("odd")

    path = write_raw()
    packed = compressed(path, ".gz")
    with monkeypatch.context() as patch:
        patch.setattr("imaging.io.raw_file.FitsFile", fails)
        assert "could not be read (odd)" in str(refused(path))
    monkeypatch.setattr("imaging.io.raw_file.unpacked_descriptor", fails)
    with pytest.raises(FrameError, match=r"the compressed data are damaged \(odd\)"):
        open_raw(packed)


def test_the_shape_is_checked_from_the_header_alone(write_raw: WriteRaw) -> None:
    _, extension = read_headers(write_raw())
    assert extension is not None
    check_shape(extension, "S1.fits", [(40, 48)])
    check_shape(extension, "S1.fits", None)
    with pytest.raises(FrameError, match=r"S1\.fits: the image has the shape 40 x 48, expected 48 x 40"):
        check_shape(extension, "S1.fits", [(48, 40)])
    with pytest.raises(FrameError, match="no image extension"):
        check_shape(Header({"NAXIS": 0}), "S1.fits", None)


def test_bytes_that_are_not_ascii_are_used(write_raw: WriteRaw) -> None:
    path = write_raw()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"FIELD-A", b"FIELD-\xe4"))
    with open_raw(path, shape=(40, 48)) as frame:
        assert frame.facts.target == "FIELD-\xe4"
        assert frame.facts.notes == ("OBJECT contains characters that are not ASCII",)


def test_a_product_is_no_raw_frame(write_raw: WriteRaw) -> None:
    assert "a processed dark, not a raw frame" in str(refused(write_raw(PROCDARK="2026-11-23T00:00:00")))
