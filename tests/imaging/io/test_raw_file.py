"""Raw frames in every form they come in, and every way in which one can be no frame."""

from __future__ import annotations

import gc
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from raw_files import facts_of
from raw_forms import FORMS, WriteRaw, compressed

from imaging.errors import FrameError
from imaging.io.raw_file import digest, open_raw, unpack


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
    assert facts_of(path) == raw.facts


@pytest.mark.parametrize("form", [".gz", ".bz2", ".xz"])
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
