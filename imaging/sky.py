"""Sky subtraction of dithered (or offset) frames: from each frame the sky that its neighbours in time show.

Two passes are two calls of `subtract_sky`: the second is given the masks of the sources that were found after
the first. The frames are read in bands of rows and a band of all frames is worked on at once.

Why the clipped mean is the default and not the median
    The sky's noise is added to every frame. For eight sky frames the median's variance is 1.35 times the
    mean's, so a frame's variance grows by 17 % with the median and 12.5 % with the mean. Where a faint wing
    below the mask's limit lies in one sky frame, both estimates move by nearly the same (wing / n, as long as
    the wing is below the noise); a bright one the second pass has masked and the first pass clips.

What the variance holds
    The frame's own random noise, that of the sky estimate, and what the flat's noise does to the
    sky-subtracted signal. The noise of the dark and of the flat on the sky itself is the same in the frame
    and in its sky, and goes with the subtraction.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging import sky_kernels
from imaging.bands import DEFAULT_MEMORY, rows_for, run_bands, thread_count
from imaging.combine import median_factor
from imaging.dq import DQ
from imaging.errors import FrameError, GroupError
from imaging.facts import FrameFacts
from imaging.groups import Configuration
from imaging.parameters import StepParameters, parameter
from imaging.pointing import Position, pointing, separation
from imaging.scratch import Planes, PlanesWriter
from imaging.sky_residual import Residual, measure_background

_log = logging.getLogger(__name__)

#: Bytes of a pixel of one frame in work: SCI, VAR, DQ and the object mask.
_BYTES = 11
#: Rows of a band beyond which nothing is gained.
_MOST_ROWS = 64
#: Planes of a sky-subtracted frame.
LAYOUT: Final = {"sci": np.float32, "var": np.float32, "dq": np.uint16}
_NONE = np.empty((0, 0, 0), np.uint8)

RelativeVariance = Callable[[slice], NDArray[np.float32]]


class SkyParameters(StepParameters):
    """How the sky of a frame is chosen and subtracted."""

    least_distance: float = parameter(3.0, "a sky frame points further away than this", unit="arcsec", ge=0)
    window: float = parameter(
        600.0, "sky frames are taken within this time, middle to middle", unit="s", gt=0
    )
    fewest: int = parameter(
        3, "where the window holds fewer sky frames, the nearest beyond it are taken up to this many",
        unit="frames", ge=1,
    )  # fmt: skip
    minimum: int = parameter(
        2, "a frame with fewer sky frames than this is reported and not subtracted", unit="frames", ge=1
    )
    operation: Literal["mean", "median"] = parameter(
        "mean", "mean with clipping about the median (the least noise), or median"
    )
    low: float = parameter(3.0, "clipping threshold below the median", unit="sigma", gt=0)
    high: float = parameter(3.0, "clipping threshold above the median", unit="sigma", gt=0)
    scaling: Literal["multiply", "add"] = parameter(
        "multiply", "how sky frames are brought to the common level; add where the level is near zero"
    )
    residual: Residual = parameter(
        "plane", "what is taken out of the subtracted frame once more: nothing, its level, or a plane"
    )


@dataclass(frozen=True)
class SkyInput:
    """One detrended frame for `subtract_sky`.

    Attributes
    ----------
    name
        The frame's name.
    planes
        Its ``sci`` (float32, electrons), ``var`` (float32, random noise only) and ``dq`` (uint16).
    level
        Median sky level, electrons.
    object_mask
        Planes with an ``objmask`` (uint8, 1 on sources, with their margin); None before sources are known.
    """

    name: str
    planes: Planes
    level: float
    object_mask: Planes | None = None


class SkyChoice(BaseModel):
    """The sky frames of each frame, and why some frames have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skies: dict[str, tuple[str, ...]] = Field(description="frame to its sky frames, in time")
    refused: dict[str, str] = Field(default_factory=dict, description="frame to the reason")

    @property
    def needed(self) -> frozenset[str]:
        """Every frame that takes part, as object or as sky."""
        return frozenset(self.skies).union(*self.skies.values())


