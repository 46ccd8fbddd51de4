"""Fit positions in the tangent plane by polynomials of the pixels: weighted, robust, with covariance.

Errors of pixels and catalogue are weighted as stated; if the residuals exceed them, a scatter common to all stars is
added in quadrature, so that a few stars with tiny stated errors do not decide alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Residuals beyond this many standard errors along any direction are not used (Rayleigh: 1 in 3000 by chance).
CLIP: Final = 4.0
#: Iterations of the start, which limits the influence of each star (Huber 1964), and of the clipping.
_START, _PASSES = 12, 15
#: Halvings of the interval in which the common scatter is sought.
_HALVINGS: Final = 14
#: Median of a Rayleigh distribution over its sigma.
_RAYLEIGH_MEDIAN: Final = 1.1774
#: Positions along each axis at which the error of a fit is averaged over the image.
_GRID: Final = 8

#: Condition of the normal equations beyond which the stars do not determine the parameters.
_SINGULAR: Final = 1e12

#: A similarity keeps the ratio of scales and the angle between the axes of the header; polynomials have an order.
SIMILARITY: Final = 0


@dataclass(frozen=True)
class Frame:
    """The pixels of an image as they enter a fit.

    Attributes
    ----------
    shape
        (ny, nx).
    matrix
        float64 (2, 2): offsets in arcsec for each pixel along x and y according to the header.
    """

    shape: tuple[int, int]
    matrix: NDArray[np.float64]

    @property
    def middle(self) -> NDArray[np.float64]:
        """The middle of the image, px from 0."""
        return np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2])

    @property
    def half(self) -> float:
        """Half of the longer side, px: the unit of the polynomials."""
        return max(self.shape) / 2

    def units(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return pixels (n, 2) from the middle in units of half the longer side."""
        return (pixels - self.middle) / self.half

    def grid(self) -> NDArray[np.float64]:
        """Return pixels evenly spread over the image, (64, 2)."""
        ny, nx = self.shape
        steps = (np.arange(_GRID) + 0.5) / _GRID
        x, y = np.meshgrid(steps * nx - 0.5, steps * ny - 0.5)
        return np.column_stack([x.ravel(), y.ravel()])


def terms(order: int) -> list[tuple[int, int]]:
    """Return the powers of x and y of a polynomial, by total order: (0, 0), (1, 0), (0, 1), (2, 0)..."""
    return [(total - q, q) for total in range(order + 1) for q in range(total + 1)]


def parameters_per_axis(order: int) -> float:
    """Return the free parameters of a fit for each axis."""
    return 2.0 if order == SIMILARITY else len(terms(order))


