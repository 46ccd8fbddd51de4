"""Combining frames: mean, weighted mean or median of a stack, with rejection, quality levels and variances.

One call works on a band of rows of every input; `imaging.pixels.bands.run_bands` walks the bands on several
threads (the kernel releases the GIL). The result of a pixel depends only on its inputs and their order, so it
is the same for every band height and number of threads.

Quality levels
    A pixel is combined from the inputs at the least bad level that any input has there
    (`imaging.pixels.dq.LEVELS`; non-linear and saturated count as good). Values or variances that are not
    finite are never combined. The output's DQ is the OR of the inputs that were combined: bits of inputs at a
    worse level, or of rejected ones, do not apply to the output and are left out. Without any finite input
    the output is 0 with variance 0, NO_DATA (and the inputs' bits) and count 0.

Variances
    The mean of m values has sum(VAR) / m^2, the weighted mean sum(w^2 VAR) / sum(w)^2, the median the mean's
    times `median_factor` (m). They treat the remaining values as an unclipped sample. If the extremes are
    always rejected (``minmax``), the true variance is smaller than the stated one: by 16 % for ten inputs.

Efficiency and bias of clipping, for normal noise without outliers
    Clipping about the median is symmetric: the mean of symmetric noise stays unbiased. Clipping by the
    variances costs some information, because the median of a few values is noisy itself: at 3 sigma the
    mean's variance grows by 7, 5 and 5 % for 3, 4 and 6 inputs and by 4 % for 10, at 4 sigma by 1 % or less.
    Clipping by the population sigma costs nothing, but is insensitive: an outlier increases the sigma, so
    that at 3 sigma half of the outliers of 9 sigma stay among 9 inputs, of 7 sigma among 10, and nearly all
    among 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.combine_kernels import combine_pixels
from imaging.pixels.dq import LEVELS
from imaging.pixels.mean_kernels import add_input, finish_mean

Operation = Literal["mean", "wmean", "median"]
Rejection = Literal["none", "minmax", "sigma", "variance", "auto"]

#: An outlier this many times beyond the threshold has to be rejected.
OUTLIER: Final = 2.0

_OPERATIONS: Final[dict[Operation, int]] = {"mean": 0, "wmean": 1, "median": 2}
_REJECTIONS: Final[dict[Rejection, int]] = {"none": 0, "minmax": 1, "sigma": 2, "variance": 3}
_LEVEL_BITS: Final = np.array([int(bit) for bit in LEVELS], dtype=np.uint16)

#: N Var(median) / sigma^2 of N = 1, 2, ... normal values: the second moment of the density of the middle
#: order statistic (odd N), or of the mean of the middle two (even N), integrated numerically.
#: David & Nagaraja, Order Statistics (2003), sections 2.1 and 2.3.
MEDIAN_FACTORS: Final[tuple[float, ...]] = (
    1.00000, 1.00000, 1.34601, 1.19280, 1.43417, 1.28846, 1.47313, 1.34545, 1.49491, 1.38326,
    1.50879, 1.41019, 1.51839, 1.43035, 1.52542, 1.44600, 1.53079, 1.45851, 1.53503, 1.46874,
    1.53845, 1.47726, 1.54128, 1.48446, 1.54366, 1.49064, 1.54568, 1.49598, 1.54742, 1.50066,
    1.54893, 1.50479, 1.55026, 1.50846, 1.55144, 1.51174, 1.55249, 1.51469, 1.55343, 1.51737,
    1.55428, 1.51980, 1.55506, 1.52201, 1.55576, 1.52405, 1.55640, 1.52592, 1.55699, 1.52764,
)  # fmt: skip


class CombineParameters(StepParameters):
    """How a stack of frames is combined."""

    operation: Operation = parameter("mean", "how the remaining values are combined")
    reject: Rejection = parameter(
        "auto",
        "which values are thrown away: none; minmax, the lowest and highest; sigma, beyond the population "
        "sigma about the median; variance, beyond the sigma that the variances give; auto, variance where "
        "there are too few inputs for sigma to reject one at twice the threshold (10 at 3 sigma, 19 at 4), and "
        "sigma for more",
    )
    low: float = parameter(3.0, "rejection threshold below the median", unit="sigma", gt=0)
    high: float = parameter(3.0, "rejection threshold above the median", unit="sigma", gt=0)
    max_iterations: int = parameter(5, "maximum number of clipping iterations", ge=1)
    nlow: int = parameter(1, "lowest values that minmax rejects, of a full stack", unit="inputs", ge=0)
    nhigh: int = parameter(1, "highest values that minmax rejects, of a full stack", unit="inputs", ge=0)
    pool_variance: bool = parameter(
        False,
        "clip every input of a pixel on the median of their variances instead of on its own; for frames that "
        "are alike, where an input's own variance follows its own noise, so that low values are clipped sooner "
        "than high ones (a bias of +0.1 e- in a mean of four darks)",
    )

    def rejection_for(self, n: int) -> Rejection:
        """Return the rejection for a stack of ``n`` inputs, with ``auto`` resolved.

        An outlier of d sigma among N values raises their population variance to (N - 1) / N x (1 + d^2 / N) of the
        others'. Where that keeps an outlier of `OUTLIER` times the threshold, sigma clipping is too insensitive: it
        would leave a cosmic ray of any brightness among 14 frames at 4 sigma, and one of 100 sigma among 15.
        """
        if self.reject != "auto":
            return self.reject
        threshold = max(self.low, self.high)
        outlier = OUTLIER * threshold
        sigma = math.sqrt((n - 1) / n * (1 + outlier**2 / n))
        return "sigma" if n > 1 and outlier > threshold * sigma else "variance"


class Combined(NamedTuple):
    """Planes of a combined stack, (rows, nx) each.

    Attributes
    ----------
    sci
        Combined values, float32.
    var
        Their variances, float32.
    dq
        OR of the DQ of the combined inputs, uint16.
    count
        Number of combined inputs, uint16.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    count: NDArray[np.uint16]  # type: ignore[assignment]  # hides tuple.count, which is not needed here


