"""Fluxes of the isolated stars of a stack against truth, and their noise: by the floor and by the product's VAR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sep
from numpy.typing import NDArray

from imaging.simulator.floor.best_stack import BestStack
from imaging.simulator.measure_stars import robust_sigma
from imaging.simulator.stack_model import Grid, StackProduct
from imaging.simulator.star_field import moffat_alpha
from imaging.simulator.truth import FrameTruth, NightTruth

#: Radius of the aperture and of the annulus, pixels.
APERTURE: Final = 12.0
ANNULUS: Final = (18.0, 30.0)
#: A star is isolated if the light of others in its aperture is below this part of its own.
NEIGHBOURS: Final = 0.05
#: Signal to noise at which stars stop being bright, and at which they are too faint to be measured.
BRIGHT_FROM: Final = 10.0
FAINT_FROM: Final = 3.0
#: How much fainter than the linear limit a star is, mag.
BELOW_LIMIT: Final = 0.5
#: A median's variance over a mean's, for many values.
MEDIAN_COST: Final = math.pi / 2
#: An aperture is empty if its stars have less light than this part of its noise.
EMPTY: Final = 0.5
_AREA: Final = math.pi * APERTURE**2
#: Variance of an aperture's background over that of the sum of its pixels.
_BACKGROUND_COST: Final = MEDIAN_COST * APERTURE**2 / (ANNULUS[1] ** 2 - ANNULUS[0] ** 2)


@dataclass(frozen=True)
class StarFluxes:
    """Fluxes of isolated stars that are on good pixels; arrays of one length.

    Attributes
    ----------
    flux, true
        In the aperture, electrons at the scale of the stack.
    floor, stated
        Their noise: by the best stack, and by the product's VAR.
    saturated
        Brighter than `BELOW_LIMIT` under the linear limit of the sharpest frame.
    share
        These stars over all that the field has, saturated ones apart; NaN without any.
    blank
        Fluxes in apertures without stars over their noise by the product's VAR.
    """

    flux: NDArray[np.float64]
    true: NDArray[np.float64]
    floor: NDArray[np.float64]
    stated: NDArray[np.float64]
    saturated: NDArray[np.bool_]
    share: float = 1.0
    blank: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def bright(self) -> NDArray[np.bool_]:
        """Stars from the limit of linearity to a signal to noise of 10."""
        return ~self.saturated & (self.true > BRIGHT_FROM * self.floor)

    @property
    def faint(self) -> NDArray[np.bool_]:
        """Stars of a signal to noise of 3 to 10."""
        snr = self.true / self.floor
        return (snr > FAINT_FROM) & (snr <= BRIGHT_FROM)


def linear_limit(truth: NightTruth, frames: Sequence[FrameTruth]) -> float:
    """Return the electrons per second of the star whose peak reaches the linear limit in the sharpest frame."""
    beta, camera = truth.parameters.moffat_beta, truth.parameters.camera
    rates = []
    for f in frames:
        alpha = moffat_alpha(f.fwhm or truth.parameters.fwhm, beta)
        peak = f.throughput * (beta - 1) / (math.pi * alpha**2)
        room = camera.linear_fraction * camera.well_depth - f.level * f.exposure_time
        rates.append(max(room, 0.0) / (peak * f.exposure_time))
    return min(rates)


def star_fluxes(
    stack: StackProduct, model: NDArray[np.float32], best: BestStack, usable: NDArray[np.bool_], truth: NightTruth,
    frames: Sequence[FrameTruth], grid: Grid, lights: NDArray[np.float64],
) -> StarFluxes:  # fmt: skip
    """Measure the isolated stars at their true positions.

    The background of a star is that of the stack minus its model, so that the wings of all stars in the annulus do
    not count.

    Parameters
    ----------
    stack, model
        The product and its noise-free model.
    best
        The best stack of the frames.
    usable
        Pixels with a measurement, on which apertures have to lie.
    truth, frames, grid
        The night, the frames in the stack, and the position of the field.
    lights
        Weight x transparency x exposure of each frame, scaled as in the stack, s.
    """
    residual = np.where(usable, stack.sci - model, 0).astype(np.float32)
    stars = truth.sources[np.asarray(truth.sources["kind"]) != "galaxy"]
    x, y = (np.asarray(v, np.float64) for v in grid.position(stars))
    covered = best.count >= max(1, len(frames) // 2)
    true = _sums(model, x, y)
    isolated = true < (1 + NEIGHBOURS) * np.asarray(stars["flux"]) * light_in_aperture(truth, frames, lights)
    isolated &= _inside(covered, x, y)
    stars, x, y, true = stars[isolated], x[isolated], y[isolated], true[isolated]
    limit = linear_limit(truth, frames) * 10 ** (-0.4 * BELOW_LIMIT)
    measured, linear = _inside(usable & covered, x, y), np.asarray(stars["flux"]) <= limit
    share = float(measured[linear].mean()) if linear.any() else math.nan
    stars, x, y, true = stars[measured], x[measured], y[measured], true[measured]
    var = np.where(usable, stack.var, 0).astype(np.float32)
    sky = _sums(best.variance, x, y) * (1 + _BACKGROUND_COST)
    excess, stated = _measured(residual, var, stack.noise_correlation, x, y)
    empty = _empty_places(model, best, usable & covered)
    return StarFluxes(
        flux=true + excess,
        true=true,
        floor=np.sqrt(sky + best.photons * np.maximum(true, 0)),
        stated=stated,
        saturated=np.asarray(stars["flux"]) > limit,
        share=share,
        blank=np.divide(*_measured(residual, var, stack.noise_correlation, *empty)),
    )


def _measured(
    residual: NDArray[np.float32], var: NDArray[np.float32], correlation: float, x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return the light in apertures above that of their annuli, and its noise by the product's VAR."""
    outside = np.array([_annulus(var, *at).mean() for at in zip(x, y, strict=True)]).reshape(-1)
    stated = _sums(var, x, y) + _AREA * _BACKGROUND_COST * outside
    flux = _sums(residual, x, y) - _AREA * _ring_levels(residual, x, y)
    return flux, correlation * np.sqrt(stated)


