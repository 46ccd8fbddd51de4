"""The sky of a group of science frames, from the other dithers or from the sky frames.

The frames are subtracted in portions in the order of time. Each needs only its own frames and those next to them, so
that the detrended planes of a long sequence can be released as soon as no later frame needs them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from prefect.states import Completed, State
from pydantic import Field, SkipValidation

from imaging.errors import FrameError, GroupError
from imaging.frames.pointing import moved_by
from imaging.io.planes import Planes, PlanesWriter, release
from imaging.machine import machine_error
from imaging.products.product_file import ProductFile
from imaging.sky.choice import FEW_REMEDY, NO_SKY_REMEDY, few_skies
from imaging.sky.levels import (
    LEVEL_REMEDY,
    ODD_LEVEL_REMEDY,
    ODD_STRUCTURE_REMEDY,
    SkyLevel,
    level_problem,
    odd_levels,
    odd_structure,
)
from imaging.sky.own_background import subtract_own_background
from imaging.sky.subtract import (
    LAYOUT,
    VERSION,
    SkyInput,
    SkyMetrics,
    SkyParameters,
    choose_sky,
    subtract_sky,
)
from tasks.detrend import Detrending, with_planes
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, Reference, ScratchRef
from tasks.support.scratching import folder_for, found, meta, planes_of, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Smallest square of a flat's response in a relative variance.
_LEAST_SQUARE: Final = 1e-4

#: Frames subtracted at a time, and flattened together with their sky frames. With fewer, frames are read as sky more
#: often; with more, planes that could be released stay longer.
PORTION: Final = 12
#: A group whose planes take more than this part of the scratch that is kept releases them on the way.
_SHARE: Final = 4
#: Attempts to read the planes of a portion, which another group may release and this one then makes again.
_ATTEMPTS: Final = 3
#: Bytes per pixel of the planes of a frame, detrended and without its sky; flags take next to none.
_BYTES: Final = 16
#: A frame's planes, or the error with which its task ended.
Outcome = Annotated[Any, SkipValidation]


class SkyMasks(Reference):
    """The object masks of a group's frames."""

    frames: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = Field(
        default=(), description="frames whose sources could not be detected"
    )


class SkyPass(Reference):
    """The sky-subtracted frames of a group."""

    frames: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = Field(default=(), description="frames left out because an earlier step failed")
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
        return [self.targets[i : i + PORTION] for i in range(0, len(self.targets), PORTION)]

    def needed(self, portions: Iterable[Sequence[ScratchRef]]) -> set[str]:
        """Return the names of the frames whose planes the subtraction of some portions needs."""
        names = {f.name for portion in portions for f in portion}
        return names.union(*(self.skies[name] for name in names))


@step_task("sky", "sky of {label}", tags=["science"])
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
    group = group_of(label, detrended, objects, skies, parameters, failed=masks.left_out)
    for text in few_marks(group.skies):
        logger.warning("%s: %s", label, text)
    masked = {ref.name: ref for ref in masks.frames}
    inputs = [f.key for f in group.frames] + [masked[f.name].key for f in group.frames if f.name in masked]
    inputs += [f"{name}:{','.join(sky)}" for name, sky in group.skies.items()]
    key = scratch_key("sky", VERSION, [*inputs, *LAYOUT], parameters)
    portions = group.portions()
    brief = _takes_much(group, workspace)
    made: list[ScratchRef] = []
    kept: set[str] = set()
    with step("sky", label, workspace) as current:
        current.reused = True
        for number, portion in enumerate(portions):
            earlier = [found(workspace, key, f.frame) for f in portion]
            if all(earlier):
                made += [e for e in earlier if e]
            else:
                current.reused = False
                made += _subtract(key, portion, group, masked, detrending, parameters, workspace)
            if brief:
                kept |= group.needed([portion])
                spent = kept - group.needed(portions[number + 1 :])
                for f in group.frames:
                    if f.name in spent:
                        release(f.folder)
                kept -= spent
    left = {one.name: (_number(one, "structure"), _level(one)) for one in made}
    odd = odd_structure(left, parameters)
    left_out = [*group.left_out]
    left_out += [LeftOut(name=n, reason=why, remedy=ODD_STRUCTURE_REMEDY) for n, why in odd.items()]
    made = [one for one in made if one.name not in odd]
    done = SkyPass(frames=tuple(made), left_out=tuple(left_out), failed=group.failed, skies=group.skies)
    return Completed(name="Reused", data=done) if current.reused else done


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


def _takes_much(group: SkyGroup, workspace: Workspace) -> bool:
    """Return whether a group's planes are released as soon as possible instead of kept for another reduction."""
    rows, columns = Planes(group.frames[0].folder).shape("sci")
    return len(group.frames) * rows * columns * _BYTES * _SHARE > workspace.scratch_limit


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


def left_out_by(name: str, error: BaseException) -> LeftOut:
    """Return a frame that an error excludes."""
    known = machine_error(error)
    if known is None:
        return LeftOut(name=name, reason=f"{type(error).__name__}: {error}")
    reason = known.message.removeprefix(f"{name}: ").removesuffix(".")
    return LeftOut(name=name, reason=reason, remedy=known.remedy)


