"""Structure of the background that moves with the stars from dither to dither: galaxies and nebulae, not sky.

The residuals of all frames are explained by one image on the sky, seen through the dithers. Where it explains most
of them, they are of an extended source, and no surface of the sky may be fitted there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Fewest frames that allow the distinction, and least extent of the dithers along one axis, blocks.
FEWEST: Final = 3
_LEAST_DITHER: Final = 0.5
#: Rounds in which the image on the sky and the pattern on the detector are separated.
_ROUNDS: Final = 6
#: Least share of the squared residuals explained by the image, with many frames; chance explains 1 / (n - 1).
_SHARE: Final = 0.6
#: A source is where the mean square of the residuals is this many times the usual one.
_SIGNIFICANT: Final = 4.0
#: Share of the frames that must see a place: few frames are explained by any image.
_SEEN: Final = 0.6
#: Share of the field from which a source leaves no place where the sky can be distinguished from it.
_LARGEST: Final = 0.3
#: Fewest known blocks among 3 x 3.
_NEIGHBOURS: Final = 4


def fixed_to_the_sky(residuals: NDArray[np.float64], shifts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the blocks of each frame whose residual moves with the stars.

    Parameters
    ----------
    residuals
        Block medians minus the frames' common pattern and a plane each, (n, rows, columns); NaN if missing.
    shifts
        How far the stars of each frame are moved from those of the first one, (n, 2): y and x, blocks.

    Returns
    -------
    numpy.ndarray
        Boolean, (n, rows, columns), with a margin of one block; everywhere if little else is left.
    """
    n, shape = len(residuals), residuals.shape[1:]
    if n < FEWEST or float(np.ptp(shifts, axis=0).max()) < _LEAST_DITHER:
        return np.zeros(residuals.shape, bool)
    known, left = _smoothed(residuals)
    size = tuple(np.array(shape) + np.ceil(np.ptp(shifts, axis=0)).astype(int) + 4)
    places = [np.asarray(shifts.max(axis=0) - shift + 1.0) for shift in shifts]
    model = _model(left, known, places, size)
    before, after, weight = np.zeros(size), np.zeros(size), np.zeros(size)
    for i, place in enumerate(places):
        deposit(left[i] ** 2, known[i], place, before, weight)
        deposit(np.where(known[i], left[i] - model[i], 0.0) ** 2, known[i], place, after, np.zeros(size))
    # Chance explains the more, the fewer frames there are.
    rest = (1.0 - _SHARE) * (n - 2) / (n - 1)
    seen = weight > _SEEN * n
    if not seen.any():
        return np.zeros(residuals.shape, bool)
    strong, others = np.zeros(size, bool), seen
    for _ in range(_ROUNDS):  # without a source's core, its halo stands out
        usual = float(np.median(before[others] / weight[others]))
        now = seen & (before > _SIGNIFICANT * usual * weight) & (after < rest * before)
        now = now | strong
        if np.array_equal(now, strong) or not (seen & ~now).any():
            break
        strong, others = now, seen & ~now
    if after[others].sum() < rest * before[others].sum() or strong.sum() > _LARGEST * seen.sum():
        return np.ones(residuals.shape, bool)
    spread = (_sum_around(strong.astype(np.float64)) > 0).astype(np.float64)
    return np.stack([sample(spread, place, shape) > 0 for place in places])


def _smoothed(residuals: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which blocks have known neighbours, and the means of 3 x 3 blocks, 0 elsewhere."""
    known = np.isfinite(residuals)
    counts = np.stack([_sum_around(one.astype(np.float64)) for one in known])
    sums = np.stack([_sum_around(one) for one in np.where(known, residuals, 0.0)])
    enough = counts > _NEIGHBOURS
    return enough, np.where(enough, sums / np.maximum(counts, 1), 0.0)


def _model(
    left: NDArray[np.float64],
    known: NDArray[np.bool_],
    places: Sequence[NDArray[np.float64]],
    size: tuple[int, ...],
) -> NDArray[np.float64]:
    """Return the best sum of an image on the sky, a pattern on the detector, and a plane, in each frame."""
    pattern, planes = np.zeros(left.shape[1:]), np.zeros(left.shape)
    y, x = np.mgrid[-1.0 : 1.0 : left.shape[1] * 1j, -1.0 : 1.0 : left.shape[2] * 1j]
    design = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=1)
    model = np.zeros(left.shape)
    for _ in range(_ROUNDS):
        total, weight = np.zeros(size), np.zeros(size)
        for one, plane, there, place in zip(left, planes, known, places, strict=True):
            deposit(np.where(there, one - pattern - plane, 0.0), there, place, total, weight)
        image = np.divide(total, weight, out=np.zeros(size), where=weight > 0.25)
        seen = np.stack([sample(image, place, left.shape[1:]) for place in places])
        pattern = np.where(known, left - seen - planes, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        for i, there in enumerate(known.reshape(len(left), -1)):
            rest = (left[i] - seen[i] - pattern).ravel()
            if np.count_nonzero(there) > 3 * design.shape[1]:
                solution = np.linalg.lstsq(design[there], rest[there], rcond=None)[0]
                planes[i] = (design @ solution).reshape(left.shape[1:])
        model = seen + pattern + planes
    return model


def _corners(place: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    y0, x0 = np.floor(place).astype(int)
    fy, fx = place - np.floor(place)
    return [
        (y0, x0, (1 - fy) * (1 - fx)), (y0, x0 + 1, (1 - fy) * fx),
        (y0 + 1, x0, fy * (1 - fx)), (y0 + 1, x0 + 1, fy * fx),
    ]  # fmt: skip


def deposit(
    plane: NDArray[np.float64],
    known: NDArray[np.bool_],
    place: NDArray[np.float64],
    total: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> None:
    """Add a frame's blocks to an image of the sky, each shared by the four nearest places."""
    ny, nx = plane.shape
    for y, x, share in _corners(place):
        total[y : y + ny, x : x + nx] += share * plane
        weight[y : y + ny, x : x + nx] += share * known


def sample(
    image: NDArray[np.float64], place: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return an image of the sky at a frame's blocks, by bilinear interpolation."""
    ny, nx = shape
    out = np.zeros((ny, nx))
    for y, x, share in _corners(place):
        out += share * image[y : y + ny, x : x + nx]
    return out


def _sum_around(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(plane, 1)
    ny, nx = plane.shape
    return np.asarray(sum(padded[j : j + ny, i : i + nx] for j in range(3) for i in range(3)))
