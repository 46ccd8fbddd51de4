"""What an argument that begins with @ may name: a calibration, a number of the frame, a product, a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imaging.kinds import REQUIRED_KINDS
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import Point, StepUse

if TYPE_CHECKING:
    from imaging.frames.facts import FrameFacts

#: The object mask of the frame: true on sources.
OBJECT_MASK: Final = "object_mask"
#: The numbers of a frame.
NUMBERS: Final = ("read_noise", "gain", "saturation", "exposure")
#: Points at which the object mask is known.
_MASKED: Final[tuple[Point, ...]] = ("before_sky", "before_stack")


def number_of(name: str, facts: FrameFacts) -> float:
    """Return a number of a detrended frame.

    ``read_noise`` is in electrons, of all coadds; ``gain`` is 1, as the pixels are in electrons already;
    ``saturation`` is in electrons, of all coadds, before the flat was divided out; ``exposure`` is in seconds.
    """
    readout = facts.readout
    values = {
        "read_noise": readout.read_noise,
        "gain": 1.0,
        "saturation": readout.saturation * readout.gain,
        "exposure": facts.exposure,
    }
    return float(values[name])


def is_file(name: str) -> bool:
    """Return whether a reference names a file by its path."""
    return name.startswith(("/", "~", "./", "../"))


def is_outside(name: str) -> bool:
    """Return whether a reference names a product of the store or a file, which does not depend on the frame."""
    return name != OBJECT_MASK and name not in NUMBERS and name not in REQUIRED_KINDS


def check_references(use: StepUse, point: Point) -> None:
    """Check that what the arguments name exists at a point.

    Raises
    ------
    OwnStepError
        If a frame's calibration or number is named for a stack, or an object mask before it is known.
    """
    for argument, name in use.references.items():
        if name == OBJECT_MASK and point not in _MASKED:
            raise OwnStepError(
                f"{point}: {argument} = @{name} of the step {use.function}: the object mask is not known there.",
                remedy="Use the step at before_sky or before_stack, or omit the argument.",
            )
        if point == "after_stack" and not is_outside(name):
            raise OwnStepError(
                f"{point}: {argument} = @{name} of the step {use.function}: a stack has no {name} of its own.",
                remedy="Give the value itself, or use the step at a point before the stack.",
            )
