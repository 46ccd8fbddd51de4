"""The light of a lamp alone: a stack with it minus a stack without it. Flats and bad pixel masks start from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.peer_headers import unlike_headers
from imaging.calibrations.peers import LampPeerParameters, OddFrame, agreeing, check_dim, check_lit
from imaging.calibrations.raw_stack import RawFrame, RawStack, check_alike, rows_per_band, stacked_variance
from imaging.errors import GroupError
from imaging.frames.facts import FrameFacts
from imaging.parameters import parameter
from imaging.pixels.bands import run_bands
from imaging.pixels.combine import Combined, CombineParameters, combine
from imaging.pixels.noise import NoiseModel, measure_pedestal

#: Lamp levels of one stack that differ by more than this cause a warning.
_DRIFT_WARNING: Final = 0.15
#: Pixels brighter than this fraction of the bright ones are lit; lamp levels are compared on these.
_LIT: Final = 0.5


class LampParameters(LampPeerParameters, CombineParameters):
    """How lamp frames are stacked."""

    # At 3 sigma a clip of a few equal frames costs 5 % of their information, at 4 sigma nearly none.
    low: float = parameter(4.0, "rejection threshold below the median", unit="sigma", gt=0)
    high: float = parameter(4.0, "rejection threshold above the median", unit="sigma", gt=0)
    pool_variance: bool = parameter(True, CombineParameters.model_fields["pool_variance"].description or "")
    min_frames: int = parameter(1, "fewest frames with light", ge=1)
    level_lamp: bool = parameter(
        True,
        "scale the light of each frame to the mean level before rejection and combination: otherwise the first "
        "or last frames of a lamp that drifts by a few per cent would be rejected",
    )


class MasterDark(Protocol):
    """A master dark open for reading by rows (`imaging.products.product_file.ProductFile`)."""

    @property
    def facts(self) -> FrameFacts:
        """Facts of the dark."""

    @property
    def header(self) -> Any:
        """Header of the image, with PEDESTAL."""

    def rows(self, extname: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of SCI, VAR (float32) or DQ (uint16)."""


@dataclass(frozen=True)
class LampLight:
    """Stack with light minus stack without; electrons of one frame.

    Parameters
    ----------
    sci, var, dq
        The difference, (ny, nx): float32, float32, uint16.
    counts_on, counts_off
        Mean levels of the lit pixels in the frames with and without light.
    drift
        Highest minus lowest lamp level, over their mean.
    rejected
        Fraction of the input pixels that were rejected.
    pedestal
        Electrons of a frame without shot noise.
    warnings
        What the user should know.
    left_out
        Frames that differ from the others of their set and are not part of the stacks.
    doubts
        The warnings for which a user has to judge the result (`imaging.calibrations.peers.Agreed`).
    on, off
        Names of the frames in the stacks.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    counts_on: float
    counts_off: float
    drift: float
    rejected: float
    pedestal: float
    warnings: tuple[str, ...]
    left_out: tuple[OddFrame, ...]
    doubts: tuple[str, ...]
    on: tuple[RawFrame, ...]
    off: tuple[RawFrame, ...]


@dataclass(frozen=True)
class _Levels:
    """Levels of the lit pixels, and the scaling of each frame's light to the mean level: x scale + zero."""

    on: float
    off: float
    drift: float
    scale: NDArray[np.float64] | None
    zero: NDArray[np.float64] | None


