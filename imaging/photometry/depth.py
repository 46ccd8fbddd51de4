"""The depth of a stack: the magnitude of a point source at five sigma, and the brightness of the sky."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.aperture_correction import ApertureCorrection
from imaging.photometry.aperture_noise import ApertureNoise
from imaging.photometry.measured_image import MeasuredImage

#: Signal to noise of a source at the limit.
SIGMAS: Final = 5.0


def limiting_flux(image: MeasuredImage, noise: ApertureNoise, correction: ApertureCorrection) -> float:
    """Return the light of a point source of five sigma at the median noise of the image, electrons.

    Parameters
    ----------
    image
        The image.
    noise
        The noise of apertures, from empty ones.
    correction
        That of the aperture in which sources are measured.
    """
    return (
        _flux(float(np.median(image.var[image.empty])), noise, correction) if image.empty.any() else math.nan
    )


def depth_map(
    image: MeasuredImage, noise: ApertureNoise, correction: ApertureCorrection, zero_point: float
) -> NDArray[np.float32]:
    """Return the limiting magnitude at each pixel: (ny, nx), NaN without a measurement.

    On sources, the variance is that of the empty sky around them.
    """
    ny, nx = image.var.shape
    out = np.full((ny, nx), np.nan, np.float32)
    covered = image.usable & ~image.empty
    variance = np.where(image.empty, image.var, 0.0)
    if covered.any():
        y, x = np.nonzero(covered)
        variance[covered] = image.sky_variance_at(np.column_stack([x, y]).astype(np.float64))
    known = image.usable & (variance > 0)
    unit = _flux(1.0, noise, correction)
    out[known] = magnitude(unit, zero_point) - 1.25 * np.log10(variance[known])
    return out


def _flux(variance: float, noise: ApertureNoise, correction: ApertureCorrection) -> float:
    area = math.pi * correction.radius**2
    return SIGMAS * math.sqrt(noise.ratio(correction.radius) * area * variance) * correction.factor


def magnitude(flux: float, zero_point: float) -> float:
    """Return the magnitude of a flux, electrons; NaN if it is not positive."""
    return zero_point - 2.5 * math.log10(flux) if flux > 0 else math.nan


def sky_brightness(level: float, zero_point: float, pixel_scale: float) -> float:
    """Return the brightness of a sky level (electrons per pixel) per square arcsec, mag; NaN if it is not positive.

    Parameters
    ----------
    level
        Sky of a frame, electrons per pixel.
    zero_point
        Of that frame.
    pixel_scale
        arcsec per pixel.
    """
    return magnitude(level / pixel_scale**2, zero_point)
