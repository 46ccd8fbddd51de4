"""The kernels for the path of a resampled frame: the polynomial from the output's pixels to those of the frame."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

#: How far a curved transform may exceed what it reaches at the places of a box that are examined, px, and the steps
#: along each axis between these places.
_CURVED_MARGIN: Final = 0.25
_CURVED_STEPS: Final = 4
#: The same for the reach of flags in the output, px.
_FLAGS_MARGIN: Final = 0.02
#: Powers of a path along a row, the constant among them: its order is at most 5.
POWERS: Final = 6


@njit(cache=True, nogil=True)
def position(terms, y, x):  # type: ignore[no-untyped-def]
    """Return a polynomial's value: ``terms`` by the powers of y and x."""
    value = 0.0
    for j in range(terms.shape[0] - 1, -1, -1):
        line = 0.0
        for i in range(terms.shape[1] - 1, -1, -1):
            line = line * x + terms[j, i]
        value = value * y + line
    return value


@njit(cache=True, nogil=True)
def bounds(path, first, rows, x0, width):  # type: ignore[no-untyped-def]
    """Return the lowest and highest x and y in the frame of a box of the output."""
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    curved = path.shape[1] > 2
    steps = _CURVED_STEPS if curved else 1
    for j in range(steps + 1):
        for i in range(steps + 1):
            y, x = first + j * (rows - 1) / steps, x0 + i * (width - 1) / steps
            px, py = position(path[0], y, x), position(path[1], y, x)
            low_x, high_x = min(low_x, px), max(high_x, px)
            low_y, high_y = min(low_y, py), max(high_y, py)
    margin = _CURVED_MARGIN if curved else 0.0
    return low_x - margin, high_x + margin, low_y - margin, high_y + margin


@njit(cache=True, nogil=True)
def expand(path, y, x0, along):  # type: ignore[no-untyped-def]
    """Write the positions along a row of the output as polynomials of the pixels after ``x0``, `POWERS` of them."""
    n = path.shape[1]
    along[:] = 0.0
    for axis in range(2):
        for i in range(n):
            term = 0.0
            for j in range(n - 1, -1, -1):
                term = term * y + path[axis, j, i]
            # term * (x0 + k)^i by the binomial theorem.
            part = term
            for m in range(i, -1, -1):
                along[axis, m] += part
                part *= x0 * m / (i - m + 1.0)


@njit(cache=True, nogil=True)
def slopes_to_output(path, y, x):  # type: ignore[no-untyped-def]
    """Return how x and y of the output grow with x and y of the frame, at a place of the output."""
    a = position(path[0], y, x + 0.5) - position(path[0], y, x - 0.5)
    b = position(path[0], y + 0.5, x) - position(path[0], y - 0.5, x)
    c = position(path[1], y, x + 0.5) - position(path[1], y, x - 0.5)
    d = position(path[1], y + 0.5, x) - position(path[1], y - 0.5, x)
    area = a * d - b * c
    return (d / area, -b / area), (-c / area, a / area)


@njit(cache=True, nogil=True)
def out_reach(path, first, rows, x0, width, distance):  # type: ignore[no-untyped-def]
    """Return the most rows, and the most columns, of the output that a distance in the frame spans within a box."""
    if path.shape[1] == 2:
        (xx, xy), (yx, yy) = slopes_to_output(path, 0.0, 0.0)
        return (abs(yx) + abs(yy)) * distance, (abs(xx) + abs(xy)) * distance
    along_y = along_x = 0.0
    for j in range(_CURVED_STEPS + 1):
        for i in range(_CURVED_STEPS + 1):
            y, x = first + j * (rows - 1) / _CURVED_STEPS, x0 + i * (width - 1) / _CURVED_STEPS
            (xx, xy), (yx, yy) = slopes_to_output(path, y, x)
            along_y, along_x = max(along_y, abs(yx) + abs(yy)), max(along_x, abs(xx) + abs(xy))
    return along_y * distance + _FLAGS_MARGIN, along_x * distance + _FLAGS_MARGIN
