"""The truth of each frame of a night, drawn from the night's seed and the frame's name."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime

import numpy as np

from imaging.simulator.disturbances.drawn import (
    FrameDisturbance,
    course,
    draw_disturbance,
    draw_pattern,
    sky_slopes,
)
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import PlannedFrame
from imaging.simulator.truth import FrameTruth

SUFFIX = {"none": ".fits", "gz": ".fits.gz", "bz2": ".fits.bz2"}


def frame_key(seed: int, root: str) -> int:
    """Return the seed of a frame's noise: 64 bits of a hash of the night's seed and the frame's name."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{root}".encode(), digest_size=8).digest(), "little")


def frame_truth(parameters: NightParameters, frame: PlannedFrame) -> FrameTruth:
    """Draw the truth of one frame: its light, transparency, seeing and pointing."""
    p = parameters
    rng = np.random.Generator(np.random.PCG64([p.seed, 4, frame_key(p.seed, frame.root)]))
    z = [float(v) for v in np.clip(rng.standard_normal(5), -2.5, 2.5)]
    science = frame.role == "science"
    level, slope_x, slope_y = _light(p, frame, z)
    pointing = centre = error = fwhm = None
    transparency = 1.0
    if science:
        pointing = (frame.offset[0] + z[3] * p.pointing_rms, frame.offset[1] + z[4] * p.pointing_rms)
        middle = (p.size - 1) / 2
        moved = p.axes.moved(pointing)
        centre = (middle + moved[0], middle + moved[1])
        error = (frame.wcs[0] - pointing[0], frame.wcs[1] - pointing[1])
        fwhm, transparency = _seeing(p, frame.number, z[2]), _transparency(p, frame.number, z[1])
    return FrameTruth(
        root=frame.root,
        file=frame.root + SUFFIX[p.compression],
        role=frame.role,
        number=frame.number,
        exposure_time=frame.exposure_time,
        coadds=frame.coadds,
        read_pairs=frame.read_pairs,
        gain=p.camera.gain(frame.read_pairs, frame.coadds),
        read_noise=p.camera.read_noise(frame.read_pairs, frame.coadds),
        light_time=p.camera.light_time(frame.read_pairs, frame.exposure_time),
        unsettled=p.unsettled if frame.number == 0 else 0.0,
        left_out=frame.number == 0 and p.camera.leaves_out_first,
        level=level,
        slope_x=slope_x,
        slope_y=slope_y,
        transparency=transparency,
        fwhm=fwhm,
        pointing=pointing,
        field_centre=centre,
        wcs_error=error,
        disturbance=_without_light(p, frame) if fwhm is None else _disturbance(p, frame, fwhm),
    )


def _seeing(p: NightParameters, number: int, z: float) -> float:
    """Return the width of the stars in a science frame, pixels."""
    if p.seeing_course is None:
        return p.fwhm * (1 + p.seeing_rms * z)
    return course(p.seeing_course, p.n_science, p.seed)[number] / p.axes.scale


def _transparency(p: NightParameters, number: int, z: float) -> float:
    if p.transparency_course is None:
        return max(0.05, 1 + p.transparency_rms * z)
    # Another seed, so that the clouds do not follow the seeing.
    return course(p.transparency_course, p.n_science, p.seed + 1)[number]


def _disturbance(p: NightParameters, frame: PlannedFrame, fwhm: float) -> FrameDisturbance:
    return draw_disturbance(
        p, number=frame.number, count=p.n_science, size=p.size, fwhm=fwhm, pixel_scale=p.axes.scale,
        shift=p.axes.moved(frame.offset), period=_period(p),
        key=(p.seed, frame_key(p.seed, frame.root)),
    )  # fmt: skip


def _without_light(p: NightParameters, frame: PlannedFrame) -> FrameDisturbance:
    """Return what disturbs a calibration frame: only its readout."""
    key = (p.seed, frame_key(p.seed, frame.root))
    return FrameDisturbance(pattern_offsets=draw_pattern(p, _period(p), key))


def _period(p: NightParameters) -> int:
    """Return the period of the readout's pattern, pixels; 0 without."""
    pattern = p.camera.instrument.detector.pattern
    return 0 if pattern is None else pattern.period


def _light(p: NightParameters, frame: PlannedFrame, z: list[float]) -> tuple[float, float, float]:
    if frame.role == "science":
        minutes = _minute_of_day(frame.started)
        wave = math.sin(2 * math.pi * minutes / 17.0 + p.seed % 7) + 0.3 * z[0]
        turn = minutes / 11.0 + p.seed % 5
        swing = course((1 - p.sky_swing, 1 + p.sky_swing), p.n_science, p.seed + 2)[frame.number]
        slope_x, slope_y = sky_slopes(p, (p.seed, frame_key(p.seed, frame.root)))
        return (
            p.sky_rate * (1 + p.sky_variation * wave) * swing,
            p.sky_gradient * math.cos(turn) + slope_x,
            p.sky_gradient * math.sin(turn) + slope_y,
        )
    if frame.role == "lamp_on":
        return p.defaults.thermal + p.defaults.lamp * (1 + p.lamp_drift * z[0]), 0.0, 0.0
    if frame.role == "lamp_off":
        return p.defaults.thermal * (1 + p.lamp_drift * z[0]), 0.0, 0.0
    return 0.0, 0.0, 0.0


def _minute_of_day(when: datetime) -> float:
    return when.hour * 60 + when.minute + when.second / 60
