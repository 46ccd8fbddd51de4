"""Detrending of one science frame: prepared, dark subtracted, divided by the flat; then the user's own steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prefect.states import Completed, State
from pydantic import Field

from calib_store.model.values import exposure_keys
from imaging.detrend.detrend import VERSION, DetrendParameters, detrend
from imaging.detrend.prepare import PrepareParameters
from imaging.errors import FrameError
from imaging.figures import flat_values
from imaging.instruments import catalogue
from imaging.io.planes import Planes, release, released, write_planes
from imaging.io.raw_file import open_raw
from tasks.earlier_exposures import NONE_BEFORE, Exposures, earlier_of
from tasks.own_steps.frame_steps import apply_to_frame, own_key, takes_mask
from tasks.own_steps.resolve import NO_OWN_STEPS, OwnSteps, Point
from tasks.sky_group import Outcome, SkyMasks
from tasks.support.calibration_files import calibration_files
from tasks.support.decorator import step_task
from tasks.support.hashing import hashed
from tasks.support.references import Calibrations, RawFrame, Reference, ScratchRef
from tasks.support.scratching import folder_for, found, meta, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: A group whose planes take more than this part of the scratch that is kept releases them on the way.
_SHARE: Final = 4
#: Bytes per pixel of the planes of a frame, detrended and without its sky; flags take next to none.
_BYTES: Final = 16
#: Attempts to read planes that another group may release meanwhile.
_ATTEMPTS: Final = 3


class Detrending(Reference):
    """What a group's frames are detrended with."""

    calibrations: Calibrations
    prepare: PrepareParameters
    parameters: DetrendParameters
    exposures: Exposures = NONE_BEFORE
    own: OwnSteps = NO_OWN_STEPS
    points: tuple[Point, ...] = Field(
        default=(), description="points whose own steps the frames have passed, in order"
    )
    masks: dict[str, ScratchRef] = Field(
        default_factory=dict, description="object masks by frame, where they are known"
    )

    def after(self, point: Point, masks: Mapping[str, ScratchRef] | None = None) -> Detrending:
        """Return what the frames are made with once they have passed the own steps at a point."""
        if not self.own.at(point):
            return self
        return self.model_copy(update={"points": (*self.points, point), "masks": dict(masks or {})})


def applied_to(parameters: DetrendParameters, calibrations: Calibrations) -> DetrendParameters:
    """Return the parameters as used, with the user's decisions about calibrations applied."""
    override = dict.fromkeys((*parameters.override, *calibrations.overridden))
    missing = dict.fromkeys((*parameters.allow_missing, *calibrations.missing))
    return parameters.model_copy(update={"override": tuple(override), "allow_missing": tuple(missing)})


@step_task("detrend", "detrend {frame.facts.root}")
def detrend_frame(
    frame: RawFrame,
    calibrations: Calibrations,
    prepare: PrepareParameters,
    parameters: DetrendParameters,
    workspace: Workspace,
    exposures: Exposures = NONE_BEFORE,
) -> ScratchRef | State[ScratchRef]:
    """Detrend ``frame``, or reuse its planes from the same calibrations and parameters.

    ``parameters`` are those for its group (`DetrendParameters.for_group`), so that the key shows what was done;
    ``exposures`` may have left persistence in it.
    """
    how = Detrending(calibrations=calibrations, prepare=prepare, parameters=parameters, exposures=exposures)
    how = _for_frame(how, frame)
    key = _key(frame, how)
    # The calibrations stay open for the frames that wait for their turn.
    with calibration_files(calibrations, workspace), step("detrend", frame.facts.root, workspace) as current:
        earlier = found(workspace, key, frame, although_released=True)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        return _detrended(frame, key, how, workspace)


