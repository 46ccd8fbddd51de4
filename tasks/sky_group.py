"""The frames of a group whose sky can be subtracted, and the sky frames of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, SkipValidation

from imaging.errors import GroupError
from imaging.machine import full_disk, machine_error
from imaging.sky.choice import FEW_REMEDY, NO_SKY_REMEDY, few_skies
from imaging.sky.levels import (
    LEVEL_REMEDY,
    ODD_LEVEL_REMEDY,
    SkyLevel,
    level_problem,
    odd_levels,
)
from imaging.sky.subtract import (
    SkyParameters,
    choose_sky,
)
from tasks.support.references import LeftOut, Reference, ScratchRef

#: Most frames subtracted at a time, and flattened together with their sky frames. With fewer, frames are read as sky
#: more often; with more, planes that could be released stay longer.
PORTION: Final = 10
#: A group of up to so many frames is subtracted at once: each of its frames is read once.
AT_ONCE: Final = 36
#: A frame's planes, or the error with which its task ended.
Outcome = Annotated[Any, SkipValidation]


class SkyMasks(Reference):
    """The object masks of a group's frames."""

    frames: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = Field(
        default=(), description="frames whose sources could not be detected"
    )

    def of(self, name: str) -> ScratchRef | None:
        """Return the mask of a frame, if it has one."""
        return next((ref for ref in self.frames if ref.name == name), None)


class SkyGroup(Reference):
    """The frames of a group that can be used, and the sky frames of each."""

    frames: tuple[ScratchRef, ...] = Field(
        description="every frame used, as object or as sky, in order of time"
    )
    skies: dict[str, tuple[str, ...]] = Field(description="frame to its sky frames")
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def targets(self) -> list[ScratchRef]:
        """The frames to subtract the sky from."""
        return [f for f in self.frames if f.name in self.skies]

    def portions(self) -> list[list[ScratchRef]]:
        """Return the frames to subtract the sky from, some at a time."""
        if len(self.targets) <= AT_ONCE:
            return [self.targets]
        n = math.ceil(len(self.targets) / PORTION)
        ends = [round(i * len(self.targets) / n) for i in range(n + 1)]
        return [self.targets[first:last] for first, last in itertools.pairwise(ends)]

    def needed(self, portions: Iterable[Sequence[ScratchRef]]) -> set[str]:
        """Return the names of the frames whose planes the subtraction of some portions needs."""
        names = {f.name for portion in portions for f in portion}
        return names.union(*(self.skies[name] for name in names))


def group_of(
    label: str,
    detrended: Mapping[str, Any],
    objects: Sequence[str],
    skies: Sequence[str],
    parameters: SkyParameters,
    failed: Sequence[LeftOut] = (),
) -> SkyGroup:
    """Choose the sky frames of a group; leave out frames that failed, and those whose level is unlike the others'.

    Raises
    ------
    GroupError
        If no frame has enough sky frames.
    """
    frames, left_out = sort_out(detrended)
    left_out += [one for one in failed if one.name in {f.name for f in frames}]
    lost = tuple(one.name for one in left_out)
    left_out += _with_odd_levels(frames, parameters)
    unlike = {one.name for one in left_out}
    frames = [f for f in frames if f.name not in unlike]
    choice = choose_sky([f.frame.facts for f in frames], parameters, objects=objects, skies=skies)
    left_out += [LeftOut(name=n, reason=why, remedy=FEW_REMEDY) for n, why in choice.refused.items()]
    if not choice.skies:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out) or "it has no frames"
        raise GroupError(
            f"{label}: no frame's sky can be subtracted ({reasons}).",
            remedy=NO_SKY_REMEDY,
        )
    chosen = tuple(f for f in frames if f.name in choice.needed)
    return SkyGroup(frames=chosen, skies=choice.skies, left_out=tuple(left_out), failed=lost)


def sort_out(outcomes: Mapping[str, Any]) -> tuple[list[ScratchRef], list[LeftOut]]:
    """Separate the frames from the errors of the tasks that should have produced them."""
    frames = [one for one in outcomes.values() if isinstance(one, ScratchRef)]
    errors = {name: one for name, one in outcomes.items() if isinstance(one, BaseException)}
    return frames, [left_out_by(name, error) for name, error in errors.items()]


def few_marks(skies: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return what users have to know about frames with few sky frames, each with the frames' names."""
    found: dict[str, list[str]] = {}
    for name, sky in skies.items():
        if text := few_skies(sky):
            found.setdefault(text, []).append(name)
    return tuple(f"{text} ({', '.join(names)})" for text, names in found.items())


def _with_odd_levels(frames: Sequence[ScratchRef], parameters: SkyParameters) -> list[LeftOut]:
    """Return the frames whose sky level cannot be scaled to, or is unlike, that of the others."""
    found, levels = [], []
    for one in frames:
        facts, noise = one.frame.facts, number_of(one, "noise")
        if reason := level_problem(level_of(one), parameters):
            found.append(LeftOut(name=one.name, reason=reason, remedy=LEVEL_REMEDY))
        else:
            levels.append(SkyLevel(one.name, facts.middle, facts.exposure, level_of(one), noise))
    odd = odd_levels(levels, parameters)
    return found + [LeftOut(name=n, reason=why, remedy=ODD_LEVEL_REMEDY) for n, why in odd.items()]


def level_of(frame: ScratchRef) -> float:
    """Return the sky level of a frame, electrons; NaN if it has no usable pixels."""
    return number_of(frame, "level")


def number_of(frame: ScratchRef, name: str) -> float:
    """Return a figure of a frame; NaN if it could not be measured."""
    value = frame.metrics[name]
    return math.nan if value is None else float(value)


def left_out_by(name: str, error: BaseException) -> LeftOut:
    """Return a frame that an error excludes."""
    known = machine_error(error)
    if known is None:
        return LeftOut(name=name, reason=f"{type(error).__name__}: {error}")
    reason = known.message.removeprefix(f"{name}: ").removesuffix(".")
    full = full_disk(error) is not None
    return LeftOut(name=name, reason=reason, remedy=known.remedy, full_disk=full)
