"""The parameters of the sky step, and the choice of sky frames for each frame."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.alike import are_alike
from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import Position, pointing, separation
from imaging.parameters import StepParameters, parameter
from imaging.sky.residual import Residual

#: What to do about a frame with too few sky frames, and about a group of such frames.
FEW_REMEDY: Final = (
    "Add other dithers or frames of the sky next to it; to use it nevertheless, lower sky.minimum or "
    "sky.least_distance."
)
NO_SKY_REMEDY: Final = (
    "Add the other dithers of the field, or frames of the sky next to it; with sky.few=use, the frames that there are "
    "serve, or each frame's own background."
)


class SkyParameters(StepParameters):
    """How the sky of a frame is chosen and subtracted."""

    least_distance: float = parameter(3.0, "minimum distance of a sky frame", unit="arcsec", ge=0)
    window: float = parameter(
        600.0, "maximum time between a frame and its sky frames, middle to middle", unit="s", gt=0
    )
    fewest: int = parameter(
        8, "if the window contains fewer sky frames, the nearest outside it are added up to this number",
        unit="frames", ge=1,
    )  # fmt: skip
    maximum: int = parameter(
        20, "maximum number of sky frames, the nearest in time: more cost time and reduce the noise by less than 3 %",
        unit="frames", ge=1,
    )  # fmt: skip
    minimum: int = parameter(
        2, "a frame with fewer sky frames is reported and not subtracted", unit="frames", ge=1
    )
    few: Literal["use", "refuse"] = parameter(
        "use",
        "if no frame of a group has so many sky frames (a pair, a single frame): use those that there are or, without "
        "any, the smooth background of the frame itself, and mark the product; or refuse the group",
    )
    own_cell: int = parameter(
        128, "side of a cell of the mesh for the smooth background of a frame without sky frames", unit="pixels",
        ge=16, le=1024,
    )  # fmt: skip
    operation: Literal["mean", "median"] = parameter(
        "mean", "mean with clipping about the median (the least noise), or median"
    )
    low: float = parameter(3.0, "clipping threshold below the median", unit="sigma", gt=0)
    high: float = parameter(3.0, "clipping threshold above the median", unit="sigma", gt=0)
    scaling: Literal["multiply", "add"] = parameter(
        "multiply", "how sky frames are scaled to the common level; use add if the level is near zero"
    )
    level_range: float = parameter(
        2.0,
        "a frame whose sky level is this many times that of the frames next to it, or so many times lower, is left out",
        unit="times", gt=1,
    )  # fmt: skip
    max_structure: float = parameter(
        0.02,
        "a frame is left out if the background that is left varies by more than this, and ten times as much as in the "
        "other frames",
        unit="sky level", gt=0,
    )  # fmt: skip
    residual: Residual = parameter(
        "auto",
        "what to remove of a frame's own background: nothing, its level, or a plane, after the sky; or automatically "
        "the surface of the lowest order that serves, up to a spline, before skies are combined, and a plane after",
    )
    loss: float = parameter(
        0.05,
        "an extended source that loses more than this of its light, because its sky frames contain it, is reported "
        "with the throw that would do",
        unit="its light", gt=0, le=1,
    )  # fmt: skip
    starlight: Literal["auto", "always", "never"] = parameter(
        "auto",
        "keep the light that stars have outside the masks out of the skies, by a model from a first stack: in crowded "
        "fields, always or never",
    )
    crowded: float = parameter(
        0.003, "a field is crowded if its frames have more sources than this on the area of one FWHM squared",
        unit="sources", gt=0,
    )  # fmt: skip
    patterns: bool = parameter(
        True,
        "remove the offsets of readout channels and rows, and those that repeat along the columns of quadrants, that "
        "differ from frame to frame, where significant",
    )
    probe: bool = parameter(
        True, "find the guide probe in the field: DQ 64 where it takes light; its glow is subtracted"
    )
    probe_depth: float = parameter(
        0.1, "a compact part of a frame that is darker than its sky by more than this is the guide probe",
        unit="sky level", gt=0.02, lt=1,
    )  # fmt: skip


class SkyChoice(BaseModel):
    """The sky frames of each frame, and the reasons for frames without any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skies: dict[str, tuple[str, ...]] = Field(
        description="frame to its sky frames, in order of time; empty: its own smooth background"
    )
    refused: dict[str, str] = Field(default_factory=dict, description="frame to the reason")

    @property
    def needed(self) -> frozenset[str]:
        """Every frame that is used, as object or as sky."""
        return frozenset(self.skies).union(*self.skies.values())


