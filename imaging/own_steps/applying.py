"""The user's own steps called with one image as a CCDData, and what they return checked.

All steps of a point share one CCDData. A step may change values, uncertainties and the mask; the shape, the unit and
the world coordinates have to stay, because what follows relies on them. No bit of DQ is ever removed.
"""

from __future__ import annotations

import logging
import os
import threading
from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.own_steps.loading import LoadedStep
from imaging.pixels.dq import UNUSABLE
from imaging.pixels.image import Image
from imaging.products.astropy_hdus import to_ccd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from astropy.nddata import CCDData

logger = logging.getLogger(__name__)

#: Raises the version of all products that own steps had a part in: the checks below changed their pixels.
VERSION = 1
#: What to do about a step that raises an exception.
_REMEDY: Final = "Correct the function or its arguments, or omit the step. The log has the traceback."

#: Calls a step: in this process, or in one of its own.
Caller = Callable[[LoadedStep, "CCDData", Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Applied:
    """An image after the user's own steps.

    Attributes
    ----------
    sci, var, dq
        Its planes, as those of an `imaging.pixels.image.Image`.
    masked
        Pixels that each step masked, in order.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    masked: tuple[int, ...]


class UnfitResultError(Exception):
    """What a step returned cannot be used; the text is the reason."""


def apply_steps(
    name: str,
    image: Image,
    steps: Sequence[tuple[LoadedStep, Mapping[str, Any]]],
    call: Caller | None = None,
) -> Applied:
    """Call steps with an image, one after the other.

    Parameters
    ----------
    name
        The frame or stack, for messages.
    image
        Its planes, which the steps may change in place, and its headers.
    steps
        The steps with the values of their arguments.
    call
        Calls a step; default: in this process.

    Raises
    ------
    FrameError
        With the step and the reason, if a step raises an exception or returns something that cannot be used.
    """
    call = call or called_here
    # A step that changes the flags in place would remove bits without a trace.
    dq = image.dq.copy()
    dq.flags.writeable = False
    ccd = to_ccd(Image(image.sci, image.var, dq, image.header, image.primary))
    masked = []
    for step, values in steps:
        with _failures_named(name, step):
            before = _Before.of(ccd)
            result = call(step, ccd, values)
            ccd, new = before.checked(result, step.bit)
        masked.append(new)
    sci = np.ascontiguousarray(ccd.data, np.float32)
    var = np.ascontiguousarray(ccd.uncertainty.array, np.float32)
    return Applied(sci, var, np.array(ccd.flags), tuple(masked))


def called_here(step: LoadedStep, ccd: CCDData, values: Mapping[str, Any]) -> Any:
    """Call a step in this process.

    What it sets by `numpy.seterr` ends with it. A copy of the process that it left behind (`os.fork`) ends here too, in
    place of continuing the reduction a second time.
    """
    with np.errstate(), only_this_process():
        return step.function(ccd, **values)


@contextmanager
def only_this_process() -> Iterator[None]:
    """End any copy of this process that reaches the end of the block."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


@contextmanager
def _failures_named(name: str, step: LoadedStep) -> Iterator[None]:
    """Turn whatever a step raises into an error that names the step and the frame."""
    try:
        yield
    except FrameError:
        raise
    except UnfitResultError as error:
        raise FrameError(
            name,
            f"the step {step.name} {error}",
            remedy=f"Correct the function {step.use.function}, or omit the step.",
        ) from None
    except (CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        # Only the main thread is interrupted by a user; steps run in others.
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        logger.exception("%s: the step %s (%s) failed", name, step.name, step.use)
        problem = f"{type(error).__name__}: {error}".rstrip(".: ")
        raise FrameError(name, f"the step {step.name} failed with {problem}", remedy=_REMEDY) from error


@dataclass(frozen=True)
class _Before:
    """What a step has to keep, as it was before the step."""

    shape: tuple[int, ...]
    unit: Any
    wcs: Any
    mask: NDArray[np.bool_]
    flags: NDArray[np.uint16]
    sci: NDArray[np.float32]
    var: NDArray[np.float32]

    @classmethod
    def of(cls, ccd: CCDData) -> _Before:
        wcs = None if ccd.wcs is None else ccd.wcs.deepcopy()
        return cls(
            ccd.shape,
            ccd.unit,
            wcs,
            ccd.mask.copy(),
            ccd.flags,
            ccd.data.copy(),
            ccd.uncertainty.array.copy(),
        )

    def checked(self, after: Any, bit: int) -> tuple[CCDData, int]:
        """Return what a step returned, with float32 planes and new flags, and how many pixels it masked.

        Raises
        ------
        UnfitResultError
            If it cannot be used.
        """
        sci, var, mask = self._planes(after)
        valid = np.isfinite(sci) & np.isfinite(var) & (var >= 0)
        new = (mask | ~valid) & ~self.mask
        if not valid.all():  # no value: that before the step stays, where nothing reads it
            sci, var = np.where(valid, sci, self.sci), np.where(valid, var, self.var)
        flags = self.flags
        n = int(np.count_nonzero(new))
        if n:
            flags = np.where(new, flags | np.uint16(bit), flags)
            flags.flags.writeable = False
        return _with(after, sci, var, flags), n

    def _planes(self, after: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        from astropy.nddata import CCDData

        if not isinstance(after, CCDData):
            raise UnfitResultError(_not_a_frame(after))
        if after.shape != self.shape:
            raise UnfitResultError(f"changed the shape from {self.shape} to {after.shape}")
        if after.unit != self.unit:
            raise UnfitResultError(f"changed the unit from {self.unit or 'none'} to {after.unit or 'none'}")
        self._check_wcs(after.wcs)
        if after.data.dtype.kind not in "fiub":
            raise UnfitResultError(f"returned pixels of the type {after.data.dtype}, not real numbers")
        unmasked = after.mask is None or after.mask is np.ma.nomask
        mask = self.mask if unmasked else np.asarray(after.mask)
        if mask.shape != self.shape:
            raise UnfitResultError(f"returned a mask of the shape {mask.shape} for a frame of {self.shape}")
        with np.errstate(over="ignore"):  # infinite in single precision: masked
            return (
                after.data.astype(np.float32, copy=False),
                self._variance(after),
                mask.astype(bool, copy=False),
            )

    def _variance(self, after: CCDData) -> NDArray[np.float32]:
        from astropy.nddata import VarianceUncertainty

        if after.uncertainty is None:
            raise UnfitResultError("returned no uncertainty; the frame has to keep its own, or get a new one")
        if after.uncertainty.array is None or np.shape(after.uncertainty.array) != self.shape:
            found = np.shape(after.uncertainty.array)
            raise UnfitResultError(
                f"returned an uncertainty of the shape {found} for a frame of {self.shape}"
            )
        try:
            with np.errstate(all="ignore"):
                variance = after.uncertainty.represent_as(VarianceUncertainty)
        except Exception as error:
            kind = type(after.uncertainty).__name__
            raise UnfitResultError(
                f"returned an uncertainty ({kind}) that is not a variance: {error}"
            ) from error
        unit = variance.unit
        if unit is not None and unit != self.unit**2:
            raise UnfitResultError(f"returned a variance in {unit} for a frame in {self.unit}")
        return np.asarray(variance.array).astype(np.float32, copy=False)

    def _check_wcs(self, after: Any) -> None:
        if self.wcs is None:
            return  # what a step finds out is not used: frames are aligned by their headers and stars
        if after is None:
            raise UnfitResultError("returned a frame without its world coordinates")
        if not (hasattr(after, "wcs") and self.wcs.wcs.compare(after.wcs)):
            raise UnfitResultError(
                "changed the world coordinates, which the alignment takes from the raw frame"
            )


def _with(
    after: CCDData, sci: NDArray[np.float32], var: NDArray[np.float32], flags: NDArray[np.uint16]
) -> CCDData:
    """Return the frame for the next step: all planes in single precision, the mask as DQ has it."""
    from astropy.nddata import VarianceUncertainty

    after.data = sci
    after.uncertainty = VarianceUncertainty(var, unit=after.unit**2, copy=False)
    after.flags = flags
    after.mask = (flags & np.uint16(UNUSABLE)) != 0
    return after


def _not_a_frame(after: Any) -> str:
    if after is None:
        return "returned None; it has to return the CCDData, even one that it changed in place"
    kind = type(after).__name__
    if isinstance(after, np.ndarray):
        return f"returned an array ({kind}), which has no mask and no uncertainty; it has to return a CCDData"
    return f"returned {kind}, not a CCDData"
