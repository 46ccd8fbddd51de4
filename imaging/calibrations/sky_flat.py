"""A flat from the sky: the response of each pixel to the light that dithered frames of one field share.

It is what remains where no flat of a lamp exists. Its light is that of the sky, which is not as uniform as that of a
lamp: gradients, scattered light and, in the K bands, heat of telescope and instrument become part of the response.

The frames, without their dark and scaled to one level, are combined twice: first as a median, in which sources
disappear that move by the dither; then as a clipped mean without the pixels of the sources that were found in each
frame after division by that median. A source that covers a pixel in half of the frames or more stays in the median,
and in the flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.flat import FlatResult, response_of
from imaging.calibrations.lamp import LampLight, MasterDark
from imaging.calibrations.peers import OddFrame
from imaging.calibrations.raw_stack import RawFrame, RawStack, check_alike, rows_per_band, stacked_variance
from imaging.errors import GroupError
from imaging.parameters import parameter
from imaging.pixels.bands import DEFAULT_MEMORY, run_bands, thread_count
from imaging.pixels.combine import CombineParameters, combine
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.noise import NoiseModel
from imaging.sources.detect import DetectParameters, detect

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 1

#: Name of the frames in messages.
_FRAMES: Final = "science frames"
#: Pixels brighter than this fraction of the bright ones are lit.
_LIT: Final = 0.5
#: A frame with less than this fraction of the median level has no sky like the others: it was aborted, or the light
#: was blocked.
_DIM: Final = 0.3
#: Below this response a pixel does not show sources.
_BLIND: Final = 0.1
#: Pointings closer than this many pixels are one: a star covers the same pixels.
_ONE_POINTING: Final = 10.0
#: Bytes per pixel during the search for sources in one frame.
_BYTES: Final = 26
#: One in this many pixels gives the level of a frame.
_STRIDE: Final = 7
_SKY_WARNING: Final = (
    "made from the sky of science frames: gradients of the sky, scattered light and heat are part "
    "of the response"
)


class SkyFlatParameters(CombineParameters):
    """How a flat is made from the sky of science frames."""

    make: Literal["never", "if_missing"] = parameter(
        "never",
        "never, or if_missing: from the dithered frames of a group for which neither the reduced frames nor the store "
        "have a flat",
    )
    min_frames: int = parameter(5, "fewest frames, and fewest pointings among them less two", ge=3)
    low: float = parameter(4.0, "rejection threshold below the median", unit="sigma", gt=0)
    high: float = parameter(4.0, "rejection threshold above the median", unit="sigma", gt=0)
    pool_variance: bool = parameter(True, CombineParameters.model_fields["pool_variance"].description or "")
    linearise: bool = parameter(True, "correct for non-linearity")
    threshold: float = parameter(
        2.0, "level above which a pixel of a smoothed frame belongs to a source, in the frame's own noise",
        unit="sigma", gt=0,
    )  # fmt: skip
    dilation: int = parameter(2, "margin of the masks around sources", unit="px", ge=0)
    lowest: float = parameter(0.01, "a response below this means no light: DQ unilluminated, value 1", ge=0)
    highest: float = parameter(
        10.0, "a response above this is not a measurement: DQ unilluminated, value 1", gt=1
    )
    highest_noise: float = parameter(
        0.03,
        "largest expected standard deviation of the response: a noisier flat would harm the frames",
        gt=0,
    )


@dataclass(frozen=True)
class _Planes:
    """What is subtracted from the frames, how they are prepared, and the threads and memory for it."""

    stack: RawStack
    dark: MasterDark | None
    pedestal: float
    linearise: bool
    bpm: NDArray[Any] | None
    rows: int
    threads: int | None

    def light(
        self, band: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16], NDArray[np.float32]]:
        """Return values above the dark, variances and quality of a band, (n, rows, nx), and the dark, (rows, nx)."""
        sci, var, dq = self.stack.prepared(
            band, pedestal=self.pedestal, linearise=self.linearise, bpm=self.bpm
        )
        below = np.zeros(sci.shape[1:], np.float32)
        if self.dark is not None:
            below = self.dark.rows("SCI", band)
        sci -= below
        return sci, var, dq, below

    def frame(self, k: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Return the light and quality of a complete frame, (ny, nx)."""
        one = _Planes(
            self.stack.only([k]), self.dark, self.pedestal, self.linearise, self.bpm, self.rows, self.threads
        )
        ny, nx = self.stack.shape
        light, quality = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.uint16)
        for first in range(0, ny, self.rows):
            band = slice(first, min(first + self.rows, ny))
            sci, _, dq, _ = one.light(band)
            light[band], quality[band] = sci[0], dq[0]
        return light, quality


