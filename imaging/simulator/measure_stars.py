"""Measurements that the score makes in the same way on a product and its noise-free model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sep
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: 1 / (sqrt(2) Phi^-1(5/8)): the lower quartile of the distances of all pairs is sigma over this.
_PAIRS_TO_SIGMA: Final = 2.2219
SIGMA_TO_FWHM: Final = 2.3548200450309493

FloatPlane = NDArray[np.float32] | NDArray[np.float64]


def robust_sigma(values: NDArray[Any]) -> float:
    """Return the sigma of ``values`` from their median absolute deviation; NaN without values."""
    if values.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def pairwise_sigma(values: NDArray[Any]) -> float:
    """Return the sigma of ``values`` from the lower quartile of the distances of all pairs; NaN with fewer than two.

    The estimator Qn of Rousseeuw & Croux (1993, JASA 88, 1273). For normal errors its variance is 1.22 times that of
    the standard deviation, where the median absolute deviation has 2.7 times; half of the values may be outliers.
    """
    n = len(values)
    if n < 2:
        return float("nan")
    half = n // 2 + 1
    distances = np.abs(np.subtract.outer(values, values))[np.triu_indices(n, 1)]
    chosen = half * (half - 1) // 2 - 1
    few = n / (n + 1.4) if n % 2 else n / (n + 3.8)
    return float(_PAIRS_TO_SIGMA * few * np.partition(distances, chosen)[chosen])


def clipped_rms(values: NDArray[Any], clip: float) -> float:
    """Return the root mean square of the values within ``clip`` robust sigmas of their median, about zero."""
    if values.size == 0:
        return float("nan")
    kept = values[np.abs(values - np.median(values)) <= clip * robust_sigma(values)]
    return float(np.sqrt(np.mean(np.square(kept, dtype=np.float64)))) if kept.size else 0.0


@dataclass(frozen=True)
class StarShape:
    """Centre (pixels from 0) and full width at half maximum (pixels) of a star."""

    x: float
    y: float
    fwhm: float


def measure_star(plane: FloatPlane, x: float, y: float, *, fwhm: float) -> StarShape | None:
    """Measure centre and width of a star by adaptive moments, with a Gaussian weight matched to the star.

    The weight's centre and sigma are moved to those of the weighted light until both agree; for a Gaussian
    star the weighted variance is half of the true one (Bernstein and Jarvis 2002, AJ 123, 583, section 3.1).

    Parameters
    ----------
    plane
        Image without background, shape (ny, nx).
    x, y
        First guess of the centre, accurate to about the star's width.
    fwhm
        First guess of the width, pixels.

    Returns
    -------
    StarShape or None
        None if the star is too near an edge or the moments diverge.
    """
    sigma = fwhm / SIGMA_TO_FWHM
    reach = int(np.ceil(3.0 * fwhm))
    x0, y0 = x, y
    for _ in range(200):
        column, row = round(x), round(y)
        if not (reach <= column < plane.shape[1] - reach and reach <= row < plane.shape[0] - reach):
            return None
        stamp = plane[row - reach : row + reach + 1, column - reach : column + reach + 1]
        axis = np.arange(-reach, reach + 1)
        dx, dy = axis[None, :] + (column - x), axis[:, None] + (row - y)
        r2 = dx * dx + dy * dy
        light = stamp * np.exp(-0.5 * r2 / sigma**2)
        total = float(light.sum())
        if not total > 0:
            return None
        mx, my = float((light * dx).sum()) / total, float((light * dy).sum()) / total
        variance = float((light * r2).sum()) / total  # for a matched weight this is sigma^2 of two axes / 2
        if variance <= 0:
            return None
        x, y = x + 2 * mx, y + 2 * my
        new_sigma = float(np.clip(np.sqrt(variance), 0.5 * sigma, 2.0 * sigma))
        done = abs(new_sigma - sigma) < 1e-5 * sigma and max(abs(mx), abs(my)) < 1e-5
        sigma = new_sigma
        if np.hypot(x - x0, y - y0) > 2 * fwhm or sigma > 2 * fwhm:
            return None
        if done:
            return StarShape(x, y, sigma * SIGMA_TO_FWHM)
    return None


def aperture_flux(
    plane: FloatPlane, x: float, y: float, *, radius: float, annulus: tuple[float, float]
) -> float:
    """Return the light within ``radius`` pixels minus the local background, the clipped median of the annulus.

    Pixels cut by the circle count with the exact fraction inside.
    """
    ny, nx = plane.shape
    reach = int(np.ceil(annulus[1])) + 1
    rows = slice(max(0, round(y) - reach), min(ny, round(y) + reach + 1))
    columns = slice(max(0, round(x) - reach), min(nx, round(x) + reach + 1))
    stamp = np.ascontiguousarray(plane[rows, columns], np.float64)
    cx, cy = x - columns.start, y - rows.start
    yy, xx = np.indices(stamp.shape)
    distance = np.hypot(xx - cx, yy - cy)
    ring = stamp[(distance >= annulus[0]) & (distance <= annulus[1])]
    for _ in range(5):
        ring = ring[np.abs(ring - np.median(ring)) <= 3 * max(robust_sigma(ring), 1e-12)]
    flux, _, _ = sep.sum_circle(stamp, [cx], [cy], radius, subpix=0)
    return float(flux[0] - np.pi * radius**2 * np.median(ring))


def bin_means(plane: FloatPlane, good: NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    """Return the means of ``side`` x ``side`` bins; NaN where a pixel of the bin is not ``good``. Odd edges are cut."""
    ny, nx = (n // side * side for n in plane.shape)
    shape = (ny // side, side, nx // side, side)
    whole = good[:ny, :nx].reshape(shape).all(axis=(1, 3))
    means = np.where(good[:ny, :nx], plane[:ny, :nx], 0).reshape(shape).mean(axis=(1, 3), dtype=np.float64)
    return np.where(whole, means, np.nan)


def block_means(values: NDArray[np.float64], side: int, least: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the means and counts of the finite values in blocks of ``side`` x ``side``, at the shape of ``values``.

    The mean is NaN where a block has fewer than ``least`` values.
    """
    ny, nx = values.shape
    padded = np.full((-(-ny // side) * side, -(-nx // side) * side), np.nan)
    padded[:ny, :nx] = values
    blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3))
    mean = np.where(count >= least, total / np.maximum(count, 1), np.nan)
    grow = np.ones((side, side))
    return np.kron(mean, grow)[:ny, :nx], np.kron(count, grow)[:ny, :nx]


def common_shift(
    found: NDArray[np.float64], expected: NDArray[np.float64], *, reach: float, step: float = 3.0
) -> tuple[float, float] | None:
    """Return the shift (dx, dy) that matches most ``expected`` positions to ``found`` ones, by counting pairs.

    Parameters
    ----------
    found, expected
        Positions, shape (n, 2).
    reach
        Largest shift to search, pixels.
    step
        Width of a cell of the count; positions are expected to agree within it.
    """
    if not len(found) or not len(expected):
        return None
    pairs = (found[:, None, :] - expected[None, :, :]).reshape(-1, 2)
    pairs = pairs[(np.abs(pairs) <= reach).all(axis=1)]
    if not len(pairs):
        return None
    cells = np.round(pairs / step).astype(np.int64)
    keys, counts = np.unique(cells, axis=0, return_counts=True)
    near = [(np.abs(keys - key).max(axis=1) <= 1) @ counts for key in keys[counts == counts.max()]]
    shift = keys[counts == counts.max()][int(np.argmax(near))] * step
    for width in (2 * step, step, step):
        close = np.abs(pairs - shift).max(axis=1) <= width
        shift = np.median(pairs[close], axis=0)
    return float(shift[0]), float(shift[1])
