"""Persistence: charge that a bright pixel traps in one exposure and releases in later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trapped:
    """Electrons above the threshold at the end of one exposure, of the pixels that have any."""

    ended: datetime
    pixels: NDArray[np.int64]  #: flat indices
    electrons: NDArray[np.float32]


def trapped(electrons: NDArray[np.float32], ended: datetime, *, threshold: float, well: float) -> Trapped:
    """Return what an exposure traps: the electrons above ``threshold``, up to the full well."""
    pixels = np.flatnonzero(electrons > threshold)
    excess = np.minimum(electrons.ravel()[pixels], well) - threshold
    return Trapped(ended, pixels, excess.astype(np.float32))


def latent_plane(
    before: Sequence[Trapped], started: datetime, *, fraction: float, decay: float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the electrons that earlier exposures release in one that starts at ``started``.

    Parameters
    ----------
    before
        What other exposures trapped; those that ended later do not count.
    started
        Start of the exposure.
    fraction
        Part released in an exposure that starts at once.
    decay
        Time in which that falls by a factor e, s.
    shape
        Rows and columns.
    """
    plane = np.zeros(shape, np.float32)
    for exposure in before:
        age = (started - exposure.ended).total_seconds()
        if age >= 0:
            plane.flat[exposure.pixels] += np.float32(fraction * np.exp(-age / decay)) * exposure.electrons
    return plane
