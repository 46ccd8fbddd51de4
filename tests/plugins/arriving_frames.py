"""Small frames of a star field with known truth, as raw files: for what is measured seconds after a frame arrives."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from raw_files import DARK, SCIENCE

from imaging.simulator.star_field import add_stars

SHAPE = (320, 320)
EXPOSURE = 120.0
SCALE = 0.1792  # arcsec, of FLAMINGOS-2
GAIN = 4.44 / 8  # electrons per ADU with 8 read pairs
READ_NOISE = 5.0
DARK_LEVEL = 100.0  # electrons
SKY = 40.0  # electrons per second
FWHM = 0.75  # arcsec


@functools.cache
def _stars(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(40, 290, 48.0), np.arange(40, 290, 48.0)))
    x, y = x + rng.uniform(-8, 8, x.size), y + rng.uniform(-8, 8, y.size)
    return x[:number], y[:number], np.geomspace(4e4, 6e5, x.size)[rng.permutation(x.size)][:number]


def electrons(
    *, seed: int = 1, stars: int = 36, fwhm: float = FWHM, sky: float = SKY, shift: tuple[float, float] = (0.0, 0.0),
    transparency: float = 1.0, trailed: float = 0.0,
) -> NDArray[np.float64]:  # fmt: skip
    """Return a frame in electrons; ``trailed`` is the length of the trail of a star along x, px."""
    rng = np.random.default_rng(seed)
    light = np.full(SHAPE, sky * EXPOSURE, np.float32)
    x, y, flux = _stars(stars)
    steps = np.linspace(-0.5, 0.5, 9) * trailed if trailed else np.zeros(1)
    for step in steps:
        add_stars(
            light, x + shift[0] + step, y + shift[1], transparency * flux / len(steps), fwhm=fwhm / SCALE, beta=3.5,
            level=1.0,
        )  # fmt: skip
    return rng.poisson(light + DARK_LEVEL) + rng.normal(0, READ_NOISE, SHAPE)


def write_frame(
    path: Path, pixels: NDArray[np.float64], kind: dict[str, Any] = SCIENCE, **cards: Any
) -> Path:
    """Write a frame of FLAMINGOS-2 from electrons."""
    number = int(path.name[10:14])
    header = kind | {
        "DATALAB": f"GS-2013B-Q-1-1-{number:03d}", "UTSTART": f"02:{3 * number // 60 % 60:02d}:{3 * number % 60:02d}",
        "AIRMASS": 1.2, "REQIQ": "85-percentile", "REQCC": "50-percentile", "OIWFS_ST": "guiding",
    } | {name.replace("__", "-"): value for name, value in cards.items()}  # fmt: skip
    adu = np.round(pixels / GAIN).astype(np.int32)
    primary = fits.PrimaryHDU(header=fits.Header(list(header.items())))
    fits.HDUList([primary, fits.ImageHDU(adu)]).writeto(path)
    return path


def write_dark(path: Path, seed: int = 1) -> Path:
    """Write a dark."""
    rng = np.random.default_rng(seed)
    return write_frame(path, rng.poisson(DARK_LEVEL, SHAPE) + rng.normal(0, READ_NOISE, SHAPE), DARK)