def median_factor(n: int) -> float:
    """Return the variance of the median of ``n`` normal values over that of their mean.

    Tabulated to 50; beyond that (pi / 2) n / (n + 2 - pi / 2), for even n with 3 instead of 2: accurate to
    5e-4.
    """
    if n <= len(MEDIAN_FACTORS):
        return MEDIAN_FACTORS[n - 1]
    return math.pi / 2 * n / (n + (2 if n % 2 else 3) - math.pi / 2)


def combine(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    parameters: CombineParameters | None = None,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    scale: Sequence[float] | NDArray[np.float64] | None = None,
    zero: Sequence[float] | NDArray[np.float64] | None = None,
) -> Combined:
    """Combine a stack of n images, or one band of rows of them.

    Parameters
    ----------
    sci, var, dq
        Values (float32), variances (float32) and quality (uint16), (n, rows, nx) each. Not changed.
    parameters
        Operation and rejection; default: `CombineParameters()`.
    weights
        One positive weight per input; required by, and only allowed with, the operation ``wmean``.
    scale, zero
        One factor and one constant per input: value x scale + zero is combined, with variance x scale^2.

    Returns
    -------
    Combined
        New planes.

    Raises
    ------
    ValueError
        If shapes or types do not match, or weights are missing, not positive or not allowed.
    """
    parameters = parameters or CombineParameters()
    n = _checked(sci, var, dq)
    if (weights is not None) != (parameters.operation == "wmean"):
        raise ValueError(
            f"operation {parameters.operation!r} with weights {weights!r}: a weighted mean ('wmean') needs "
            "weights and the other operations take none."
        )
    each = {
        "weights": _per_input("weights", weights, n, 1.0),
        "scale": _per_input("scale", scale, n, 1.0),
        "zero": _per_input("zero", zero, n, 0.0),
    }
    if not (each["weights"] > 0).all():
        raise ValueError(f"weights {each['weights']}: every weight must be greater than 0.")

    shape = sci.shape[1:]
    rejection = parameters.rejection_for(n)
    if rejection == "none" and parameters.operation != "median" and scale is None and zero is None:
        mean = RunningMean(shape)
        for i, weight in enumerate(each["weights"]):
            mean.add(sci[i], var[i], dq[i], weight)
        return mean.result()
    light, noise, quality = (np.ascontiguousarray(plane).reshape(n, -1) for plane in (sci, var, dq))
    out = Combined(*(np.empty(shape, dtype) for dtype in (np.float32, np.float32, np.uint16, np.uint16)))
    combine_pixels(
        light,
        noise,
        quality,
        each["scale"],
        each["zero"],
        each["weights"],
        scale is not None or zero is not None,
        _OPERATIONS[parameters.operation],
        _REJECTIONS[rejection],
        parameters.low,
        parameters.high,
        parameters.max_iterations,
        parameters.nlow,
        parameters.nhigh,
        parameters.pool_variance,
        _LEVEL_BITS,
        _sorting_network(n),
        median_factors(n),
        *(plane.reshape(-1) for plane in out),
    )
    return out


