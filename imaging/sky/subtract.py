"""Sky subtraction of dithered (or offset) frames, with the sky from neighbours in time.

Two passes are two calls of `subtract_sky`: the second is given the masks of the sources that were found after
the first. The frames are read in bands of rows, and a band of all frames is processed at once.

Why the clipped mean is the default and not the median
    The sky's noise is added to every frame. For eight sky frames the median's variance is 1.35 times the
    mean's, so a frame's variance grows by 17 % with the median and 12.5 % with the mean. If one sky frame has
    a faint wing below the limit of the mask, both estimates change by nearly the same (wing / n, as long as
    the wing is below the noise); bright wings are masked in the second pass and clipped in the first.

What the variance contains
    The frame's own random noise, that of the sky estimate, and the noise of the flat on the sky-subtracted
    signal. The noise of the dark, and of the flat on the sky itself, is the same in the frame and in its sky
    and cancels in the subtraction.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError, GroupError
from imaging.figures import Metrics, figure
from imaging.io.planes import Planes, PlanesWriter
from imaging.pixels.bands import DEFAULT_MEMORY, Reused, rows_for, run_bands, thread_count
from imaging.pixels.combine import median_factor
from imaging.sky import block_kernels, subtract_kernels
from imaging.sky.choice import SkyChoice as SkyChoice
from imaging.sky.choice import SkyParameters as SkyParameters
from imaging.sky.choice import choose_sky as choose_sky
from imaging.sky.extended.frame_mesh import MESH, measure_mesh, mesh_shape
from imaging.sky.flatten import Flattening, Measured, flatten
from imaging.sky.levels import LEVEL_REMEDY, level_problem
from imaging.sky.residual import Residual, measure_background
from imaging.sky.starlight.frame_light import PlanesWithoutLight, give_back

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 7

_log = logging.getLogger(__name__)

#: Bytes per pixel and frame during processing: SCI, VAR, DQ and the object mask.
_BYTES = 11
#: Maximum useful number of rows of a band: those of forty frames of a large detector about fit into a cache.
_MOST_ROWS = 32
#: Planes of a sky-subtracted frame; it may have a mesh (`MESH`) in addition.
LAYOUT: Final = {"sci": np.float32, "var": np.float32, "dq": np.uint16}
_NONE = np.empty((0, 0, 0), np.uint8)

RelativeVariance = Callable[[slice], NDArray[np.float32]]


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
        Planes with an ``objmask`` (uint8, 1 on sources, with a margin); None before sources are known.
    moved
        How far the telescope's offsets move the stars from where they are without: x and y, pixels.
    light
        Planes with the light of stars outside its mask (`imaging.sky.starlight.frame_light`), which is not part of its
        sky; None where it is not known.
    """

    name: str
    planes: Planes
    level: float
    object_mask: Planes | None = None
    moved: tuple[float, float] = (0.0, 0.0)
    light: Planes | None = None

    def without_light(self) -> SkyInput:
        """Return the frame as it would be without the light of stars outside its mask."""
        if self.light is None:
            return self
        return replace(self, planes=PlanesWithoutLight(self.planes, self.light))


class SkyMetrics(Metrics):
    """Figures of the subtraction for one frame."""

    name: str = figure("the frame's name")
    sky_frames: tuple[str, ...] = figure("number of its sky frames")
    level: float = figure("sky level that was subtracted", unit="electron")
    residual_level: float = figure("residual level at the frame's centre, removed", unit="electron")
    residual_slope_x: float = figure("residual slope along x, removed", unit="electron/px")
    residual_slope_y: float = figure("residual slope along y, removed", unit="electron/px")
    residual_rms: float = figure("scatter of 64-pixel blocks about that; nan with none", unit="electron")
    structure: float = figure(
        "scatter of its 64-pixel blocks about a plane before, relative to the other frames; nan with none",
        unit="electron",
    )
    surface_terms: int = figure("coefficients of the surface that was removed before skies were combined")
    surface_rms: float = figure("rms of that surface about a plane", unit="electron")
    channel_rms: float = figure("rms of the offsets of the readout channels, removed", unit="electron")
    row_rms: float = figure("rms of the offsets of the rows, removed", unit="electron")
    periodic_rms: float = figure(
        "rms of the offsets that repeat along the columns of each quadrant, removed", unit="electron"
    )
    starlight: float | None = figure(
        "mean light of stars outside its mask that was kept out of the skies; missing where it was not modelled",
        unit="electron", default=None,
    )  # fmt: skip
    vignetted: int = figure("pixels in the shadow of the guide probe (DQ 64)")
    glow: int = figure("pixels from which the glow of the guide probe was subtracted")
    behind_sources: int = figure("pixels where every sky frame has a source (DQ 32)")
    without_sky: int = figure("good pixels without any sky (DQ 16)")


