"""Whether the planes of a detrended frame agree with an independent computation, and what explains differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.by_ccdproc import (
    Calibrations,
    detrend_by_ccdproc,
    flags_without_searches,
)
from imaging.detrend.detrend import Detrended, DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.io.raw_file import RawFile
from imaging.pixels.dq import DQ

#: Roundings to single precision between a raw value and a plane, each of half a unit in the last place.
_ROUNDINGS: Final = 8.0
_HALF_UNIT: Final = float(np.finfo(np.float32).eps) / 2
#: Bits that a search may add, and its name.
_SEARCHES: Final = {
    DQ.SATURATED: "an island in a saturated region",
    DQ.COSMIC_RAY: "a cosmic ray, found by its sharp edges",
}


@dataclass(frozen=True)
class Agreement:
    """The comparison of one plane of one frame.

    Attributes
    ----------
    frame, plane
        The frame's name; SCI, VAR or DQ.
    pixels
        Pixels compared.
    largest
        Largest difference, ours minus theirs: electrons, electrons squared, or 1 for flags.
    x, y
        The pixel with the largest one, counted from 1; 0 without any.
    rms
        Root mean square of the differences.
    beyond
        Pixels that differ by more than single precision explains.
    explained
        Why, and how many of these.
    left_largest, left_rms
        Largest difference, and root mean square of the differences, where ccdproc gets electrons that are corrected
        for non-linearity, and the flat has a response.
    unexplained
        The number of the pixels that differ for none of these reasons.
    unexplained_x, unexplained_y
        The worst of these, counted from 1; 0 without any.
    """

    frame: str
    plane: str
    pixels: int
    largest: float
    x: int
    y: int
    rms: float
    beyond: int
    explained: dict[str, int]
    left_largest: float
    left_rms: float
    unexplained: int
    unexplained_x: int = 0
    unexplained_y: int = 0


def compare(
    raw: RawFile,
    ours: Detrended,
    calibrations: Calibrations,
    prepare_parameters: PrepareParameters,
    parameters: DetrendParameters,
) -> list[Agreement]:
    """Compare the planes of a detrended frame with those that ccdproc gives for the same frame and calibrations.

    Parameters
    ----------
    raw
        The raw frame, open.
    ours
        Its planes.
    calibrations
        What it was detrended with.
    prepare_parameters, parameters
        Those that it was detrended with.

    Returns
    -------
    list of Agreement
        For SCI, VAR and DQ.
    """
    plain = detrend_by_ccdproc(raw, calibrations, linearise=False)
    linear = detrend_by_ccdproc(raw, calibrations, linearise=True) if parameters.linearise else plain
    flags = flags_without_searches(raw, calibrations, prepare_parameters)
    response = calibrations.response
    lacking = np.zeros(raw.shape, bool) if response is None else ~response
    unread = np.isnan(raw.rows().astype(np.float64)) | ((flags & np.uint16(DQ.NO_DATA)) != 0)
    compared = ~(unread & ~lacking)
    scale = _scale(raw, calibrations)
    found = []
    for plane, mine, first, second, unit in (
        ("SCI", ours.sci, plain.sci, linear.sci, scale),
        ("VAR", ours.var, plain.var, linear.var, np.abs(linear.var)),
    ):
        tolerance = _ROUNDINGS * _HALF_UNIT * unit
        with np.errstate(invalid="ignore"):
            differs = compared & ~(np.abs(mine - first) <= tolerance)
            remaining = compared & ~(np.abs(mine - second) <= tolerance)
        # A pixel without a response is set to 0, and its variance is not divided by the flat.
        undivided = mine == 0 if plane == "SCI" else _undivided(mine, second, tolerance, calibrations)
        zero = remaining & lacking & undivided
        reasons = {
            "the correction for non-linearity, which ccdproc does not have": differs & ~remaining,
            "no response in the flat: not divided by it": zero,
        }
        difference = np.where(compared & ~lacking, mine - first, 0.0)
        left = np.where(compared & ~lacking, mine - second, 0.0)
        rest = remaining & ~zero
        found.append(_agreement(raw.name, plane, compared, difference, left, differs | zero, reasons, rest))
    wrong = (ours.dq ^ flags) != 0
    reasons, rest = {}, wrong.copy()
    for bit, why in _SEARCHES.items():
        added = (
            wrong & ((ours.dq & ~flags & np.uint16(bit)) != 0) & (((ours.dq ^ flags) & ~np.uint16(bit)) == 0)
        )
        reasons[why] = added
        rest &= ~added
    everywhere = np.ones(raw.shape, bool)
    one = wrong.astype(float)
    found.append(_agreement(raw.name, "DQ", everywhere, one, rest.astype(float), wrong, reasons, rest))
    return found


def _undivided(
    mine: NDArray[np.float32],
    divided: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    calibrations: Calibrations,
) -> NDArray[np.bool_]:
    """Return where a variance is the other one before its division by the flat; where the flat is 0, any is."""
    if calibrations.flat is None:
        return np.zeros(mine.shape, bool)
    square = calibrations.flat.sci.astype(np.float64) ** 2
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(mine - divided * square) <= tolerance * square) | (square == 0))


def _scale(raw: RawFile, calibrations: Calibrations) -> NDArray[np.float64]:
    """Return the size of the numbers that a pixel's value is computed from, after the division by the flat."""
    size = np.abs(raw.rows().astype(np.float64) * raw.facts.readout.gain)
    if calibrations.dark is not None:
        size = size + np.abs(calibrations.dark.sci)
    if calibrations.flat is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            size = size / np.abs(calibrations.flat.sci.astype(np.float64))
    return np.asarray(size)


def _agreement(
    frame: str,
    plane: str,
    compared: NDArray[np.bool_],
    difference: NDArray[np.float64],
    left: NDArray[np.float64],
    beyond: NDArray[np.bool_],
    reasons: dict[str, NDArray[np.bool_]],
    unexplained: NDArray[np.bool_],
) -> Agreement:
    size = np.abs(difference)
    y, x = np.unravel_index(int(np.nanargmax(size)), size.shape)
    worst = np.where(unexplained, np.nan_to_num(size, nan=np.inf), -1.0)
    v, u = np.unravel_index(int(np.argmax(worst)), worst.shape)
    any_left = bool(unexplained.any())
    return Agreement(
        frame=frame,
        plane=plane,
        pixels=int(compared.sum()),
        largest=float(difference[y, x]),
        x=int(x) + 1 if size[y, x] > 0 else 0,
        y=int(y) + 1 if size[y, x] > 0 else 0,
        rms=float(np.sqrt(np.nanmean(difference[compared] ** 2))),
        beyond=int(beyond.sum()),
        explained={why: n for why, mask in reasons.items() if (n := int(mask.sum()))},
        left_largest=float(left.flat[int(np.nanargmax(np.abs(left)))]),
        left_rms=float(np.sqrt(np.nanmean(left[compared] ** 2))),
        unexplained=int(unexplained.sum()),
        unexplained_x=int(u) + 1 if any_left else 0,
        unexplained_y=int(v) + 1 if any_left else 0,
    )
