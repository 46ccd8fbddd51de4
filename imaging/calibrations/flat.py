"""The master flat: the response of each pixel to the same light.

In Y, J and H the lamp's light is lamp-on frames minus lamp-off frames; in K the calibration unit's own heat
is the lamp, and its light is lamp-off frames minus darks of the same exposure time. Both are the difference
of two stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imaging.calibrations.illumination import Circle, measure_circle
from imaging.calibrations.lamp import LampLight, LampParameters, MasterDark, lamp_difference, lamp_level
from imaging.calibrations.peers import OddFrame
from imaging.calibrations.raw_stack import VARIANCE_FROM, RawFrame
from imaging.figures import Metrics, figure, share
from imaging.parameters import parameter
from imaging.pixels.bands import DEFAULT_MEMORY
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.image import DIMENSIONLESS, Image

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3


class FlatParameters(LampParameters):
    """How a master flat is made."""

    linearise: bool = parameter(True, "correct for non-linearity")
    lowest: float = parameter(0.01, "a response below this means no light: DQ unilluminated, value 1", ge=0)
    highest: float = parameter(
        10.0, "a response above this is not a measurement: DQ unilluminated, value 1", gt=1
    )


class FlatMetrics(Metrics):
    """Figures of a master flat."""

    n_on: int = figure("frames with light: lamp on; lamp off in K", "with light", shown_in="frames")
    n_off: int = figure("frames without light: lamp off; darks in K", "without", shown_in="frames")
    counts_on: float = figure("mean level of the frames with light", unit="electron")
    counts_off: float = figure("mean level of the frames without light", unit="electron")
    level: float = figure(
        "median of the difference in one frame, the divisor of the flat", "level",
        unit="electron", headline=True, history=True,
    )  # fmt: skip
    rms: float = share(
        "robust standard deviation of the response inside the circle", "rms",
        headline=True, history=True,
    )  # fmt: skip
    noise: float = share(
        "median of the stated standard deviation of the response", "noise", headline=True, history=True
    )
    drift: float = share("highest minus lowest lamp level, over their mean", "drift of the lamp")
    rejected: float = share("fraction of the input pixels that were rejected", "rejected")
    n_unusable: int = figure("pixels inside the circle without a usable response", "unusable", shown_in="px")
    pedestal: float = figure("electrons of a frame without shot noise", "pedestal", unit="electron")
    circle: Circle = Field(description="circle of light")
    variance_from: str = figure("what the variance plane was computed from")


@dataclass(frozen=True)
class FlatResult:
    """A master flat.

    Parameters
    ----------
    image
        Response, median 1, dimensionless.
    metrics
        Its figures.
    circle
        The circle of light.
    pedestal
        Electrons of a frame without shot noise; given by the caller, or measured from the frames without
        light.
    warnings
        What the user should know.
    left_out
        Frames that differ from the others of their set and are not part of the flat.
    doubts
        The warnings for which a user has to judge it (`imaging.calibrations.peers.Agreed`).
    on, off
        Names of the frames with and without light that are part of it.
    """

    image: Image
    metrics: FlatMetrics
    circle: Circle
    pedestal: float
    warnings: tuple[str, ...] = ()
    left_out: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


def make_flat(
    on: Sequence[RawFrame],
    off: Sequence[RawFrame],
    parameters: FlatParameters | None = None,
    *,
    bpm: NDArray[Any] | None = None,
    pedestal: float | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> FlatResult:
    """Make a flat of the bands Y, J and H: lamp on minus lamp off.

    Parameters
    ----------
    on, off
        Lamp-on and lamp-off frames of one filter, exposure time and read mode. Without lamp-off frames the
        flat keeps dark current and ambient light, and ``warnings`` reports it.
    parameters
        `FlatParameters`.
    bpm
        DQ bits of the bad pixels (1), (ny, nx).
    pedestal
        Electrons of a frame without shot noise, as measured for the BPM; default: measured from the
        lamp-offs.
    threads
        Threads; default: one per core.
    memory
        Bytes that the bands being processed may take.

    Returns
    -------
    FlatResult
        The flat, its metrics, the circle of light.

    Raises
    ------
    GroupError
        If there are too few frames, if they do not match (the error names those that differ), or if the lamp
        gives no light.
    """
    return _make(("lamp-on flats", "lamp-off flats"), on, off, parameters, bpm, pedestal, threads, memory)


def make_thermal_flat(
    off: Sequence[RawFrame],
    dark: MasterDark | None,
    parameters: FlatParameters | None = None,
    *,
    bpm: NDArray[Any] | None = None,
    pedestal: float | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> FlatResult:
    """Make a flat of the K bands: lamp off, the heat of the calibration unit, minus the dark.

    Parameters, result and errors are those of `make_flat`, with a master dark of the same exposure time and
    read mode instead of the lamp-offs; a flat without one reports it in its warnings. Use lamp-offs of a
    single day, because their pattern drifts."""
    names = ("lamp-off flats", "darks")
    return _make(names, off, (), parameters, bpm, pedestal, threads, memory, dark=dark)


def _make(
    names: tuple[str, str],
    on: Sequence[RawFrame],
    off: Sequence[RawFrame],
    parameters: FlatParameters | None,
    bpm: NDArray[Any] | None,
    pedestal: float | None,
    threads: int | None,
    memory: int,
    dark: MasterDark | None = None,
) -> FlatResult:
    parameters = parameters or FlatParameters()
    light = lamp_difference(
        names,
        on,
        off,
        parameters,
        dark=dark,
        linearise=parameters.linearise,
        bpm=bpm,
        pedestal=pedestal,
        threads=threads,
        memory=memory,
    )
    return response_of(light, names[0], lowest=parameters.lowest, highest=parameters.highest)


def response_of(light: LampLight, name: str, *, lowest: float, highest: float) -> FlatResult:
    """Return the flat of a uniform light.

    Parameters
    ----------
    light
        The light; its planes become those of the flat.
    name
        Name of the frames with light, in an error.
    lowest, highest
        A response outside these limits means no light, or is no measurement: DQ unilluminated, value 1.

    Raises
    ------
    GroupError
        If there is no light.
    """
    circle = measure_circle(light.sci, light.on[0].facts.table.detector)
    warnings = light.warnings
    if circle.reason:
        warnings += (f"circle of light: {circle.reason}; the instrument's constant is used",)
    lit = circle.mask(light.sci.shape).view(bool)
    good = lit & ((light.dq & np.uint16(UNUSABLE)) == 0)
    level = lamp_level(light.sci[good], name, light.on)
    response, var, dq = light.sci, light.var, light.dq  # not shared, so changed in place
    response /= np.float32(level)
    var /= np.float32(level * level)
    none = ~lit | (response < lowest) | (response > highest)
    none |= (dq & np.uint16(DQ.NO_DATA)) != 0
    dq[none] |= np.uint16(DQ.UNILLUMINATED)
    response[none], var[none] = 1, 0
    good &= ~none
    usable = good[::4]
    quartiles = np.percentile(response[::4][usable], [25, 75])
    metrics = FlatMetrics(
        n_on=len(light.on),
        n_off=len(light.off),
        counts_on=light.counts_on,
        counts_off=light.counts_off,
        level=level,
        rms=float(np.ptp(quartiles)) / 1.349,
        noise=float(np.sqrt(np.median(var[::4][usable]))),
        drift=light.drift,
        rejected=light.rejected,
        n_unusable=int(np.count_nonzero(lit & ~good)),
        circle=circle,
        pedestal=light.pedestal,
        variance_from=VARIANCE_FROM,
    )
    first = light.on[0]
    header, primary = first.extension.copy(), first.primary.copy()
    header["BUNIT"] = (DIMENSIONLESS, "relative response")
    image = Image(response, var, dq, header, primary)
    return FlatResult(
        image,
        metrics,
        circle,
        light.pedestal,
        warnings,
        left_out=light.left_out,
        doubts=light.doubts,
        on=tuple(raw.name for raw in light.on),
        off=tuple(raw.name for raw in light.off),
    )
