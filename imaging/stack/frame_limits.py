"""Frames that are unlike their group in seeing, transparency, sky, noise or the shape of their stars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from imaging.parameters import StepParameters, parameter

#: Frames that a comparison needs.
_FEWEST: Final = 3
#: Least transparency, relative to the clearest frame, of a group without a note on clouds.
_CLEAR: Final = 0.5


class LimitParameters(StepParameters):
    """Limits on the frames of a stack; weights account for what is within them."""

    max_seeing: float = parameter(
        3.0, "a frame with a larger FWHM, relative to the best of the group, is left out", unit="times", gt=1
    )
    min_transparency: float = parameter(
        0.2, "a frame with less flux of the stars, relative to the clearest of the group, is left out",
        ge=0, lt=1,
    )  # fmt: skip
    max_sky: float = parameter(
        4.0,
        "a frame with a brighter sky, relative to the median of the group, is left out",
        unit="times",
        gt=1,
    )
    max_noise: float = parameter(
        3.0, "a frame with a larger background noise, relative to the median of the group, is left out",
        unit="times", gt=1,
    )  # fmt: skip
    max_ellipticity: float = parameter(
        0.35, "a frame whose stars have a larger median ellipticity is left out: it is trailed", gt=0, le=1
    )


@dataclass(frozen=True)
class FrameQuality:
    """What the limits apply to; NaN if unknown.

    Attributes
    ----------
    name
        The frame's name.
    seeing
        FWHM of stars, px.
    transparency
        Flux of the stars per second, in any unit.
    sky
        Sky level per second, electrons.
    noise
        Background noise, electrons.
    ellipticity
        Median ellipticity of the stars.
    """

    name: str
    seeing: float
    transparency: float
    sky: float
    noise: float
    ellipticity: float


@dataclass(frozen=True)
class BeyondLimits:
    """A frame that is left out.

    Attributes
    ----------
    name
        The frame's name.
    reason
        Figure and limit.
    remedy
        How to use it.
    """

    name: str
    reason: str
    remedy: str


def beyond_limits(
    frames: Sequence[FrameQuality], parameters: LimitParameters, *, keep: str
) -> tuple[list[BeyondLimits], list[str]]:
    """Return the frames beyond a limit, and notes on limits that too many frames exceed to be left out.

    Parameters
    ----------
    frames
        The frames of a group.
    parameters
        Limits.
    keep
        The frame that is never left out: the reference.
    """
    if len(frames) < _FEWEST:
        return [], []
    found: dict[str, BeyondLimits] = {}
    notes = []
    for name, label, ratio, limit, most in _checks(frames, parameters):
        beyond = [
            (f.name, value)
            for f, value in zip(frames, ratio, strict=True)
            if math.isfinite(value) and (value > limit if most else value < limit)
        ]
        if 2 * len(beyond) > len(frames):
            notes.append(
                f"{len(beyond)} of {len(frames)} frames are beyond stack.{name} = {limit:g} ({label}): none is left out"
            )
            continue
        for frame, value in beyond:
            if frame == keep:
                notes.append(
                    f"the reference {frame} has {label} of {value:.2g} (limit {limit:g}, stack.{name})"
                )
            else:
                found.setdefault(
                    frame,
                    BeyondLimits(
                        frame,
                        f"it has {label} of {value:.2g} (limit {limit:g})",
                        f"Inspect the frame; to use it, set stack.{name} beyond {value:.2g}.",
                    ),
                )
    notes.extend(_clouds([f for f in frames if f.name not in found]))
    return list(found.values()), notes


def _clouds(frames: Sequence[FrameQuality]) -> list[str]:
    """Return a note if the transparency of the frames that are kept changes as it does in clouds only."""
    known = {f.name: f.transparency for f in frames if math.isfinite(f.transparency)}
    clearest = _of(max, list(known.values()))
    cloudy = {name: value / clearest for name, value in known.items() if value < _CLEAR * clearest}
    if not cloudy:
        return []
    worst = min(cloudy, key=cloudy.__getitem__)
    have = "has" if len(cloudy) == 1 else "have"
    return [
        f"clouds: of {len(frames)} frames, {len(cloudy)} {have} a transparency below {_CLEAR:.0%} of the clearest "
        f"frame's, {worst} the lowest, {cloudy[worst]:.0%}; scales and weights account for it"
    ]


def _checks(
    frames: Sequence[FrameQuality], p: LimitParameters
) -> list[tuple[str, str, list[float], float, bool]]:
    """Return name, label, figures, limit, and whether it is an upper one, of each check."""
    seeing, clear = [f.seeing for f in frames], [f.transparency for f in frames]
    sky, noise = [f.sky for f in frames], [f.noise for f in frames]
    best, clearest = _of(min, seeing), _of(max, clear)
    return [
        ("max_seeing", "an FWHM, relative to the best,", [s / best for s in seeing], p.max_seeing, True),
        (
            "min_transparency", "a transparency, relative to the clearest,", [c / clearest for c in clear],
            p.min_transparency, False,
        ),
        ("max_sky", "a sky, relative to the median,", [s / _of(median, sky) for s in sky], p.max_sky, True),
        ("max_noise", "a noise, relative to the median,", [n / _of(median, noise) for n in noise], p.max_noise, True),
        ("max_ellipticity", "a median ellipticity", [f.ellipticity for f in frames], p.max_ellipticity, True),
    ]  # fmt: skip


def _of(statistic, values: Sequence[float]) -> float:  # type: ignore[no-untyped-def]
    """Return a statistic of the known values, NaN without any, or if it is not positive."""
    known = [v for v in values if math.isfinite(v)]
    value = float(statistic(known)) if known else math.nan
    return value if value > 0 else math.nan
