"""Detrending of one science frame: prepared, dark subtracted, divided by the flat."""

from __future__ import annotations

from contextlib import ExitStack

from prefect.states import Completed, State

from calib_store.model.values import exposure_keys
from imaging.detrend.detrend import VERSION, DetrendParameters, detrend
from imaging.detrend.prepare import PrepareParameters
from imaging.figures import flat_values
from imaging.instruments import catalogue
from imaging.io.planes import released, write_planes
from imaging.io.raw_file import open_raw
from imaging.products.product_file import ProductFile
from tasks.earlier_exposures import NONE_BEFORE, Exposures, earlier_of
from tasks.support.decorator import step_task
from tasks.support.hashing import hashed
from tasks.support.references import Calibrations, RawFrame, Reference, ScratchRef
from tasks.support.scratching import folder_for, found, meta, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace


class Detrending(Reference):
    """What a group's frames are detrended with."""

    calibrations: Calibrations
    prepare: PrepareParameters
    parameters: DetrendParameters
    exposures: Exposures = NONE_BEFORE


def applied_to(parameters: DetrendParameters, calibrations: Calibrations) -> DetrendParameters:
    """Return the parameters as used, with the user's decisions about calibrations applied."""
    override = dict.fromkeys((*parameters.override, *calibrations.overridden))
    missing = dict.fromkeys((*parameters.allow_missing, *calibrations.missing))
    return parameters.model_copy(update={"override": tuple(override), "allow_missing": tuple(missing)})


@step_task("detrend", "detrend {frame.facts.root}", tags=["science"])
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
    parameters, prepare = applied_to(parameters, calibrations), prepare.for_frame(frame.facts)
    how = Detrending(calibrations=calibrations, prepare=prepare, parameters=parameters, exposures=exposures)
    table = filter(None, [catalogue.identity(frame.facts.instrument)])
    inputs = [frame.sha256, *calibrations.key(), *table, *exposure_keys(exposures.history([frame]))]
    key = scratch_key("detrend", VERSION, inputs, prepare, parameters)
    with step("detrend", frame.facts.root, workspace) as current:
        earlier = found(workspace, key, frame, although_released=True)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        return _detrended(frame, key, how, workspace)


def with_planes(frame: ScratchRef, how: Detrending, workspace: Workspace) -> ScratchRef:
    """Return a detrended frame with its planes, made again if they were released after an earlier use."""
    if released(frame.folder) is None:
        return frame
    prepare = how.prepare.for_frame(frame.frame.facts)
    used = how.model_copy(
        update={"prepare": prepare, "parameters": applied_to(how.parameters, how.calibrations)}
    )
    return _detrended(frame.frame, frame.key, used, workspace)


def _detrended(frame: RawFrame, key: str, how: Detrending, workspace: Workspace) -> ScratchRef:
    """Detrend a frame and write its planes."""
    with hashed([frame], workspace) as md5_sums, ExitStack() as stack:
        raw = stack.enter_context(open_raw(workspace.readable(frame), name=frame.name, shape=None))
        opened = {
            p.kind: stack.enter_context(ProductFile(workspace.file_of(p))) for p in how.calibrations.present
        }
        result = detrend(
            raw,
            dark=opened.get("dark"),
            flat=opened.get("flat"),
            bpm=opened.get("bpm"),
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
