"""What is usual: the median of earlier values with robust limits, which a few odd ones among them do not change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

#: How many values are needed, unless the caller needs fewer.
FEWEST: Final = 5
#: Limits of what is usual, in robust standard deviations.
LIMIT: Final = 3.0
#: Standard deviation of a Gaussian over its median absolute deviation, and over its mean absolute deviation.
MAD_TO_SIGMA: Final = 1.4826
MEAN_TO_SIGMA: Final = 1.2533


@dataclass(frozen=True)
class Usual:
    """What is usual: median and robust limits of earlier values."""

    middle: float
    low: float
    high: float
    number: int


def usual(values: Iterable[float], least: float = 0.0, *, fewest: int = FEWEST) -> Usual | None:
    """Return the median and its robust limits: three times 1.4826 of the median absolute deviation on either side.

    Parameters
    ----------
    values
        Earlier values; those that are not finite do not count.
    least
        Smallest distance of the limits from the median.
    fewest
        Values that are needed; None with fewer.
    """
    known = [value for value in values if math.isfinite(value)]
    if len(known) < fewest:
        return None
    middle = median(known)
    off = [abs(value - middle) for value in known]
    # More than half of the values are the same: their mean deviation is not zero if there are others.
    sigma = MAD_TO_SIGMA * median(off) or MEAN_TO_SIGMA * fmean(off)
    reach = max(LIMIT * sigma, least)
    return Usual(middle, middle - reach, middle + reach, len(known))