@step_task("own steps", "{names} {name}")
def apply_own_steps(
    names: str,
    name: str,
    frame: Outcome,
    point: Point,
    detrending: Detrending,
    group_size: int,
    workspace: Workspace,
    masks: SkyMasks | None = None,
) -> ScratchRef | State[ScratchRef]:
    """Call the user's steps at a point with a detrended frame, or reuse its planes from the same steps.

    Parameters
    ----------
    names, name
        Names of the steps and of the frame.
    frame
        Its planes, or the error with which their task ended.
    point
        The point: after detrending, or before the sky is subtracted.
    detrending
        What the frame was made with so far.
    group_size
        Frames of the group: a large one does not keep the planes that went in.
    masks
        The object masks of the group, where they are known.
    """
    if isinstance(frame, BaseException):
        raise frame
    own, mask = detrending.own, masks.of(name) if masks is not None else None
    if masks is not None and mask is None and takes_mask(own, point):
        for one in masks.left_out:
            if one.name == name:
                raise FrameError(name, one.reason, remedy=one.remedy)
    key = own_key(own, point, frame.key, mask)
    with step(point, frame.frame.facts.root, workspace) as current:
        earlier = found(workspace, key, frame.frame, although_released=True)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        for attempt in range(_ATTEMPTS):
            try:
                source = with_planes(frame, detrending, workspace)
                done = apply_to_frame(own, point, source, detrending.calibrations, mask, workspace)
                break
            except FileNotFoundError:  # another group shares the frame, and released it meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise
        if takes_much(group_size, source, workspace):
            release(source.folder)
    return done


def takes_much(frames: int, one: ScratchRef, workspace: Workspace) -> bool:
    """Return whether a group's planes are released as soon as possible instead of kept for another reduction."""
    if workspace.scarce_scratch:
        return True
    rows, columns = Planes(one.folder).shape("sci")
    return frames * rows * columns * _BYTES * _SHARE > workspace.scratch_limit


def with_planes(frame: ScratchRef, how: Detrending, workspace: Workspace) -> ScratchRef:
    """Return a detrended frame with its planes, made again if they were released after an earlier use."""
    if released(frame.folder) is None:
        return frame
    return _made_again(frame, _for_frame(how, frame.frame), workspace)


def _made_again(frame: ScratchRef, how: Detrending, workspace: Workspace) -> ScratchRef:
    """Make the planes of a frame, from those before its last own steps if they are still there."""
    if not how.points:
        return _detrended(frame.frame, frame.key, how, workspace)
    *earlier, last = how.points
    before = how.model_copy(update={"points": tuple(earlier)})
    key = _key(frame.frame, before)
    source = found(workspace, key, frame.frame) or _made_again(
        ScratchRef(frame=frame.frame, key=key, folder=folder_for(workspace, key, frame.frame)),
        before,
        workspace,
    )
    return apply_to_frame(how.own, last, source, how.calibrations, how.masks.get(frame.name), workspace)


def _for_frame(how: Detrending, frame: RawFrame) -> Detrending:
    """Return what a frame is detrended with, with the user's decisions about calibrations applied."""
    prepare = how.prepare.for_frame(frame.facts)
    parameters = applied_to(how.parameters, how.calibrations)
    return how.model_copy(update={"prepare": prepare, "parameters": parameters})


def _key(frame: RawFrame, how: Detrending) -> str:
    """Return the key of a frame's planes after the points that it has passed."""
    table = filter(None, [catalogue.identity(frame.facts.instrument)])
    history = exposure_keys(how.exposures.history([frame]))
    inputs = [frame.sha256, *how.calibrations.key(), *table, *history]
    key = scratch_key("detrend", VERSION, inputs, how.prepare, how.parameters)
    for point in how.points:
        key = own_key(how.own, point, key, how.masks.get(frame.name))
    return key


def _detrended(frame: RawFrame, key: str, how: Detrending, workspace: Workspace) -> ScratchRef:
    """Detrend a frame and write its planes."""
    with (
        hashed([frame], workspace) as md5_sums,
        calibration_files(how.calibrations, workspace) as opened,
        open_raw(workspace.readable(frame), name=frame.name, shape=None) as raw,
    ):
        files = opened()
        result = detrend(
            raw,
            dark=files.get("dark"),
            flat=files.get("flat"),
            bpm=files.get("bpm"),
            parameters=how.parameters,
            prepare_parameters=how.prepare,
            earlier=earlier_of(how.exposures.of(frame), workspace),
            threads=workspace.threads,
            memory=workspace.memory,
        )
        md5_sums()  # nothing is kept of another frame's pixels
    folder = folder_for(workspace, key, frame)
    metrics = flat_values(result.metrics)
    write_planes(folder, {"sci": result.sci, "var": result.var, "dq": result.dq}, meta(key, metrics))
    return ScratchRef(frame=frame, key=key, folder=folder, metrics=metrics)
