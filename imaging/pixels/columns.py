"""The columns' part of the pedestal: the differences between columns that have no shot noise.

The level of a column may differ from the others by tens of electrons, equally in every frame. The scatter
from frame to frame shows whether this is charge (which increases the scatter) or an offset of the readout
(which does not).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: Columns that scatter by less than this many times the chance scatter of their medians count as equal.
_LEAST_SPREAD: Final = 3.0
#: Minimum number of rows for a column's median and scatter.
_LEAST_ROWS: Final = 32
#: Variance of a median of many normal values over that of their mean, square root of pi / 2.
_MEDIAN_ERROR: Final = 1.2533


def column_pattern(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far the pedestal of each column is above the mean pedestal.

    The variance between frames is fitted against the level, one point per column. The slope is the part of
    the columns' differences that is charge: 1 for dark current, 0 for an offset of the readout. The rest of
    each column's difference belongs to its pedestal.

    Parameters
    ----------
    frames
        Complete rows of n equal frames, (n, rows, nx), electrons, not corrected for non-linearity.

    Returns
    -------
    numpy.ndarray
        Electrons, float32 (nx,); all 0 if the columns are equal, or there are too few frames or rows.
    """
    n, rows, nx = frames.shape
    if n < 2 or rows < _LEAST_ROWS:
        return np.zeros(nx, np.float32)
    level = frames.mean(axis=0)
    column = np.median(level, axis=0)
    off = column - np.median(column)
    within = MAD_TO_SIGMA * float(np.median(np.abs(level - column)))
    if MAD_TO_SIGMA * float(np.median(np.abs(off))) < _LEAST_SPREAD * _MEDIAN_ERROR * within / rows**0.5:
        return np.zeros(nx, np.float32)
    from scipy.special import chdtri  # late, and not scipy.stats, which takes half a second to import

    law = float(chdtri(n - 1, 0.5)) / (n - 1)
    scatter = np.median(frames.var(axis=0, ddof=1), axis=0) / law
    # Deviant columns (edges, dead ones) would determine the slope alone.
    usual = np.abs(off) <= 3 * MAD_TO_SIGMA * np.median(np.abs(off))
    x = off[usual] - off[usual].mean()
    charge = float(np.clip((x * scatter[usual]).sum() / (x * x).sum(), 0.0, 1.0))
    return ((1 - charge) * off).astype(np.float32)
