"""Frames whose stars are unlike those of the other frames in brightness: not exposed as their headers state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from imaging.registration.entries import AlignEntry, AlignInput

#: Frames and matched stars that a comparison needs.
_FEWEST_FRAMES: Final = 4
_FEWEST_STARS: Final = 5
#: Clouds dim the stars and not the sky. Where both differ by more than the first factor, and by the same factor
#: within the second, the exposure was another one.
_ANOTHER_EXPOSURE: Final = 1.4
_SAME_FACTOR: Final = 1.1


def odd_brightness(
    frames: Sequence[AlignInput], entries: Sequence[AlignEntry], limit: float
) -> dict[str, str]:
    """Return the frames whose stars are unlike those of the others in brightness, each with the reason.

    Parameters
    ----------
    frames
        The frames.
    entries
        Their alignment, in the same order; only frames in use are compared.
    limit
        Largest factor between the flux of a frame's stars and the median of the frames.

    Returns
    -------
    dict
        Empty if there are too few frames, or if no majority agrees.
    """
    known = [
        (frame, entry)
        for frame, entry in zip(frames, entries, strict=True)
        if entry.used and entry.n_matched >= _FEWEST_STARS and entry.flux_scale > 0
    ]
    if len(known) < _FEWEST_FRAMES:
        return {}
    flux = np.array([entry.flux_scale / frame.facts.exposure for frame, entry in known])
    sky = np.array([frame.sky / frame.facts.exposure for frame, _ in known])
    flux /= np.median(flux)
    usual = float(np.median(sky[np.isfinite(sky)])) if np.isfinite(sky).any() else math.nan
    found = {}
    for (frame, _), stars, level in zip(known, flux, sky, strict=True):
        factor = max(stars, 1 / stars)
        background = level / usual if level > 0 and usual > 0 else math.nan
        same = max(stars / background, background / stars) < _SAME_FACTOR
        if factor > limit:
            found[frame.name] = (
                f"its stars have {stars:.2g} times the flux of those of the other frames "
                f"(limit {limit:g} times more or less, align.flux_range)"
            )
        elif factor > _ANOTHER_EXPOSURE and same:
            found[frame.name] = (
                f"its stars and its sky have {stars:.2g} and {background:.2g} times the light of the other frames: "
                f"it was not exposed for the {frame.facts.exposure:g} s of its header"
            )
    return found if 3 * len(found) <= len(known) else {}