class SkyMetrics(BaseModel):
    """What the subtraction did to one frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sky_frames: tuple[str, ...]
    level: float = Field(description="sky level that was subtracted, electrons")
    residual_level: float = Field(description="level left at the frame's centre, taken out, electrons")
    residual_slope_x: float = Field(description="slope left along x, taken out, electrons per pixel")
    residual_slope_y: float = Field(description="slope left along y, taken out, electrons per pixel")
    residual_rms: float = Field(description="scatter of 64-pixel blocks about that, electrons; nan with none")
    behind_sources: int = Field(description="pixels where every sky frame has a source (DQ 32)")
    without_sky: int = Field(description="good pixels without any sky (DQ 16)")


def choose_sky(
    frames: Sequence[FrameFacts],
    parameters: SkyParameters | None = None,
    *,
    objects: Collection[str] | None = None,
    skies: Collection[str] | None = None,
    centres: Mapping[str, Position] | None = None,
) -> SkyChoice:
    """Choose the sky frames of each object frame.

    Same configuration, more than ``least_distance`` away, in the ``window`` of time; where those are fewer
    than ``fewest``, the nearest in time beyond the window as well, up to that number.

    Parameters
    ----------
    frames
        Facts of all frames.
    parameters
        See `SkyParameters`.
    objects, skies
        Names of the frames that are to be subtracted and of those that may serve as sky; all without them.
    centres
        Name to field centre, degrees, for distances by the WCS. Without it they are the telescope's offsets,
        which stay right when a frame carries the previous frame's WCS.

    Returns
    -------
    SkyChoice
        A frame with fewer than ``minimum`` sky frames is refused by name, with the reason.
    """
    parameters, centres = parameters or SkyParameters(), centres or {}
    wanted = [f for f in frames if objects is None or f.name in objects]
    serving = [f for f in frames if skies is None or f.name in skies]
    chosen: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for facts in wanted:
        others = [f for f in serving if f.name != facts.name]
        alike = [f for f in others if Configuration.of(f) == Configuration.of(facts)]
        away = [f for f in alike if _distance(facts, f, centres) > parameters.least_distance]
        away.sort(key=lambda f: (abs(f.middle - facts.middle), f.middle, f.name))
        lags = [abs((f.middle - facts.middle).total_seconds()) for f in away]
        within = sum(lag <= parameters.window for lag in lags)
        taken = away[: max(within, parameters.fewest)]
        if len(taken) < parameters.minimum:
            refused[facts.name] = (
                f"{len(taken)} sky frames, at least {parameters.minimum} are needed: of {len(others)} other "
                f"frames {len(alike)} have its configuration and {len(away)} of these point more than "
                f"{parameters.least_distance:g} arcsec away"
            )
        else:
            taken.sort(key=lambda f: (f.middle, f.name))
            chosen[facts.name] = tuple(f.name for f in taken)
    return SkyChoice(skies=chosen, refused=refused)


def _distance(a: FrameFacts, b: FrameFacts, centres: Mapping[str, Position]) -> float:
    """Distance of two frames' pointings, arcsec."""
    here, there = pointing(a, centres.get(a.name)), pointing(b, centres.get(b.name))
    if here is None or there is None:
        return math.hypot(a.poffset - b.poffset, a.qoffset - b.qoffset)
    return separation(here, there)


