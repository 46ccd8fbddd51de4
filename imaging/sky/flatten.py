"""Flatten the sky of each frame before skies are combined: its own surface, readout pattern and guide probe.

Skies that differ in shape cannot be combined: where a source is masked in some of them, the mean of the others has
another level, and values are clipped for their place on a slope. So what a frame does not share with the others is
measured first, outside the sources, and taken from the frame as it is read; nothing is written for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.io.planes import Planes
from imaging.pixels.bands import Reused, run_bands
from imaging.pixels.dq import UNUSABLE
from imaging.sky import block_kernels, flatten_kernels, patterns, shapes
from imaging.sky.choice import SkyParameters
from imaging.sky.meshes import block_nodes, filled, rms_about_plane, surface_nodes
from imaging.sky.probe import Probe, find_deficit, near, outline
from imaging.sky.structure import Blocks, Structure, find_structure, median_of_known

#: Side of the blocks, pixels, and the share of their pixels that must be usable.
_BLOCK: Final = 64
_SHARE: Final = 0.2
#: Rows from which the noise of a pixel is taken.
_NOISE_ROWS: Final = 8
#: Values this many sigma from the blocks do not count in the mean of a row.
_ROW_CLIP: Final = 3.0
#: Least level for the search of a guide probe, in the noise of a block's median.
_PROBE_LEVEL: Final = 200.0
#: How often the outline and the glow of a probe are measured: the others' skies have glow too until it is known.
_TRACES: Final = 3
#: Fewest frames whose rows can be compared.
_FEWEST_ROWS: Final = 3
_NO_MASK: Final = np.empty((0, 0), np.uint8)
_NONE: Final = np.empty((0, 0), np.float64)
_NO_ROWS: Final = np.empty(0, np.float64)
_QUADRANTS: Final = 4


class Frame(Protocol):
    """A detrended frame (`imaging.sky.subtract.SkyInput`)."""

    @property
    def name(self) -> str:
        """The frame's name."""

    @property
    def planes(self) -> Planes:
        """Its sci, var and dq."""

    @property
    def level(self) -> float:
        """Median sky level, electrons."""

    @property
    def object_mask(self) -> Planes | None:
        """Planes with an objmask, or None."""

    @property
    def moved(self) -> tuple[float, float]:
        """How far the stars are moved by the telescope's offsets: x and y, pixels."""


@dataclass(frozen=True)
class Flattening:
    """What is taken from a frame, and flagged, before its sky is combined with others.

    Attributes
    ----------
    nodes, step
        The surface at every ``step``-th pixel, electrons; of size 0 without one.
    channels, block
        Offsets of the channels in blocks of ``block`` pixels, electrons; of size 0 without.
    rows
        Offsets of the rows, electrons; of size 0 without.
    periodic, height
        Offsets that repeat along the columns of each quadrant, electrons, (4, period), of size 0 without; and the rows
        of the frame.
    probe
        Pixels affected by the guide probe, and its glow, or None.
    terms, surface_rms
        Coefficients of the surface, and its rms about a plane over the frame, electrons.
    channel_rms, row_rms, periodic_rms
        Of the offsets, electrons.
    scatter
        Scatter of the blocks about a plane before, relative to the other frames, electrons.
    """

    nodes: NDArray[np.float64]
    step: int
    channels: NDArray[np.float64]
    block: int
    rows: NDArray[np.float64]
    periodic: NDArray[np.float64]
    height: int
    probe: Probe | None
    terms: int
    surface_rms: float
    channel_rms: float
    row_rms: float
    periodic_rms: float
    scatter: float

    def apply(self, sci: NDArray[np.float32], dq: NDArray[np.uint16], first: int) -> None:
        """Subtract from, and flag in, the rows of a frame from ``first``, in place."""
        if self.nodes.size or self.channels.size or self.rows.size:
            flatten_kernels.subtract_structure(
                sci, first, self.nodes, float(self.step), self.channels, self.block, self.rows
            )
        if self.periodic.size:
            flatten_kernels.subtract_periodic(sci, first, self.height, self.periodic)
        if self.probe is not None:
            self.probe.remove(sci, dq, first)


@dataclass(frozen=True)
class Measured:
    """A frame in blocks, and the means of its rows and of the phases of its columns about them."""

    medians: NDArray[np.float64]
    counts: NDArray[np.int64]
    row_means: NDArray[np.float64]
    row_counts: NDArray[np.int64]
    phase_means: NDArray[np.float64]
    phase_counts: NDArray[np.int64]
    noise: float


