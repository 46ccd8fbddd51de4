"""The values of arguments that name something: a calibration, a number of the frame, its object mask, a file."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imaging.errors import FrameError
from imaging.frames.file_names import is_fits_name
from imaging.kinds import CalibrationKind, is_mask
from imaging.own_steps.named_arguments import NUMBERS, OBJECT_MASK, number_of
from imaging.own_steps.registered import OwnStepError
from imaging.products.astropy_hdus import to_ccd
from imaging.products.ccd import read_any_ccd
from imaging.products.product_file import ProductFile, read_product
from tasks.own_steps.resolve import Outside, OwnStep, sha256_of
from tasks.support.references import Calibrations, ScratchRef
from tasks.support.scratching import planes_of
from tasks.support.workspace import Workspace

if TYPE_CHECKING:
    from astropy.nddata import CCDData


def values_of(
    step: OwnStep,
    arguments: dict[str, Any],
    frame: ScratchRef,
    calibrations: Calibrations,
    mask: ScratchRef | None,
    workspace: Workspace,
) -> dict[str, Any]:
    """Return the arguments of a step with what they name in place of the names.

    Parameters
    ----------
    step, arguments
        The step and its arguments, as loaded.
    frame
        The frame that it is called with; for a stack, the reference frame.
    calibrations
        Those of the frame.
    mask
        The frame's object mask, where it is known.

    Raises
    ------
    OwnStepError, FrameError
        If something is missing, or is not what was found when the run began.
    """
    named = step.use.references
    return {
        argument: _value(step, argument, named[argument], frame, calibrations, mask, workspace)
        if argument in named
        else _literal(value)
        for argument, value in arguments.items()
    }


def _literal(value: Any) -> Any:
    """Return the value of an argument that names nothing; ``@@text`` stands for ``@text``.

    A step may change a list or table in place: the next frame gets another one.
    """
    return value[1:] if isinstance(value, str) and value.startswith("@@") else deepcopy(value)


def _value(
    step: OwnStep,
    argument: str,
    name: str,
    frame: ScratchRef,
    calibrations: Calibrations,
    mask: ScratchRef | None,
    workspace: Workspace,
) -> Any:
    if argument in step.outside:
        return _content(step.outside[argument], step, workspace)
    if name == OBJECT_MASK:
        if mask is None:
            raise FrameError(
                frame.name, f"the step {step.name} needs its object mask, and it has none",
                remedy="Inspect the frame: its sources could not be detected, or it has no sky frames.",
            )  # fmt: skip
        return planes_of(mask).rows("objmask") != 0
    if name in NUMBERS:
        return number_of(name, frame.frame.facts)
    product = calibrations.of(cast(CalibrationKind, name))
    if product is None:
        raise OwnStepError(
            f"{argument} = @{name} of the step {step.use.function}: the frames are reduced without a {name}.",
            remedy=f"Provide a {name}, name one (--use {name}=NAME), or omit the argument.",
        )
    return _as_value(workspace.file_of(product))


def _content(outside: Outside, step: OwnStep, workspace: Workspace) -> Any:
    if outside.path is None:
        return _as_value(workspace.store().objects.local(outside.sha256))
    if sha256_of(outside.path, step.use) != outside.sha256:
        raise OwnStepError(
            f"{outside.path}, which the step {step.use.function} uses, has changed since the run began.",
            remedy="Reduce again once nothing writes to it any longer.",
        )
    if not is_fits_name(outside.path.name):
        return outside.path
    return read_any_ccd(outside.path)


def _as_value(path: Path) -> CCDData | Any:
    """Return a mask as an array that is true where a pixel is bad, any other image as CCDData."""
    image = read_product(path)
    with ProductFile(path) as product:
        mask = is_mask(product.facts.product_kind)
    return np.asarray(image.sci != 0) if mask else to_ccd(image)
