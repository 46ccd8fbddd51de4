"""Raw frames in every form they come in, and every way in which one can be no frame."""

from __future__ import annotations

import bz2
import errno
import gc
import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.errors import FrameError, NirflowError
from imaging.io.raw_file import check_pixels, check_shape, digest, open_raw, read_facts, read_headers, unpack
from imaging.simulator import camera

WriteRaw = Callable[..., Path]
FORMS = ("", ".gz", ".bz2", ".fz")


def compressed(plain: Path, suffix: str) -> Path:
    """The frame in another form, beside the plain one."""
    path = plain.with_name(plain.name + suffix)
    match suffix:
        case ".gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
        case ".bz2":
            path.write_bytes(bz2.compress(plain.read_bytes()))
        case ".fz":
            with fits.open(plain) as hdus:
                tiles = fits.CompImageHDU(hdus[1].data, hdus[1].header, compression_type="RICE_1")
                fits.HDUList([fits.PrimaryHDU(header=hdus[0].header), tiles]).writeto(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_frame_is_read_in_every_form(write_raw: WriteRaw, pixels: NDArray[Any], form: str) -> None:
    path = compressed(write_raw(), form)
    with open_raw(path, shape=(40, 48)) as raw:
        assert raw.shape == (40, 48)
        assert raw.name == raw.facts.name == "S20131121S0075.fits"
        assert raw.primary["OBJECT"] == "FIELD-A"
        assert raw.extension["CTYPE1"] == "RA---TAN"
        assert raw.rows().dtype == np.int32
        assert raw.rows().dtype.isnative
        np.testing.assert_array_equal(raw.rows(), pixels)
        np.testing.assert_array_equal(raw.rows(slice(7, 19)), pixels[7:19])
        assert raw.sha256 == digest(path)
    assert read_facts(path) == raw.facts


@pytest.mark.parametrize("form", [".gz", ".bz2"])
def test_identity_is_that_of_the_uncompressed_bytes(write_raw: WriteRaw, form: str) -> None:
    plain = write_raw()
    expected = hashlib.sha256(plain.read_bytes()).hexdigest()
    packed = compressed(plain, form)
    assert digest(plain) == digest(packed) == expected
    assert open_raw(packed, shape=None).sha256 == open_raw(plain, shape=None).sha256 == expected


def test_identity_of_tiles_is_that_of_what_they_unpack_to(write_raw: WriteRaw, tmp_path: Path) -> None:
    packed = compressed(write_raw(), ".fz")
    path, sha256 = unpack(packed, tmp_path / "u")
    assert sha256 == digest(packed) == hashlib.sha256(path.read_bytes()).hexdigest()
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert isinstance(hdus[1], fits.ImageHDU)


def test_a_known_identity_is_taken(write_raw: WriteRaw) -> None:
    assert open_raw(write_raw(), shape=None, sha256="f" * 64).sha256 == "f" * 64


@pytest.mark.parametrize(
    ("dtype", "axes"), [("i2", 2), ("i2", 3), ("u2", 3), ("i4", 2), ("u4", 3), ("f4", 2), ("f4", 3)]
)
def test_stored_types_and_axes(write_raw: WriteRaw, dtype: str, axes: int) -> None:
    data = (np.arange(40 * 48).reshape(40, 48) * 30).astype(dtype)
    path = write_raw(data=data if axes == 2 else data[np.newaxis])
    with open_raw(path, shape=(40, 48)) as raw:
        assert raw.rows().dtype == np.dtype(dtype)
        np.testing.assert_array_equal(raw.rows(), data)


@pytest.mark.parametrize(("stored", "expected"), [(np.int16, np.float32), (np.int32, np.float64)])
def test_other_scalings(tmp_path: Path, science: dict[str, Any], stored: Any, expected: Any) -> None:
    path = tmp_path / "a.fits"
    image = fits.ImageHDU(np.arange(12, dtype=stored).reshape(3, 4))
    header = fits.Header(list(science.items()))
    fits.HDUList([fits.PrimaryHDU(header=header), image]).writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[1].header["BSCALE"], hdus[1].header["BZERO"] = 0.5, 10.0
    with open_raw(path, shape=None) as raw:
        assert raw.rows().dtype == expected
        np.testing.assert_array_equal(raw.rows(), np.arange(12).reshape(3, 4) * 0.5 + 10)


def test_pixels_in_the_primary(tmp_path: Path, science: dict[str, Any], pixels: NDArray[Any]) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(pixels, fits.Header(list(science.items()))).writeto(path)
    with open_raw(path, shape=None) as raw:
        np.testing.assert_array_equal(raw.rows(), pixels)


@given(st.integers(-45, 45) | st.none(), st.integers(-45, 45) | st.none())
def test_rows_are_those_of_the_array(
    shared_raw: Path, shared_pixels: NDArray[Any], first: int | None, last: int | None
) -> None:
    with open_raw(shared_raw, shape=None) as raw:
        np.testing.assert_array_equal(raw.rows(slice(first, last)), shared_pixels[first:last])


@pytest.fixture(scope="module")
def shared_pixels() -> NDArray[Any]:
    return np.arange(40 * 6, dtype=np.int32).reshape(40, 6)


@pytest.fixture(scope="module")
def shared_raw(tmp_path_factory: pytest.TempPathFactory, shared_pixels: NDArray[Any]) -> Path:
    path = tmp_path_factory.mktemp("raw") / "a.fits"
    cards = {
        "INSTRUME": "F2", "OBSTYPE": "DARK", "LNRS": 8, "EXPTIME": 2.0, "COADDS": 1,
        "DATE-OBS": "2013-11-21", "UTSTART": "02:00:00",
    }  # fmt: skip
    primary = fits.PrimaryHDU(header=fits.Header(list(cards.items())))
    fits.HDUList([primary, fits.ImageHDU(shared_pixels)]).writeto(path)
    return path


def test_a_step_in_rows_is_refused(write_raw: WriteRaw) -> None:
    with open_raw(write_raw(), shape=None) as raw, pytest.raises(ValueError, match="step"):
        raw.rows(slice(0, 10, 2))


def test_threads_share_an_open_frame(write_raw: WriteRaw, pixels: NDArray[Any]) -> None:
    with open_raw(write_raw(), shape=None) as raw, ThreadPoolExecutor(4) as pool:
        bands = [slice(i, i + 3) for i in range(0, 40, 3)] * 5
        for band, got in zip(bands, pool.map(raw.rows, bands), strict=True):
            np.testing.assert_array_equal(got, pixels[band])


def descriptors(path: Path) -> int:
    """How often this process has the file open."""
    return sum(fd.is_symlink() and fd.readlink() == path for fd in Path("/proc/self/fd").iterdir())


def test_the_file_is_closed_once_and_for_all(write_raw: WriteRaw) -> None:
    path = write_raw()
    raw = open_raw(path, shape=None)
    assert descriptors(path) == 1
    raw.close()
    raw.close()
    with pytest.raises(FrameError):
        open_raw(path)
    assert descriptors(path) == 0


def test_a_forgotten_file_is_closed(write_raw: WriteRaw) -> None:
    path = write_raw()
    raw = open_raw(path, shape=None)
    del raw
    gc.collect()
    assert descriptors(path) == 0


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

    monkeypatch.setattr("imaging.io.raw_file.os.open", no_permission)  # root may read anything, so pretend
    assert "chmod u+r" in str(refused(path))


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "S1.fits").mkdir()
    with pytest.raises(FrameError, match=r"S1\.fits"):
        open_raw(tmp_path / "S1.fits")


