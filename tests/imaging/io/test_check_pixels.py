"""Frames whose pixels hold no measurement."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from raw_forms import WriteRaw

from imaging.errors import FrameError
from imaging.frames.find_files import CheckParameters
from imaging.io.raw_file import check_pixels, open_raw
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

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
            check_pixels(raw, CheckParameters(saturated_fraction=0.4))
    else:
        with pytest.raises(FrameError, match=f"{saturated:.0%} of the pixels are saturated .* {LIMIT} ADU"):
            check_pixels(raw)


def test_a_share_of_saturated_pixels_is_noted_and_usual_stars_are_not(write_raw: WriteRaw) -> None:
    data = np.random.default_rng(1).integers(200, 300, (100, 100)).astype(np.int32)
    data[40:44, 40:44] = LIMIT
    assert check_pixels(open_raw(write_raw(data=data), shape=None)).notes == ()
    data[40:60, 40:60] = LIMIT + 7
    found = check_pixels(open_raw(write_raw("S2.fits", data=data), shape=None))
    assert found.notes == ("4.00% of the pixels are saturated and are flagged",)


def test_coadds_raise_saturation(write_raw: WriteRaw) -> None:
    data = np.arange(5000, dtype=np.int32).reshape(1000, 5) + LIMIT
    check_pixels(open_raw(write_raw(data=data, COADDS=2), shape=None))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(write_raw: WriteRaw, pixels: NDArray[Any], value: float) -> None:
    data = pixels.astype(np.float32)
    data[-1, 3:5] = value
    raw = open_raw(write_raw(data=data), shape=None)
    found = check_pixels(raw)
    assert found.no_data == 2 / data.size
    assert "no data" in found.notes[0]
    with pytest.raises(FrameError, match="0% of the pixels have no data"):
        check_pixels(raw, CheckParameters(no_data_fraction=1e-6))
    data[:30] = value
    with pytest.raises(FrameError, match=r"75% of the pixels have no data .* raise check\.no_data_fraction"):
        check_pixels(open_raw(write_raw("S2.fits", data=data), shape=None))


def test_pixels_with_the_value_of_blank_have_no_data(write_raw: WriteRaw) -> None:
    data = np.random.default_rng(1).integers(200, 300, (60, 60)).astype(np.int32)
    data[20:40, 20:40] = -(2**31)
    path = write_raw(data=data)
    fits.setval(path, "BLANK", value=-(2**31), ext=1)
    raw = open_raw(path, shape=None)
    assert np.isnan(raw.rows(slice(20, 21))[0, 20:40]).all()
    assert check_pixels(raw).no_data == 400 / 3600
    assert (
        check_pixels(open_raw(write_raw("S2.fits", data=data), shape=None)).no_data == 400 / 3600
    )  # without BLANK


@pytest.mark.parametrize(
    ("disturb", "message"),
    [
        (lambda data: data.byteswap(), "in the wrong order"),
        (lambda data: data - 32768, "32768 ADU too low .*BZERO"),
        (lambda data: data + 32768, "32768 ADU too high .*BZERO"),
    ],
)
def test_values_that_are_stored_wrongly(
    write_raw: WriteRaw, disturb: Callable[[NDArray[Any]], NDArray[Any]], message: str
) -> None:
    data = np.random.default_rng(1).normal(900, 15, (100, 100)).astype(np.int32)
    check_pixels(open_raw(write_raw(data=data), shape=None))
    with pytest.raises(FrameError, match=message):
        check_pixels(open_raw(write_raw("S2.fits", data=disturb(data)), shape=None))


def test_importing_stays_light() -> None:
    heavy = "{'numba', 'scipy', 'ccdproc', 'PIL', 'astropy.wcs', 'astropy.nddata', 'astropy.table'}"
    modules = "imaging.io.raw_file, imaging.products.product_file, imaging.products.preview"
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reported.stdout.strip() == "set()"
