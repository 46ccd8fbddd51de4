"""The sky of a group of science frames, from the other dithers or from the sky frames.

The frames are subtracted in portions in the order of time. Each needs only its own frames and those next to them, so
that the detrended planes of a long sequence can be released as soon as no later frame needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from prefect.states import Completed, State
from pydantic import Field

from imaging.errors import GroupError
from imaging.io.planes import Planes, PlanesWriter, release
from imaging.listed import listed
from imaging.sky.extended.frame_mesh import MESH
from imaging.sky.flatten import Measured
from imaging.sky.levels import (
    ODD_STRUCTURE_REMEDY,
    odd_structure,
)
from imaging.sky.subtract import (
    LAYOUT,
    VERSION,
    SkyMetrics,
    SkyParameters,
)
from tasks.detrend import Detrending, takes_much
from tasks.own_steps.frame_steps import apply_to_frame, own_key
from tasks.sky_group import (
    Outcome,
    SkyGroup,
    SkyMasks,
    few_marks,
    group_of,
    level_of,
    number_of,
    sort_out,
)
from tasks.sky_planes import subtracted
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, Reference, ScratchRef
from tasks.support.scratching import found, meta, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Planes of a sky-subtracted frame.
SKY_LAYOUT: Final = LAYOUT | {MESH: np.float32}


class Persisting(Reference):
    """The persistence of earlier exposures in a frame; see `imaging.detrend.detrend.DetrendMetrics`."""

    pixels: int
    strength: float | None
    error: float | None


class SkyPass(Reference):
    """The sky-subtracted frames of a group."""

    frames: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = Field(default=(), description="frames left out because an earlier step failed")
    persistence: dict[str, Persisting] = Field(
        default_factory=dict, description="persistence of earlier exposures in each frame that may have some"
    )
    skies: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="frames that were used as sky for each, by its name; empty: its own background",
    )

    def marks(self, names: Collection[str]) -> tuple[str, ...]:
        """Return what users have to know about the sky of some of the frames, each with the frames' names."""
        return few_marks({name: self.skies[name] for name in names if name in self.skies})

    def frame(self, name: str) -> ScratchRef | None:
        """Return the frame of that name, if its sky was subtracted."""
        return next((f for f in self.frames if f.name == name), None)


@step_task("sky", "sky of {label}")
def subtract_group_sky(
    label: str,
    detrended: dict[str, Outcome],
    objects: tuple[str, ...],
    skies: tuple[str, ...],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
    masks: SkyMasks,
) -> SkyPass | State[SkyPass]:
    """Subtract from each of ``objects`` the sky measured in its neighbours among ``skies``.

    Parameters
    ----------
    label
        Name of the group.
    detrended
        The detrended frames by name; a frame with an error in its place is left out.
    objects, skies
        Names of the frames to subtract the sky from and of those that may serve as sky.
    detrending
        What the frames were detrended with. The noise of the flat affects the remaining signal.
    masks
        Object masks of the frames; a frame whose detection failed is left out.
    """
    detrending = detrending.after("before_sky", {ref.name: ref for ref in masks.frames})
    group = group_of(label, detrended, objects, skies, parameters, failed=masks.left_out)
    for text in few_marks(group.skies):
        logger.warning("%s: %s", label, text)
    masked = {ref.name: ref for ref in masks.frames}
    inputs = [f.key for f in group.frames] + [masked[f.name].key for f in group.frames if f.name in masked]
    inputs += [f"{name}:{','.join(sky)}" for name, sky in group.skies.items()]
    key = scratch_key("sky", VERSION, [*inputs, *SKY_LAYOUT], parameters)
    with step("sky", label, workspace) as current:
        made, current.reused = subtract_portions(key, group, masked, detrending, parameters, workspace)
    left = {one.name: (number_of(one, "structure"), level_of(one)) for one in made}
    odd = odd_structure(left, parameters)
    left_out = [*group.left_out]
    left_out += [LeftOut(name=n, reason=why, remedy=ODD_STRUCTURE_REMEDY) for n, why in odd.items()]
    made = [one for one in made if one.name not in odd]
    done = SkyPass(
        frames=tuple(made),
        left_out=tuple(left_out),
        failed=group.failed,
        persistence=_persistence(group.frames),
        skies=group.skies,
    )
    return Completed(name="Reused", data=done) if current.reused else done


