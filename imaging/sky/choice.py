"""The parameters of the sky step, and the choice of sky frames for each frame."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.alike import are_alike
from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import Position, pointing, separation
from imaging.parameters import StepParameters, parameter
from imaging.sky.residual import Residual


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
    minimum: int = parameter(
        2, "a frame with fewer sky frames is reported and not subtracted", unit="frames", ge=1
    )
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
    patterns: bool = parameter(
        True,
        "remove the offsets of readout channels and rows that differ from frame to frame, where significant",
    )
    probe: bool = parameter(
        True, "find the guide probe in the field: DQ 64 where it takes light, DQ 128 in its glow"
    )
    probe_depth: float = parameter(
        0.1, "a compact part of a frame that is darker than its sky by more than this is the guide probe",
        unit="sky level", gt=0.02, lt=1,
    )  # fmt: skip


class SkyChoice(BaseModel):
    """The sky frames of each frame, and the reasons for frames without any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skies: dict[str, tuple[str, ...]] = Field(description="frame to its sky frames, in order of time")
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
    there are fewer than ``fewest``, the nearest in time outside the window are added, up to that number.

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
        A frame with fewer than ``minimum`` sky frames is refused, with the reason.
    """
    parameters, centres = parameters or SkyParameters(), centres or {}
    wanted = [f for f in frames if objects is None or f.name in objects]
    serving = [f for f in frames if skies is None or f.name in skies]
    chosen: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for facts in wanted:
        others = [f for f in serving if f.name != facts.name]
        alike = [f for f in others if are_alike(f, facts, facts.table.combined("image"))]
        away = [f for f in alike if _distance(facts, f, centres) > parameters.least_distance]
        away.sort(key=lambda f: (abs(f.middle - facts.middle), f.middle, f.name))
        lags = [abs((f.middle - facts.middle).total_seconds()) for f in away]
        within = sum(lag <= parameters.window for lag in lags)
        taken = away[: max(within, parameters.fewest)]
        if len(taken) < parameters.minimum:
            refused[facts.name] = (
                f"{len(taken)} sky frames, at least {parameters.minimum} are needed: of {len(others)} other "
                f"frames {len(alike)} have its configuration and {len(away)} of these point more than "
                f"{parameters.least_distance:g} arcsec away"
            )
        else:
            taken.sort(key=lambda f: (f.middle, f.name))
            chosen[facts.name] = tuple(f.name for f in taken)
    return SkyChoice(skies=chosen, refused=refused)


def _distance(a: FrameFacts, b: FrameFacts, centres: Mapping[str, Position]) -> float:
    """Return the distance between the pointings of two frames, arcsec."""
    here, there = pointing(a, centres.get(a.name)), pointing(b, centres.get(b.name))
    if here is None or there is None:
        return math.hypot(a.poffset - b.poffset, a.qoffset - b.qoffset)
    return separation(here, there)
