"""Frames whose sky is unlike that of the frames taken next to them: its level, or what is left after subtracting it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Final, NamedTuple

from imaging.sky.choice import SkyParameters

#: What to do about `level_problem`.
LEVEL_REMEDY: Final = "Leave the frame out, or set sky.scaling=add if the sky is really dark."
#: What to do about a frame that `odd_levels` names.
ODD_LEVEL_REMEDY: Final = "Inspect the frame; to use it, raise sky.level_range."

#: What to do about a frame that `odd_structure` names.
ODD_STRUCTURE_REMEDY: Final = "Inspect the frame; to use it, raise sky.max_structure."
#: A frame is compared with others by the background that is left: odd is this many times their median.
_TIMES: Final = 10.0

#: Frames next to a frame in time that it is compared with, and the fewest.
_NEXT: Final = 8
_FEWEST: Final = 3
#: Differences within this many times the noise of a pixel are never odd: there is next to no sky.
_NOISE: Final = 3.0


class SkyLevel(NamedTuple):
    """The sky of a frame.

    Attributes
    ----------
    name
        The frame's name.
    middle
        Middle of the exposure.
    exposure
        Total exposure, s.
    level, noise
        Median of the pixels and their robust scatter, electrons.
    """

    name: str
    middle: datetime
    exposure: float
    level: float
    noise: float


def level_problem(level: float, parameters: SkyParameters) -> str:
    """Return why a frame with this sky level, electrons, cannot be scaled to others; empty if it can."""
    if math.isfinite(level) and (parameters.scaling == "add" or level > 0):
        return ""
    return f"sky level of {level:g} electrons cannot be scaled to that of the other frames"


def odd_levels(frames: Sequence[SkyLevel], parameters: SkyParameters) -> dict[str, str]:
    """Return the frames with a sky level unlike that of the frames next to them in time, each with the reason.

    The sky changes by some ten percent within minutes. A frame with half of the light or twice as much was not
    exposed as its header states, or shows something else. The oddest frame is excluded first, and the others are
    compared again. If more than a third are odd, the sky changes: then none is.
    """
    left = list(frames)
    found: dict[str, str] = {}
    while len(left) > _FEWEST:
        worst, name, reason = max(_oddness(one, left, parameters) for one in left)
        if worst <= 1.0:
            return found
        found[name] = reason
        left = [one for one in left if one.name != name]
        if 3 * len(found) > len(frames):
            return {}
    return found


def odd_structure(left: Mapping[str, tuple[float, float]], parameters: SkyParameters) -> dict[str, str]:
    """Return the frames with a background that the sky of the others does not have, each with the reason.

    A part of the field was vignetted, or a part of the detector did not respond as in the other frames. An extended
    object is in all frames.

    Parameters
    ----------
    left
        For each frame by name: scatter of the background that is left in blocks, and sky level, electrons.
    parameters
        See `SkyParameters`.
    """
    known = {name: one for name, one in left.items() if math.isfinite(one[0])}
    if len(known) <= _FEWEST:
        return {}
    usual = median(rms for rms, _ in known.values())
    found = {
        name: f"the background left after subtracting the sky varies by {rms:.0f} electrons, {rms / level:.2g} of the "
        f"sky and {rms / usual:.0f} times as much as in the other frames (limit {parameters.max_structure:g})"
        for name, (rms, level) in known.items()
        if level > 0 and usual > 0 and rms > max(_TIMES * usual, parameters.max_structure * level)
    }
    return found if 3 * len(found) <= len(known) else {}


def _oddness(one: SkyLevel, frames: Sequence[SkyLevel], parameters: SkyParameters) -> tuple[float, str, str]:
    """Return by how much a frame exceeds the limit (1 is at the limit), its name and the reason."""
    others = sorted(
        (other for other in frames if other.name != one.name),
        key=lambda other: abs(other.middle - one.middle),
    )
    usual = median(other.level / other.exposure for other in others[:_NEXT]) * one.exposure
    if usual <= 0 or abs(one.level - usual) <= _NOISE * one.noise:
        return 0.0, one.name, ""
    ratio = max(one.level, 0.0) / usual
    factor = math.inf if ratio == 0 else max(ratio, 1 / ratio)
    reason = (
        f"its sky level of {one.level:.0f} electrons is {ratio:.2g} times that of the frames next to it "
        f"(limit {parameters.level_range:g} times more or less)"
    )
    return factor / parameters.level_range, one.name, reason
