"""Stacks of known stars: dithered frames with noise, resampled and averaged as those of a night.

Detector, calibrations and alignment are left out, so that a realisation takes a second or two. The noise of a stack is
as in a night: correlated by the resampling, with what is left of the sky, and with stars too faint to be found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.registration.geometry import Affine
from imaging.registration.resampling.interpolants import mean_squared_weights
from imaging.registration.resampling.resample import array_source, resample_rows
from imaging.simulator.plans.f2_nights import BANDS, SKY_SCALE
from imaging.simulator.star_field import add_stars

#: Read noise of a frame, electrons, by read pairs; seeing, arcsec; exponent of the stars' profile.
READ_NOISE: Final = {1: 11.7, 4: 6.0, 8: 5.0}
#: Side of the field for which numbers of stars are given, px.
FIELD: Final = 1024
SEEING: Final = 0.7
BETA: Final = 3.5
#: Slope of the stars' counts, dN/dF ~ F^-slope.
_SLOPE: Final = 1.6
#: Scale of what is left of the sky in a frame, px.
_SKY_LENGTH: Final = 40.0


@dataclass(frozen=True)
class Stars:
    """True stars of a stack: pixels from 0, and all light of each in the exposure of a frame, electrons."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticStack:
    """A stack, and what is known about it.

    Attributes
    ----------
    sci, var, dq
        The stack, (ny, nx): electrons of the exposure of a frame.
    noise_correlation
        NCORR.
    stars
        The true stars.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    noise_correlation: float
    stars: Stars


@dataclass(frozen=True)
class Scene:
    """What is observed.

    Attributes
    ----------
    band
        Its sky, exposure and read noise.
    size
        Rows and columns.
    frames
        Dithered frames.
    stars, bright
        Stars with fluxes between the limits, and with those between the bright limits, on 1024 x 1024 pixels.
    limits, bright_limits
        Electrons of a frame.
    sky_error
        rms of what is left of the sky in a frame, relative to the noise of its pixels.
    """

    band: str = "Y"
    size: int = 1024
    frames: int = 9
    stars: int = 240
    bright: int = 25
    limits: tuple[float, float] = (3e2, 1.5e5)
    bright_limits: tuple[float, float] = (1.5e5, 1.3e6)
    sky_error: float = 0.02

    @property
    def sky(self) -> float:
        """Sky of a frame, electrons per pixel."""
        return BANDS[self.band].sky * self.exposure

    @property
    def exposure(self) -> float:
        """Exposure of a frame, s."""
        return BANDS[self.band].science_time

    @property
    def frame_variance(self) -> float:
        """Variance of a pixel of empty sky in a frame, electrons squared."""
        return self.sky + READ_NOISE[BANDS[self.band].science_reads] ** 2

    @property
    def fwhm(self) -> float:
        """Mean width of a star at half maximum, px."""
        return SEEING / SKY_SCALE


def synthetic_stars(scene: Scene, rng: np.random.Generator) -> Stars:
    """Return stars at random places."""
    common, rare = (round(k * (scene.size / FIELD) ** 2) for k in (scene.stars, scene.bright))
    n = common + rare
    margin = 8 * scene.fwhm
    x, y = rng.uniform(margin, scene.size - 1 - margin, (2, n))
    a = 1.0 - _SLOPE
    faint, bright = (
        (low**a + rng.uniform(0, 1, number) * (high**a - low**a)) ** (1.0 / a)
        for (low, high), number in ((scene.limits, common), (scene.bright_limits, rare))
    )
    return Stars(x, y, np.concatenate([faint, bright]))


def synthetic_stack(scene: Scene, rng: np.random.Generator, stars: Stars | None = None) -> SyntheticStack:
    """Observe a scene: frames with noise, each resampled by a shift of its own, and their mean.

    Parameters
    ----------
    scene
        What is observed.
    rng
        Random numbers.
    stars
        The stars; default: at random places.
    """
    from scipy.ndimage import gaussian_filter

    stars = synthetic_stars(scene, rng) if stars is None else stars
    shape = (scene.size, scene.size)
    total, variance = np.zeros(shape), np.zeros(shape)
    gains = []
    for _ in range(scene.frames):
        dx, dy = rng.uniform(-30, 30, 2)
        light = np.zeros(shape, np.float32)
        fwhm = scene.fwhm * (1 + rng.normal(0, 0.03))
        add_stars(light, stars.x + dx, stars.y + dy, stars.flux, fwhm=fwhm, beta=BETA, level=0.02)
        truth = scene.frame_variance + light
        left = gaussian_filter(rng.normal(0, 1, shape).astype(np.float32), _SKY_LENGTH)
        left *= scene.sky_error * math.sqrt(scene.frame_variance) / left.std()
        values = light + left + rng.normal(0, 1, shape).astype(np.float32) * np.sqrt(truth)
        # The noise is estimated from the noisy values, as that of a frame is.
        source = array_source(
            values.astype(np.float32),
            np.maximum(scene.frame_variance + values, scene.frame_variance / 2).astype(np.float32),
            np.zeros(shape, np.uint16),
        )
        sci, var, _ = resample_rows(source, shape, Affine.shift(-dx, -dy), slice(0, scene.size), scene.size)
        total += sci
        variance += var
        gains.append(mean_squared_weights("lanczos3", np.array([dx]), np.array([dy])))
    n = scene.frames
    inside = np.zeros(shape, bool)
    inside[32:-32, 32:-32] = True
    return SyntheticStack(
        (total / n).astype(np.float32),
        np.where(inside, variance / n**2, 0).astype(np.float32),
        np.where(inside, 0, 16).astype(np.uint16),
        float(1.0 / math.sqrt(np.mean(gains))),
        stars,
    )
