"""How much light of an extended source a stack has lost to its sky, and how far frames must be dithered to keep it.

What the stack has of the light is measured; what wider dithers would leave in the sky is computed. It is not what was
subtracted from the frames that counts: where the sky of a frame contains the core of the source, the frame is far below
the others, and the stack rejects it. The measured loss is uncertain by the structure of sky and flat below the
source, the computed one by its model: their mean, weighted accordingly, is the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.sky.extended.contamination import Contamination, Pointings, contaminate
from imaging.sky.extended.evidence import explained
from imaging.sky.extended.source_model import SkyMesh, SourceModel, find_source, sky_mesh

#: Fewest frames that distinguish a source from the sky.
FEWEST: Final = 3
#: Share of the differences between frames that a source must explain.
_EVIDENCE: Final = 0.45
#: Distances from the centre at which the halo is judged, scale lengths: the first that is seen; and the ring's width.
_HALO: Final = (2.0, 1.5, 1.0, 0.5)
_WIDTH: Final = 0.4
#: Rings from which the loss at the centre is extrapolated, scale lengths, and fewest blocks of a ring.
_INNER: Final = ((0.0, 0.4), (0.4, 0.9))
_FEWEST_BLOCKS: Final = 4
_FEWEST_INNER: Final = 1
#: Structure of the sky and the flat that no dither reveals, relative to the sky.
_STRUCTURE: Final = 0.003
#: Relative error of a computed loss; it does not count if the measured one differs by more than this many sigma.
_COMPUTED: Final = 0.3
_DIFFERENT: Final = 3.0
#: Steps in which wider dithers are tried.
_WIDER: Final = 1.15
#: Largest distance of a frame from the mean pointing, in halves of the detector.
_FURTHEST: Final = 0.95


class Losses(NamedTuple):
    """Shares of a source's light that are lost at its centre and in its halo."""

    centre: float
    halo: float


@dataclass(frozen=True)
class LostLight:
    """An extended source that loses light to the sky.

    Attributes
    ----------
    x, y
        Its centre in the first frame, pixels from 0.
    scale
        Scale length along the major axis, pixels.
    axis_ratio
        Minor over major axis.
    losses
        Estimated losses.
    halo
        Distance from the centre at which the halo is judged, scale lengths.
    factor
        How much wider dithers must be for losses below the limit; None if none on the detector are.
    dithers
        Median distance of a frame from its sky frames, pixels.
    offset
        Distance of offset sky frames that would do, pixels.
    """

    x: float
    y: float
    scale: float
    axis_ratio: float
    losses: Losses
    halo: float
    factor: float | None
    dithers: float
    offset: float


@dataclass(frozen=True)
class GroupMesh:
    """The meshes of the stacked frames of a group, and of their stack.

    Attributes
    ----------
    frames
        Light and masks of each frame (`imaging.sky.extended.frame_mesh.measure_mesh`), (n, 2, rows, columns).
    pointings
        Where they and their sky frames point.
    size
        Side of a block, pixels.
    level
        Usual sky level, electrons.
    noise
        Usual noise of a pixel, electrons.
    stack
        Medians of the stack in the blocks of each frame (`imaging.sky.extended.frame_mesh.measure_stack`), scaled to
        the mean of the frames, electrons, (n, rows, columns).
    """

    frames: NDArray[np.float32]
    pointings: Pointings
    size: int
    level: float
    noise: float
    stack: NDArray[np.float32]


def find_lost_light(group: GroupMesh, *, limit: float, clip: float) -> LostLight | None:
    """Return the extended source of a group that loses more than ``limit`` of its light; None without any.

    Parameters
    ----------
    group
        The group.
    limit
        Share of the light at the centre or in the halo that may be lost; more than its standard error beyond it is.
    clip
        Clipping threshold of the sky step, sigma.
    """
    while True:
        frames = group.frames.astype(np.float64)
        light, masks = frames[:, 0], frames[:, 1]
        left = group.stack.astype(np.float64)
        known = np.isfinite(light) & np.isfinite(left)
        if len(frames) < FEWEST or not known.any():
            return None
        mesh = sky_mesh(known, group.pointings.shifts[: len(frames)])
        source = find_source(mesh.mean(light, known))
        if source is None:
            return None
        apart = np.array([source.y, source.x]) - mesh.places - (np.array(light.shape[1:]) - 1) / 2
        near = np.asarray((np.abs(apart) < light.shape[1:]).all(axis=1))
        if near.all():
            break
        # The others show another field.
        pointings = group.pointings.of(near)
        group = replace(group, frames=group.frames[near], stack=group.stack[near], pointings=pointings)
    measured = Contamination(source.light, source.light - mesh.mean(left, known), source.distances())
    halo = _halo(measured)
    found = _losses(measured, halo) if halo is not None else None
    if halo is None or found is None or max(found) <= limit:
        return None
    if not explained(light, mesh, source) > _EVIDENCE:
        return None
    sky_step = _SkyStep(group, source, mesh, mesh.mean(masks, known), known, clip)
    computed = sky_step.losses(1.0, halo)
    losses, errors = _estimated(found, computed, group.level, source, halo)
    if max(loss - error for loss, error in zip(losses, errors, strict=True)) <= limit:
        return None
    middle = (group.size - 1) / 2
    y, x = (np.array([source.y, source.x]) - mesh.places[0]) * group.size + middle
    return LostLight(
        x=float(x),
        y=float(y),
        scale=source.scale * group.size,
        axis_ratio=source.axis_ratio,
        losses=losses,
        halo=halo,
        factor=sky_step.wider(halo, limit),
        dithers=group.pointings.distance * group.size,
        # An exponential has fallen to ``limit`` of its light in the halo on the near side.
        offset=source.scale * group.size * (2 * halo - math.log(limit)),
    )