def subtract_portions(
    key: str,
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
    lights: Mapping[str, Planes] | None = None,
) -> tuple[list[ScratchRef], bool]:
    """Subtract the sky of a group in portions; return the frames, and whether all were there already.

    Parameters
    ----------
    key
        Key of the sky-subtracted planes.
    group
        The frames and the sky frames of each.
    masks
        Object masks, by the frames' names.
    detrending
        What the frames were detrended with.
    lights
        The light of stars outside the masks of some frames, by their names.
    """
    portions = group.portions()
    brief = takes_much(len(group.frames), group.frames[0], workspace)
    made: list[ScratchRef] = []
    known: dict[str, Measured] = {}
    kept: set[str] = set()
    reused = True
    for number, portion in enumerate(portions):
        earlier = [found(workspace, key, f.frame) for f in portion]
        if all(earlier):
            made += [e for e in earlier if e]
        else:
            reused = False
            made += _subtract(key, portion, group, masks, detrending, parameters, workspace, known, lights)
        if brief:
            kept |= group.needed([portion])
            spent = kept - group.needed(portions[number + 1 :])
            for f in group.frames:
                if f.name in spent:
                    release(f.folder)
            kept -= spent
    return made, reused


@step_task("own steps", "{names} {name}")
def apply_before_stack(
    names: str,
    name: str,
    sky: SkyPass,
    detrending: Detrending,
    masks: SkyMasks,
    workspace: Workspace,
) -> ScratchRef | State[ScratchRef | None] | None:
    """Call the user's steps with a sky-subtracted frame, or reuse its planes; None if its sky was not subtracted.

    Parameters
    ----------
    names, name
        Names of the steps and of the frame.
    sky
        The sky-subtracted frames.
    detrending
        What the frames were detrended with, and the steps.
    masks
        The object masks, which a step may take.
    """
    frame, mask, own = sky.frame(name), masks.of(name), detrending.own
    if frame is None:
        return Completed(name="Left out", data=None)
    with step("before_stack", frame.frame.facts.root, workspace) as current:
        earlier = found(workspace, own_key(own, "before_stack", frame.key, mask), frame.frame)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        return apply_to_frame(own, "before_stack", frame, detrending.calibrations, mask, workspace)


@step_task("own steps", "own steps before the stack of {label}")
def gather_before_stack(label: str, sky: SkyPass, outcomes: dict[str, Outcome]) -> SkyPass:
    """Return the frames after the user's steps in place of those before; a frame whose step failed is left out.

    Raises
    ------
    GroupError
        If no frame is left.
    """
    done, left_out = sort_out(outcomes)
    by_name = {one.name: one for one in done}
    lost = {one.name for one in left_out}
    frames = tuple(by_name.get(f.name, f) for f in sky.frames if f.name not in lost)
    if sky.frames and not frames:
        names: dict[str, list[str]] = {}
        for one in left_out:
            names.setdefault(one.reason, []).append(one.name)
        reasons = "; ".join(f"{listed(of_it)}: {reason}" for reason, of_it in names.items())
        remedy = " ".join(dict.fromkeys(one.remedy for one in left_out if one.remedy))
        raise GroupError(
            f"{label}: no frame is left after the steps before the stack ({reasons}).", remedy=remedy
        )
    return sky.model_copy(
        update={
            "frames": frames,
            "left_out": (*sky.left_out, *left_out),
            "failed": (*sky.failed, *(one.name for one in left_out)),
        }
    )


def _persistence(frames: Sequence[ScratchRef]) -> dict[str, Persisting]:
    return {
        f.name: Persisting(
            pixels=int(f.metrics["persistence"] or 0),
            strength=_number(f, "persistence_strength"),
            error=_number(f, "persistence_error"),
        )
        for f in frames
        if f.metrics.get("persistence") is not None
    }


def _number(frame: ScratchRef, name: str) -> float | None:
    value = frame.metrics[name]
    return None if value is None else float(value)


def _subtract(
    key: str,
    portion: Sequence[ScratchRef],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
    known: dict[str, Measured],
    lights: Mapping[str, Planes] | None,
) -> list[ScratchRef]:
    by_name = {f.name: f for f in portion}

    def commit(one: tuple[SkyMetrics, PlanesWriter]) -> ScratchRef:
        metrics, writer = one
        values = metrics.model_dump(mode="json")
        values["sky_frames"] = len(metrics.sky_frames)
        folder = writer.commit(meta(key, values))
        return ScratchRef(frame=by_name[metrics.name].frame, key=key, folder=folder, metrics=values)

    with (
        subtracted(
            key, SKY_LAYOUT, portion, group, masks, detrending, parameters, workspace, known, lights
        ) as done,
        ThreadPoolExecutor(workspace.threads, thread_name_prefix="commit") as pool,
    ):
        return list(pool.map(commit, done))  # checksums: of half a gigabyte and more