def flatten(
    frames: Sequence[Frame],
    serving: NDArray[np.bool_],
    parameters: SkyParameters,
    *,
    channels: int = 0,
    period: int = 0,
    threads: int | None = None,
    known: MutableMapping[str, Measured] | None = None,
) -> list[Flattening]:
    """Return what to take from each frame before skies are combined.

    Parameters
    ----------
    frames
        All frames of the group.
    serving
        Frames that serve as sky, (n,).
    parameters
        ``residual``, ``patterns``, ``probe`` and ``scaling`` of `SkyParameters`.
    channels
        Number of the detector's readout channels; 0 if unknown.
    period
        Columns after which the pattern of each quadrant repeats; 0 without such a pattern.
    threads
        The result does not depend on them.
    known
        What an earlier call with the same masks and parameters measured, by the frames' names, so that no frame is
        measured again for each portion that it is sky of. Changed: it contains these frames afterwards, and no others.

    Returns
    -------
    list of Flattening
        One for each frame.
    """
    ny, nx = frames[0].planes.shape("sci")
    channels, period = (channels, period) if parameters.patterns else (0, 0)
    size = block_size((ny, nx), channels)
    probes: dict[int, Probe] = {}
    earlier = {} if known is None else known
    measured = {i: earlier[frame.name] for i, frame in enumerate(frames) if frame.name in earlier}
    new = [i for i in range(len(frames)) if i not in measured]
    measured |= _measure(frames, new, probes, size, period, parameters, threads)
    if known is not None:
        known.clear()
        known.update((frame.name, measured[i]) for i, frame in enumerate(frames))
    blocks = _blocks(frames, measured, serving, parameters, size)
    deficits = _deficits(blocks, measured, parameters)
    for again in range(_TRACES if deficits else 0):
        # First without the surroundings of the probes, then with what their glow leaves there.
        seen = blocks if again else replace(blocks, medians=_without(blocks.medians, deficits))
        structure = find_structure(seen, channels=channels)
        probes |= _trace(frames, deficits, structure, seen, size, threads)
        measured |= _measure(frames, sorted(deficits), probes, size, period, parameters, threads)
        blocks = _blocks(frames, measured, serving, parameters, size)
    structure = find_structure(blocks, channels=channels)
    rows = _rows(measured, blocks) if parameters.patterns else {}
    periodic = _periodic(measured, blocks) if period else {}
    found = [
        _flattening(i, structure, blocks, size, parameters, rows.get(i, (_NO_ROWS, 0.0)), probes.get(i))
        for i in range(len(frames))
    ]
    for i, (offsets, rms) in periodic.items():
        if rms > 0:
            found[i] = replace(found[i], periodic=offsets, height=ny, periodic_rms=rms)
    return found