@contextmanager
def subtracted(
    key: str,
    layout: Mapping[str, DTypeLike],
    portion: Sequence[ScratchRef],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
) -> Iterator[list[tuple[SkyMetrics, PlanesWriter]]]:
    """Subtract the sky from a portion of a group; yield figures and planes, which are lost unless committed."""
    shape = planes_of(portion[0]).shape("sci")
    with_sky = {f.name: group.skies[f.name] for f in portion if group.skies[f.name]}
    with ExitStack() as stack:
        writers = {
            f.name: stack.enter_context(
                PlanesWriter(folder_for(workspace, key, f.frame), {p: (t, shape) for p, t in layout.items()})
            )
            for f in portion
        }
        dark, flat = (
            stack.enter_context(ProductFile(workspace.file_of(one))) if one is not None else None
            for one in (detrending.calibrations.of("dark"), detrending.calibrations.of("flat"))
        )
        for attempt in range(_ATTEMPTS):
            try:
                measured = [
                    _own_background(
                        with_planes(f, detrending, workspace),
                        masks.get(f.name),
                        writers[f.name],
                        dark,
                        flat,
                        parameters,
                    )
                    for f in portion
                    if f.name not in with_sky
                ]
                if with_sky:
                    measured += subtract_sky(
                        _inputs(with_sky, group, masks, detrending, workspace),
                        with_sky,
                        parameters,
                        writers=writers,
                        flat_variance=_relative_variance(flat) if flat is not None else None,
                        channels=portion[0].frame.facts.table.detector.channels,
                        threads=workspace.threads,
                        memory=workspace.memory,
                    )
                break
            except FileNotFoundError:  # another group shares a frame, and released it meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise
        yield [(metrics, writers[metrics.name]) for metrics in measured]


def _inputs(
    skies: Mapping[str, Collection[str]],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    workspace: Workspace,
) -> list[SkyInput]:
    """Return the frames of a group that have sky frames or serve as such; those of ``skies`` have their planes."""
    used = set(skies).union(*skies.values())
    with_sky = {name: sky for name, sky in group.skies.items() if sky}
    serving = set(with_sky).union(*with_sky.values())
    frames = [with_planes(f, detrending, workspace) if f.name in used else f for f in group.frames]
    return [
        SkyInput(
            name=f.name,
            planes=planes_of(f),
            level=_level(f),
            object_mask=planes_of(masks[f.name]) if f.name in masks else None,
            moved=moved_by(f.frame.facts),
        )
        for f in frames
        if f.name in serving
    ]


def _subtract(
    key: str,
    portion: Sequence[ScratchRef],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
) -> list[ScratchRef]:
    by_name = {f.name: f for f in portion}

    def commit(one: tuple[SkyMetrics, PlanesWriter]) -> ScratchRef:
        metrics, writer = one
        values = metrics.model_dump(mode="json")
        values["sky_frames"] = len(metrics.sky_frames)
        folder = writer.commit(meta(key, values))
        return ScratchRef(frame=by_name[metrics.name].frame, key=key, folder=folder, metrics=values)

    with (
        subtracted(key, LAYOUT, portion, group, masks, detrending, parameters, workspace) as done,
        ThreadPoolExecutor(workspace.threads, thread_name_prefix="commit") as pool,
    ):
        return list(pool.map(commit, done))  # checksums: of half a gigabyte and more


def _own_background(
    frame: ScratchRef,
    mask: ScratchRef | None,
    writer: PlanesWriter,
    dark: ProductFile | None,
    flat: ProductFile | None,
    parameters: SkyParameters,
) -> SkyMetrics:
    """Write a frame without its smooth background."""
    planes = planes_of(frame)
    sci, dq = planes.rows("sci").copy(), planes.rows("dq").copy()
    var = planes.rows("var").copy() if "var" in writer else None
    rows = slice(0, len(sci))
    dark_variance = None
    if dark is not None:
        dark_variance = np.asarray(dark.rows("VAR", rows), np.float32)
        if flat is not None:
            dark_variance = dark_variance / np.maximum(np.square(flat.rows("SCI", rows)), _LEAST_SQUARE)
    try:
        metrics = subtract_own_background(
            frame.name,
            sci,
            var,
            dq,
            mask=planes_of(mask).rows("objmask") if mask is not None else None,
            cell=parameters.own_cell,
            level=_level(frame),
            dark_variance=dark_variance,
            flat_variance=_relative_variance(flat)(rows) if flat is not None else None,
        )
    except ValueError as error:
        raise FrameError(
            frame.name,
            f"its smooth background cannot be measured: {error}",
            remedy="Inspect the frame, its flat and its bad pixel mask, or add frames of the sky next to it.",
        ) from error
    for name, plane in (("sci", sci), ("var", var), ("dq", dq)):
        if plane is not None:
            writer.write(name, rows, plane)
    return metrics


def _relative_variance(flat: ProductFile) -> Callable[[slice], NDArray[np.float32]]:
    def rows(wanted: slice) -> NDArray[np.float32]:
        response = flat.rows("SCI", wanted)
        return np.asarray(
            flat.rows("VAR", wanted) / np.maximum(response * response, _LEAST_SQUARE), np.float32
        )

    return rows
