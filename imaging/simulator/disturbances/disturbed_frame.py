"""One disturbed exposure: what changes in the array's state and in the scene before it is read out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imaging.simulator.detector import Detector
from imaging.simulator.disturbances.affected import LATENT_FROM, LIGHT_FROM, Affected, AffectedPixels
from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.disturbances.drawn import FrameDisturbance
from imaging.simulator.disturbances.readout_faults import pattern_plane, quadrant, unread_rows
from imaging.simulator.disturbances.scene_light import glow_plane, shadow, sky_structure, trail_plane

FloatPlane = NDArray[np.float32]


def affected_pixels(
    conditions: Disturbances, disturbance: FrameDisturbance, *, size: int, fwhm: float, key: Sequence[int],
    latent: FloatPlane | None,
) -> AffectedPixels:  # fmt: skip
    """Return the truth of a frame's pixels.

    Parameters
    ----------
    conditions, disturbance
        Of the night and of the frame.
    size, fwhm
        Rows and columns; width of the stars, pixels.
    key
        Seed of the frame.
    latent
        Electrons of persistence; None without any.
    """
    bits = np.zeros((size, size), np.uint8)
    d = disturbance
    if d.probe is not None:
        core = shadow(d.probe, size) < 1 - d.probe.depth / 2
        bits[core] |= np.uint8(Affected.PROBE)
        bits[(glow_plane(d.probe, size) > LIGHT_FROM) & ~core] |= np.uint8(Affected.GLOW)
    if d.trail is not None:
        bits[trail_plane(d.trail, size, fwhm) > LIGHT_FROM] |= np.uint8(Affected.TRAIL)
    if latent is not None:
        bits[latent > LATENT_FROM] |= np.uint8(Affected.PERSISTENCE)
    if d.half_unread:
        bits[unread_rows(size)] |= np.uint8(Affected.UNREAD)
    if d.quadrant_off is not None:
        bits[quadrant(d.quadrant_off, size)] |= np.uint8(Affected.QUADRANT_OFF)
    return AffectedPixels(bits, latent, pattern_plane(conditions, d, size, key))


def disturbed_array(
    detector: Detector, disturbance: FrameDisturbance, pixels: AffectedPixels, *, exposure: float
) -> Detector:
    """Return the array as it is in a disturbed frame of a total exposure, s.

    The guide probe's shadow is a lower response, persistence a dark current, and the offsets of channels and rows
    are offsets; a quadrant without signal has only its offset and read noise.
    """
    size = detector.dark.shape[0]
    dark, offset, response = detector.dark, detector.offset, detector.response
    if disturbance.probe is not None:
        response = response * shadow(disturbance.probe, size)
    if pixels.latent is not None:
        dark = dark + pixels.latent / np.float32(exposure)
    if pixels.pattern is not None:
        offset = offset + pixels.pattern
    if disturbance.quadrant_off is not None:
        off = quadrant(disturbance.quadrant_off, size)
        dark, response = dark.copy(), response.copy()
        dark[off], response[off] = 0, 0
    return replace(detector, dark=dark, offset=offset, response=response)


def disturbed_scene(
    scene: FloatPlane, disturbance: FrameDisturbance, *, level: float, transparency: float, fwhm: float
) -> FloatPlane:
    """Return the scene with the light that does not come from the field, so divided by the transparency."""
    structure = sky_structure(disturbance, scene.shape[0], fwhm)
    if structure is None:
        return scene
    return scene + structure * np.float32(level / transparency)


def lose_rows(adu: NDArray[np.int32], disturbance: FrameDisturbance) -> None:
    """Set the unread rows of a frame to 0 in place."""
    if disturbance.half_unread:
        adu[unread_rows(adu.shape[0])] = 0