def choose_sky(
    frames: Sequence[FrameFacts],
    parameters: SkyParameters | None = None,
    *,
    objects: Collection[str] | None = None,
    skies: Collection[str] | None = None,
    centres: Mapping[str, Position] | None = None,
) -> SkyChoice:
    """Choose the sky frames of each object frame.

    They have the same configuration, are more than ``least_distance`` away and within the time ``window``; if
    there are fewer than ``fewest``, the nearest in time outside the window are added, up to that number. There are at
    most ``maximum``, the nearest in time.

    Parameters
    ----------
    frames
        Facts of all frames.
    parameters
        See `SkyParameters`.
    objects, skies
        Names of the frames to subtract and of those that may serve as sky; default: all.
    centres
        Name to field centre, degrees, for distances from the WCS. By default the telescope's offsets are
        used, which remain right if a frame has the WCS of the previous one.

    Returns
    -------
    SkyChoice
        A frame with fewer than ``minimum`` sky frames is refused, with the reason. If that is every frame, none is,
        unless ``few`` refuses them: a pair has one sky frame each, and a single frame has none.
    """
    parameters, centres = parameters or SkyParameters(), centres or {}
    wanted = [f for f in frames if objects is None or f.name in objects]
    serving = sorted(((f.middle, f.name, f) for f in frames if skies is None or f.name in skies), key=_when)
    times = [when for when, _, _ in serving]
    chosen: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    few: dict[str, tuple[str, ...]] = {}
    least = max(parameters.fewest, parameters.minimum)
    most = max(parameters.maximum, parameters.minimum)
    for facts in wanted:
        others = alike = 0
        taken: list[tuple[datetime, str]] = []
        for middle, f in _outwards(serving, times, facts.middle):
            late = abs((middle - facts.middle).total_seconds()) > parameters.window
            if len(taken) >= most or (late and len(taken) >= least):
                break
            if f.name == facts.name:
                continue
            others += 1
            if not are_alike(f, facts, facts.table.combined("image")):
                continue
            alike += 1
            if _distance(facts, f, centres) > parameters.least_distance:
                taken.append((middle, f.name))
        names = tuple(name for _, name in sorted(taken))
        if len(taken) >= parameters.minimum:
            chosen[facts.name] = names
            continue
        few[facts.name] = names
        refused[facts.name] = (
            f"{len(taken)} sky {'frame' if len(taken) == 1 else 'frames'}, at least {parameters.minimum} are needed "
            f"(sky.minimum): of {others} other frames {alike} have its configuration and {len(taken)} of these point "
            f"more than {parameters.least_distance:g} arcsec away"
        )
    if few and not chosen and parameters.few == "use":
        return SkyChoice(skies=few)
    return SkyChoice(skies=chosen, refused=refused)


_Timed = tuple[datetime, str, FrameFacts]


def _when(one: _Timed) -> tuple[datetime, str]:
    return one[:2]


def _outwards(
    serving: Sequence[_Timed], times: Sequence[datetime], middle: datetime
) -> Iterator[tuple[datetime, FrameFacts]]:
    """Yield frames in the order of their distance in time; of two equally distant, the earlier first."""
    after = bisect_left(times, middle)
    before = after - 1
    while before >= 0 or after < len(serving):
        if after == len(serving) or (before >= 0 and middle - times[before] <= times[after] - middle):
            # Frames of one time in the order of their names.
            first = bisect_left(times, times[before])
            yield from ((when, f) for when, _, f in serving[first : before + 1])
            before = first - 1
        else:
            yield serving[after][0], serving[after][2]
            after += 1


def few_skies(skies: Collection[str]) -> str:
    """Return what a user has to know about a frame with these sky frames; empty if they are enough to be a mean."""
    if not skies:
        return (
            "no sky frame: the sky is the smooth background of the frame itself; small structures of the detector "
            "remain, and extended sources lose light"
        )
    if len(skies) == 1:
        return (
            "sky from 1 frame: the noise is larger by sqrt(2); faint sources of the sky frame leave negative images, "
            "and its bright ones flagged pixels (DQ 32)"
        )
    return ""


def _distance(a: FrameFacts, b: FrameFacts, centres: Mapping[str, Position]) -> float:
    """Return the distance between the pointings of two frames, arcsec."""
    here, there = pointing(a, centres.get(a.name)), pointing(b, centres.get(b.name))
    if here is None or there is None:
        return math.hypot(a.poffset - b.poffset, a.qoffset - b.qoffset)
    return separation(here, there)
