"""The best stack that a night allows: its frames' weights, its noise-free sources and the variance of its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from imaging.simulator.disturbances.affected import Affected
from imaging.simulator.disturbances.scene_light import galaxy_plane
from imaging.simulator.stack_model import Grid
from imaging.simulator.star_field import render_at, smear_steps
from imaging.simulator.truth import FrameTruth, NightTruth

#: Pixels of a frame that a good reduction does not use.
LOST: Final = Affected.PROBE | Affected.TRAIL | Affected.PERSISTENCE | Affected.UNREAD | Affected.QUADRANT_OFF


@dataclass(frozen=True)
class BestStack:
    """The best stack of some frames, scaled to a reference.

    Attributes
    ----------
    variance
        Of a pixel of empty sky, electrons squared, with the noise of the skies; 0 where ``count`` is 0.
    count
        Frames with a good pixel there.
    photons
        Variance of a source over its electrons at the scale of the stack.
    """

    variance: NDArray[np.float32]
    count: NDArray[np.uint16]
    photons: float


def point_source_weights(truth: NightTruth, frames: Sequence[FrameTruth]) -> NDArray[np.float64]:
    """Return the optimum weights of frames scaled to a common transparency, with the sum 1.

    For a faint point source on the sky: (transparency x exposure / (noise x width))^2, the square of the frame's
    signal to noise (Naylor 1998, MNRAS 296, 339, for the background-limited case).
    """
    dark = float(np.median(truth.plane("DARK")))
    noise = np.array(
        [
            (f.level + dark) * f.exposure * f.disturbance.exposed * f.time_scale
            + f.read_variance * f.time_scale**2
            for f in frames
        ]
    )
    light = np.array([f.throughput * f.exposure for f in frames])
    width = np.array([f.fwhm or truth.parameters.fwhm for f in frames])
    weights = (light / width) ** 2 / noise
    return np.asarray(weights / weights.sum())


def best_stack(
    truth: NightTruth, frames: Sequence[FrameTruth], grid: Grid, shape: tuple[int, ...], *, light: float
) -> BestStack:
    """Return the best stack of frames.

    Parameters
    ----------
    truth, frames
        The night, and the frames to use.
    grid, shape
        Position of the field on the stack, and its rows and columns.
    light
        Transparency x exposure to which frames are scaled, s.
    """
    weights = point_source_weights(truth, frames)
    total, norm = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    count = np.zeros(shape, np.uint16)
    scales = [light / (f.throughput * f.exposure) for f in frames]
    others = len(frames) - 1
    sky_noise = 1 + (1 / others if others else 0)
    for frame, weight, scale in zip(frames, weights, scales, strict=True):
        plane, good = (
            placed(part, frame, grid, shape, parity=truth.parameters.axes.parity)
            for part in frame_variance(truth, frame)
        )
        total += np.float32((weight * scale) ** 2) * plane
        norm += np.float32(weight) * good
        count += good.astype(np.uint16)
    variance = sky_noise * total / np.maximum(norm, 1e-6) ** 2
    photons = sum(
        (w * s) ** 2 * f.throughput * f.exposure / light
        for w, s, f in zip(weights, scales, frames, strict=True)
    )
    return BestStack(np.where(count > 0, variance, 0).astype(np.float32), count, float(photons))


def frame_variance(truth: NightTruth, frame: FrameTruth) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the variance of a frame's empty sky, electrons squared at response 1, and its good pixels.

    Shot noise of sky and dark current, read noise and rounding, divided by the response squared; 0 where a pixel is
    bad, unilluminated or lost to a disturbance.
    """
    response, dark = truth.plane("RESPONSE"), truth.plane("DARK")
    good = truth.plane("ILLUMINATED") & (truth.plane("BPM") == 0) & (response > 0.1)
    if frame.disturbance.local:
        good &= (truth.affected(frame).bits & np.uint8(LOST)) == 0
    u = np.linspace(-1, 1, truth.parameters.size, dtype=np.float32)
    light = np.float32(frame.level) * (
        1 + np.float32(frame.slope_x) * u[None, :] + np.float32(frame.slope_y) * u[:, None]
    )
    electrons = (dark + response * light) * np.float32(frame.exposure * frame.disturbance.exposed)
    squared = np.where(good, response**2, 1).astype(np.float32)
    scale = frame.time_scale
    variance = np.float32(scale) * electrons + np.float32(scale**2 * frame.read_variance)
    return np.where(good, variance / squared, 0), good


def placed(
    plane: NDArray[Any], frame: FrameTruth, grid: Grid, shape: tuple[int, ...], *, parity: int = 1
) -> NDArray[np.float32]:
    """Return a frame's plane at the stack's pixels, by the nearest pixel; 0 outside the frame."""
    centre = frame.field_centre or (0.0, 0.0)
    turn = parity * math.radians(frame.disturbance.rotation - grid.rotation)
    c, s = math.cos(turn), math.sin(turn)
    # From the stack's axes to the frame's, both (x, y) from the field's centre: as `field_offsets` for the difference.
    to_frame = np.array([[c, s], [-s, c]])
    matrix = to_frame[::-1, ::-1]  # (y, x)
    offset = np.array(centre[::-1]) - matrix @ np.array(grid.origin[::-1])
    return affine_transform(
        plane.astype(np.float32), matrix if frame.disturbance.rotation != grid.rotation else np.ones(2),
        offset=offset, output_shape=tuple(shape), order=0, mode="constant", cval=0.0,
    )  # fmt: skip


def model_of(
    truth: NightTruth, frames: Sequence[FrameTruth], grid: Grid, shape: tuple[int, ...], *,
    lights: NDArray[np.float64],
) -> NDArray[np.float32]:  # fmt: skip
    """Return the noise-free sources of a stack, electrons.

    Parameters
    ----------
    truth, frames, grid, shape
        As of `best_stack`.
    lights
        Weight x transparency x exposure of each frame, scaled as in the stack, s.
    """
    p = truth.parameters
    plane = np.zeros((shape[0], shape[1]), np.float32)
    x, y = grid.position(truth.sources)
    for frame, light in zip(frames, lights, strict=True):
        steps = smear_steps(frame.disturbance.smear, frame.fwhm or p.fwhm)
        for dx, dy in steps:
            render_at(
                plane, truth.sources, x + dx, y + dy, axes=p.axes, fwhm=frame.fwhm or p.fwhm, beta=p.moffat_beta,
                exposure_time=frame.exposure, factor=float(light) / len(steps),
            )  # fmt: skip
    if p.galaxy:
        plane += np.float32(p.galaxy * p.sky_rate * lights.sum()) * galaxy_plane(
            (shape[0], shape[1]), grid.origin, axes=p.axes, scale=p.galaxy_scale / p.axes.scale,
            axis_ratio=p.galaxy_axis_ratio, rotation=grid.rotation,
        )  # fmt: skip
    return plane
