"""What the readout of a disturbed frame adds or loses: offsets of channels and rows, parts without signal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.disturbances.drawn import FrameDisturbance


def channel_numbers(conditions: Disturbances, size: int) -> NDArray[np.intp]:
    """Return the readout channel of each pixel, shape (size, size).

    Strips of columns over the full height; or, in each quadrant, a quarter of the channels: strips of columns in the
    lower left and upper right quadrants, strips of rows in the others.
    """
    n = conditions.channels
    along = np.arange(size)
    if conditions.channel_layout == "strips" or n % 4:
        return np.broadcast_to(along * n // size, (size, size))
    half, each = size // 2, n // 4
    strip = np.minimum((along % half) * each // half, each - 1)
    upper, right = (along >= half)[:, None], (along >= half)[None, :]
    columns, rows = np.broadcast_to(strip, (size, size)), np.broadcast_to(strip[:, None], (size, size))
    return np.where(upper == right, columns, rows) + each * (2 * upper + right)


def pattern_plane(
    conditions: Disturbances, disturbance: FrameDisturbance, size: int, key: Sequence[int]
) -> NDArray[np.float32] | None:
    """Return the offsets of channels and rows of a frame, electrons; None without any."""
    if not disturbance.channel_offsets and not disturbance.row_rms and not disturbance.pattern_offsets:
        return None
    plane = np.zeros((size, size), np.float32)
    if disturbance.channel_offsets:
        plane += np.array(disturbance.channel_offsets, np.float32)[channel_numbers(conditions, size)]
    if disturbance.row_rms:
        rng = np.random.Generator(np.random.PCG64([*key, 9]))
        plane += (disturbance.row_rms * rng.standard_normal(size)).astype(np.float32)[:, None]
    if disturbance.pattern_offsets:
        plane += periodic_plane(disturbance.pattern_offsets, size)
    return plane


def periodic_plane(offsets: Sequence[float], size: int) -> NDArray[np.float32]:
    """Return offsets that repeat along the columns of each quadrant, counted from its own corner, electrons.

    Parameters
    ----------
    offsets
        Those of quadrant 0 (lower left), 1 (lower right), 2 and 3 (upper half), each of one period.
    size
        Rows and columns.
    """
    values = np.array(offsets, np.float32).reshape(4, -1)
    along = np.arange(size)
    upper, right = along >= size // 2, along >= size // 2
    column = np.where(right, size - 1 - along, along) % values.shape[1]
    return values[2 * upper[:, None] + right[None, :], column[None, :]]


def unsettled_plane(level: float, size: int) -> NDArray[np.float32]:
    """Return what the first frame of an observation has in addition: half of it even, half falling along the rows."""
    falling = np.exp(-np.arange(size, dtype=np.float32) / np.float32(0.3 * size))
    return np.broadcast_to((np.float32(level) * (1 + falling) / 2)[:, None], (size, size)).astype(np.float32)


def quadrant(number: int, size: int) -> tuple[slice, slice]:
    """Return rows and columns of a quadrant: 2 and 3 are the upper half, 1 and 3 the right one."""
    half = size // 2
    first, last = slice(0, half), slice(half, size)
    return (last if number >= 2 else first), (last if number % 2 else first)


def unread_rows(size: int) -> slice:
    """Return the rows that a frame with an unread half lacks."""
    return slice(size // 2, size)
