"""The bad pixel mask: pixels that are hot or cold in short darks, or respond too little or too much to the lamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imaging.calibrations.dark import DarkParameters, make_dark
from imaging.calibrations.illumination import Circle, circle_cards, measure_circle
from imaging.calibrations.lamp import LampParameters, lamp_difference, lamp_level
from imaging.calibrations.local_deviants import local_deviants
from imaging.calibrations.peers import OddFrame, PeerParameters
from imaging.calibrations.raw_stack import RawFrame
from imaging.figures import Metrics, figure, share
from imaging.parameters import parameter
from imaging.pixels.bands import DEFAULT_MEMORY
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Reason
from imaging.pixels.noise import Pedestal

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3

#: Width of the rings in which the shading of the edge is measured, pixels.
_RING = 0.5


class BpmParameters(LampParameters):
    """How a bad pixel mask is made."""

    method: Literal["limits", "ccdmask"] = parameter(
        "limits",
        "which responses are bad: those beyond limits, or those that differ from their neighbourhood "
        "(ccdproc.ccdmask); hot and cold pixels are those beyond the limits of a short dark in both",
    )
    ccdmask_sigma: float = parameter(
        15.0,
        "method=ccdmask: a response further from the local median than this is bad; its sigma is half a standard "
        "deviation of normal noise",
        unit="local sigma",
        gt=0,
    )
    dark_lowest: float = parameter(-150.0, "a short dark below this: cold", unit="electron")
    dark_highest: float = parameter(3050.0, "a short dark above this: hot", unit="electron")
    flat_lowest: float = parameter(0.68, "a response below this: low", ge=0)
    flat_highest: float = parameter(1.28, "a response above this: high", gt=0)
    min_darks: int = parameter(1, "fewest short darks", ge=1)
    edge: float = parameter(
        6.0,
        "within this distance of the edge of the circle of light, a response is compared with the shading "
        "of the edge, not with the level of the frame",
        unit="pixels",
        ge=0,
    )


class BpmMetrics(Metrics):
    """Figures of a bad pixel mask. A pixel may be bad for more than one reason."""

    n_bad: int = figure("bad pixels", "bad", shown_in="px", headline=True, history=True)
    fraction: float = share("bad pixels as a fraction of the tested pixels", "of the pixels tested")
    n_hot: int = figure(
        "pixels above the short dark's limit", "hot", shown_in="px", headline=True, history=True
    )
    n_cold: int = figure("pixels below the short dark's limit", "cold", shown_in="px", history=True)
    n_low: int = figure(
        "pixels whose response is too low", "low response", shown_in="px", headline=True, history=True
    )
    n_high: int = figure(
        "pixels whose response is too high", "high response", shown_in="px", headline=True, history=True
    )
    n_judged: int = figure("illuminated pixels that were tested")
    n_on: int = figure("frames with light", "lamp on", shown_in="frames")
    n_off: int = figure("frames without light", "lamp off", shown_in="frames")
    n_darks: int = figure("short darks", "short darks", shown_in="frames")
    dark_level: float = figure("median of the stacked short darks", "short darks' level", unit="electron")
    flat_level: float = figure("median of the light of a flat in one frame", "light", unit="electron")
    pedestal: Pedestal = figure(
        "part of the short darks' level that has no shot noise",
        "pedestal",
        unit="electron",
        error="pedestal_uncertainty",
    )
    circle: Circle = Field(description="circle of light")


@dataclass(frozen=True)
class BpmResult:
    """A bad pixel mask.

    Parameters
    ----------
    mask
        The plane of 0 and 1, the plane of reasons, headers.
    metrics
        Its figures.
    circle
        The circle of light.
    pedestal
        Electrons of a frame without shot noise, from the short darks.
    warnings
        What the user should know.
    left_out
        Frames that differ from the others of their set and were not used.
    doubts
        The warnings for which a user has to judge it (`imaging.calibrations.peers.Agreed`).
    """

    mask: BadPixelMask
    metrics: BpmMetrics
    circle: Circle
    pedestal: float
    warnings: tuple[str, ...] = ()
    left_out: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()


def make_bpm(
    on: Sequence[RawFrame],
    off: Sequence[RawFrame],
    short_darks: Sequence[RawFrame],
    parameters: BpmParameters | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> BpmResult:
    """Make a bad pixel mask.

    Neither the darks nor the flats are corrected for non-linearity: the limits apply to the uncorrected
    signal. Only pixels inside the circle of light are tested; the others have DQ unilluminated in every
    frame.

    Parameters
    ----------
    on, off
        Frames with light and without: lamp on and lamp off, or in K lamp off and darks of the same exposure
        time. ``off`` may be empty, with a warning.
    short_darks
        Darks of 2 to 3 s, of one exposure time and read mode.
    parameters
        `BpmParameters`.
    threads, memory
        As for `imaging.calibrations.dark.make_dark`.

    Returns
    -------
    BpmResult
        The mask, its metrics, the circle of light and the pedestal.

    Raises
    ------
    GroupError
        If there are too few frames, if they do not match (the error names those that differ), or if the lamp
        gives no light.
    """
    parameters = parameters or BpmParameters()
    common = {name: getattr(parameters, name) for name in _COMBINATION}
    dark = make_dark(
        short_darks,
        DarkParameters(**common, min_frames=parameters.min_darks, linearise=False),
        what="short darks",
        threads=threads,
        memory=memory,
    )
    same_mode = bool(on) and short_darks[0].facts.read_pairs == on[0].facts.read_pairs
    light = lamp_difference(
        ("flats with light", "flats without"),
        on,
        off,
        parameters,
        linearise=False,
        bpm=None,
        pedestal=dark.pedestal if same_mode else None,
        threads=threads,
        memory=memory,
    )
    circle = measure_circle(light.sci, on[0].facts.table.detector)
    warnings = dark.warnings + light.warnings
    if circle.reason:
        warnings += (f"circle of light: {circle.reason}; the instrument's constant is used",)
    shape = light.sci.shape
    judged = circle.mask(shape).view(bool)
    usable = judged & (light.dq & np.uint16(DQ.SATURATED | DQ.NO_DATA) == 0)
    level = lamp_level(light.sci[usable], "flats with light", on)
    if parameters.method == "ccdmask":
        deviant = local_deviants(light.sci, judged, level, parameters.ccdmask_sigma)
        dim = light.sci < level
        low, high = deviant & dim, deviant & ~dim
    else:
        low = light.sci < _lowest(light.sci, level, circle, judged, parameters)
        high = light.sci > np.float32(parameters.flat_highest * level)
    reasons = _reasons(dark.image.sci, low, high, parameters) * judged
    bad = reasons[reasons != 0]
    count = {reason: int(np.count_nonzero(bad & np.uint8(reason))) for reason in Reason}
    n_bad, n_judged = bad.size, int(np.count_nonzero(judged))
    metrics = BpmMetrics(
        n_on=len(light.on),
        n_off=len(light.off),
        n_darks=dark.metrics.n_frames,
        n_bad=n_bad,
        n_hot=count[Reason.HOT],
        n_cold=count[Reason.COLD],
        n_low=count[Reason.LOW_RESPONSE],
        n_high=count[Reason.HIGH_RESPONSE],
        fraction=n_bad / max(1, n_judged),
        n_judged=n_judged,
        dark_level=dark.metrics.level,
        flat_level=level,
        pedestal=dark.metrics.pedestal,
        circle=circle,
    )
    header, primary = light.on[0].extension.copy(), light.on[0].primary.copy()
    header["PEDESTAL"] = (round(dark.pedestal, 3), "[electron] of one frame, no shot noise")
    header.update(circle_cards(circle))
    mask = BadPixelMask.from_reasons(reasons, header=header, primary=primary)
    return BpmResult(
        mask,
        metrics,
        circle,
        dark.pedestal,
        warnings,
        dark.left_out + light.left_out,
        dark.doubts + light.doubts,
    )


#: Parameters of the combination that darks and flats share.
_COMBINATION = (
    "operation", "reject", "low", "high", "max_iterations", "nlow", "nhigh", "pool_variance",
    *PeerParameters.model_fields,
)  # fmt: skip


def _lowest(
    light: NDArray[np.float32],
    level: float,
    circle: Circle,
    judged: NDArray[np.bool_],
    parameters: BpmParameters,
) -> NDArray[np.float32]:
    """Return the least light of a good pixel: the limit, lowered at the circle's edge, where the light falls off.

    The circle ends at half light, over a pixel or two. A pixel there may be dim without being dead: it is
    compared with its neighbours at the same radius."""
    lowest = np.full(light.shape, parameters.flat_lowest * level, np.float32)
    if not circle.measured or parameters.edge == 0:
        return lowest
    y, x = np.nonzero(judged & ~circle.mask(light.shape, margin=parameters.edge).view(bool))
    depth = circle.radius - np.hypot(x - circle.x, y - circle.y)
    ring = np.maximum(depth / _RING, 0).astype(np.intp)
    for k in range(int(ring.max(initial=-1)) + 1):
        here = ring == k
        if here.any():
            shade = min(1.0, float(np.median(light[y[here], x[here]])) / level)
            lowest[y[here], x[here]] *= np.float32(max(shade, 0.0))
    return lowest


def _reasons(
    dark: NDArray[np.float32],
    low: NDArray[np.bool_],
    high: NDArray[np.bool_],
    parameters: BpmParameters,
) -> NDArray[np.uint8]:
    reasons = np.zeros(dark.shape, np.uint8)
    for wrong, reason in (
        (dark > parameters.dark_highest, Reason.HOT),
        (dark < parameters.dark_lowest, Reason.COLD),
        (low, Reason.LOW_RESPONSE),
        (high, Reason.HIGH_RESPONSE),
    ):
        reasons[wrong] |= np.uint8(reason)
    return reasons
