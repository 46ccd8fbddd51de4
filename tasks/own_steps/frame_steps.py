"""The user's own steps called with the planes of one frame or stack, which become those of another folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from calib_store.private import private_folder
from imaging.detrend.detrend import sky_level
from imaging.errors import FrameError
from imaging.figures import Metric
from imaging.header import Header
from imaging.io.raw_file import read_headers
from imaging.own_steps.applying import VERSION, Applied, apply_steps
from imaging.own_steps.limited import called_within_limit
from imaging.own_steps.named_arguments import OBJECT_MASK
from imaging.own_steps.uses import Point
from imaging.pixels.image import ELECTRON, Image
from imaging.pixels.wcs import with_valid_wcs
from tasks.own_steps.argument_values import values_of
from tasks.own_steps.resolve import OwnSteps
from tasks.support.references import Calibrations, ScratchRef
from tasks.support.scratching import (
    folder_for,
    meta,
    planes_of,
    scratch_key,
    write_changed_planes,
)
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


def own_key(own: OwnSteps, point: Point, source_key: str, mask: ScratchRef | None = None) -> str:
    """Return the key of a frame's planes after the steps at a point, from the key of those before."""
    masked = [mask.key] if mask is not None and takes_mask(own, point) else []
    return scratch_key("own steps", VERSION, [source_key, point, own.key(point), *masked])


def takes_mask(own: OwnSteps, point: Point) -> bool:
    """Return whether a step at a point takes the object mask."""
    return any(OBJECT_MASK in step.use.references.values() for step in own.at(point))


def apply_to_frame(
    own: OwnSteps,
    point: Point,
    source: ScratchRef,
    calibrations: Calibrations,
    mask: ScratchRef | None,
    workspace: Workspace,
) -> ScratchRef:
    """Call the steps at a point with a frame; its other planes and its figures stay.

    Before the sky is subtracted the level and the noise of the frame are measured again.

    Raises
    ------
    FrameError
        With step and frame, if a step fails or returns something that cannot be used.
    """
    primary, extension = read_headers(workspace.readable(source.frame))
    header = with_valid_wcs(primary if extension is None else extension, primary).copy()
    header["BUNIT"] = ELECTRON
    key = own_key(own, point, source.key, mask)
    return apply_to_planes(
        own, point, source, key, header, primary, calibrations, mask, workspace,
        measured=None if point == "before_stack" else _sky_figures,
    )  # fmt: skip


def apply_to_planes(
    own: OwnSteps,
    point: Point,
    source: ScratchRef,
    key: str,
    header: Header,
    primary: Header,
    calibrations: Calibrations,
    mask: ScratchRef | None,
    workspace: Workspace,
    *,
    measured: Callable[[str, Applied], dict[str, Metric]] | None = None,
) -> ScratchRef:
    """Call the steps at a point with planes and headers; the results are the planes of ``key``.

    Parameters
    ----------
    measured
        Returns the figures of the frame that are measured again.
    """
    planes = planes_of(source)
    image = Image(planes.rows("sci"), planes.rows("var"), planes.rows("dq"), header, primary)
    steps = []
    for step in own.at(point):
        loaded = step.loaded()
        steps.append((loaded, values_of(step, dict(loaded.arguments), source, calibrations, mask, workspace)))
    private_folder(workspace.staging)
    call: Any = partial(called_within_limit, folder=workspace.staging)
    done = apply_steps(source.name, image, steps, call)
    for step, masked in zip(own.at(point), done.masked, strict=True):
        logger.info("%s: %s masked %d pixels (DQ %d)", source.name, step.name, masked, step.bit)
    metrics = dict(source.metrics) | (measured(source.name, done) if measured is not None else {})
    folder = folder_for(workspace, key, source.frame)
    new: dict[str, NDArray[Any]] = {"sci": done.sci, "var": done.var, "dq": done.dq}
    write_changed_planes(folder, planes, new, meta(key, metrics))
    return ScratchRef(frame=source.frame, key=key, folder=folder, metrics=metrics)


def _sky_figures(name: str, done: Applied) -> dict[str, Metric]:
    level, noise = sky_level(done.sci, done.dq)
    if math.isnan(level):
        raise FrameError(
            name, "its own steps left no usable pixel",
            remedy="Correct the step that masks them, or omit it. The log has the number of each.",
        )  # fmt: skip
    return {"level": level, "noise": noise}