def lamp_difference(
    names: tuple[str, str],
    on: Sequence[RawFrame],
    off: Sequence[RawFrame],
    parameters: LampParameters,
    *,
    dark: MasterDark | None = None,
    linearise: bool,
    bpm: NDArray[Any] | None,
    pedestal: float | None,
    threads: int | None,
    memory: int,
) -> LampLight:
    """Stack both sets and subtract; every row of every frame is read once.

    A frame that differs from the others of its set (`imaging.calibrations.peers`) is left out; the sample
    rows of the others are then read again.

    Variances are those of the stacked levels; see `imaging.calibrations.raw_stack.stacked_variance`. The
    variance of a scaled frame is taken to be that of an unscaled one: the scales average to 1.

    Parameters
    ----------
    names
        Names of the frames with and without light: "lamp-on flats", "lamp-off flats".
    on, off
        The frames; ``off`` may be empty.
    parameters
        Combination and levelling.
    dark
        A master dark of the same exposure time and read mode, instead of ``off``.
    linearise
        Correct for non-linearity.
    bpm
        DQ bits of bad pixels, (ny, nx).
    pedestal
        Electrons of a frame without shot noise; default: from the dark, or measured from ``off``.
    threads, memory
        As for `imaging.calibrations.dark.make_dark`.

    Raises
    ------
    GroupError
        If there are too few frames, or they do not match.
    """
    facts = check_alike(on, names[0], least=parameters.min_frames, also=("filter_id",))
    warnings = [*unlike_headers(names[0], on), *unlike_headers(names[1], off)]
    if off:
        check_alike([*on, *off], f"{names[0]} and {names[1]}")
    elif dark is None:
        warnings.append(f"no {names[1]}: dark current and stray light are not subtracted")
    ny, nx = on[0].shape
    rows = rows_per_band(len(on) + len(off), nx, memory=memory, threads=threads)
    # Both samples have the same pixels, whatever the numbers of frames.
    stacked_as: dict[str, int] = {"rows": rows, "memory": memory // 2, "sampled_for": max(len(on), len(off))}
    stack_on = RawStack(on, **stacked_as)
    stack_off = RawStack(off, **stacked_as) if off else None

    left_out: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()
    sample_off: NDArray[np.float32] | None = None
    if stack_off:
        sample_off = stack_off.sample()
        check = check_dim(names[1], stack_off, sample_off, parameters)
        agreed = agreeing(names[1], stack_off, sample_off, check, parameters, 1)
        stack_off, sample_off = agreed.stack, agreed.levelled
        left_out += agreed.odd
        doubts += agreed.doubts
    if dark is not None:
        sample_off = np.concatenate([dark.rows("SCI", b).ravel() for b in stack_on.sample_bands])[np.newaxis]
        pedestal = float(dark.header.get("PEDESTAL", 0.0)) if pedestal is None else pedestal
    if pedestal is None and sample_off is not None:
        measured = measure_pedestal(sample_off, NoiseModel.of(facts))
        pedestal = measured.value
        if measured.problem:
            warnings.append(f"pedestal: {measured.problem}")
    elif pedestal is None:
        pedestal = 0.0
        warnings.append(f"pedestal: no {names[1]} to measure it from; taken as 0")
    sample_on = stack_on.sample()
    without = (
        np.full(sample_on.shape[1], pedestal, np.float32) if sample_off is None else sample_off.mean(axis=0)
    )
    check = check_lit(names[0], stack_on, sample_on, without, parameters)
    agreed = agreeing(names[0], stack_on, sample_on, check, parameters, parameters.min_frames)
    stack_on, sample_on = agreed.stack, agreed.sample
    left_out += agreed.odd
    doubts += agreed.doubts
    levels = _levels(sample_on, sample_off, pedestal)
    del sample_off, sample_on, without, agreed
    if levels.drift > _DRIFT_WARNING:
        warnings.append(f"the level of the {names[0]} drifts by {levels.drift:.0%}")
    scale, zero = (levels.scale, levels.zero) if parameters.level_lamp else (None, None)

    model = NoiseModel.of(facts, pedestal)
    sci, var = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    dq = np.empty((ny, nx), np.uint16)
    used = np.zeros(ny, np.int64)

    def stacked(stack: RawStack, band: slice, **scaling: Any) -> tuple[Combined, NDArray[np.float32]]:
        planes = stack.prepared(band, pedestal=model.pedestal, linearise=linearise, bpm=bpm)
        result = combine(*planes, parameters, **scaling)
        return result, stacked_variance(result.sci, result.count, model, parameters, linearised=linearise)

    def work(band: slice) -> None:
        light, variance = stacked(stack_on, band, scale=scale, zero=zero)
        sci[band], var[band], dq[band] = light.sci, variance, light.dq
        used[band] = light.count.sum(axis=1, dtype=np.int64)
        if stack_off:
            dim, variance = stacked(stack_off, band)
            sci[band] -= dim.sci
            var[band] += variance
            dq[band] |= dim.dq
            used[band] += dim.count.sum(axis=1, dtype=np.int64)
        elif dark is not None:
            sci[band] -= dark.rows("SCI", band)
            var[band] += dark.rows("VAR", band)
            dq[band] |= dark.rows("DQ", band)

    run_bands(work, ny, rows_per_band=rows, threads=threads)
    used_off = tuple(stack_off.raws) if stack_off else ()
    return LampLight(
        sci, var, dq,
        counts_on=levels.on,
        counts_off=levels.off,
        drift=levels.drift,
        rejected=1 - float(used.sum()) / ((len(stack_on) + len(used_off)) * ny * nx),
        pedestal=pedestal,
        warnings=(*doubts, *warnings),
        left_out=left_out,
        doubts=doubts,
        on=tuple(stack_on.raws),
        off=used_off,
    )  # fmt: skip


def lamp_level(light: NDArray[np.float32], name: str, raws: Sequence[RawFrame]) -> float:
    """Return the median light of good lit pixels.

    Raises
    ------
    GroupError
        If there is no light.
    """
    level = float(np.median(light)) if light.size else 0.0
    if not level > 0:
        raise GroupError(
            f"{name} ({', '.join(raw.name for raw in raws)}) are not brighter than the frames without light: "
            f"the median of the difference is {level:.1f} e-, expected above 0.",
            remedy="Check GCALLAMP and GCALSHUT of the frames against the night log.",
        )
    return level


def _levels(on: NDArray[np.float32], off: NDArray[np.float32] | None, pedestal: float) -> _Levels:
    """Return the lamp levels from samples (n, pixels); no scales for a single frame or without light."""
    dark = off.mean(axis=0) if off is not None else np.full(on.shape[1], pedestal, np.float32)
    mean = on.mean(axis=0) - dark
    lit = mean > _LIT * np.percentile(mean, 75)
    if not lit.any() or not np.median(mean[lit]) > 0:
        return _Levels(float(np.median(on)), float(np.median(dark)), 0.0, None, None)
    dark, mean = dark[lit], mean[lit]
    ratio = np.array([float(np.median((one[lit] - dark) / mean)) for one in on])
    under = float(np.median(dark))
    level_on = float(np.median(mean)) + under
    drift = float(np.ptp(ratio) / ratio.mean())
    if len(on) < 2 or not (ratio > 0).all():
        return _Levels(level_on, under, drift, None, None)
    scale = ratio.mean() / ratio
    return _Levels(level_on, under, drift, scale, (1 - scale) * under)