def make_sky_flat(
    frames: Sequence[RawFrame],
    dark: MasterDark | None,
    parameters: SkyFlatParameters | None = None,
    *,
    bpm: NDArray[Any] | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> FlatResult:
    """Make a flat from the sky of dithered frames of one field.

    Parameters
    ----------
    frames
        Science frames of one filter, exposure time and read mode, or the sky frames of an offset sequence.
    dark
        A master dark of the same exposure time and read mode. Without one the dark current is taken for sky, and
        ``warnings`` reports it.
    parameters
        `SkyFlatParameters`.
    bpm
        DQ bits of the bad pixels (1), (ny, nx).
    threads
        Threads; default: one per core.
    memory
        Bytes that the bands being processed may take.

    Returns
    -------
    FlatResult
        The flat; ``on`` has the frames, ``off`` is empty. `FlatMetrics.drift` is the range of the sky's level.

    Raises
    ------
    GroupError
        If there are too few frames or pointings, if the frames do not match, if they show no sky, or if the sky is too
        faint for a flat.
    """
    parameters = parameters or SkyFlatParameters()
    check_alike(frames, _FRAMES, least=parameters.min_frames, also=("filter_id",))
    _check_dithered(frames, parameters)
    warnings = [_SKY_WARNING]
    pedestal = 0.0
    if dark is None:
        warnings.append("no dark: dark current and pedestal are part of the response")
    else:
        pedestal = float(dark.header.get("PEDESTAL", 0.0))
    ny, nx = frames[0].shape
    rows = rows_per_band(len(frames), nx, memory=memory, threads=threads)
    stack, levels, left_out = _with_sky(
        RawStack(frames, rows=rows, memory=memory // 2), dark, pedestal, parameters
    )
    planes = _Planes(stack, dark, pedestal, parameters.linearise, bpm, rows, threads)
    first = _median(planes, levels)
    masks, levels = _sources(planes, first, levels, parameters, threads, memory)
    del first
    mean = float(levels.mean())
    scale = mean / levels
    model = NoiseModel.of(stack.facts, pedestal)
    sci, var = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    dq = np.empty((ny, nx), np.uint16)
    used = np.zeros(ny, np.int64)

    def work(band: slice) -> None:
        light, noise, quality, below = planes.light(band)
        for k, mask in enumerate(masks):
            light[k][np.unpackbits(mask[band], axis=1, count=nx).view(bool)] = np.nan
        result = combine(light, noise, quality, parameters, scale=scale)
        sci[band], dq[band] = result.sci, result.dq
        variance = stacked_variance(
            result.sci + below, result.count, model, parameters, linearised=parameters.linearise
        )
        if dark is not None:
            variance += dark.rows("VAR", band)
            dq[band] |= dark.rows("DQ", band)
        var[band] = variance
        used[band] = result.count.sum(axis=1, dtype=np.int64)

    run_bands(work, ny, rows_per_band=rows, threads=threads)
    light = LampLight(
        sci, var, dq,
        counts_on=mean + pedestal,
        counts_off=pedestal,
        drift=float(np.ptp(levels) / mean),
        rejected=1 - float(used.sum()) / (len(stack) * ny * nx),
        pedestal=pedestal,
        warnings=tuple(warnings),
        left_out=left_out,
        doubts=(),
        on=tuple(stack.raws),
        off=(),
    )  # fmt: skip
    return response_of(light, _FRAMES, lowest=parameters.lowest, highest=parameters.highest)


def _check_dithered(frames: Sequence[RawFrame], parameters: SkyFlatParameters) -> None:
    """Refuse frames of too few pointings: their sources would be part of the response."""
    distinct: list[tuple[float, float]] = []
    for raw in frames:
        scale = raw.facts.readout.pixel_scale
        at = raw.facts.poffset / scale, raw.facts.qoffset / scale
        if all(math.dist(at, other) >= _ONE_POINTING for other in distinct):
            distinct.append(at)
    least = max(2, parameters.min_frames - 2)
    if len(distinct) < least:
        raise GroupError(
            f"The {len(frames)} {_FRAMES} have {len(distinct)} pointings at least {_ONE_POINTING:g} pixels apart "
            f"(POFFSET, QOFFSET); a flat from their sky needs {least}.",
            remedy="Use a flat of a lamp, or continue without one: --allow-missing flat.",
        )


def _with_sky(
    stack: RawStack, dark: MasterDark | None, pedestal: float, parameters: SkyFlatParameters
) -> tuple[RawStack, NDArray[np.float64], tuple[OddFrame, ...]]:
    """Return the frames that show the sky, its levels in them (electrons), and the frames left out."""
    sample = stack.sample()
    if dark is None:
        sample -= np.float32(pedestal)
    else:
        sample -= np.concatenate([dark.rows("SCI", band).ravel() for band in stack.sample_bands])
    middle = np.median(sample, axis=0)
    lit = middle > _LIT * np.percentile(middle, 75)
    levels = np.median(sample[:, lit], axis=1).astype(np.float64) if lit.any() else np.zeros(len(stack))
    usual = float(np.median(levels))
    kept = [k for k, level in enumerate(levels) if level > max(0.0, _DIM * usual)]
    names = [raw.name for raw in stack.raws]
    if len(kept) < parameters.min_frames:
        shown = ", ".join(f"{name} {level:.0f}" for name, level in zip(names, levels, strict=True))
        raise GroupError(
            f"{len(kept)} of {len(stack)} {_FRAMES} show the sky above their dark; {parameters.min_frames} are needed "
            f"(sky_flat.min_frames). Their levels in electrons: {shown}.",
            remedy="Inspect the frames. Use a flat of a lamp, or continue without one: --allow-missing flat.",
        )
    usual = float(np.median(levels[kept]))
    noise = math.sqrt((NoiseModel.of(stack.facts).floor + usual) / len(kept)) / usual
    if noise > parameters.highest_noise:
        raise GroupError(
            f"The sky of {len(kept)} {_FRAMES} is too faint for a flat: with {usual:.0f} electrons in each, the "
            f"response would have a noise of {noise:.1%}, at most {parameters.highest_noise:.1%} "
            "(sky_flat.highest_noise).",
            remedy="Use a flat of a lamp, or continue without one: --allow-missing flat.",
        )
    odd = tuple(
        OddFrame(
            names[k], f"its sky is {levels[k]:.0f} electrons, that of the others {usual:.0f}", alone=True
        )
        for k in range(len(stack))
        if k not in kept
    )
    return (stack.only(kept) if odd else stack), levels[kept], odd


def _median(planes: _Planes, levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the median of the frames scaled to a level of 1, (ny, nx)."""
    first = np.empty(planes.stack.shape, np.float32)
    parameters = CombineParameters(operation="median", reject="none")

    def work(band: slice) -> None:
        light, noise, quality, _ = planes.light(band)
        first[band] = combine(light, noise, quality, parameters, scale=1 / levels).sci

    run_bands(work, len(first), rows_per_band=planes.rows, threads=planes.threads)
    return first


def _sources(
    planes: _Planes, response: NDArray[np.float32], levels: NDArray[np.float64], parameters: SkyFlatParameters,
    threads: int | None, memory: int,
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:  # fmt: skip
    """Return the masks of the sources of each frame, one bit a pixel, and its level on the other pixels."""
    seeing = DetectParameters(threshold=parameters.threshold, dilation=parameters.dilation)
    blind = ~(response > _BLIND)
    divisor = np.where(blind, np.float32(1), response)

    def search(k: int) -> tuple[NDArray[np.uint8], float]:
        light, quality = planes.frame(k)
        light /= divisor
        quality[blind] |= np.uint16(DQ.UNILLUMINATED)
        mask = detect(light, quality, seeing, deblend=False, catalogue=False).object_mask
        good = (mask == 0) & ((quality & np.uint16(UNUSABLE)) == 0)
        values = light[good][::_STRIDE]
        return np.packbits(mask != 0, axis=1), float(np.median(values)) if values.size else float(levels[k])

    at_once = max(1, min(threads or thread_count(), memory // (_BYTES * response.size)))
    with ThreadPoolExecutor(at_once, thread_name_prefix="sources") as pool:
        found = list(pool.map(search, range(len(planes.stack))))
    return [mask for mask, _ in found], np.array([level for _, level in found])