def test_a_broken_disk(write_raw: WriteRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raw()

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("imaging.io.raw_file.os.open", broken)
    assert "Input/output error" in str(refused(path))


@pytest.mark.parametrize("form", FORMS)
def test_empty_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"S1.fits{form}"
    path.write_bytes(b"")
    with pytest.raises(FrameError, match="empty"):
        open_raw(path)
    with pytest.raises(FrameError, match="empty"):
        read_facts(path)


def test_not_fits(tmp_path: Path) -> None:
    path = tmp_path / "S1.fits"
    path.write_text("<html>404 not found</html>" * 200)
    assert "begins with b'<html>404 no'" in str(refused(path))


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


def test_no_image(tmp_path: Path, primary: fits.Header) -> None:
    path = tmp_path / "S1.fits"
    fits.PrimaryHDU(header=primary).writeto(path)
    assert "no image extension" in str(refused(path))


def test_several_images(tmp_path: Path, primary: fits.Header, pixels: NDArray[Any]) -> None:
    path = tmp_path / "S1.fits"
    images = [fits.ImageHDU(pixels, name="A"), fits.ImageHDU(pixels)]
    fits.HDUList([fits.PrimaryHDU(header=primary), *images]).writeto(path)
    assert "2 image extensions (A, unnamed)" in str(refused(path))


def test_tables_are_no_images(tmp_path: Path, primary: fits.Header, pixels: NDArray[Any]) -> None:
    path = tmp_path / "S1.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1, 2, 3])])
    fits.HDUList([fits.PrimaryHDU(header=primary), table, fits.ImageHDU(pixels)]).writeto(path)
    np.testing.assert_array_equal(open_raw(path, shape=None).rows(), pixels)


@pytest.mark.parametrize("shape", [(20, 48), (2, 40, 48), (1920,)])
def test_wrong_shape(write_raw: WriteRaw, shape: tuple[int, ...]) -> None:
    path = write_raw(data=np.ones(shape, np.int32))
    told = " x ".join(map(str, shape))
    assert f"the shape {told}, expected 40 x 48" in str(refused(path))


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


def test_a_garbled_card_that_tells_the_size(write_raw: WriteRaw) -> None:
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


def test_the_shape_is_told_from_the_header_alone(write_raw: WriteRaw) -> None:
    _, extension = read_headers(write_raw())
    assert extension is not None
    check_shape(extension, "S1.fits", (40, 48))
    check_shape(extension, "S1.fits", None)
    with pytest.raises(FrameError, match=r"S1\.fits: the image has the shape 40 x 48, expected 48 x 40"):
        check_shape(extension, "S1.fits", (48, 40))
    with pytest.raises(FrameError, match="no image extension"):
        check_shape(fits.PrimaryHDU().header, "S1.fits", None)


def test_a_header_that_is_no_text(write_raw: WriteRaw) -> None:
    path = write_raw()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"FIELD-A", b"FIELD-\xe4"))
    assert "not ASCII" in str(refused(path))


