"""A science frame detrended by ccdproc with the same calibrations: an independent computation of the same planes.

ccdproc corrects gain, subtracts the dark and divides by the flat, and computes the deviation. It has no correction for
non-linearity; this module can apply that of the instrument's table before it, in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.prepare import PrepareParameters
from imaging.frames.facts import FrameFacts
from imaging.io.raw_file import RawFile
from imaging.pixels.dq import DQ
from imaging.pixels.image import Image
from imaging.pixels.raw_pixels import without_data


@dataclass(frozen=True)
class Calibrations:
    """The calibrations of a frame, complete in memory; None for one that it was reduced without.

    Attributes
    ----------
    dark, flat
        Electrons, and response.
    bpm
        1 on bad pixels, uint8 (ny, nx).
    """

    dark: Image | None
    flat: Image | None
    bpm: NDArray[np.uint8] | None

    @property
    def pedestal(self) -> float:
        """Electrons without shot noise, which the dark recorded."""
        return 0.0 if self.dark is None else float(self.dark.header.get("PEDESTAL") or 0.0)

    @property
    def response(self) -> NDArray[np.bool_] | None:
        """Where the flat has a response; None without a flat."""
        if self.flat is None:
            return None
        lacking = np.uint16(DQ.BAD_PIXEL | DQ.NO_DATA | DQ.UNILLUMINATED)
        return ((self.flat.dq & lacking) == 0) & (self.flat.sci > 0)


@dataclass(frozen=True)
class Reduced:
    """The planes of a frame, float64 electrons and electrons squared, (ny, nx)."""

    sci: NDArray[np.float64]
    var: NDArray[np.float64]


def detrend_by_ccdproc(raw: RawFile, calibrations: Calibrations, *, linearise: bool) -> Reduced:
    """Detrend a frame by ccdproc: gain, deviation, dark, flat.

    Parameters
    ----------
    raw
        The frame.
    calibrations
        What to apply. Their noise is left out, as in the planes of a group's frames.
    linearise
        Correct the electrons for non-linearity before ccdproc subtracts the dark, and stretch the read noise alike.

    Returns
    -------
    Reduced
        Not finite where the flat is 0 or a raw value is undefined.
    """
    import ccdproc  # late: slow to import
    from astropy import units
    from astropy.nddata import CCDData, StdDevUncertainty

    facts = raw.facts
    readout, coadds = facts.readout, facts.coadds
    floor = readout.read_noise**2 + readout.gain**2 / 12
    frame = CCDData(raw.rows().astype(np.float64), unit=units.adu)
    frame = ccdproc.gain_correct(frame, readout.gain * units.electron / units.adu)
    slope: NDArray[np.float64] | float = 1.0
    if linearise:
        frame.data, slope = _linear(frame.data / coadds, readout.nonlinearity)
        frame.data = frame.data * coadds
    pedestal = calibrations.pedestal
    light = CCDData(np.maximum(frame.data - pedestal, 0.0), unit=units.electron)
    noise = ccdproc.create_deviation(
        light, readnoise=math.sqrt(floor) * units.electron, disregard_nan=True
    ).uncertainty.array
    if linearise:
        noise = np.sqrt(noise**2 + floor * (slope**2 - 1.0))
    frame.uncertainty = StdDevUncertainty(noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        if calibrations.dark is not None:
            dark = CCDData(calibrations.dark.sci, unit=units.electron)
            seconds = facts.exposure * units.s
            frame = ccdproc.subtract_dark(frame, dark, dark_exposure=seconds, data_exposure=seconds)
        if calibrations.flat is not None:
            flat = CCDData(calibrations.flat.sci, unit=units.dimensionless_unscaled)
            frame = ccdproc.flat_correct(frame, flat, norm_value=1.0)
        return Reduced(np.asarray(frame.data), np.asarray(frame.uncertainty.array) ** 2)


def _linear(
    one: NDArray[np.float64], polynomial: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corrected electrons of one coadd, and the slope of the correction."""
    corrected = np.polynomial.Polynomial((0.0, *polynomial))
    return np.asarray(corrected(one)), np.asarray(corrected.deriv()(one))


def flags_without_searches(
    raw: RawFile, calibrations: Calibrations, parameters: PrepareParameters
) -> NDArray[np.uint16]:
    """Return the DQ bits that follow from raw values and calibrations alone, uint16 (ny, nx).

    Searches may add others: islands in saturated regions, cosmic rays, persistence.
    """
    rows, readout = raw.rows(), raw.facts.readout
    values = rows.astype(np.float64)
    limit = fraction_of(parameters, raw.facts) * readout.saturation
    with np.errstate(invalid="ignore"):
        above = values > limit
        full = values >= readout.saturation
    flags = np.where(full, DQ.SATURATED, np.where(above, DQ.NON_LINEAR, DQ.GOOD)).astype(np.uint16)
    lost = without_data(rows, readout)
    if lost is not None:
        outside = lost & ~((values >= -0.5 * readout.saturation) & (values <= 100.0 * readout.saturation))
        flags[outside] = 0
        flags[lost] |= np.uint16(DQ.NO_DATA)
    if calibrations.bpm is not None:
        flags |= calibrations.bpm.astype(np.uint16)
    for image in (calibrations.dark, calibrations.flat):
        if image is not None:
            flags |= image.dq
    if calibrations.flat is not None:
        flags[~(calibrations.flat.sci > 0)] |= np.uint16(DQ.NO_DATA)
    return flags


def fraction_of(parameters: PrepareParameters, facts: FrameFacts) -> float:
    """Return the part of saturation above which a value is flagged as non-linear."""
    given: Any = parameters.for_frame(facts).linear_fraction
    return float(given)
