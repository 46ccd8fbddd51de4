"""Full-size raw frames that take no space: real headers, and pixels in a sparse file."""

from __future__ import annotations

import bz2
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from astropy.io.fits import Header
from command_line import run_nirflow
from typer.testing import Result

if TYPE_CHECKING:
    from calib_store.model.settings import StoreSettings

_OPENERS = {".bz2": bz2.BZ2File, ".gz": gzip.GzipFile}
_CARDS: dict[str, Any] = {
    "INSTRUME": "F2", "OBJECT": "WISE J0413", "OBSTYPE": "OBJECT", "OBSCLASS": "science",
    "GEMPRGID": "GS-2013B-Q-15", "OBSID": "GS-2013B-Q-15-39", "RA": 63.49, "DEC": -47.84, "POFFSET": 0.0,
    "QOFFSET": 0.0, "PA": 0.0, "INPORT": 3, "AIRMASS": 1.1, "PWFS2_ST": "guiding", "NREADS": 8, "LNRS": 8,
    "COADDS": 1, "EXPTIME": 120.0, "DETID": "109", "FILTER1": "Open", "FILTER2": "Y_G0811", "GRISM": "Open",
    "LYOT": "f/16_G5830", "MASKNAME": "None", "MOSPOS": "Open", "DATE-OBS": "2013-11-21",
    "UTSTART": "02:52:48.0", "RAWGEMQA": "USABLE",
}  # fmt: skip
DARK = {"OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "FILTER2": "DK_G0807"}
FLAT = {
    "OBSTYPE": "FLAT", "OBSCLASS": "dayCal", "OBJECT": "GCALflat", "LNRS": 1, "NREADS": 1, "EXPTIME": 20.0,
    "GCALLAMP": "IRhigh", "GCALSHUT": "OPEN",
}  # fmt: skip


def write_frame(
    path: Path, *, shape: tuple[int, ...] = (1, 2048, 2048), complete: bool = True, **cards: Any
) -> Path:
    """Write a raw frame of zeros. Keywords with a dash are written as ``DATE_OBS``; None drops a card.

    A compressed frame is truncated soon after its headers, since no more is read.
    """
    primary = Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    label = f"GS-2013B-Q-15-39-{path.name.split('.')[0]}"
    given = {key.replace("DATE_OBS", "DATE-OBS"): value for key, value in cards.items()}
    for key, value in (_CARDS | {"DATALAB": label} | given).items():
        if value is not None:
            primary[key] = value
    axes = [(f"NAXIS{i}", n) for i, n in enumerate(reversed(shape), start=1)]
    extension = Header(
        [("XTENSION", "IMAGE"), ("BITPIX", 32), ("NAXIS", len(shape)), *axes, ("PCOUNT", 0), ("GCOUNT", 1)]
    )
    headers = (primary.tostring() + extension.tostring()).encode("ascii")
    opener = _OPENERS.get(path.suffix)
    if opener is not None:
        with opener(path, "wb") as file:
            file.write(headers + bytes(200 * 2880))
        return path
    path.write_bytes(headers)
    n = 4
    for axis in shape:
        n *= axis
    os.truncate(path, len(headers) + (-(-n // 2880) * 2880 if complete else n // 2))
    return path


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Return a folder with two darks (one compressed), a short dark, two flats and three dithers."""
    folder = tmp_path / "night"
    folder.mkdir()
    write_frame(folder / "S20131120S0115.fits", **DARK, DATE_OBS="2013-11-20", UTSTART="04:48:00")
    write_frame(folder / "S20131120S0116.fits.bz2", **DARK, DATE_OBS="2013-11-20", UTSTART="04:51:00")
    write_frame(folder / "S20131121S0369.fits.gz", **DARK, EXPTIME=2.0, LNRS=1, NREADS=1, UTSTART="21:36:00")
    write_frame(folder / "S20131126S1111.fits", **FLAT | {"GCALSHUT": "CLOSED"}, DATE_OBS="2013-11-26")
    write_frame(folder / "S20131129S0320.fits", **FLAT, DATE_OBS="2013-11-29")
    for i in range(3):
        write_frame(folder / f"S20131121S007{5 + i}.fits", POFFSET=-20.0 + 20 * i, UTSTART=f"02:5{i}:00")
    return folder


@pytest.fixture
def nirflow() -> Callable[..., Result]:
    """Run the command line in this process; returns exit code, standard output and standard error."""
    return run_nirflow


@pytest.fixture
def frame_writer() -> Callable[..., Path]:
    return write_frame


@pytest.fixture
def own_store(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command line at the test's own store."""
    assert store_settings.database_url is not None
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(store_settings.data_dir))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", store_settings.database_url.get_secret_value())
