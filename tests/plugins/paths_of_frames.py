"""The positions that the path of a resampled frame leads to."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.polynomial import polyval2d
from numpy.typing import NDArray


def follow(path: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the positions (2, n) in the frame of positions in the output, by the polynomial of `path_of`."""
    return np.stack([polyval2d(y, x, terms) for terms in path])