def _empty_places(
    model: NDArray[np.float32], best: BestStack, usable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres of apertures on a grid, with annuli side by side, whose stars have little light.

    Between the pixels, as stars are.
    """
    rows, columns = (np.arange(ANNULUS[1], n, 2 * ANNULUS[1]) + 0.5 for n in model.shape)
    x, y = (plane.ravel() for plane in np.meshgrid(columns, rows))
    inside = _inside(usable, x, y)
    x, y = x[inside], y[inside]
    dark = _sums(model, x, y) < EMPTY * np.sqrt(_sums(best.variance, x, y))
    return x[dark], y[dark]


def light_in_aperture(truth: NightTruth, frames: Sequence[FrameTruth], lights: NDArray[np.float64]) -> float:
    """Return the part of a star's light in the aperture times the lights of the frames, s.

    A Moffat star has 1 - (1 + (r / alpha)^2)^(1 - beta) of its light within a radius r.
    """
    beta = truth.parameters.moffat_beta
    alphas = np.array([moffat_alpha(f.fwhm or truth.parameters.fwhm, beta) for f in frames])
    return float(np.sum(lights * (1 - (1 + (APERTURE / alphas) ** 2) ** (1 - beta))))


def _inside(usable: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    ny, nx = usable.shape
    edge = ANNULUS[1] + 2
    result = (x > edge) & (x < nx - 1 - edge) & (y > edge) & (y < ny - 1 - edge)
    reach = math.ceil(APERTURE)
    for i in np.flatnonzero(result):
        column, row = round(float(x[i])), round(float(y[i]))
        core = usable[row - reach : row + reach + 1, column - reach : column + reach + 1]
        result[i] = core.all() and _annulus(usable, float(x[i]), float(y[i])).mean() > 0.95
    return result


def _annulus(plane: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    reach = math.ceil(ANNULUS[1])
    column, row = round(x), round(y)
    stamp = plane[row - reach : row + reach + 1, column - reach : column + reach + 1]
    yy, xx = np.ogrid[row - reach : row + reach + 1, column - reach : column + reach + 1]
    distance = np.hypot(xx - x, yy - y)
    return np.asarray(stamp[(distance >= ANNULUS[0]) & (distance <= ANNULUS[1])])


def _sums(plane: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums in the apertures; pixels cut by the circle count with the exact fraction inside."""
    return np.asarray(
        sep.sum_circle(np.ascontiguousarray(plane, np.float32), x, y, APERTURE, subpix=0)[0], np.float64
    )


def _ring_levels(plane: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the clipped medians of the annuli."""
    levels = []
    for column, row in zip(x, y, strict=True):
        ring = _annulus(plane, float(column), float(row)).astype(np.float64)
        for _ in range(5):
            ring = ring[np.abs(ring - np.median(ring)) <= 3 * max(robust_sigma(ring), 1e-12)]
        levels.append(float(np.median(ring)))
    return np.array(levels).reshape(-1)