class RunningMean:
    """The mean of inputs that come one after the other, weighted or not: pixels of `combine` without rejection.

    Parameters
    ----------
    shape
        Of the planes of an input, such as (rows, nx).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape, size = shape, math.prod(shape)
        self._least = np.full(size, _LEVEL_BITS.size + 1, np.uint16)
        self._sums = np.zeros(size), np.zeros(size), np.zeros(size)
        self._dq, self._count = np.zeros(size, np.uint16), np.zeros(size, np.uint16)

    def add(
        self,
        sci: NDArray[np.float32],
        var: NDArray[np.float32],
        dq: NDArray[np.uint16],
        weight: float = 1.0,
    ) -> None:
        """Add an input: values, variances and quality, and its weight.

        Raises
        ------
        ValueError
            If its shape or types do not match, or the weight is not a finite number greater than 0.
        """
        _checked(sci[None], var[None], dq[None])
        if sci.shape != self._shape or not 0 < weight < math.inf:
            raise ValueError(
                f"an input of shape {sci.shape} and weight {weight}: {self._shape} and a finite number greater than 0 "
                "are needed."
            )
        light, noise, quality = (np.ascontiguousarray(plane).reshape(-1) for plane in (sci, var, dq))
        add_input(
            light, noise, quality, float(weight), _LEVEL_BITS, self._least, *self._sums, self._dq, self._count
        )

    def result(self) -> Combined:
        """Return the mean of what was added until now."""
        sci, var = np.empty(self._least.size, np.float32), np.empty(self._least.size, np.float32)
        dq, count, shape = self._dq.copy(), self._count.copy(), self._shape
        finish_mean(_LEVEL_BITS, self._least, *self._sums, dq, count, sci, var)
        return Combined(sci.reshape(shape), var.reshape(shape), dq.reshape(shape), count.reshape(shape))


def _checked(sci: NDArray[np.float32], var: NDArray[np.float32], dq: NDArray[np.uint16]) -> int:
    if sci.ndim != 3 or sci.shape[0] == 0 or not sci.shape == var.shape == dq.shape:
        raise ValueError(
            f"sci {sci.shape}, var {var.shape} and dq {dq.shape} must have one shape (inputs, rows, columns)."
        )
    if (sci.dtype, var.dtype, dq.dtype) != (np.float32, np.float32, np.uint16):
        raise ValueError(f"sci {sci.dtype}, var {var.dtype}, dq {dq.dtype} must be float32, float32, uint16.")
    return sci.shape[0]


def _per_input(
    name: str, values: Sequence[float] | NDArray[np.float64] | None, n: int, default: float
) -> NDArray[np.float64]:
    if values is None:
        return np.full(n, default)
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ValueError(f"{name} {values!r}: {n} finite numbers are needed, one per input.")
    return array


@lru_cache(maxsize=256)
def _sorting_network(n: int) -> NDArray[np.int32]:
    """Return pairs (i, j) whose compare-and-swap, in this order, sorts n values: Batcher's odd-even merge sort.

    Knuth, The Art of Computer Programming, vol. 3, algorithm 5.2.2M.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    network = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    network.flags.writeable = False
    return network


@lru_cache(maxsize=256)
def median_factors(n: int) -> NDArray[np.float64]:
    """Return `median_factor` for 1 to n values, float64 (n + 1,); the first is unused."""
    factors = np.array([0.0] + [median_factor(m) for m in range(1, n + 1)])
    factors.flags.writeable = False
    return factors
