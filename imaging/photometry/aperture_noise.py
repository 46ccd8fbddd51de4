"""The noise of an aperture in a stack, measured in empty apertures of several radii.

Resampling correlates the noise of neighbouring pixels. What is left of the sky, of the flat and of faint sources is
common to many pixels. Both make the noise of a sum larger than VAR predicts, the more so the larger the aperture; empty
apertures on the stack contain all of it (Labbe et al. 2003, AJ 125, 1107, section 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.photometry.pixel_apertures import sums_about_pixels
from imaging.usual import MAD_TO_SIGMA

#: Radii of the empty apertures, px.
RADII: Final = (1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 9.0, 12.0, 15.0)
#: Most apertures of a radius: the scatter of 8000 is known to 0.8 %.
_MOST: Final = 8000
#: Fewest apertures of a radius that count, and fewest of the smallest that allow a measurement.
_FEWEST: Final = 40
_LEAST: Final = 200
#: Distance of the centres, radii: a closer grid has little more information.
_SPACING: Final = 1.6
#: Sums further from the median than this many of their standard deviations are light of sources.
_CLIP: Final = 4.0
_ROUNDS: Final = 6
#: Scales on which correlation by resampling ends, px.
_SCALES: Final = (1.0, 3.0)


@dataclass(frozen=True)
class ApertureNoise:
    """The variance of a sum within a circle over that of as many uncorrelated pixels.

    Attributes
    ----------
    factors
        Factors of the terms 1, r / (r + s) for each s of two scales, r and r^2; none is negative.
    noise_correlation
        NCORR of the stack: it applies to the shot noise of a source, whose light is that of a complete star.
    apertures
        Empty apertures that it was measured with; 0: not measured, NCORR alone.
    """

    factors: tuple[float, ...]
    noise_correlation: float
    apertures: int

    def ratio(self, radius: float) -> float:
        """Return the variance of a sum within ``radius`` px over the sum of VAR there."""
        return float(_terms(np.array([radius]))[0] @ np.array(self.factors))

    def flux_errors(
        self, image: MeasuredImage, positions: NDArray[np.float64], radius: float
    ) -> NDArray[np.float64]:
        """Return the standard errors of fluxes within circles, electrons: of the sky and of the sources' own light.

        Parameters
        ----------
        image
            The image.
        positions
            Centres x, y from 0, (n, 2).
        radius
            px.
        """
        sky = math.pi * radius**2 * image.sky_variance_at(positions)
        own = np.maximum(circle_sums(image.var, positions, radius) - sky, 0.0)
        return np.sqrt(self.ratio(radius) * sky + self.noise_correlation**2 * own)


def measure_aperture_noise(image: MeasuredImage, noise_correlation: float) -> ApertureNoise:
    """Measure the noise of apertures on the empty sky of an image.

    Parameters
    ----------
    image
        The image.
    noise_correlation
        NCORR: noise of large bins over what VAR predicts.

    Returns
    -------
    ApertureNoise
        With too few empty apertures, that of NCORR alone, with ``apertures`` 0.
    """
    from scipy.optimize import nnls

    radii, ratios, numbers = [], [], []
    for radius in RADII:
        sums = _normalised_sums(image, radius)
        if len(sums) < _FEWEST:
            break
        radii.append(radius)
        ratios.append(_spread(sums) ** 2)
        numbers.append(len(sums))
    if not numbers or numbers[0] < _LEAST:
        return ApertureNoise((noise_correlation**2, 0.0, 0.0, 0.0, 0.0), noise_correlation, 0)
    # The relative error of a variance of n values is sqrt(2 / n).
    weights = np.sqrt(np.array(numbers) / 2.0) / np.array(ratios)
    design = _terms(np.array(radii))
    found, _ = nnls(design * weights[:, None], np.array(ratios) * weights)
    return ApertureNoise(tuple(float(v) for v in found), noise_correlation, sum(numbers))


def _terms(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms of the ratio of variances, (radii, terms): none falls with the radius."""
    return np.column_stack([np.ones(len(radii)), *(radii / (radii + s) for s in _SCALES), radii, radii**2])


def _normalised_sums(image: MeasuredImage, radius: float) -> NDArray[np.float64]:
    """Return sums within empty circles over the errors that VAR alone predicts."""
    centres = image.empty_centres(radius, _SPACING * radius)
    if len(centres) > _MOST:
        centres = centres[np.linspace(0, len(centres) - 1, _MOST).astype(int)]
    if not len(centres):
        return np.zeros(0)
    sums, variances = sums_about_pixels((image.sky_subtracted, image.var), centres.astype(np.intp), radius)
    return sums / np.sqrt(variances)


def _spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation of values within a limit about their median."""
    middle = float(np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    for _ in range(_ROUNDS):
        kept = values[np.abs(values - middle) <= _CLIP * sigma]
        middle, sigma = float(np.median(kept)), float(kept.std(ddof=1))
    return sigma