def test_a_product_is_no_raw_frame(write_raw: WriteRaw) -> None:
    assert "a processed dark, not a raw frame" in str(refused(write_raw(PROCDARK="2026-11-23T00:00:00")))


@pytest.mark.parametrize("form", [".gz", ".bz2", ".fz"])
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


@pytest.mark.parametrize("form", [".gz", ".bz2"])
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
    assert read_facts(packed).kind == "object"


LIMIT = camera.saturation_adu(8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_ordinary_pixels_pass(write_raw: WriteRaw, pixels: NDArray[Any], dtype: type) -> None:
    check_pixels(open_raw(write_raw(data=pixels.astype(dtype)), shape=None))


@pytest.mark.parametrize("value", [0, 77])
def test_a_readout_of_one_value(write_raw: WriteRaw, value: int) -> None:
    raw = open_raw(write_raw(data=np.full((600, 5), value, np.int32)), shape=None)
    with pytest.raises(FrameError, match=f"all pixels have the value {value}"):
        check_pixels(raw)


def test_one_other_pixel_is_a_readout(write_raw: WriteRaw) -> None:
    data = np.zeros((600, 5), np.int32)
    data[-1, -1] = 1
    check_pixels(open_raw(write_raw(data=data), shape=None))


@pytest.mark.parametrize("saturated", [0.49, 0.5, 1.0])
def test_saturated_frames(write_raw: WriteRaw, saturated: float) -> None:
    data = np.arange(5000, dtype=np.int32).reshape(1000, 5)
    data.flat[: int(saturated * 5000)] = np.arange(int(saturated * 5000)) + LIMIT
    raw = open_raw(write_raw(data=data), shape=None)
    if saturated < 0.5:
        check_pixels(raw)
        with pytest.raises(FrameError, match="49% of the pixels are saturated"):
            check_pixels(raw, saturated_fraction=0.4)
    else:
        with pytest.raises(FrameError, match=f"{saturated:.0%} of the pixels are saturated .* {LIMIT} ADU"):
            check_pixels(raw)


def test_coadds_raise_saturation(write_raw: WriteRaw) -> None:
    data = np.arange(5000, dtype=np.int32).reshape(1000, 5) + LIMIT
    check_pixels(open_raw(write_raw(data=data, COADDS=2), shape=None))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(write_raw: WriteRaw, pixels: NDArray[Any], value: float) -> None:
    data = pixels.astype(np.float32)
    data[-1, 3:5] = value
    with pytest.raises(FrameError, match="2 pixels are not finite"):
        check_pixels(open_raw(write_raw(data=data), shape=None))


def test_importing_stays_light() -> None:
    heavy = "{'numba', 'scipy', 'ccdproc', 'PIL', 'astropy.wcs', 'astropy.nddata', 'astropy.table'}"
    modules = "imaging.io.raw_file, imaging.products.product_file, imaging.products.preview"
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
