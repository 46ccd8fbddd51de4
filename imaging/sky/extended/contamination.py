"""The light of an extended source in the skies of dithered frames: the sky step on a mesh of coarse blocks.

As the sky step does, each frame is given the clipped mean of its sky frames where these have no source in their mask,
or the median of all where every one has, and then a plane of its own. The step is linear in the source but for the
clipping, for which a pixel's noise counts: a value is kept with the probability that noise leaves it within the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.sky.extended.source_model import SkyMesh, SourceModel
from imaging.sky.fixed import deposit, sample
from imaging.sky.structure import median_of_known
from imaging.usual import MAD_TO_SIGMA

#: Rounds of the clipping.
_ROUNDS: Final = 2
#: Share of a block above which it counts as masked, and below which that many frames' sky is none.
_MASKED: Final = 0.5
#: Rejection of blocks in the fit of the plane, robust sigma, and its rounds; blocks masked beyond a share do not count.
_LIMIT: Final = 3.0
_CLIPS: Final = 5
_HIDDEN: Final = 0.8
#: Most stacked frames whose skies are computed.
_MOST: Final = 16
#: Frames that must see a place.
_SEEN: Final = 0.9


@dataclass(frozen=True)
class Pointings:
    """Where the frames of a group point, and which are the sky of which.

    Attributes
    ----------
    shifts
        How far the stars of each frame are moved, blocks (y, x), (m, 2): the stacked frames, then further sky frames.
    chosen
        ``chosen[i, j]``: frame j is sky of the stacked frame i, (n, m).
    """

    shifts: NDArray[np.float64]
    chosen: NDArray[np.bool_]

    @property
    def middle(self) -> NDArray[np.float64]:
        """Mean shift of the stacked frames, blocks (y, x)."""
        return np.asarray(self.shifts[: len(self.chosen)].mean(axis=0))

    @property
    def extent(self) -> float:
        """Largest distance of a stacked frame from the mean pointing along one axis, blocks."""
        return float(np.abs(self.shifts[: len(self.chosen)] - self.middle).max())

    @property
    def distance(self) -> float:
        """Median distance of a stacked frame from its sky frames, blocks."""
        apart = self.shifts[: len(self.chosen), None] - self.shifts[None]
        return float(np.median(np.hypot(apart[..., 0], apart[..., 1])[self.chosen]))

    def scaled(self, factor: float) -> Pointings:
        """Return the pointings with all distances from the mean of the stacked frames multiplied."""
        return Pointings(self.middle + factor * (self.shifts - self.middle), self.chosen)

    def of(self, wanted: NDArray[np.bool_]) -> Pointings:
        """Return the pointings with some of the stacked frames, (n,); the others may still be sky of them."""
        n = len(self.chosen)
        order = np.concatenate(
            [np.flatnonzero(wanted), np.flatnonzero(~wanted), np.arange(n, len(self.shifts))]
        )
        return Pointings(self.shifts[order], self.chosen[wanted][:, order])

    def skies_of(self, most: int) -> list[int]:
        """Return at most so many stacked frames, spread evenly."""
        n = len(self.chosen)
        return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most)).tolist()})


@dataclass(frozen=True)
class Contamination:
    """What the skies of a group contain of a source.

    Attributes
    ----------
    light, lost
        Light of the source, and what the mean of the frames lacks of it, electrons, (rows, columns); NaN where too few
        frames see it.
    distance
        Distance from the centre, scale lengths.
    """

    light: NDArray[np.float64]
    lost: NDArray[np.float64]
    distance: NDArray[np.float64]


def contaminate(
    source: SourceModel,
    mesh: SkyMesh,
    masked: NDArray[np.float64],
    lit: NDArray[np.bool_],
    pointings: Pointings,
    *,
    noise: float,
    clip: float,
) -> Contamination:
    """Return what the sky step takes of a source if the frames point as given.

    Parameters
    ----------
    source, mesh
        The source on the mesh of the frames as they were taken.
    masked
        Mean share of masked pixels at each place of the mesh, (rows, columns).
    lit
        Blocks of the detector with usable pixels, (rows, columns) of a frame.
    pointings
        The pointings to consider; their mean is that of the frames as they were taken.
    noise, clip
        Noise of a pixel, electrons, and the clipping threshold of the sky step, sigma.
    """
    subset = pointings.skies_of(_MOST)
    origin = mesh.places.mean(axis=0)
    places = origin - (pointings.shifts - pointings.middle)
    rows, columns = lit.shape
    below = np.floor(-places.min(axis=0)).max()
    above = (places.max(axis=0) + np.array(lit.shape) - np.array(masked.shape)).max()
    margin = int(max(0.0, math.ceil(max(below, above)))) + 2
    light, hidden = source.extended_to(margin), np.zeros(tuple(side + 2 * margin for side in masked.shape))
    hidden[margin : margin + masked.shape[0], margin : margin + masked.shape[1]] = np.nan_to_num(masked)
    places = places + margin
    lights = np.stack([sample(light, place, lit.shape) for place in places])
    masks = np.stack([sample(hidden, place, lit.shape) for place in places])
    total, weight = np.zeros(light.shape), np.zeros(light.shape)
    y, x = np.mgrid[-1.0 : 1.0 : rows * 1j, -1.0 : 1.0 : columns * 1j]
    plane = np.stack([np.ones(y.size), x.ravel(), y.ravel()], axis=1)
    for i in subset:
        chosen = pointings.chosen[i]
        # A frame without sky frames had its own smooth background subtracted, here the plane below.
        none = np.zeros(lit.shape)
        sky = _sky(lights[chosen], 1.0 - masks[chosen], noise, clip) if chosen.any() else none
        free = np.where(lit & (masks[i] < _HIDDEN), 1.0 - masks[i], 0.0)
        sky += (plane @ _plane((lights[i] - sky).ravel(), free.ravel(), plane, noise)).reshape(lit.shape)
        deposit(np.where(lit, sky, 0.0), lit, places[i], total, weight)
    seen = weight > _SEEN
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]].astype(np.float64)
    return Contamination(
        light=np.where(seen, light, np.nan),
        lost=np.where(seen, total / np.maximum(weight, 1e-9), np.nan),
        distance=source.distance(y - margin, x - margin),
    )


def _sky(
    lights: NDArray[np.float64], free: NDArray[np.float64], noise: float, clip: float
) -> NDArray[np.float64]:
    """Return the source's light in the sky of a frame, from that in its sky frames and their unmasked shares."""
    from scipy.special import ndtr  # late: it is slow to import

    def density(t: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-0.5 * np.square(t)) / math.sqrt(2 * math.pi))

    # The mean of noise below a limit is negative; without a source it is that of the clipped sky, which is no loss.
    usual = noise * float(density(clip)) / float(ndtr(clip))
    middle = median_of_known(np.where(free > _MASKED, lights, np.nan))
    total, weight = (free * lights).sum(axis=0), free.sum(axis=0)
    for _ in range(_ROUNDS):
        limit = clip - (lights - np.where(np.isfinite(middle), middle, 0.0)) / noise
        kept = np.maximum(ndtr(limit), 1e-9)
        values = np.where(kept > 1e-4, lights - noise * density(limit) / kept + usual, 0.0)
        total, weight = (free * kept * values).sum(axis=0), (free * kept).sum(axis=0)
        middle = median_of_known(np.where(free * kept > _MASKED, lights, np.nan))
    everywhere = np.median(lights, axis=0)
    return np.where(np.isfinite(middle) & (weight > _MASKED), total / np.maximum(weight, 1e-9), everywhere)


def _plane(
    left: NDArray[np.float64], free: NDArray[np.float64], plane: NDArray[np.float64], noise: float
) -> NDArray[np.float64]:
    """Return the coefficients of the plane that is fitted to what is left outside the masks."""
    kept = free > 0
    solution: NDArray[np.float64] = np.zeros(plane.shape[1])
    if np.count_nonzero(kept) < 4 * plane.shape[1]:
        return solution
    for _ in range(_CLIPS):
        weighted = plane[kept] * free[kept, None]
        solution = np.asarray(
            np.linalg.lstsq(weighted.T @ plane[kept], weighted.T @ left[kept], rcond=None)[0], np.float64
        )
        away = left - plane @ solution
        centre = float(np.median(away[kept]))
        # The noise of a block of 64 pixels in steps of two rows, about which the sky step clips.
        spread = max(MAD_TO_SIGMA * float(np.median(np.abs(away[kept] - centre))), noise / 32)
        now = (free > 0) & (np.abs(away - centre) <= _LIMIT * spread)
        if np.array_equal(now, kept) or np.count_nonzero(now) < 2 * plane.shape[1]:
            break
        kept = now
    return solution
