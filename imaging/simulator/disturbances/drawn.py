"""The disturbances of each frame, drawn from the night's seed: a part of the frame's truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from imaging.simulator.disturbances.conditions import Disturbances

#: Radius of the guide probe's disc relative to the array's width, and part of the array over which it moves.
PROBE_RADIUS: Final = 0.07
PROBE_RANGE: Final = (0.25, 0.75)
#: Start of the probe where it moves with the field, relative to the array's width.
PROBE_START: Final = (0.68, 0.62)


class Record(BaseModel):
    """A frozen part of the truth."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Wave(Record):
    """A wave in the sky: amplitude x sin(2 pi (x, y) . cycles + phase), with x and y in widths of the array."""

    amplitude: float = Field(description="relative to the frame's level")
    cycles: tuple[float, float]
    phase: float


class Probe(Record):
    """The guide probe's shadow."""

    centre: tuple[float, float] = Field(description="x, y from 0, pixels")
    radius: float = Field(description="pixels")
    depth: float = Field(description="light taken from the disc, relative")
    glow: float = Field(description="at the edge of the disc, relative to the frame's level")


class Trail(Record):
    """A satellite's straight trail across the frame."""

    through: tuple[float, float] = Field(description="a point on it: x, y from 0, pixels")
    angle: float = Field(description="from x to y, deg")
    level: float = Field(description="peak relative to the frame's level")


class FrameDisturbance(Record):
    """What disturbs one frame beyond its level, slopes, transparency and seeing."""

    rotation: float = Field(default=0.0, description="position angle of the field, deg")
    exposed: float = Field(default=1.0, description="part of the exposure that was taken")
    blank: bool = Field(default=False, description="an offset sky frame")
    wave: Wave | None = None
    channel_offsets: tuple[float, ...] = Field(default=(), description="electrons")
    row_rms: float = Field(default=0.0, description="electrons; the rows' offsets are in the frame's planes")
    pattern_offsets: tuple[float, ...] = Field(
        default=(), description="offsets of the period's columns in each quadrant, electrons"
    )
    latent: bool = Field(default=False, description="persistence is in the frame's planes")
    probe: Probe | None = None
    trail: Trail | None = None
    smear: tuple[float, float] | None = Field(
        default=None, description="length (pixels) and angle (deg) of trailed stars"
    )
    half_unread: bool = False
    quadrant_off: int | None = Field(
        default=None, description="0 to 3: the upper half is 2 and 3, the right 1 and 3"
    )

    @property
    def local(self) -> bool:
        """Whether single pixels are affected, or offset, so that the frame has planes of its own in the truth."""
        return (
            self.latent or self.half_unread or bool(self.channel_offsets) or self.row_rms > 0
            or bool(self.pattern_offsets)
            or any(part is not None for part in (self.probe, self.trail, self.quadrant_off))
        )  # fmt: skip


def course(values: Sequence[float], count: int, seed: int) -> list[float]:
    """Return a value for each of ``count`` frames: those given, or a range covered evenly in a random order.

    Raises
    ------
    ValueError
        If there are neither two values nor one for each frame.
    """
    if len(values) == count:
        return list(values)
    if len(values) != 2:
        raise ValueError(
            f"a course has 2 values or one for each of the {count} science frames, not {len(values)}"
        )
    order = np.random.Generator(np.random.PCG64([seed, 7])).permutation(count)
    return [float(v) for v in np.linspace(values[0], values[1], count)[order]]


def offset_sky(conditions: Disturbances, number: int) -> bool:
    """Return whether the science frame of that index is an offset sky frame."""
    return conditions.sky_offset > 0 and number % 2 == 1


def rotation_of(conditions: Disturbances, number: int, count: int) -> float:
    """Return the position angle of a science frame, deg."""
    return conditions.turn if number >= (count + 1) // 2 else 0.0


def draw_disturbance(
    conditions: Disturbances, *, number: int, count: int, size: int, shift: tuple[float, float], fwhm: float,
    key: Sequence[int], pixel_scale: float, period: int = 0,
) -> FrameDisturbance:  # fmt: skip
    """Draw the disturbances of a science frame.

    Parameters
    ----------
    conditions
        The night's disturbances.
    number, count
        Index of the frame among the science frames, and how many there are.
    size
        Rows and columns of the array.
    shift
        Pixels (x, y) by which the field moved on the array.
    fwhm
        Width of the stars, pixels.
    key
        Seed of the frame.
    pixel_scale
        arcsec per pixel.
    period
        Period of the readout's pattern, pixels; 0 without.
    """
    c = conditions
    rng = np.random.Generator(np.random.PCG64([*key, 6]))
    u = rng.uniform(0.0, 1.0, 8)
    direction = 2 * math.pi * float(u[0])
    cycles = 1.0 / c.sky_wave_length
    return FrameDisturbance(
        rotation=rotation_of(c, number, count),
        exposed=c.aborted_after if number == c.aborted else 1.0,
        blank=offset_sky(c, number),
        wave=Wave(
            amplitude=c.sky_wave,
            cycles=(cycles * math.cos(direction), cycles * math.sin(direction)),
            phase=2 * math.pi * float(u[1]),
        ) if c.sky_wave else None,
        channel_offsets=tuple(float(v) for v in c.channel_rms * rng.standard_normal(c.channels))
        if c.channel_rms else (),
        row_rms=c.row_rms,
        pattern_offsets=draw_pattern(c, period, key),
        latent=c.persistence > 0,
        probe=_probe(c, size, shift, (float(u[2]), float(u[3]))) if c.probe or (c.probe and c.probe_glow) else None,
        trail=Trail(
            through=(size * (0.3 + 0.4 * float(u[4])), size * (0.3 + 0.4 * float(u[5]))),
            angle=180.0 * float(u[6]), level=c.trail_level,
        ) if number == c.trail else None,
        smear=(max(c.unguided_length / pixel_scale, fwhm / 2), 180.0 * float(u[7])) if number == c.unguided else None,
        half_unread=number == c.half_unread,
        quadrant_off=int(4 * float(u[6])) if number == c.quadrant_off else None,
    )  # fmt: skip


def draw_pattern(conditions: Disturbances, period: int, key: Sequence[int]) -> tuple[float, ...]:
    """Draw the offsets of the pattern's columns in the four quadrants of a frame, electrons; empty without any."""
    if not conditions.pattern_rms or not period:
        return ()
    rng = np.random.Generator(np.random.PCG64([*key, 10]))
    return tuple(float(v) for v in conditions.pattern_rms * rng.standard_normal(4 * period))


def _probe(c: Disturbances, size: int, shift: tuple[float, float], u: tuple[float, float]) -> Probe:
    if c.probe_path == "field":
        x, y = (start * size + moved for start, moved in zip(PROBE_START, shift, strict=True))
    else:
        low, high = PROBE_RANGE
        x, y = ((low + (high - low) * v) * size for v in u)
    radius = PROBE_RADIUS * size if c.probe_radius is None else c.probe_radius
    return Probe(centre=(x, y), radius=radius, depth=c.probe, glow=c.probe_glow)


def sky_slopes(conditions: Disturbances, key: Sequence[int]) -> tuple[float, float]:
    """Return the further slopes of a frame's sky in x and y, drawn from its seed."""
    rng = np.random.Generator(np.random.PCG64([*key, 8]))
    tilt, angle = rng.uniform(0, 1), rng.uniform(0, 2 * math.pi)
    slope = conditions.sky_tilt * math.sqrt(float(tilt))
    return slope * math.cos(float(angle)), slope * math.sin(float(angle))
