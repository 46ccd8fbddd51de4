"""Whether an apparent source moves with the stars from dither to dither: the sky's and the flat's structure does not.

The frames are compared at the same blocks of the detector, so that whatever all of them share there cancels. The
differences of a frame are predicted twice: from an image of the sky made of the other frames, which noise and the
structure of the sky cannot be; and from the fitted source, which the crowding of stars cannot be.
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
        The smaller of the shares of the two predictions. 1 if everything that differs moves with the stars and is the
        source's; about 0, or less, for anything else. NaN with too few blocks.
    """
    frames = np.unique(np.linspace(0, len(light) - 1, min(len(light), _MOST)).round().astype(int))
    light, places = light[frames], mesh.places[frames]
    shape = light.shape[1:]
    known = np.isfinite(light)
    values, here = np.where(known, light, 0.0), np.maximum(known.sum(axis=0), 1)
    enough = 2 * known.sum(axis=0) > len(light)
    images = _Others(values, known, places, mesh.weight.shape)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64)
    fitted = np.stack([source.fitted(rows + y, columns + x) for y, x in places])
    x, y = 2 * columns / shape[1] - 1, 2 * rows / shape[0] - 1
    usual = values.sum(axis=0) / here
    before, after = np.zeros(2), np.zeros(2)
    for i, place in enumerate(places):
        predicted, whole = images.without(i)
        seen = known[i] & enough & whole
        # Medians of squares of blocks: a star is in few of them.
        differs = medians_around(np.where(seen, values[i] - usual, np.nan))
        used = np.isfinite(differs) & (source.distance(rows + place[0], columns + place[1]) < _REACH)
        if np.count_nonzero(used) < _FEWEST:
            continue
        for k, by in enumerate((predicted, fitted)):
            shared = np.where(known, by, 0.0).sum(axis=0) / here
            moved = medians_around(np.where(seen, by[i] - shared, np.nan))[used]
            # Neither a slope of the sky nor another transparency is evidence.
            design = np.stack([np.ones(len(moved)), x[used], y[used], by[i][used]], axis=1)
            found, moved = _without(design, differs[used]), _without(design, moved)
            before[k] += float(np.square(found).sum())
            after[k] += float(np.square(found - moved).sum())
    return 1.0 - float((after / before).max()) if before.all() else float("nan")


class _Others:
    """Images of the sky from all frames but one."""

    def __init__(
        self,
        values: NDArray[np.float64],
        known: NDArray[np.bool_],
        places: NDArray[np.float64],
        size: tuple[int, ...],
    ) -> None:
        self._places, self._shape = places, values.shape[1:]
        self._own = np.zeros((len(values), 2, *size))
        for value, there, place, (light, count) in zip(values, known, places, self._own, strict=True):
            deposit(value, there, place, light, count)
        self._total = self._own.sum(axis=0)

    def without(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the image without frame i at the blocks of every frame, (n, rows, columns), and where all are seen."""
        light, count = self._total - self._own[i]
        image = np.where(count > 0.5, light / np.maximum(count, 0.5), 0.0)
        there = (count > 0.5).astype(np.float64)
        whole = np.min([sample(there, one, self._shape) for one in self._places], axis=0) > 0.99
        return np.stack([sample(image, one, self._shape) for one in self._places]), np.asarray(whole)


def _without(design: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])
