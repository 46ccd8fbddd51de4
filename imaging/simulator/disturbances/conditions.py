"""The parameters of a night's disturbances; without any of them the night is calm."""

from __future__ import annotations

from typing import Literal

from imaging.parameters import StepParameters, parameter


class Disturbances(StepParameters):
    """Disturbances of a night. By default, none.

    A course is either a range (two values), which the science frames cover evenly in a random order, or one
    value for each science frame.
    """

    seeing_course: tuple[float, ...] | None = parameter(
        None,
        "seeing during the sequence: a range, or a value for each science frame; replaces seeing_rms",
        unit="arcsec",
    )
    transparency_course: tuple[float, ...] | None = parameter(
        None, "transparency during the sequence: a range, or a value for each science frame; clouds"
    )
    sky_swing: float = parameter(
        0.0, "largest deviation of a frame's sky from the mean, relative", ge=0, lt=1
    )
    sky_tilt: float = parameter(
        0.0, "largest further slope of a frame's sky from the centre to an edge, relative", ge=0, lt=0.5
    )
    sky_wave: float = parameter(
        0.0, "amplitude of a wave in a frame's sky (OH airglow), relative; its direction and phase change", ge=0, lt=0.5
    )  # fmt: skip
    sky_wave_length: float = parameter(1.0, "length of that wave in widths of the array", ge=0.05)

    channel_rms: float = parameter(0.0, "rms of the readout channels' offsets in a frame", unit="e-", ge=0)
    row_rms: float = parameter(0.0, "rms of the rows' offsets in a frame", unit="e-", ge=0)
    pattern_rms: float = parameter(
        0.0,
        "rms of the offsets that repeat along the columns of each quadrant, in every frame",
        unit="e-",
        ge=0,
    )
    unsettled: float = parameter(
        0.0, "level of the first frame of each set beyond the others, falling from its first row", unit="e-"
    )
    channels: int = parameter(32, "number of readout channels", ge=1, le=256)
    channel_layout: Literal["strips", "quadrants"] = parameter(
        "strips", "channels: strips of columns, or strips in each quadrant, turned by 90 degrees between them"
    )

    persistence: float = parameter(
        0.0, "part of the electrons above persistence_from that a pixel releases in the next exposure", ge=0, lt=0.1
    )  # fmt: skip
    persistence_from: float = parameter(60000.0, "electrons above which charge is trapped", unit="e-", ge=0)
    persistence_limit: float | None = parameter(
        None, "electrons above which no more charge is trapped; None: the full well", unit="e-", gt=0
    )
    persistence_decay: float = parameter(
        100.0, "time in which the released charge falls by a factor e", unit="s", gt=0
    )
    exposed_before: str | None = parameter(
        None,
        "folder of a simulated night with the same array whose frames, taken before, leave persistence too",
    )

    probe: float = parameter(0.0, "light that the guide probe takes from its disc, relative", ge=0, lt=1)
    probe_glow: float = parameter(0.03, "glow around the probe, relative to the sky, at its edge", ge=0, lt=1)
    probe_radius: float | None = parameter(
        None, "radius of the disc; None: 0.07 of the array", unit="pixel", gt=1
    )
    probe_path: Literal["wander", "field"] = parameter(
        "wander", "the probe moves over the array from frame to frame, or with the field"
    )

    galaxy: float = parameter(
        0.0, "central surface brightness of a large exponential galaxy, relative to the sky", ge=0, le=100
    )
    galaxy_scale: float = parameter(33.0, "scale length of the galaxy", unit="arcsec", gt=0.5)
    galaxy_axis_ratio: float = parameter(0.8, "axis ratio of the galaxy", gt=0.05, le=1)
    sky_offset: float = parameter(
        0.0, "distance of offset sky frames, every second science frame; 0: none", unit="arcsec", ge=0
    )
    turn: float = parameter(
        0.0, "rotation of the field in the second half of the sequence", unit="deg", ge=-180, le=180
    )

    distortion: float = parameter(
        0.0,
        "radial distortion of the camera: how much farther out a star would be without it in the middle of an edge of "
        "the frames, relative to its distance from their centre; it grows with the cube of that distance",
        ge=-0.01, le=0.01,
    )  # fmt: skip

    trail: int | None = parameter(
        None, "index of the science frame with a satellite trail (0: the first)", ge=0
    )
    trail_level: float = parameter(2.0, "peak of the trail relative to the sky", gt=0)
    aborted: int | None = parameter(None, "index of a science frame that was aborted early", ge=0)
    aborted_after: float = parameter(0.3, "part of its exposure that was taken", gt=0, le=1)
    half_unread: int | None = parameter(None, "index of a science frame with its upper half unread", ge=0)
    unguided: int | None = parameter(None, "index of a science frame with trailed stars (guiding lost)", ge=0)
    unguided_length: float = parameter(3.0, "length of those stars", unit="arcsec", gt=0)
    quadrant_off: int | None = parameter(
        None, "index of a science frame with a quadrant without signal", ge=0
    )
