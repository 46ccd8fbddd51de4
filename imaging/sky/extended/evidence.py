"""Whether an apparent source moves with the stars from dither to dither: the sky's and the flat's structure does not.

The frames are compared at the same blocks of the detector, so that whatever all of them share there cancels. What an
image made from the other frames predicts for the differences is compared with the differences of a frame.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.sky.extended.source_model import SkyMesh, SourceModel, medians_around
from imaging.sky.fixed import deposit, sample

#: Most frames that are compared.
_MOST: Final = 12
#: Scale lengths within which they are, and the fewest blocks of a frame.
_REACH: Final = 2.5
_FEWEST: Final = 12


def explained(light: NDArray[np.float64], mesh: SkyMesh, source: SourceModel) -> float:
    """Return the share of the squared differences between frames that a source explains.

    Parameters
    ----------
    light
        Light of the frames, electrons, (n, rows, columns); NaN if missing.
    mesh, source
        Their mesh on the sky, and the source.

    Returns
    -------
    float
        1 if everything that differs moves with the stars; about 0, or less, for the structure of the sky and for
        noise, since each frame is predicted from the others. NaN with too few blocks.
    """
    frames = np.unique(np.linspace(0, len(light) - 1, min(len(light), _MOST)).round().astype(int))
    light, places = light[frames], mesh.places[frames]
    n, shape = len(light), light.shape[1:]
    known = np.isfinite(light)
    frames_here = known.sum(axis=0)
    enough = 2 * frames_here > n
    values = np.where(known, light, 0.0)
    total, weight = np.zeros(mesh.weight.shape), np.zeros(mesh.weight.shape)
    own = []
    for value, there, place in zip(values, known, places, strict=True):
        mine, count = np.zeros(total.shape), np.zeros(total.shape)
        deposit(value, there, place, mine, count)
        own.append((mine, count))
        total, weight = total + mine, weight + count
    near = (source.distances() < _REACH).astype(np.float64)
    before = after = 0.0
    usual = values.sum(axis=0) / np.maximum(frames_here, 1)
    y, x = np.mgrid[-1.0 : 1.0 : shape[0] * 1j, -1.0 : 1.0 : shape[1] * 1j]
    for i, place in enumerate(places):
        count = weight - own[i][1]
        image = np.where(count > 0.5, (total - own[i][0]) / np.maximum(count, 0.5), 0.0)
        there = (count > 0.5).astype(np.float64)
        predicted = np.stack([sample(image, one, shape) for one in places])
        whole = np.min([sample(there, one, shape) for one in places], axis=0) > 0.99
        seen = known[i] & enough & whole
        shared = np.where(known, predicted, 0.0).sum(axis=0) / np.maximum(frames_here, 1)
        # Medians of squares of blocks: a star is in few of them.
        differs = medians_around(np.where(seen, values[i] - usual, np.nan))
        moved = medians_around(np.where(seen, predicted[i] - shared, np.nan))
        used = np.isfinite(differs) & (sample(near, place, shape) > 0.5)
        if np.count_nonzero(used) < _FEWEST:
            continue
        # Neither a slope of the sky nor another transparency is evidence.
        design = np.stack([np.ones(np.count_nonzero(used)), x[used], y[used], predicted[i][used]], axis=1)
        differs, moved = _without(design, differs[used]), _without(design, moved[used])
        before += float(np.square(differs).sum())
        after += float(np.square(differs - moved).sum())
    return 1.0 - after / before if before > 0 else float("nan")


def _without(design: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])
