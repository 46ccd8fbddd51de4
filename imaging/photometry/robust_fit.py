"""Weighted fits of few parameters with outliers and with scatter that the stated errors do not contain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: Values further from the fit than this many of their standard deviations do not count.
CLIP: Final = 3.0
#: Share of normal values within the limit, and their second moment in units of the variance without a limit.
_KEPT: Final = math.erf(CLIP / math.sqrt(2.0))
_SECOND_MOMENT: Final = _KEPT - 2.0 * CLIP * math.exp(-0.5 * CLIP**2) / math.sqrt(2.0 * math.pi)
#: Mean square of values within the limit over that of all.
CLIPPED: Final = _SECOND_MOMENT / _KEPT
_ROUNDS: Final = 50
#: Relative change of the scatter at which the fit ends.
_CONVERGED: Final = 1e-4
#: Degrees of freedom for which the stated errors count where the residuals determine the error of the result.
_PRIOR: Final = 3.0
_BISECTIONS: Final = 60


@dataclass(frozen=True)
class RobustFit:
    """The result of a fit.

    Attributes
    ----------
    values
        Best parameters, (p,).
    covariance
        Their covariance, (p, p), with the scatter, and with the loss of information by the clipping.
    scatter
        Standard deviation of the values beyond their stated errors.
    kept
        Which values count, (n,).
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scatter: float
    kept: NDArray[np.bool_]

    @property
    def value(self) -> float:
        """The first parameter."""
        return float(self.values[0])

    @property
    def error(self) -> float:
        """The standard error of the first parameter."""
        return math.sqrt(float(self.covariance[0, 0]))

    @property
    def number(self) -> int:
        """The number of values that count."""
        return int(self.kept.sum())


def robust_fit(
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    usual_scatter: float,
    design: NDArray[np.float64] | None = None,
) -> RobustFit | None:
    """Fit a linear model to values with errors, outliers and additional scatter.

    Each value has the variance of its error plus that of the scatter, which the fit determines: the mean square of the
    residuals in these units is what the limit leaves of a normal distribution. The inverse variances are the weights.
    Clipping at k sigma leaves a share p of normal values with the second moment m = p - 2 k phi(k). A mean of
    them, an M-estimator with psi(x) = x within the limit, has the variance 1 / m of that of all values, not 1 / p
    (Huber & Ronchetti 2009, Robust Statistics, section 3.2); the covariance contains that. Where the values agree
    better than their errors allow, the scatter is 0 and the covariance falls with their mean square, as if the
    errors counted for `_PRIOR` more degrees of freedom: without that, errors would be overestimated by 7 % on
    average with twenty values, because a scatter is never negative. Deviations over errors that are estimated with f
    degrees of freedom follow Student's distribution, of which the variance f / (f - 2) is in the covariance as well.

    Parameters
    ----------
    values, errors
        (n,); values that are not finite or have no positive error do not count.
    usual_scatter
        Scatter that is expected, in the unit of the values; it counts as much as one value, so that two or three values
        that agree by chance do not give an error of 0.
    design
        (n, p); default: a constant.

    Returns
    -------
    RobustFit or None
        None with fewer values than parameters plus one.
    """
    values, errors = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    matrix = np.ones((len(values), 1)) if design is None else np.asarray(design, np.float64)
    usable = np.isfinite(values) & np.isfinite(errors) & (errors > 0) & np.isfinite(matrix).all(axis=1)
    least = matrix.shape[1] + 1
    if usable.sum() < least:
        return None
    squares = np.where(usable, errors, 1.0) ** 2
    residuals = values - np.median(values[usable])
    spread = MAD_TO_SIGMA * float(np.median(np.abs(residuals[usable])))
    scatter = math.sqrt(max(spread**2 - float(np.median(squares[usable])), usual_scatter**2))
    kept = _within(residuals, squares + scatter**2, usable, least)
    solution: NDArray[np.float64] = np.zeros(matrix.shape[1])
    information: NDArray[np.float64] = np.eye(matrix.shape[1])
    for _ in range(_ROUNDS):
        weights = 1.0 / (squares + scatter**2)
        weighted = matrix[kept] * weights[kept, None]
        information = weighted.T @ matrix[kept]
        solution = np.linalg.pinv(information) @ (weighted.T @ values[kept])
        residuals = values - matrix @ solution
        free = int(kept.sum()) - len(solution)
        own = _scatter(residuals[kept] ** 2, squares[kept], free)
        previous, scatter = scatter, math.sqrt((usual_scatter**2 + free * own) / (1 + free))
        now = _within(residuals, squares + scatter**2, usable, least)
        if np.array_equal(now, kept) and abs(scatter - previous) <= _CONVERGED * scatter:
            break
        kept = now
    free = max(int(kept.sum()) - len(solution), 0)
    own = float((residuals[kept] ** 2 / (squares[kept] + scatter**2)).sum()) / CLIPPED
    reduced = min(1.0, (own + _PRIOR) / (free + _PRIOR))
    student = (free + _PRIOR) / (free + _PRIOR - 2.0)
    covariance = np.asarray(np.linalg.pinv(information) * (reduced * student / CLIPPED), np.float64)
    return RobustFit(solution, covariance, scatter, kept)


def _within(
    residuals: NDArray[np.float64],
    variances: NDArray[np.float64],
    usable: NDArray[np.bool_],
    least: int,
) -> NDArray[np.bool_]:
    """Return which values are within the limit, or the nearest ones if these are too few."""
    off = np.where(usable, np.abs(residuals) / np.sqrt(variances), np.inf)
    kept = off <= CLIP
    if kept.sum() < least:
        kept = np.zeros(len(off), bool)
        kept[np.argsort(off, kind="stable")[:least]] = True
    return np.asarray(kept)


def _scatter(residuals: NDArray[np.float64], squares: NDArray[np.float64], free: int) -> float:
    """Return the variance beyond that of the errors which gives squared residuals their expected mean.

    Parameters
    ----------
    residuals
        Squared residuals of the values that count.
    squares
        Squares of their errors.
    free
        Degrees of freedom.
    """
    expected = free * CLIPPED
    if (residuals / squares).sum() <= expected:
        return 0.0
    low, high = 0.0, float(residuals.sum()) / expected
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if (residuals / (squares + middle)).sum() > expected:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