def block_size(shape: tuple[int, int], channels: int) -> int:
    """Return the side of the blocks: at most 64 pixels, an eighth of the frame, and a channel's width."""
    side = min(_BLOCK, max(4, min(shape) // 8))
    strip = min(shape) // channels if channels else side
    return strip if channels and 4 <= strip < side else side


def _measure(
    frames: Sequence[Frame],
    wanted: Sequence[int],
    probes: Mapping[int, Probe],
    size: int,
    period: int,
    parameters: SkyParameters,
    threads: int | None,
) -> dict[int, Measured]:
    """Return the blocks, and the means of rows and of phases of columns, of some frames."""
    found: dict[int, Measured] = {}
    reused = Reused()

    def work(which: slice) -> None:
        i = wanted[which.start]
        frame = frames[i]
        shape, mask = frame.planes.shape("sci"), _NO_MASK
        sci, dq = reused("sci", shape, np.float32), reused("dq", shape, np.uint16)
        frame.planes.read_into("sci", 0, sci)
        frame.planes.read_into("dq", 0, dq)
        if i in probes:
            probes[i].remove(sci, dq, 0)
        if frame.object_mask is not None:
            mask = reused("mask", shape, np.uint8)
            frame.object_mask.read_into("objmask", 0, mask)
        least = max(1, int(_SHARE * size * size / 2))
        medians, counts = block_kernels.block_medians(sci, dq, mask, size, least)
        means, used = np.zeros(len(sci)), np.zeros(len(sci), np.int64)
        noise = _noise(frame, dq)
        phases, members = np.zeros((_QUADRANTS, period)), np.zeros((_QUADRANTS, period), np.int64)
        if parameters.patterns and noise > 0 and np.isfinite(medians).any():
            about = (sci, dq, mask, filled(medians), (size - 1) / 2, float(size), _ROW_CLIP * noise)
            flatten_kernels.row_means(*about, means, used)
            if period:
                flatten_kernels.phase_means(*about, phases, members)
        found[i] = Measured(medians, counts, means, used, phases, members, noise)

    run_bands(work, len(wanted), rows_per_band=1, threads=threads)
    return found


def _noise(frame: Frame, dq: NDArray[np.uint16]) -> float:
    """Return the noise of a pixel in the middle of a frame, electrons; 0 without usable pixels."""
    rows = slice(len(dq) // 2, len(dq) // 2 + _NOISE_ROWS)
    variances = frame.planes.rows("var", rows)[(dq[rows] & np.uint16(UNUSABLE)) == 0]
    return math.sqrt(max(float(np.median(variances)), 0.0)) if variances.size else 0.0


def _blocks(
    frames: Sequence[Frame],
    measured: Mapping[int, Measured],
    serving: NDArray[np.bool_],
    parameters: SkyParameters,
    size: int,
) -> Blocks:
    ny, nx = frames[0].planes.shape("sci")
    levels = np.array([frame.level for frame in frames], np.float64)
    moved = np.array([frame.moved for frame in frames], np.float64)
    return Blocks(
        medians=np.stack([measured[i].medians for i in range(len(frames))]),
        counts=np.stack([measured[i].counts for i in range(len(frames))]),
        levels=levels,
        units=levels if parameters.scaling == "multiply" else np.ones(len(frames)),
        shifts=moved[:, ::-1] / size,
        serving=serving,
        frame=(ny / size, nx / size),
    )


def _deficits(
    blocks: Blocks, measured: Mapping[int, Measured], parameters: SkyParameters
) -> dict[int, NDArray[np.bool_]]:
    """Return the blocks of the frames in which a guide probe takes light."""
    found: dict[int, NDArray[np.bool_]] = {}
    if not parameters.probe:
        return found
    for i, level in enumerate(blocks.levels):
        if not level > _PROBE_LEVEL * measured[i].noise / _BLOCK:
            continue
        deficit = find_deficit(blocks.medians[i] / level - 1.0, parameters.probe_depth)
        if deficit is not None:
            found[i] = deficit
    return found


def _trace(
    frames: Sequence[Frame],
    deficits: Mapping[int, NDArray[np.bool_]],
    structure: Structure,
    blocks: Blocks,
    size: int,
    threads: int | None,
) -> dict[int, Probe]:
    """Return the outline and the glow of the probes in the frames with a deficit."""
    found: dict[int, Probe] = {}

    def work(which: slice) -> None:
        i = list(deficits)[which.start]
        sci, dq = frames[i].planes.rows("sci"), frames[i].planes.rows("dq")
        masks = frames[i].object_mask
        flatten_kernels.subtract_structure(
            sci, 0, _shared(i, structure, blocks, size), float(size // 2), _NONE, size, _NO_ROWS
        )
        mask = None if masks is None else masks.rows("objmask")
        found[i] = outline(sci, dq, deficits[i], size, blocks.levels[i], mask)

    run_bands(work, len(deficits), rows_per_band=1, threads=threads)
    return found


def _without(medians: NDArray[np.float64], deficits: Mapping[int, NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return blocks without those near a probe."""
    out = medians.copy()
    for i, deficit in deficits.items():
        out[i][near(deficit)] = np.nan
    return out


def _shared(i: int, structure: Structure, blocks: Blocks, size: int) -> NDArray[np.float64]:
    """Return the sky that the other frames predict for a frame, with its own surface, as nodes, electrons."""
    pattern = filled(structure.pattern)
    rows, columns = pattern.shape
    whole = pattern * blocks.units[i] + structure.surface(i, blocks) + blocks.levels[i]
    if structure.channels is not None:
        whole += structure.channels[i]
    return block_nodes(whole, rows, columns, size)


def _rows(measured: Mapping[int, Measured], blocks: Blocks) -> dict[int, tuple[NDArray[np.float64], float]]:
    """Return the offsets of the rows of each frame and their rms."""
    n = len(measured)
    relative = np.stack([measured[i].row_means / blocks.units[i] for i in range(n)])
    known = np.stack([measured[i].row_counts > 0 for i in range(n)])
    if n < _FEWEST_ROWS:
        return {}
    shared = np.nan_to_num(median_of_known(np.where(known, relative, np.nan)))
    return {
        i: patterns.row_pattern(
            measured[i].row_means - blocks.units[i] * shared, measured[i].row_counts, measured[i].noise, n
        )
        for i in range(n)
    }


def _periodic(
    measured: Mapping[int, Measured], blocks: Blocks
) -> dict[int, tuple[NDArray[np.float64], float]]:
    """Return the offsets that repeat along the columns of each frame's quadrants, and their rms."""
    n = len(measured)
    if n < _FEWEST_ROWS:
        return {}
    relative = np.stack([measured[i].phase_means / blocks.units[i] for i in range(n)])
    known = np.stack([measured[i].phase_counts > 0 for i in range(n)])
    shared = np.nan_to_num(median_of_known(np.where(known, relative, np.nan)))
    return {
        i: patterns.periodic_pattern(
            measured[i].phase_means - blocks.units[i] * shared, measured[i].phase_counts, measured[i].noise, n
        )
        for i in range(n)
    }


def _flattening(
    i: int,
    structure: Structure,
    blocks: Blocks,
    size: int,
    parameters: SkyParameters,
    rows: tuple[NDArray[np.float64], float],
    probe: Probe | None,
) -> Flattening:
    order = structure.orders[i]
    auto = parameters.residual == "auto"
    surface = structure.surface(i, blocks)
    return Flattening(
        nodes=surface_nodes(order, structure.coefficients[i], blocks.frame, size) if auto else _NONE,
        step=size // 2,
        channels=_NONE if structure.channels is None else structure.channels[i],
        block=size,
        rows=rows[0] if rows[1] > 0 else _NO_ROWS,
        periodic=_NONE,
        height=0,
        probe=probe,
        terms=shapes.terms(order) if auto else 0,
        surface_rms=rms_about_plane(surface, np.isfinite(structure.pattern), blocks.frame) if auto else 0.0,
        channel_rms=structure.channel_rms[i],
        row_rms=rows[1],
        periodic_rms=0.0,
        scatter=structure.scatter[i],
    )
