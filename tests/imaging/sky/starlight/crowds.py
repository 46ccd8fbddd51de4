"""A crowded field of Moffat stars, without and with noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.simulator.star_field import add_stars

FWHM, BETA, NOISE = 4.2, 3.5, 25.0


@dataclass(frozen=True)
class Crowd:
    """A field: true light, the stars, and the field with noise; its empty sky is at 0."""

    light: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    sci: NDArray[np.float32]
    var: NDArray[np.float32]


def stars_at(
    shape: tuple[int, int], x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the light of stars."""
    plane = np.zeros(shape, np.float32)
    add_stars(plane, x, y, flux, fwhm=FWHM, beta=BETA, level=0.01)
    return plane


def crowd(rng: np.random.Generator, *, size: int = 320, n: int = 480) -> Crowd:
    """Return a field with one star in about 210 pixels, dN/dF ~ F^-1.25 from 1200 electrons."""
    x, y = rng.uniform(-10, size + 10, (2, n))
    flux = (1200**-0.25 + rng.random(n) * (4e5**-0.25 - 1200**-0.25)) ** -4
    light = stars_at((size, size), x, y, flux)
    var = (NOISE**2 + light / 9).astype(np.float32)
    sci = light + np.sqrt(var) * rng.standard_normal(light.shape).astype(np.float32)
    return Crowd(light, x, y, flux, sci.astype(np.float32), var)