class _SkyStep:
    """The sky step on the mesh of a group, for dithers of any width."""

    def __init__(
        self,
        group: GroupMesh,
        source: SourceModel,
        mesh: SkyMesh,
        masked: NDArray[np.float64],
        known: NDArray[np.bool_],
        clip: float,
    ) -> None:
        self._source, self._mesh, self._masked, self._clip = source, mesh, masked, clip
        self._lit = np.asarray(known.any(axis=0))
        self._noise = group.noise
        self._pointings = group.pointings

    def losses(self, factor: float, halo: float) -> Losses | None:
        """Return the computed losses with dithers ``factor`` times as wide; None where too little is seen."""
        return _losses(
            contaminate(
                self._source, self._mesh, self._masked, self._lit, self._pointings.scaled(factor),
                noise=self._noise, clip=self._clip,
            ),
            halo,
        )  # fmt: skip

    def wider(self, halo: float, limit: float) -> float | None:
        """Return how much wider dithers keep the losses below a limit; None if none on the detector do."""
        extent = self._pointings.extent
        furthest = _FURTHEST * min(self._lit.shape) / 2
        # Beyond the detector, sky frames are no dithers.
        furthest = min(furthest, extent * max(self._lit.shape) / max(self._pointings.distance, 1e-9))
        if not extent > 0 or extent >= furthest:
            return None
        steps = math.ceil(math.log(furthest / extent) / math.log(_WIDER))
        for factor in (*(_WIDER**k for k in range(1, steps)), furthest / extent):
            losses = self.losses(factor, halo)
            if losses is not None and max(losses) <= limit:
                return factor
        return None


def _halo(measured: Contamination) -> float | None:
    """Return the distance at which the halo is judged, scale lengths; None if no ring is seen."""
    return next((k for k in _HALO if _ring(measured, k - _WIDTH / 2, k + _WIDTH / 2) is not None), None)


def _losses(one: Contamination, halo: float) -> Losses | None:
    """Return the losses at the centre and in the halo; None if a ring is not seen."""
    outer = _ring(one, halo - _WIDTH / 2, halo + _WIDTH / 2)
    if outer is None:
        return None
    near, next_to_it = (_ring(one, *limits, _FEWEST_INNER) for limits in _INNER)
    if near is None:
        near = next_to_it or outer
    elif next_to_it is not None:
        # Towards a cusp, the loss falls.
        slope = (next_to_it[0] - near[0]) / (next_to_it[1] - near[1])
        near = (max(0.5 * near[0], near[0] - max(0.0, slope) * near[1]), 0.0)
    return Losses(near[0], outer[0])


def _ring(
    one: Contamination, low: float, high: float, fewest: int = _FEWEST_BLOCKS
) -> tuple[float, float] | None:
    """Return the share lost in a ring, and its mean distance, scale lengths; None with too few blocks or no light."""
    inside = (one.distance >= low) & (one.distance < high) & np.isfinite(one.light) & np.isfinite(one.lost)
    light = float(one.light[inside].sum())
    if np.count_nonzero(inside) < fewest or not light > 0:
        return None
    return float(one.lost[inside].sum()) / light, float(one.distance[inside].mean())


def _estimated(
    found: Losses, computed: Losses | None, level: float, source: SourceModel, halo: float
) -> tuple[Losses, Losses]:
    """Return the means of measured and computed losses, weighted by the inverse of their variances, and their errors.

    Where both differ by more than their errors, or none could be computed, it is the measured loss.
    """
    unknown = math.hypot(source.scatter, _STRUCTURE * level)
    losses, errors = [], []
    for seen, predicted, distance in zip(found, computed or found, (0.2, halo), strict=True):
        error = unknown / max(source.peak * math.exp(-distance), 1e-9)
        its_error = max(_COMPUTED * abs(predicted), 1e-3)
        # Beyond their errors, the steps did something that is not computed.
        if computed is None or abs(seen - predicted) > _DIFFERENT * math.hypot(error, its_error):
            losses.append(seen)
            errors.append(error)
            continue
        weights = error**-2, its_error**-2
        losses.append((weights[0] * seen + weights[1] * predicted) / sum(weights))
        errors.append(sum(weights) ** -0.5)
    return Losses(*losses), Losses(*errors)
