"""A frame compared with the reference frame of its group: the shift of its stars, and their flux."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.frames.pointing import moved_by
from imaging.quick_look.frame_figures import ReferenceStars
from imaging.quick_look.measure_frame import Measurement
from imaging.registration.star_matching import chance_of, pair_up, vote

#: Stars of a reference frame, and stars in common, that are needed.
LEAST_STARS: Final = 5
#: Errors of the telescope's offsets that are searched, arcsec: first near those in the header, then wider.
_REACHES: Final = (10.0, 120.0)
#: Largest distance of matched stars, px, and largest probability of a match by chance.
_TOLERANCE: Final = 2.0
_FALSE_ALARM: Final = 1e-4


@dataclass(frozen=True)
class Compared:
    """A frame against the reference.

    Attributes
    ----------
    offset
        Shift of the stars along x and y, arcsec.
    error
        Distance of that shift from the one that the headers' offsets ask for, arcsec.
    flux_ratio
        Median flux of the stars over that in the reference, of the same exposure and airmass.
    stars
        Stars in common.
    """

    offset: tuple[float, float]
    error: float
    flux_ratio: float
    stars: int


def reference_of(measurement: Measurement) -> ReferenceStars | None:
    """Return the stars of a frame for later ones to be compared with; None if there are too few."""
    stars, facts = measurement.stars, measurement.facts
    if len(stars) < LEAST_STARS or facts.exposure <= 0:
        return None

    def rounded(values: NDArray[Any], digits: int) -> tuple[float, ...]:
        return tuple(round(float(value), digits) for value in values)

    return ReferenceStars(
        x=rounded(stars["x"], 3), y=rounded(stars["y"], 3), flux=rounded(stars["flux"] / facts.exposure, 4),
        moved=moved_by(facts), airmass=facts.airmass,
    )  # fmt: skip


def compare(measurement: Measurement, reference: ReferenceStars) -> Compared | str:
    """Compare a frame with the reference of its group, or return why that is impossible."""
    stars, facts = measurement.stars, measurement.facts
    if len(stars) < LEAST_STARS:
        return f"{len(stars)} stars to match, {LEAST_STARS} are needed"
    here = np.column_stack([stars["x"], stars["y"]])
    there = np.column_stack([reference.x, reference.y])
    asked = np.subtract(moved_by(facts), reference.moved)
    scale = facts.readout.pixel_scale
    for reach in _REACHES:
        found = vote(there + asked, here, reach / scale)
        moved = there + asked + (found.dx, found.dy)
        first, second = pair_up(moved, here, _TOLERANCE)
        if len(first) >= LEAST_STARS and chance_of(len(first), moved, here, _TOLERANCE) < _FALSE_ALARM:
            break
    else:
        return f"its stars do not match those of the group's reference within {_REACHES[-1]:g} arcsec"
    shift = np.median(here[second] - there[first], axis=0)
    ratio = float(np.median(stars["flux"][second] / facts.exposure / np.array(reference.flux)[first]))
    extinction = facts.table.extinction(facts.values)
    if facts.airmass is not None and reference.airmass is not None:
        ratio *= 10 ** (0.4 * extinction * (facts.airmass - reference.airmass))
    offset = shift * scale
    return Compared(
        offset=(float(offset[0]), float(offset[1])),
        error=math.hypot(*((shift - asked) * scale)), flux_ratio=ratio, stars=len(first),
    )  # fmt: skip