def subtract_sky(
    frames: Sequence[SkyInput],
    selection: Mapping[str, Sequence[str]],
    parameters: SkyParameters | None = None,
    *,
    writers: Mapping[str, PlanesWriter],
    flat_variance: RelativeVariance | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> list[SkyMetrics]:
    """Subtract from each frame in ``selection`` the sky that its sky frames give.

    A pixel's sky comes from the sky frames that are usable there and have no source in their mask. Where few
    are left, those are used and the variance tells. Where each has a source, their median is taken and the
    pixel gets DQ 32 (a source overlaps every sky); where none is usable, a good pixel gets DQ 16 and 0.

    Parameters
    ----------
    frames
        All frames that take part. Neighbours with the same set of frames share one sorted stack, so give them
        in time.
    selection
        Frame to its sky frames, as in `SkyChoice.skies`.
    parameters
        See `SkyParameters`.
    writers
        One open writer with the planes of `LAYOUT` for each frame in ``selection``; the caller commits them.
    flat_variance
        Gives rows of the flat's relative variance, var / flat^2, float32; it acts on the signal that is left.
    threads, memory
        Threads, and bytes that the bands in work may take together. The result does not depend on them.

    Returns
    -------
    list of SkyMetrics
        One for each frame in ``selection``, in the order of ``frames``.

    Raises
    ------
    GroupError
        Where the frames' shapes differ, a name is unknown, or a frame would be its own sky.
    FrameError
        Where a frame's level cannot be scaled.
    """
    parameters = parameters or SkyParameters()
    threads = threads or thread_count()
    chosen, target = _selection_matrix(frames, selection)
    shape = _common_shape(frames)
    factor, shift = _to_common_level(frames, parameters)
    medians = np.empty(0)
    if parameters.operation == "median":
        medians = np.array([0.0] + [median_factor(m) for m in range(1, len(frames) + 1)])
    subtracted = [i for i, wanted in enumerate(target) if wanted]
    masked = any(frame.object_mask is not None for frame in frames)
    no_flat = np.empty((0, 0), np.float32)

    def work(rows: slice) -> None:
        size = (len(frames), rows.stop - rows.start, shape[1])
        sci, var = np.empty(size, np.float32), np.empty(size, np.float32)
        dq, mask = np.empty(size, np.uint16), np.zeros(size, np.uint8) if masked else _NONE
        for i, frame in enumerate(frames):
            sci[i] = frame.planes.rows("sci", rows)
            var[i] = frame.planes.rows("var", rows)
            dq[i] = frame.planes.rows("dq", rows)
            if frame.object_mask is not None:
                mask[i] = frame.object_mask.rows("objmask", rows)
        flat = no_flat if flat_variance is None else np.ascontiguousarray(flat_variance(rows), np.float32)
        sky_kernels.subtract_band(
            sci, var, dq, mask, flat, chosen, target, factor, shift,
            parameters.low, parameters.high, medians,
        )  # fmt: skip
        for i in subtracted:
            writer = writers[frames[i].name]
            writer.write("sci", rows, sci[i])
            writer.write("var", rows, var[i])
            writer.write("dq", rows, dq[i])

    fitting = rows_for(memory, len(frames) * shape[1] * _BYTES, threads=threads, least=1)
    run_bands(work, shape[0], rows_per_band=min(fitting, _MOST_ROWS), threads=threads)

    targets = [frames[i] for i in subtracted]
    metrics: list[SkyMetrics | None] = [None] * len(targets)

    def finish(which: slice) -> None:
        frame = targets[which.start]
        metrics[which.start] = _take_residual(
            frame, tuple(selection[frame.name]), writers[frame.name], parameters.residual
        )

    run_bands(finish, len(targets), rows_per_band=1, threads=threads)
    return [m for m in metrics if m is not None]


def _selection_matrix(
    frames: Sequence[SkyInput], selection: Mapping[str, Sequence[str]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """``chosen[i, j]``: frame j is sky of frame i; and which frames are to be subtracted."""
    index = {frame.name: i for i, frame in enumerate(frames)}
    named = set(selection).union(*selection.values())
    if len(index) < len(frames) or named - set(index):
        raise GroupError(
            f"sky frames: {', '.join(sorted(named - set(index))) or 'a name occurs twice'} among "
            f"{len(frames)} frames.",
            remedy="Give every frame that the selection names, once.",
        )
    chosen = np.zeros((len(frames), len(frames)), bool)
    target = np.zeros(len(frames), bool)
    for name, skies in selection.items():
        if name in skies or not skies:
            raise GroupError(
                f"{name}: its sky frames are {', '.join(skies) or 'none'}.",
                remedy="A frame needs sky frames other than itself; leave it out of the selection.",
            )
        target[index[name]] = True
        chosen[index[name], [index[sky] for sky in skies]] = True
    return chosen, target


def _common_shape(frames: Sequence[SkyInput]) -> tuple[int, int]:
    shapes = {frame.name: frame.planes.shape("sci") for frame in frames}
    first = next(iter(shapes.values()))
    odd = [f"{name} {shape}" for name, shape in shapes.items() if shape != first]
    if odd:
        raise GroupError(
            f"frames of different shapes: {', '.join(odd)}, the first has {first}.", remedy="Leave them out."
        )
    return first[0], first[1]


def _to_common_level(
    frames: Sequence[SkyInput], parameters: SkyParameters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors and shifts that bring each frame to the median of the levels, and that to zero.

    Near zero single precision keeps a sky value to better than a thousandth of an electron.
    """
    levels = np.array([frame.level for frame in frames], np.float64)
    common = float(np.median(levels))
    for frame in frames:
        usable = math.isfinite(frame.level) and (parameters.scaling == "add" or frame.level > 0)
        if not usable:
            raise FrameError(
                frame.name,
                f"sky level of {frame.level:g} electrons cannot be scaled to the common {common:g}",
                remedy="Leave the frame out, or set sky.scaling=add where the sky is truly dark.",
            )
    if parameters.scaling == "add":
        return np.ones(len(frames)), -levels
    return common / levels, np.full(len(frames), -common)


def _take_residual(
    frame: SkyInput, skies: tuple[str, ...], writer: PlanesWriter, kind: Residual
) -> SkyMetrics:
    """Take what is left of the background out of a written frame, and count the flags."""
    dq = writer.rows("dq")
    gained = dq & ~frame.planes.rows("dq")
    mask = None if frame.object_mask is None else frame.object_mask.rows("objmask")
    sci = writer.rows("sci")
    left = measure_background(sci, dq, mask, kind)
    if not math.isnan(left.rms):
        sky_kernels.subtract_plane(sci, dq, left.constant, left.slope_x, left.slope_y)
        writer.write("sci", slice(0, len(sci)), sci)
    elif kind != "none":
        _log.warning("%s: too few usable pixels to fit what is left of its background", frame.name)
    ny, nx = dq.shape
    return SkyMetrics(
        name=frame.name,
        sky_frames=skies,
        level=frame.level,
        residual_level=left.constant + left.slope_x * (nx - 1) / 2 + left.slope_y * (ny - 1) / 2,
        residual_slope_x=left.slope_x,
        residual_slope_y=left.slope_y,
        residual_rms=left.rms,
        behind_sources=int(np.count_nonzero(gained & DQ.OVERLAP)),
        without_sky=int(np.count_nonzero(gained & DQ.NO_DATA)),
    )
