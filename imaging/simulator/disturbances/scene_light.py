"""Light that a disturbed frame adds to the stars and the even sky, and light that it loses."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.simulator.camera import SkyAxes
from imaging.simulator.disturbances.drawn import FrameDisturbance, Probe, Trail, Wave

#: Width of the edge of the guide probe's shadow, pixels: it is out of focus.
SHADOW_EDGE: Final = 2.5
#: Decrease of the probe's glow by a factor e, in radii of its disc.
GLOW_REACH: Final = 0.6


def wave_plane(wave: Wave, size: int) -> NDArray[np.float32]:
    """Return the wave of a frame's sky relative to its level, shape (size, size)."""
    u = np.arange(size, dtype=np.float64) / size
    angle = 2 * math.pi * (wave.cycles[0] * u[None, :] + wave.cycles[1] * u[:, None]) + wave.phase
    return (wave.amplitude * np.sin(angle)).astype(np.float32)


def from_probe(probe: Probe, size: int) -> NDArray[np.float32]:
    """Return the distance of each pixel from the probe's centre, pixels."""
    axis = np.arange(size, dtype=np.float32)
    return np.hypot(axis[None, :] - np.float32(probe.centre[0]), axis[:, None] - np.float32(probe.centre[1]))


def shadow(probe: Probe, size: int) -> NDArray[np.float32]:
    """Return the part of the light that passes the guide probe, shape (size, size)."""
    outside = np.clip((from_probe(probe, size) - np.float32(probe.radius)) / SHADOW_EDGE, -80, 80)
    return (1 - probe.depth / (1 + np.exp(outside))).astype(np.float32)


def glow_plane(probe: Probe, size: int) -> NDArray[np.float32]:
    """Return the probe's glow relative to the frame's level: even over the disc, and decreasing outside it."""
    beyond = np.maximum(from_probe(probe, size) - np.float32(probe.radius), 0)
    return (probe.glow * np.exp(-beyond / np.float32(GLOW_REACH * probe.radius))).astype(np.float32)


def trail_plane(trail: Trail, size: int, fwhm: float) -> NDArray[np.float32]:
    """Return a satellite's trail relative to the frame's level: a Gaussian as wide as the stars."""
    a = math.radians(trail.angle)
    axis = np.arange(size, dtype=np.float32)
    x, y = axis[None, :] - np.float32(trail.through[0]), axis[:, None] - np.float32(trail.through[1])
    across = -math.sin(a) * x + math.cos(a) * y
    sigma = fwhm / 2.3548
    return (trail.level * np.exp(-0.5 * np.square(across / np.float32(sigma)))).astype(np.float32)


def galaxy_plane(
    shape: tuple[int, int], centre: tuple[float, float], *, axes: SkyAxes, scale: float, axis_ratio: float,
    rotation: float = 0.0,
) -> NDArray[np.float32]:  # fmt: skip
    """Return an exponential disc of central surface brightness 1, much wider than a star.

    Parameters
    ----------
    shape
        Rows and columns of the image.
    centre
        x, y from 0, pixels.
    axes
        How the sky lies on the array.
    scale
        Scale length along the major axis, pixels.
    axis_ratio
        Minor axis over major axis.
    rotation
        Position angle of the field, deg; the major axis is North of a field with angle 0.
    """
    a = math.radians(rotation)
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    across, along = axes.on_sky(x, y)
    north, east = along * math.cos(a) - across * math.sin(a), along * math.sin(a) + across * math.cos(a)
    radius = np.hypot(north, east / np.float32(axis_ratio))
    return np.exp(-radius / np.float32(scale)).astype(np.float32)


def sky_structure(disturbance: FrameDisturbance, size: int, fwhm: float) -> NDArray[np.float32] | None:
    """Return the additional light relative to the frame's level; None without any.

    Its shape is (size, size). The guide probe's shadow falls on it too, except on the glow.
    """
    parts: list[NDArray[Any]] = []
    if disturbance.wave is not None:
        parts.append(wave_plane(disturbance.wave, size))
    if disturbance.trail is not None:
        parts.append(trail_plane(disturbance.trail, size, fwhm))
    if disturbance.probe is not None:
        # Divided by the shadow, which is applied to all light: the glow itself does not pass the probe.
        parts.append(glow_plane(disturbance.probe, size) / shadow(disturbance.probe, size))
    return np.sum(parts, axis=0, dtype=np.float32) if parts else None