def plane_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a plane of a sky-subtracted frame of ``shape``."""
    return mesh_shape(shape) if name == MESH else shape


def subtract_sky(
    frames: Sequence[SkyInput],
    selection: Mapping[str, Sequence[str]],
    parameters: SkyParameters | None = None,
    *,
    writers: Mapping[str, PlanesWriter],
    flat_variance: RelativeVariance | None = None,
    channels: int = 0,
    period: int = 0,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    known: MutableMapping[str, Measured] | None = None,
    serving: Collection[str] = (),
) -> list[SkyMetrics]:
    """Subtract the sky, measured in its sky frames, from each frame in ``selection``.

    The sky of a pixel comes from the sky frames that are usable there and have no source in their mask. If
    only a few remain, the variance accounts for it. If all have a source, their median is used and the pixel
    gets DQ 32 (a source overlaps every sky); if none is usable, a good pixel gets DQ 16 and 0.

    Parameters
    ----------
    frames
        The frames of the group, in order of time, because neighbours with nearly the same set of frames share one
        sorted stack. Their levels determine the common level.
    selection
        Frame to its sky frames, as in `SkyChoice.skies`, of all frames or a part of them: only the planes of those
        that occur in it are read.
    parameters
        See `SkyParameters`.
    writers
        One open writer with the planes of `LAYOUT` for each frame in ``selection``; the caller commits them.
        ``var`` may be missing if the result is only used to detect sources. A plane `MESH` (`plane_shape`) is
        written if there is one: extended sources in the sky are found from it.
    flat_variance
        Returns rows of the flat's relative variance, var / flat^2, float32; it applies to the remaining
        signal.
    channels
        Number of the detector's readout channels; 0 if unknown.
    period
        Columns after which the pattern of each quadrant repeats; 0 without such a pattern.
    threads, memory
        Threads, and bytes for all bands being processed. The result does not depend on them.
    known
        Passed from one portion of a group to the next (`imaging.sky.flatten.flatten`).
    serving
        Frames that are sky of any frame of the group, in this portion or another, in addition to those in
        ``selection``: their own structure is removed.

    Returns
    -------
    list of SkyMetrics
        One for each frame in ``selection``, in the order of ``frames``.

    Raises
    ------
    GroupError
        If the shapes of the frames differ, a name is unknown, or a frame would be its own sky.
    FrameError
        If a frame's level cannot be scaled.
    """
    parameters = parameters or SkyParameters()
    threads = threads or thread_count()
    _check_names(frames, selection)
    if not selection:
        return []
    common = _common_level(frames, parameters)
    used = set(selection).union(*selection.values())
    frames = [frame for frame in frames if frame.name in used]
    chosen, target = _selection_matrix(frames, selection)
    shape = _common_shape(frames)
    complete, frames = frames, [frame.without_light() for frame in frames]
    factor, shift = _to_common_level(frames, common, parameters)
    as_sky = chosen.any(axis=0) | np.array([frame.name in serving for frame in frames])
    flattenings = flatten(
        frames, np.asarray(as_sky), parameters, channels=channels, period=period, threads=threads,
        known=known,
    )  # fmt: skip
    medians = np.empty(0)
    if parameters.operation == "median":
        medians = np.array([0.0] + [median_factor(m) for m in range(1, len(frames) + 1)])
    subtracted = [i for i, wanted in enumerate(target) if wanted]
    masked = any(frame.object_mask is not None for frame in frames)
    no_flat = np.empty((0, 0), np.float32)

    flagged: dict[int, NDArray[np.int64]] = {}
    fitting = rows_for(memory, len(frames) * shape[1] * _BYTES, threads=threads, least=1)
    height = min(fitting, _MOST_ROWS, shape[0])
    reused = Reused()

    def work(rows: slice) -> None:
        of_band = len(frames), rows.stop - rows.start, shape[1]
        sci, var, dq = (reused(name, of_band, dtype) for name, dtype in LAYOUT.items())
        mask = reused("mask", of_band, np.uint8) if masked else _NONE
        for i, frame in enumerate(frames):
            frame.planes.read_into("sci", rows.start, sci[i])
            frame.planes.read_into("var", rows.start, var[i])
            frame.planes.read_into("dq", rows.start, dq[i])
            flattenings[i].apply(sci[i], dq[i], rows.start)
            if frame.object_mask is not None:
                frame.object_mask.read_into("objmask", rows.start, mask[i])
            elif masked:
                mask[i] = 0
        flat = no_flat if flat_variance is None else np.ascontiguousarray(flat_variance(rows), np.float32)
        flagged[rows.start] = np.zeros((len(frames), 2), np.int64)
        subtract_kernels.subtract_band(
            sci, var, dq, mask, flat, chosen, target, factor, shift,
            parameters.low, parameters.high, medians, flagged[rows.start],
        )  # fmt: skip
        for i in subtracted:
            writer = writers[frames[i].name]
            writer.write("sci", rows, sci[i])
            if "var" in writer:
                writer.write("var", rows, var[i])
            writer.write("dq", rows, dq[i])

    run_bands(work, shape[0], rows_per_band=height, threads=threads)
    counts = sum(flagged.values(), np.zeros((len(frames), 2), np.int64))

    targets = [complete[i] for i in subtracted]
    metrics: list[SkyMetrics | None] = [None] * len(targets)

    def finish(which: slice) -> None:
        frame = targets[which.start]
        metrics[which.start] = _take_residual(
            frame, tuple(selection[frame.name]), writers[frame.name], parameters.residual,
            counts[subtracted[which.start]], flattenings[subtracted[which.start]], reused,
        )  # fmt: skip

    run_bands(finish, len(targets), rows_per_band=1, threads=threads)
    return [m for m in metrics if m is not None]


def _check_names(frames: Sequence[SkyInput], selection: Mapping[str, Sequence[str]]) -> None:
    known = {frame.name for frame in frames}
    named = set(selection).union(*selection.values())
    if len(known) < len(frames) or named - known:
        raise GroupError(
            f"sky frames: {', '.join(sorted(named - known)) or 'a name occurs twice'} among "
            f"{len(frames)} frames.",
            remedy="Provide every frame of the selection exactly once.",
        )
    for name, skies in selection.items():
        if name in skies or not skies:
            raise GroupError(
                f"{name}: its sky frames are {', '.join(skies) or 'none'}.",
                remedy="A frame needs sky frames other than itself; leave it out of the selection.",
            )


def _selection_matrix(
    frames: Sequence[SkyInput], selection: Mapping[str, Sequence[str]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ``chosen[i, j]`` (frame j is sky of frame i) and which frames are to be subtracted."""
    index = {frame.name: i for i, frame in enumerate(frames)}
    chosen = np.zeros((len(frames), len(frames)), bool)
    target = np.zeros(len(frames), bool)
    for name, skies in selection.items():
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


