"""Small frames of NIRI from known rates of electrons: the central part of 256 rows, with the habits of real files."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

SIZE: Final = 256
#: Electrons per ADU, read noise of the medium background mode, arcsec per pixel at f/6.
GAIN, NOISE, SCALE = 12.3, 35.0, 0.1171
#: Light beyond the exposure time (s), and the coefficients of the non-linearity, of this mode, size and well.
EXTRA, GAMMA, ETA = 0.0102926, 5.540988e-7, 1.404726e-12
COADDS: Final = 2
#: Width of a star, px, and the rates of stars at x, y, electrons per second.
WIDTH: Final = 2.2
STARS: Final = (
    (60.0, 80.0, 9000.0), (190.0, 70.0, 20000.0), (70.0, 190.0, 5000.0), (180.0, 180.0, 12000.0),
    (128.0, 120.0, 3000.0),
)  # fmt: skip
CARDS: Final[dict[str, Any]] = {
    "INSTRUME": "NIRI", "OBJECT": "NGC 1", "FILTER1": "J_G0202", "FILTER2": "open", "FILTER3": "pupil38_G5207",
    "CAMERA": "f6", "FPMASK": "f6-cam_G5208", "COADDS": COADDS, "LNRS": 1, "NDAVGS": 16, "A_VDDUC": -3.49,
    "A_VDET": -2.91, "PA": 0.0, "INPORT": 3, "AOFOLD": "park-pos.", "RA": 12.5, "DEC": 31.5, "AIRMASS": 1.2,
    "ARRAYID": "47911", "GEMPRGID": "GN-2008B-Q-1", "RAWGEMQA": "USABLE", "OBSCLASS": "science",
}  # fmt: skip


class NiriNight:
    """Writes the frames of one night into a folder, one after the other.

    Parameters
    ----------
    folder
        The folder.
    start
        Time of the first frame, UT.
    """

    def __init__(self, folder: Path, start: datetime = datetime(2008, 10, 2, 5)) -> None:
        self._folder, self._start, self._number = folder, start, 0
        self._rng = np.random.default_rng(5)
        x = np.arange(SIZE)
        response = 1 + 0.05 * np.sin(x / 40) + 0.03 * self._rng.standard_normal((SIZE, SIZE))
        self.response = (response / np.median(response)).clip(0.5)
        self.dark = np.full((SIZE, SIZE), 0.3)
        self.dark[self._rng.random((SIZE, SIZE)) < 0.003] = 800

    def sequence(
        self, count: int, observation: int, rate: NDArray[Any], exposure: float, **cards: Any
    ) -> list[Path]:
        """Write frames of one observation, with bad first frame: that one has no signal."""
        return [
            self.write(rate if n else 0 * rate, exposure, observation, n + 1, **cards)
            for n in range(count + 1)
        ]

    def darks(self, count: int, observation: int, exposure: float) -> list[Path]:
        """Write darks."""
        return self.sequence(count, observation, self.dark, exposure, OBSTYPE="DARK", FILTER3="blank")

    def flats(self, count: int, observation: int, *, lamp: bool) -> list[Path]:
        """Write lamp flats of 10 s."""
        rate = self.dark + 5 + (2000 * self.response if lamp else 0)
        state = {"OBSTYPE": "FLAT", "GCALLAMP": "IRhigh", "GCALSHUT": "OPEN" if lamp else "CLOSED"}
        return self.sequence(count, observation, rate, 10.001, **state)

    def science(self, count: int, observation: int, exposure: float = 30.001) -> list[Path]:
        """Write dithered frames of the stars; the world coordinates in the image's header are corrupt."""
        y, x = np.mgrid[:SIZE, :SIZE]
        dithers = [(0, 0), (3, 0), (-3, 0), (0, 3), (0, -3), (3, 3), (-3, -3)]
        written = []
        for n in range(count + 1):
            p, q = dithers[n % len(dithers)]
            light = np.full((SIZE, SIZE), 100.0)
            for at_x, at_y, rate in STARS:
                squares = (x - at_x - p / SCALE) ** 2 + (y - at_y + q / SCALE) ** 2
                light += rate / (2 * np.pi * WIDTH**2) * np.exp(-squares / (2 * WIDTH**2))
            wcs = {
                "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": SIZE / 2 + 0.5 + p / SCALE,
                "CRPIX2": SIZE / 2 + 0.5 - q / SCALE, "CRVAL1": 12.5, "CRVAL2": 31.5, "CD1_1": -SCALE / 3600,
                "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": SCALE / 3600,
            }  # fmt: skip
            rate = (self.dark + light * self.response) * (n > 0)
            offsets = {"POFFSET": float(p), "QOFFSET": float(q)}
            written.append(self.write(rate, exposure, observation, n + 1, wcs, OBSTYPE="OBJECT", **offsets))
        return written

    def write(
        self, rate: NDArray[Any], exposure: float, observation: int, number: int, wcs: dict[str, Any] | None = None,
        **cards: Any,
    ) -> Path:  # fmt: skip
        """Write one frame of a rate of electrons per second."""
        self._number += 1
        start = self._start + timedelta(seconds=100 * self._number)
        identity = f"GN-2008B-Q-1-{observation}"
        clock = {"DATE-OBS": f"{start:%Y-%m-%d}", "UT": f"{start:%H:%M:%S}", "TIME-OBS": f"{start:%H:%M:%S}"}
        label = {"OBSID": identity, "DATALAB": f"{identity}-{number:03d}", "EXPTIME": exposure}
        primary = fits.Header(list((CARDS | clock | label | (wcs or {}) | cards).items()))
        last = SIZE - 1
        section = {"LOWROW": 0, "HIROW": last, "LOWCOL": 0, "HICOL": last}
        corrupt = wcs | {"CD1_1": -3.25e-55} if wcs else {}
        image = fits.ImageHDU(self._expose(rate, exposure), fits.Header(list((section | corrupt).items())))
        path = self._folder / f"N{start:%Y%m%d}S{self._number:04d}.fits"
        fits.HDUList([fits.PrimaryHDU(header=primary), image]).writeto(path)
        return path

    def _expose(self, rate: NDArray[Any], exposure: float) -> NDArray[np.int32]:
        total = np.zeros((SIZE, SIZE))
        for _ in range(COADDS):
            charge = self._rng.poisson(rate * (exposure + EXTRA)).astype(float)
            read = charge.copy()
            for _ in range(5):  # N' = N (1 + gamma N + eta N^2), inverted
                read = charge / (1 + GAMMA * read + ETA * read**2)
            total += np.round((read + self._rng.normal(0, NOISE, read.shape)) / GAIN)
        return total.astype(np.int32)
