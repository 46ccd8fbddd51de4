"""Which of a few values are unlike the others: decided by the largest group that agrees.

The scatter of a figure among the frames that agree is known poorly if they are few. So it is combined with the
usual scatter of a working instrument, which counts as much as a few frames: in small sets the limit follows from
the usual scatter, in large ones from the set's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

#: Degrees of freedom that the usual scatter counts for, next to those of the frames that agree.
_WEIGHT: Final = 5.0
#: A range of this many times the widest gap between good frames is not that of a good set.
_WIDE: Final = 3.0
#: Variance of the median of a few normal values over that of their mean (pi / 2 for many).
_MEDIAN_VARIANCE: Final = np.pi / 2


class Votes(Protocol):
    """The part of `imaging.calibrations.peers.PeerParameters` that decides."""

    @property
    def peer_sigma(self) -> float:
        """Multiple of the scatter beyond which a value is odd."""

    @property
    def peer_least(self) -> int:
        """Minimum number of values that outvote another."""

    @property
    def peer_pair(self) -> float:
        """Factor of the limit if two values outvote a third."""


@dataclass(frozen=True)
class Limit:
    """How far a value may be from the median of those that agree.

    Attributes
    ----------
    sigma
        Scatter of good values: the usual one and that of the values that agree, combined.
    value
        The limit.
    """

    sigma: float
    value: float


def limit_of(agreeing: NDArray[np.float64], usual: float, parameters: Votes, total: int) -> Limit:
    """Return the limit for values that are compared with some that agree.

    Parameters
    ----------
    agreeing
        The values that agree.
    usual
        Scatter of this figure in sets of a working instrument, rms.
    parameters
        The multiple of the scatter.
    total
        Number of all values.
    """
    scatter = float(agreeing.std(ddof=1)) if agreeing.size > 1 else 0.0
    sigma = float(_sigma(np.array([scatter]), agreeing.size, usual)[0])
    factor = factor_of(agreeing.size, total, parameters)
    return Limit(sigma, (factor or 1.0) * parameters.peer_sigma * sigma)


def outvoted(
    values: NDArray[np.float64], usual: float, parameters: Votes, *, only_above: bool = False
) -> NDArray[np.bool_]:
    """Return which values deviate from those on which a majority agrees.

    This searches for the largest group of neighbouring values such that all others are beyond its limit
    (`limit_of`). The search continues within the group, because a distant outlier makes a moderate one look
    normal.

    Parameters
    ----------
    values
        One figure of each frame.
    usual
        Scatter of this figure in sets of a working instrument, rms.
    parameters
        The number of frames that have to agree, and the multiple of the scatter.
    only_above
        Treat values below those of the others as normal.
    """
    odd = np.zeros(len(values), bool)
    while (group := _majority(values, ~odd, usual, parameters, only_above)) is not None:
        odd = ~group
    return odd


def undecided(values: NDArray[np.float64], usual: float, parameters: Votes) -> bool:
    """Return whether values, none of which was outvoted, fall into parts or cover a range beyond all good sets.

    A gap in the sorted values is wider than the difference of two good frames could be, or their range is a few
    times wider. A scatter somewhat above the usual one has neither.
    """
    gap = np.sqrt(2) * parameters.peer_sigma * usual
    steps = np.diff(np.sort(values))
    return bool(steps.size and (steps.max() > gap or steps.sum() > _WIDE * gap))


def factor_of(agreeing: int, total: int, parameters: Votes) -> float | None:
    """Return the factor of the limit if ``agreeing`` frames of ``total`` outvote the rest, otherwise None."""
    if 2 * agreeing <= total:
        return None
    if agreeing >= parameters.peer_least:
        return 1.0
    return parameters.peer_pair if (agreeing, total) == (2, 3) else None


def _sigma(scatter: NDArray[np.float64], n: int, usual: float) -> NDArray[np.float64]:
    """Return the scatter of another value about the median of ``n`` that scatter by ``scatter``."""
    combined = (_WEIGHT * usual**2 + (n - 1) * scatter**2) / (_WEIGHT + n - 1)
    return np.asarray(np.sqrt(combined * (1 + (_MEDIAN_VARIANCE if n > 2 else 1.0) / n)))


def _majority(
    values: NDArray[np.float64],
    among: NDArray[np.bool_],
    usual: float,
    parameters: Votes,
    only_above: bool,
) -> NDArray[np.bool_] | None:
    """Return the largest group, smaller than ``among``, whose outsiders exceed its limit; of several, the tightest."""
    order = np.flatnonzero(among)[np.argsort(values[among], kind="stable")]
    y = values[order]
    sums = [np.concatenate([[0.0], np.cumsum(power)]) for power in (y - y.mean(), (y - y.mean()) ** 2)]
    for size in range(len(y) - 1, 1, -1):
        factor = factor_of(size, len(values), parameters)
        if factor is None:
            return None
        start = np.arange(1 if only_above else len(y) - size + 1)
        first, second = (one[start + size] - one[start] for one in sums)
        scatter = np.sqrt(np.maximum(second - first**2 / size, 0) / (size - 1))
        middle = (y[start + (size - 1) // 2] + y[start + size // 2]) / 2
        # Of the values outside, the nearest ones are next to the group.
        below = np.where(start > 0, middle - y[start - 1], np.inf)
        above = np.where(start + size < len(y), y[np.minimum(start + size, len(y) - 1)] - middle, np.inf)
        limit = factor * parameters.peer_sigma * _sigma(scatter, size, usual)
        found = np.flatnonzero(np.minimum(below, above) > limit)
        if found.size:
            best = int(start[found[np.argmin(scatter[found])]])
            group = np.zeros(len(values), bool)
            group[order[best : best + size]] = True
            return group
    return None
