"""The light of a star outside an aperture, from the isolated stars of the stack itself.

The light between the aperture and a wide one is measured around bright stars, above the level of a ring around them,
and divided by that within the aperture. The ratio is the same for all stars of a stack; its robust mean is the
correction (the curve of growth, Howell 1989, PASP 101, 616).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.aperture_noise import ApertureNoise
from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.photometry.robust_fit import robust_fit

#: Signal to noise of the stars.
_SNR: Final = 50.0
#: Their FWHM over the seeing, at most this factor more or less.
_WIDTH: Final = 1.15
#: Most light of another source within the wide aperture, relative to the star.
_NEIGHBOUR: Final = 0.01
#: Width of the ring around the wide aperture, FWHM, and the least share of it on empty sky.
_RING: Final = 2.0
_LEAST_RING: Final = 0.3
#: Largest share of the wide aperture without a measurement.
_MOST_GAPS: Final = 0.01
#: Most stars: the brightest.
_MOST: Final = 200
#: Relative scatter of the ratio that is expected beyond the noise.
_USUAL_SCATTER: Final = 0.0005
#: Radius, in that of the aperture, out to which the light outside it shows how much stars differ: further out, the
#: noise hides it.
_NEXT: Final = 1.5
#: Standard error of a median over that of a mean.
_MEDIAN_LOSS: Final = 1.2533


@dataclass(frozen=True)
class ApertureCorrection:
    """The factor from the light within an aperture to all of a star's.

    Attributes
    ----------
    factor
        All light over that within the aperture.
    error
        Its standard error.
    scatter
        Relative scatter, from star to star, of the light just outside the aperture beyond its noise.
    stars
        Stars that agree; 0: no correction was possible, and the factor is 1.
    radius, total_radius
        Of the aperture and of the wide one, px.
    """

    factor: float
    error: float
    scatter: float
    stars: int
    radius: float
    total_radius: float


def correction_stars(
    sources: NDArray[np.void], seeing: float, reach: float, *, rejected: int
) -> NDArray[np.intp]:
    """Return the indices of bright isolated stars, brightest first.

    Parameters
    ----------
    sources
        Rows of `imaging.sources.detect.CATALOGUE`.
    seeing
        FWHM of the stars, px.
    reach
        Distance of other sources that count as neighbours, px.
    rejected
        Bits of ``flags`` that a star must not have.
    """
    from scipy.spatial import cKDTree

    if not math.isfinite(seeing) or not len(sources):
        return np.zeros(0, np.intp)
    width = np.abs(np.log(np.maximum(sources["fwhm"], 1e-3) / seeing))
    good = ((sources["flags"] & rejected) == 0) & (sources["snr"] > _SNR) & (width < math.log(_WIDTH))
    tree = cKDTree(np.column_stack([sources["x"], sources["y"]]))
    kept = []
    for i in np.flatnonzero(good):
        near = [j for j in tree.query_ball_point((sources["x"][i], sources["y"][i]), reach) if j != i]
        if float(np.maximum(sources["flux"][near], 0.0).sum()) <= _NEIGHBOUR * sources["flux"][i]:
            kept.append(i)
    chosen = np.array(kept, np.intp)
    return chosen[np.argsort(-sources["flux"][chosen], kind="stable")[:_MOST]]


def measure_correction(
    image: MeasuredImage,
    stars: NDArray[np.float64],
    noise: ApertureNoise,
    radius: float,
    total_radius: float,
    seeing: float,
) -> ApertureCorrection:
    """Measure the correction of an aperture with some stars.

    Parameters
    ----------
    image
        The image.
    stars
        Positions x, y of bright isolated stars, (n, 2).
    noise
        The noise of apertures.
    radius, total_radius
        Of the aperture, and of the one that is taken to hold all light of a star, px.
    seeing
        FWHM of the stars, px.

    Returns
    -------
    ApertureCorrection
        With fewer than two usable stars, a factor of 1 and ``stars`` 0.
    """
    places, levels, level_errors = _surroundings(image, stars, total_radius, seeing)
    none = ApertureCorrection(1.0, 0.0, 0.0, 0, radius, total_radius)
    if len(places) < 2:
        return none
    radii = (radius, min(_NEXT * radius, total_radius), total_radius)
    inner, middle, outer = (
        circle_sums(image.sky_subtracted, places, r) - math.pi * r**2 * levels for r in radii
    )
    variances = [noise.flux_errors(image, places, r) ** 2 for r in radii]
    bright = inner > 0
    fits = []
    for k, light in ((2, outer - inner), (1, middle - inner)):
        area = math.pi * (radii[k] ** 2 - radius**2)
        ring = np.sqrt(np.maximum(variances[k] - variances[0], 0.0) + (area * level_errors) ** 2)
        fits.append(robust_fit((light / inner)[bright], (ring / inner)[bright], _USUAL_SCATTER))
    total, near = fits
    if total is None or near is None:
        return none
    return ApertureCorrection(
        1.0 + total.value, total.error, near.scatter, total.number, radius, total_radius
    )


def _surroundings(
    image: MeasuredImage, stars: NDArray[np.float64], inner: float, seeing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the stars whose surroundings are usable, the level around each, and its standard error."""
    ny, nx = image.usable.shape
    outer = inner + _RING * seeing
    kept, levels, errors = [], [], []
    for x, y in stars:
        x0, x1, y0, y1 = (int(v) for v in (x - outer, x + outer + 2, y - outer, y + outer + 2))
        if x0 < 0 or y0 < 0 or x1 > nx or y1 > ny:
            continue
        box = (slice(y0, y1), slice(x0, x1))
        distance = np.hypot(np.arange(x0, x1) - x, (np.arange(y0, y1) - y)[:, None])
        disc, ring = distance <= inner, (distance > inner) & (distance <= outer)
        if (~image.usable[box][disc]).mean() > _MOST_GAPS:
            continue
        empty = ring & image.empty[box]
        if empty.sum() < _LEAST_RING * ring.sum():
            continue
        values = image.sky_subtracted[box][empty].astype(np.float64)
        middle, spread = float(np.median(values)), float(np.std(values))
        kept.append((x, y))
        levels.append(middle)
        errors.append(_MEDIAN_LOSS * spread / math.sqrt(len(values)))
    return np.array(kept).reshape(-1, 2), np.array(levels), np.array(errors)
