"""The sky of a group of science frames, from the other dithers or from the sky frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from prefect.states import Completed, State
from pydantic import Field, SkipValidation

from imaging.errors import GroupError
from imaging.frames.pointing import moved_by
from imaging.io.planes import PlanesWriter
from imaging.machine import machine_error
from imaging.products.product_file import ProductFile
from imaging.sky.levels import (
    LEVEL_REMEDY,
    ODD_LEVEL_REMEDY,
    ODD_STRUCTURE_REMEDY,
    SkyLevel,
    level_problem,
    odd_levels,
    odd_structure,
)
from imaging.sky.subtract import (
    LAYOUT,
    VERSION,
    SkyInput,
    SkyMetrics,
    SkyParameters,
    choose_sky,
    subtract_sky,
)
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, ProductRef, Reference, ScratchRef
from tasks.support.scratching import folder_for, found, meta, planes_of, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


#: A frame's planes, or the error with which its task ended.
Outcome = Annotated[Any, SkipValidation]


class SkyPass(Reference):
    """The sky-subtracted frames of a group."""

    frames: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = Field(default=(), description="frames left out because an earlier step failed")
    skies: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="frames that were used as sky for each, by its name"
    )

    def frame(self, name: str) -> ScratchRef | None:
        """Return the frame of that name, if its sky was subtracted."""
        return next((f for f in self.frames if f.name == name), None)


@step_task("sky", "sky {number} of {label}", tags=["science"])
def subtract_group_sky(
    label: str,
    number: int,
    detrended: dict[str, Outcome],
    objects: tuple[str, ...],
    skies: tuple[str, ...],
    flat: ProductRef | None,
    parameters: SkyParameters,
    workspace: Workspace,
    masks: dict[str, Outcome] | None = None,
) -> SkyPass | State[SkyPass]:
    """Subtract from each of ``objects`` the sky measured in its neighbours among ``skies``.

    Parameters
    ----------
    label
        Name of the group.
    number
        Pass 1 has no masks and subtracts every frame; pass 2 has masks of the sources found after pass 1.
    detrended
        The detrended frames by name; a frame with an error in its place is left out.
    objects, skies
        Names of the frames to subtract the sky from and of those that may serve as sky.
    flat
        The flat that was applied; its noise affects the remaining signal.
    masks
        Object masks of the frames by name; a frame whose detection failed is left out.
    """
    frames, left_out = sort_out(detrended)
    masks_found, unseen = sort_out(masks or {})
    masked = {ref.name: ref for ref in masks_found}
    left_out += [one for one in unseen if one.name in {f.name for f in frames}]
    failed = tuple(one.name for one in left_out)
    left_out += _with_odd_levels(frames, parameters)
    unlike = {one.name for one in left_out}
    frames = [f for f in frames if f.name not in unlike]
    choice = choose_sky([f.frame.facts for f in frames], parameters, objects=objects, skies=skies)
    left_out += [LeftOut(name=name, reason=why) for name, why in choice.refused.items()]
    chosen = [f for f in frames if f.name in choice.needed]
    if not choice.skies:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out) or "it has no frames"
        raise GroupError(
            f"{label}: no frame's sky can be subtracted ({reasons}).",
            remedy="Add the other dithers of the field, or frames of the sky next to it.",
        )
    inputs = [f.key for f in chosen] + [masked[f.name].key for f in chosen if f.name in masked]
    inputs += [f"{name}:{','.join(sky)}" for name, sky in choice.skies.items()]
    # The first pass only serves to find the sources, for which no variances are needed.
    layout = {name: dtype for name, dtype in LAYOUT.items() if number > 1 or name != "var"}
    key = scratch_key("sky", VERSION, [*inputs, *layout], parameters)
    wanted = [f for f in chosen if f.name in choice.skies]
    with step("sky", f"{number} of {label}", workspace) as current:
        earlier = [found(workspace, key, f.frame) for f in wanted]
        if all(earlier):
            current.reused = True
            made = [e for e in earlier if e]
        else:
            made = _subtract(key, layout, chosen, choice.skies, masked, flat, parameters, workspace)
    if number > 1:  # before, sources are not masked
        left = {one.name: (_number(one, "structure"), _level(one)) for one in made}
        odd = odd_structure(left, parameters)
        left_out += [LeftOut(name=n, reason=why, remedy=ODD_STRUCTURE_REMEDY) for n, why in odd.items()]
        made = [one for one in made if one.name not in odd]
    done = SkyPass(frames=tuple(made), left_out=tuple(left_out), failed=failed, skies=choice.skies)
    return Completed(name="Reused", data=done) if current.reused else done


def sort_out(outcomes: Mapping[str, Any]) -> tuple[list[ScratchRef], list[LeftOut]]:
    """Separate the frames from the errors of the tasks that should have produced them."""
    frames = [one for one in outcomes.values() if isinstance(one, ScratchRef)]
    errors = {name: one for name, one in outcomes.items() if isinstance(one, BaseException)}
    return frames, [_left_out_by(name, error) for name, error in errors.items()]


def _with_odd_levels(frames: Sequence[ScratchRef], parameters: SkyParameters) -> list[LeftOut]:
    """Return the frames whose sky level cannot be scaled to, or is unlike, that of the others."""
    found, levels = [], []
    for one in frames:
        facts, noise = one.frame.facts, _number(one, "noise")
        if reason := level_problem(_level(one), parameters):
            found.append(LeftOut(name=one.name, reason=reason, remedy=LEVEL_REMEDY))
        else:
            levels.append(SkyLevel(one.name, facts.middle, facts.exposure, _level(one), noise))
    odd = odd_levels(levels, parameters)
    return found + [LeftOut(name=n, reason=why, remedy=ODD_LEVEL_REMEDY) for n, why in odd.items()]


def _level(frame: ScratchRef) -> float:
    """Return the sky level of a frame, electrons; NaN if it has no usable pixels."""
    return _number(frame, "level")


def _number(frame: ScratchRef, name: str) -> float:
    value = frame.metrics[name]
    return math.nan if value is None else float(value)


def _left_out_by(name: str, error: BaseException) -> LeftOut:
    known = machine_error(error)
    if known is None:
        return LeftOut(name=name, reason=f"{type(error).__name__}: {error}")
    reason = known.message.removeprefix(f"{name}: ").removesuffix(".")
    return LeftOut(name=name, reason=reason, remedy=known.remedy)


def _subtract(
    key: str,
    layout: Mapping[str, DTypeLike],
    frames: Sequence[ScratchRef],
    skies: dict[str, tuple[str, ...]],
    masks: dict[str, ScratchRef],
    flat: ProductRef | None,
    parameters: SkyParameters,
    workspace: Workspace,
) -> list[ScratchRef]:
    inputs = [
        SkyInput(
            name=f.name,
            planes=planes_of(f),
            level=_level(f),
            object_mask=planes_of(masks[f.name]) if f.name in masks else None,
            moved=moved_by(f.frame.facts),
        )
        for f in frames
    ]
    by_name = {f.name: f for f in frames}
    with ExitStack() as stack:
        writers: dict[str, PlanesWriter] = {}
        for f in frames:
            if f.name in skies:
                shape = planes_of(f).shape("sci")
                planes = {plane: (dtype, shape) for plane, dtype in layout.items()}
                writers[f.name] = stack.enter_context(
                    PlanesWriter(folder_for(workspace, key, f.frame), planes)
                )
        flat_file = stack.enter_context(ProductFile(workspace.file_of(flat))) if flat is not None else None
        measured = subtract_sky(
            inputs,
            skies,
            parameters,
            writers=writers,
            flat_variance=_relative_variance(flat_file) if flat_file is not None else None,
            channels=frames[0].frame.facts.table.detector.channels,
            threads=workspace.threads,
            memory=workspace.memory,
        )

        def commit(metrics: SkyMetrics) -> ScratchRef:
            values = metrics.model_dump(mode="json")
            values["sky_frames"] = len(metrics.sky_frames)
            folder = writers[metrics.name].commit(meta(key, values))
            return ScratchRef(frame=by_name[metrics.name].frame, key=key, folder=folder, metrics=values)

        with ThreadPoolExecutor(workspace.threads, thread_name_prefix="commit") as pool:
            return list(pool.map(commit, measured))  # checksums: of half a gigabyte and more


def _relative_variance(flat: ProductFile) -> Callable[[slice], NDArray[np.float32]]:
    def rows(wanted: slice) -> NDArray[np.float32]:
        response = flat.rows("SCI", wanted)
        return np.asarray(flat.rows("VAR", wanted) / np.maximum(response * response, 1e-4), np.float32)

    return rows
