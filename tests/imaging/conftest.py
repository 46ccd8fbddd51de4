"""Small raw frames in the form of f2.md, for the tests of files in and files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.header import Header
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

SCIENCE: dict[str, Any] = {
    "INSTRUME": "F2", "OBJECT": "FIELD-A", "OBSTYPE": "OBJECT", "OBSCLASS": "science",
    "GEMPRGID": "GS-2013B-Q-15", "OBSID": "GS-2013B-Q-15-39", "DATALAB": "GS-2013B-Q-15-39-001",
    "RA": 63.4917, "DEC": -47.8443, "POFFSET": -19.8, "QOFFSET": -19.9, "PA": 0.0, "INPORT": 3,
    "AIRMASS": 1.1, "PWFS1_ST": "parked", "PWFS2_ST": "parked", "OIWFS_ST": "guiding", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "Open", "FILTER2": "Y_G0811", "LYOT": "f/16_G5830",
    "GRISM": "Open", "MOSPOS": "Open", "MASKNAME": "None", "DETID": "109", "GAIN": 4.44, "RDNOISE": 0.0,
    "RAWGEMQA": "USABLE", "RAWIQ": "70-percentile", "DATE-OBS": "2013-11-21", "UTSTART": "02:52:48.000",
}  # fmt: skip
WCS_CARDS: dict[str, Any] = {
    "CD1_1": 0.0, "CD1_2": 4.97e-05, "CD2_1": 4.97e-05, "CD2_2": 0.0, "CD3_3": 1.0, "CRPIX1": 24.5,
    "CRPIX2": 20.5, "CRVAL1": 63.48, "CRVAL2": -47.85, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
    "RADECSYS": "FK5",
}  # fmt: skip


def header_of(cards: dict[str, Any]) -> fits.Header:
    """A header of some cards; those that are None are left out."""
    return fits.Header([(keyword, value) for keyword, value in cards.items() if value is not None])


@pytest.fixture
def science() -> dict[str, Any]:
    """Cards of a science frame's primary header, to change."""
    return dict(SCIENCE)


@pytest.fixture
def facts() -> FrameFacts:
    """Facts of a science frame."""
    return facts_from_headers(SCIENCE, None, name="S20131121S0075.fits")


@pytest.fixture
def pixels() -> NDArray[np.int32]:
    """Pixels of a small frame, 40 rows of 48 columns, none alike, some negative."""
    return np.arange(-100, 40 * 48 - 100, dtype=np.int32).reshape(40, 48) * 7


@pytest.fixture
def primary() -> Header:
    """Primary header of a science frame."""
    return Header(SCIENCE)


@pytest.fixture
def extension() -> Header:
    """Header of its image, with the useless third axis."""
    return Header(WCS_CARDS)


WriteRaw = Callable[..., Path]


@pytest.fixture
def write_raw(tmp_path: Path, pixels: NDArray[np.int32]) -> WriteRaw:
    """Write a raw frame: ``write_raw(name, pixels=..., cards...)``; compressed by the name's suffix."""

    def write(name: str = "S20131121S0075.fits", data: NDArray[Any] | None = None, **cards: Any) -> Path:
        data = pixels[np.newaxis] if data is None else data
        changed = SCIENCE | {"DATE-OBS" if k == "DATE_OBS" else k: value for k, value in cards.items()}
        hdus = fits.HDUList(
            [fits.PrimaryHDU(header=header_of(changed)), fits.ImageHDU(data, header_of(WCS_CARDS))]
        )
        path = tmp_path / name
        hdus.writeto(path)
        return path

    return write


class FakeFrame:
    """A raw frame in memory that counts how often each of its rows is read."""

    def __init__(self, adu: NDArray[Any], cards: dict[str, Any], name: str) -> None:
        self.adu, self.name = adu, name
        self.primary, self.extension = Header(cards), Header(WCS_CARDS)
        self.facts = facts_from_headers(cards, WCS_CARDS, name=name)
        self.shape: tuple[int, int] = (adu.shape[0], adu.shape[1])
        self.reads = np.zeros(adu.shape[0], int)

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """ADU of some rows."""
        self.reads[rows or slice(None)] += 1
        return self.adu[rows or slice(None)].copy()


def reported(electrons: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a non-linear pixel reports for electrons of one coadd: the inverse of the correction, by Newton."""
    c1, c2, c3 = camera.nonlinearity
    x = electrons.copy()
    for _ in range(6):
        x -= (x * (c1 + x * (c2 + x * c3)) - electrons) / (c1 + x * (2 * c2 + x * 3 * c3))
    return x


@pytest.fixture
def expose() -> Callable[..., list[FakeFrame]]:
    """Expose a simulated detector.

    ``expose(light, n)`` gives n frames of Poisson electrons (``light`` of one coadd, a plane or one a frame), a
    non-linear response, a pedestal without shot noise, read noise, gain and rounding to integer ADU.
    """

    def make(
        light: NDArray[Any] | float,
        n: int,
        *,
        shape: tuple[int, int] = (96, 128),
        pedestal: float | NDArray[Any] = 65.0,
        seed: int = 1,
        linear: bool = False,
        read_noise: float | None = None,
        **cards: Any,
    ) -> list[FakeFrame]:
        rng = np.random.default_rng(seed)
        cards = SCIENCE | {"OBSTYPE": "DARK", "EXPTIME": 120.0} | cards
        frames = []
        for k in range(n):
            name = f"S20131120S{100 * seed + k:04d}.fits"
            facts = facts_from_headers(cards, WCS_CARDS, name=name)
            total = np.zeros(shape)
            for _ in range(facts.coadds):
                plane = light[k] if np.ndim(light) == 3 else light
                electrons = rng.poisson(np.broadcast_to(plane, shape)).astype(float)
                total += electrons if linear else reported(electrons)
            noise = facts.read_noise if read_noise is None else read_noise
            total += pedestal + rng.normal(0, noise, shape)
            frames.append(FakeFrame(np.rint(total / facts.gain).astype(np.int32), cards, name))
        return frames

    return make