def _design(frame: Frame, pixels: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return the design matrix (n, 2, parameters): offsets for each of the parameters."""
    at = frame.units(pixels)
    if order == SIMILARITY:
        p, q = (at @ (frame.matrix * frame.half).T).T
        one, zero = np.ones_like(p), np.zeros_like(p)
        return np.stack([np.column_stack([one, zero, p, -q]), np.column_stack([zero, one, q, p])], axis=1)
    powers = np.column_stack([at[:, 0] ** i * at[:, 1] ** j for i, j in terms(order)])
    n, t = powers.shape
    design = np.zeros((n, 2, 2 * t))
    design[:, 0, :t] = design[:, 1, t:] = powers
    return design


@dataclass(frozen=True)
class PlaneFit:
    """A fit of offsets in the tangent plane.

    Attributes
    ----------
    frame
        The image.
    order
        Order of the polynomials; 0 for a similarity.
    solution, covariance
        Parameters, arcsec, and their covariance, arcsec^2.
    used
        bool (n,): stars that were not clipped.
    residuals
        float64 (n, 2): catalogue minus fit, arcsec, of all stars.
    errors
        float64 (n,): standard error of each star along one axis, arcsec, with ``scatter``.
    scatter
        What was added in quadrature to the stated errors, arcsec.
    left_out
        float64 (n, 2): residuals of each star from the fit to all others; NaN for stars not used.
    """

    frame: Frame
    order: int
    solution: NDArray[np.float64]
    covariance: NDArray[np.float64]
    used: NDArray[np.bool_]
    residuals: NDArray[np.float64]
    errors: NDArray[np.float64]
    scatter: float
    left_out: NDArray[np.float64]

    def __call__(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the offsets (n, 2), arcsec, of pixels (n, 2) from 0."""
        return _design(self.frame, pixels, self.order) @ self.solution

    @property
    def n(self) -> int:
        """Number of stars used."""
        return int(self.used.sum())

    @property
    def rms(self) -> float:
        """Residual of the stars used along one axis, weighted, arcsec."""
        return self.rms_for(self.errors)

    def rms_for(self, errors: NDArray[np.float64]) -> float:
        """Return the residual of the stars used along one axis, weighted by other errors, arcsec."""
        return _rms(self.residuals[self.used], errors[self.used])

    def left_out_rms(self, errors: NDArray[np.float64]) -> float:
        """Return the same of the residuals of each star from the fit to all others, for other errors, arcsec."""
        return _rms(self.left_out[self.used], errors[self.used])

    def error_at(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard error (n,) of the fit along one axis, arcsec; of the mean variance of both."""
        design = _design(self.frame, pixels, self.order)
        variance = np.einsum("nij,jk,nik->n", design, self.covariance, design) / 2
        return np.sqrt(variance)

    @cached_property
    def error(self) -> float:
        """Standard error of a position along one axis, arcsec, root mean square over the image."""
        return math.sqrt(float((self.error_at(self.frame.grid()) ** 2).mean()))

    def polynomials(self) -> NDArray[np.float64]:
        """Return the coefficients (2, terms) of xi and eta, arcsec, for powers of pixels from the middle."""
        if self.order == SIMILARITY:
            x0, y0, c, s = self.solution
            linear = np.array([[c, -s], [s, c]]) @ self.frame.matrix
            return np.column_stack([[x0, y0], linear])
        scaled = self.solution.reshape(2, -1)
        return scaled / np.array([self.frame.half ** (i + j) for i, j in terms(self.order)])


def fit_plane(
    frame: Frame,
    pixels: NDArray[np.float64],
    offsets: NDArray[np.float64],
    errors: NDArray[np.float64],
    order: int,
    *,
    among: NDArray[np.bool_] | None = None,
) -> PlaneFit | None:
    """Fit offsets in the tangent plane without the stars whose residuals are implausible.

    Parameters
    ----------
    frame
        The image.
    pixels
        float64 (n, 2), px from 0.
    offsets
        float64 (n, 2): where the catalogue has the stars, arcsec.
    errors
        float64 (n,): standard error of the difference along one axis, arcsec.
    order
        Order of the polynomials, or `SIMILARITY`.
    among
        Fit exactly these stars, without clipping.

    Returns
    -------
    PlaneFit or None
        None with too few stars, or if these do not determine the parameters (all in one place).
    """
    design = _design(frame, pixels, order)
    free = design.shape[2]
    used = np.ones(len(pixels), bool) if among is None else among
    solution = _robust_start(design, offsets, errors, used, free)
    scatter = 0.0
    for _ in range(_PASSES if among is None else 1):
        if solution is None:
            return None
        residuals = offsets - design @ solution
        if among is None:
            total = np.hypot(errors, scatter)
            pull = np.hypot(*residuals.T) / total
            limit = CLIP * max(1.0, float(np.median(pull[used])) / _RAYLEIGH_MEDIAN)
            keep = pull <= limit
        else:
            keep = used
        scatter_before = scatter
        solution, scatter = _weighted(design, offsets, errors, keep, free, scatter)
        if (keep == used).all() and abs(scatter - scatter_before) < 1e-3 * float(np.median(errors)):
            break
        used = keep
    if solution is None:
        return None
    total = np.hypot(errors, scatter)
    covariance = np.asarray(np.linalg.inv(_normal(design, total, used)), np.float64)
    residuals = offsets - design @ solution
    left_out = _left_out(design, residuals, total, covariance, used)
    return PlaneFit(frame, order, solution, covariance, used, residuals, total, scatter, left_out)


def _rms(residuals: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    weight = 1.0 / errors**2
    return math.sqrt(float((weight[:, None] * residuals**2).sum() / (2 * weight.sum())))


def _normal(
    design: NDArray[np.float64], errors: NDArray[np.float64], used: NDArray[np.bool_]
) -> NDArray[np.float64]:
    part = design[used] / errors[used, None, None]
    matrix: NDArray[np.float64] = np.einsum("nij,nik->jk", part, part)
    return matrix


def _solve(
    design: NDArray[np.float64], offsets: NDArray[np.float64], errors: NDArray[np.float64], free: int
) -> NDArray[np.float64] | None:
    """Return the weighted least-squares solution; None if the stars do not determine it."""
    weighted = (design / errors[:, None, None]).reshape(-1, free)
    normal = weighted.T @ weighted
    # Units are half the image: only stars in one place or on a line make the matrix singular.
    if not np.linalg.cond(normal) < _SINGULAR:
        return None
    right = weighted.T @ (offsets / errors[:, None]).ravel()
    return np.asarray(np.linalg.solve(normal, right), np.float64)


def _robust_start(
    design: NDArray[np.float64],
    offsets: NDArray[np.float64],
    errors: NDArray[np.float64],
    used: NDArray[np.bool_],
    free: int,
) -> NDArray[np.float64] | None:
    """Return a solution in which no star counts for more than its direction: least sum of distances in the end."""
    if 2 * used.sum() < free + 2:
        return None
    design, offsets, errors = design[used], offsets[used], errors[used]
    inflated = errors
    solution = None
    for _ in range(_START):
        solution = _solve(design, offsets, inflated, free)
        if solution is None:
            return None
        pull = np.hypot(*(offsets - design @ solution).T) / errors
        inflated = errors * np.sqrt(np.maximum(pull, 1.0))
    return solution


def _weighted(
    design: NDArray[np.float64],
    offsets: NDArray[np.float64],
    errors: NDArray[np.float64],
    used: NDArray[np.bool_],
    free: int,
    scatter: float,
) -> tuple[NDArray[np.float64] | None, float]:
    """Return the weighted solution for the stars used, and the scatter that makes chi-square that of its freedom."""
    freedom = 2 * int(used.sum()) - free
    if freedom < 2:
        return None, scatter
    design, offsets, errors = design[used], offsets[used], errors[used]

    def excess(extra: float) -> tuple[float, NDArray[np.float64] | None]:
        total = np.hypot(errors, extra)
        solution = _solve(design, offsets, total, free)
        if solution is None:
            return 0.0, None
        pull = (offsets - design @ solution) / total[:, None]
        return float((pull**2).sum()) / freedom - 1.0, solution

    above, solution = excess(0.0)
    if above <= 0 or solution is None:
        return solution, 0.0
    low, high = 0.0, float(np.sqrt(((offsets - design @ solution) ** 2).mean())) * 2 + float(errors.max())
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above, solution = excess(middle)
        low, high = (middle, high) if above > 0 else (low, middle)
    return solution, 0.5 * (low + high)


def _left_out(
    design: NDArray[np.float64],
    residuals: NDArray[np.float64],
    errors: NDArray[np.float64],
    covariance: NDArray[np.float64],
    used: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the residuals of each star used from the fit to all others (leverages: Cook and Weisberg 1982)."""
    found = np.full_like(residuals, np.nan)
    part = design[used] / errors[used, None, None]
    leverage = np.einsum("nij,jk,nlk->nil", part, covariance, part)
    rest: NDArray[np.float64] = np.linalg.inv(np.eye(2) - np.minimum(leverage, 1 - 1e-9))
    found[used] = np.einsum("nij,nj->ni", rest, residuals[used])
    return found
