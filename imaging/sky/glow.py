"""The glow around the guide probe, as a smooth surface in small cells of a frame.

It declines with the distance from the probe and is far broader than a star. Medians of rings give its decline to well
below the noise of a cell; what differs from that around the probe is taken from the smoothed remainder, but only
where the rings show glow, so that little else is taken with it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.usual import MAD_TO_SIGMA

#: Distances from the core, in that of the furthest cells: up to which the glow is subtracted entirely, and from which
#: nothing is subtracted.
_FADES: Final = 0.6
_FAR: Final = 0.75
#: Width of the first rings, cells, how many there are, and the growth of the others: near the core the glow is steep.
_RING: Final = 1.0
_NARROW: Final = 6
_GROWTH: Final = 1.3
#: Fewest cells of a ring.
_FEWEST: Final = 8
#: Widths, in cells, over which distances and the remainder are smoothed.
_EVEN: Final = 1.5
_SMOOTH: Final = 3.0
#: Cells further from the rings than this many times the noise, or this share of the glow, do not count: stars.
_CLIP: Final = 4.0
_UNEVEN: Final = 0.5
#: Least share of known cells in the smoothing.
_KNOWN: Final = 0.3


def glow_surface(
    values: NDArray[np.float64], known: NDArray[np.bool_], core: NDArray[np.bool_], least: float
) -> NDArray[np.float64]:
    """Return the light of the glow in each cell, also where the core hides it.

    Parameters
    ----------
    values
        Medians of cells about the sky, relative to it, (rows, columns).
    known
        Cells with a median.
    core
        Cells that the probe vignettes.
    least
        Glow, relative to the sky, from which its differences around the probe are followed too.

    Returns
    -------
    float64 (rows, columns)
        In the units of ``values``; zeros without a core or without enough cells around it.
    """
    from scipy import ndimage  # late: few frames have a probe

    outside = known & ~core
    if not core.any() or np.count_nonzero(outside) < 2 * _FEWEST:
        return np.zeros(values.shape)
    # The outline follows the cells; the glow does not.
    distance = ndimage.distance_transform_edt(~core) - ndimage.distance_transform_edt(core)
    distance = ndimage.gaussian_filter(distance, _EVEN)
    furthest = float(distance[outside].max())
    far = outside & (distance > _FAR * furthest)
    values = values - (float(np.median(values[far])) if far.any() else 0.0)
    noise = cell_noise(values, outside)
    knots, levels = _rings(values, outside, distance)
    if len(knots) < 2:
        return np.zeros(values.shape)
    fading = np.clip((_FAR * furthest - distance) / ((_FAR - _FADES) * furthest), 0.0, 1.0)
    decline = np.interp(distance, knots, levels) * fading
    left = values - decline
    counts = outside & (np.abs(left) <= np.maximum(_CLIP * noise, _UNEVEN * np.abs(decline)))
    weight = ndimage.gaussian_filter(counts.astype(np.float64), _SMOOTH, mode="constant")
    smooth = ndimage.gaussian_filter(np.where(counts, left, 0.0), _SMOOTH, mode="constant")
    followed = (np.abs(decline) > least) & (weight > _KNOWN)
    return np.asarray(decline + np.where(followed, smooth / np.maximum(weight, _KNOWN), 0.0))


def cell_noise(values: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Return the noise of a cell, from the differences of neighbours; 0 without known pairs."""
    pairs = known[:, 1:] & known[:, :-1]
    if not pairs.any():
        return 0.0
    return MAD_TO_SIGMA * float(np.median(np.abs(np.diff(values, axis=1)[pairs]))) / 2**0.5


def _rings(
    values: NDArray[np.float64], outside: NDArray[np.bool_], distance: NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Return the mean distances and the medians of rings around the core."""
    knots: list[float] = []
    levels: list[float] = []
    last = float(distance[outside].max())
    inner, width, number = float(distance[outside].min()), _RING, 0
    while inner <= last:
        ring = outside & (distance >= inner) & (distance < inner + width)
        if np.count_nonzero(ring) >= _FEWEST:
            knots.append(float(distance[ring].mean()))
            levels.append(float(np.median(values[ring])))
        inner, number = inner + width, number + 1
        if number >= _NARROW:
            width *= _GROWTH
    return knots, levels
