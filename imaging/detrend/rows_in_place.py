"""Whether the rows of a frame are where the flat has them.

A readout or a transfer that loses or repeats pixels shifts all that follow. Such a frame has plausible values, but not
the response of its pixels: divided by the flat, its rows show the inverse of the flat's pattern.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.pixels.dq import UNUSABLE

#: Interval between the rows that are compared, and how many of them make one figure at least.
ROW_STEP: Final = 4
_TOGETHER: Final = 4
#: Pixels whose pattern, and whose difference from their neighbour, exceed so many times the typical one are left out.
_CLIP: Final = 5.0
#: A figure has to exceed the limit by so many times its error. Rows are joined until the error allows it.
_SIGNIFICANT: Final = 6.0
_ERROR: Final = 0.06
#: Part of the flat's pattern that has to be more than its noise for a comparison.
_LEAST_REAL: Final = 0.2
_UNUSABLE: Final = np.uint16(UNUSABLE)
#: Sums of a row: pattern times difference, pattern squared, both squared, noise of the pattern, pixels.
SUMS: Final = 5


@dataclass(frozen=True)
class Displaced:
    """Rows that are not where the flat has them.

    Attributes
    ----------
    first, last
        Rows, counted from 0.
    share
        How much of the flat's pattern they lack: 0 in place, 1 somewhere else.
    error
        Its standard error.
    """

    first: int
    last: int
    share: float
    error: float


# The inverse of a flat of 0, which is not used, is infinite: no check that would raise an error.
@njit(cache=True, nogil=True, error_model="numpy")
def sum_rows(sci, var, dq, flat, flat_var, out):  # type: ignore[no-untyped-def]
    """Add up, for each row, how differences of neighbours follow those of the inverse flat.

    Parameters
    ----------
    sci, var, dq
        Rows divided by the flat, electrons, with variance and flags; (n, nx).
    flat, flat_var
        The flat and its variance, (n, nx).
    out
        Sums of each row, float64 (n, 5).
    """
    rows, columns = sci.shape
    inverse = np.empty(columns, np.float64)
    for y in range(rows):
        for x in range(columns):
            inverse[x] = 1.0 / flat[y, x]
        level, squares, count = 0.0, 0.0, 0
        for x in range(columns - 1):
            if (dq[y, x] | dq[y, x + 1]) & _UNUSABLE == 0:
                step = inverse[x + 1] - inverse[x]
                squares += abs(step)
                level += sci[y, x]
                count += 1
        out[y] = 0.0
        if count == 0:
            continue
        level /= count
        typical = squares / count
        for x in range(columns - 1):
            if (dq[y, x] | dq[y, x + 1]) & _UNUSABLE:
                continue
            a, b = inverse[x], inverse[x + 1]
            step, change = b - a, sci[y, x + 1] - sci[y, x]
            sigma = math.sqrt(var[y, x] + var[y, x + 1]) + level * typical
            if abs(step) > _CLIP * typical or abs(change) > _CLIP * sigma:
                continue
            noise = flat_var[y, x] * a**4 + flat_var[y, x + 1] * b**4
            pattern = level * step
            out[y, 0] += pattern * change
            out[y, 1] += pattern * pattern
            out[y, 2] += pattern * pattern * change * change
            out[y, 3] += level * level * noise
            out[y, 4] += 1


def no_rows(rows: int) -> NDArray[np.float64]:
    """Return empty sums for a frame of so many rows."""
    return np.zeros((-(-rows // ROW_STEP), SUMS))


def add_rows(
    sums: NDArray[np.float64],
    rows: slice,
    band: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]],
    flat: NDArray[np.float32],
    flat_variance: NDArray[Any],
) -> None:
    """Add a band of rows to the sums of its frame.

    Parameters
    ----------
    sums
        `no_rows` of the frame.
    rows
        The rows of the band.
    band
        SCI divided by the flat, VAR and DQ; (n, nx) each.
    flat, flat_variance
        Rows of the flat and of its variance, which may have another byte order.
    """
    first = -(-rows.start // ROW_STEP)
    some = slice(first * ROW_STEP - rows.start, None, ROW_STEP)
    noise = np.ascontiguousarray(flat_variance[some], np.float32)
    sci, var, dq = (plane[some] for plane in band)
    sum_rows(sci, var, dq, flat[some], noise, sums[first : first + len(noise)])


def refuse_displaced(name: str, flat: str, sums: NDArray[np.float64], largest: float) -> None:
    """Raise an error if rows of the frame ``name`` are not where the flat has them (`displaced_rows`)."""
    found = displaced_rows(sums, largest)
    if found is not None:
        raise FrameError(
            name,
            f"rows {found.first + 1} to {found.last + 1} lack {found.share:.0%} +- {found.error:.0%} of the "
            f"pixel pattern of the flat {flat}: pixels were lost, repeated or moved",
            remedy="Copy the file again; or, if the flat is wrong, choose another, or set "
            "detrend.max_missing_pattern=2.",
        )


def displaced_rows(sums: NDArray[np.float64], largest: float) -> Displaced | None:
    """Return the rows whose pixels are not where the flat has them; None without any.

    The slope of the differences of neighbours against those of the inverse flat is 0 for pixels in place and 1 for
    others. The noise of the flat itself gives the slope noise / pattern (squared), which is subtracted. Tried are
    groups of rows, and all rows from each one to the end; the most significant of those with too much is returned.

    Parameters
    ----------
    sums
        `sum_rows` of every `ROW_STEP`-th row.
    largest
        Share of the pattern that rows in place may lack, since the response depends on the colour of the light.
    """
    n = len(sums)
    whole = _share(sums.sum(axis=0))
    if whole is None:
        return None
    groups = max(1, min(n // _TOGETHER, int((_ERROR / whole[1]) ** 2)))
    parts = [(rows[0], rows[-1]) for rows in np.array_split(np.arange(n), groups)]
    parts += [(first, n - 1) for first in range(n - _TOGETHER)]
    total = np.concatenate([np.zeros((1, SUMS)), np.cumsum(sums, axis=0)])
    found = []
    for first, last in parts:
        measured = _share(total[last + 1] - total[first])
        if measured is not None:
            excess = (measured[0] - largest) / measured[1]
            if excess > _SIGNIFICANT:
                found.append((excess, first, last, *measured))
    if not found:
        return None
    _, first, last, share, error = max(found)
    return Displaced(int(first) * ROW_STEP, int(last) * ROW_STEP + ROW_STEP - 1, share, error)


def _share(sums: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the share of the pattern that is missing, and its error; None if the flat has no pattern but noise."""
    cross, squared, both, noise, _ = sums
    if not (squared > 0 and both > 0) or (real := 1 - noise / squared) < _LEAST_REAL:
        return None
    return float((cross / squared - noise / squared) / real), math.sqrt(both) / squared / real