def _common_level(frames: Sequence[SkyInput], parameters: SkyParameters) -> float:
    """Return the median of the frames' levels, electrons; raise an error for one that cannot be scaled."""
    for frame in frames:
        if reason := level_problem(frame.level, parameters):
            raise FrameError(frame.name, reason, remedy=LEVEL_REMEDY)
    return float(np.median([frame.level for frame in frames]))


def _to_common_level(
    frames: Sequence[SkyInput], common: float, parameters: SkyParameters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factors and shifts that scale each frame to the common level, shifted to zero.

    Near zero, single precision represents a sky value to better than a thousandth of an electron.
    """
    levels = np.array([frame.level for frame in frames], np.float64)
    if parameters.scaling == "add":
        return np.ones(len(frames)), -levels
    return common / levels, np.full(len(frames), -common)


def _take_residual(
    frame: SkyInput,
    skies: tuple[str, ...],
    writer: PlanesWriter,
    kind: Residual,
    flagged: NDArray[np.int64],
    flattening: Flattening,
    reused: Reused,
) -> SkyMetrics:
    """Remove the residual background from a written frame; return its metrics."""
    shape, mask = frame.planes.shape("sci"), None
    sci, dq = (reused(name, shape, LAYOUT[name]) for name in ("sci", "dq"))
    for name, plane in (("sci", sci), ("dq", dq)):
        writer.read_into(name, 0, plane)
    if frame.object_mask is not None:
        mask = reused("mask", shape, np.uint8)
        frame.object_mask.read_into("objmask", 0, mask)
    left = measure_background(sci, dq, mask, kind)
    fitted = not math.isnan(left.rms)
    if fitted:
        block_kernels.subtract_plane(sci, dq, left.constant, left.slope_x, left.slope_y)
    elif kind != "none":
        _log.warning("%s: too few usable pixels to fit the residual background", frame.name)
    starlight = None if frame.light is None else give_back(frame.light, sci, dq, mask)
    if fitted or starlight is not None:
        writer.write("sci", slice(0, len(sci)), sci)
    if MESH in writer:
        mesh = measure_mesh(frame.planes, dq, mask, frame.level)
        writer.write(MESH, slice(0, len(mesh)), mesh)
    ny, nx = dq.shape
    return SkyMetrics(
        name=frame.name,
        sky_frames=skies,
        level=frame.level,
        residual_level=left.constant + left.slope_x * (nx - 1) / 2 + left.slope_y * (ny - 1) / 2,
        residual_slope_x=left.slope_x,
        residual_slope_y=left.slope_y,
        residual_rms=left.rms,
        structure=flattening.scatter,
        surface_terms=flattening.terms,
        surface_rms=flattening.surface_rms,
        channel_rms=flattening.channel_rms,
        row_rms=flattening.row_rms,
        periodic_rms=flattening.periodic_rms,
        starlight=starlight,
        vignetted=flattening.probe.vignetted if flattening.probe is not None else 0,
        glow=flattening.probe.glow if flattening.probe is not None else 0,
        behind_sources=int(flagged[0]),
        without_sky=int(flagged[1]),
    )
