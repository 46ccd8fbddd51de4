"""Simulation of a night: raw FLAMINGOS-2 files and the truth from which they were made."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from imaging.io.atomic import write_complete
from imaging.pixels.bands import thread_count
from imaging.simulator.detector import Detector, Light, cosmic_rays, expose, make_detector
from imaging.simulator.headers import PlannedFrame, raw_headers
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import SKY_SCALE, NightParameters
from imaging.simulator.star_field import make_sources, render
from imaging.simulator.truth import FrameTruth, NightTruth, write_truth

#: Called with the number of finished frames and the total.
Progress = Callable[[int, int], None]
_SUFFIX = {"none": ".fits", "gz": ".fits.gz", "bz2": ".fits.bz2"}


def simulate_night(
    out: Path, parameters: NightParameters, *, progress: Progress | None = None, threads: int | None = None
) -> NightTruth:
    """Write the raw files of a night into ``out`` and its truth into ``out/truth``.

    Parameters
    ----------
    out
        Folder; created if it is missing. Files with the same names are replaced.
    parameters
        What to simulate. The same parameters give the same bytes, whatever the number of threads.
    progress
        Called after every frame with (frames done, frames in all), from the calling thread.
    threads
        Number of frames made in parallel; default: one per core.

    Returns
    -------
    NightTruth
        The truth, as `load_truth` would load it.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plan = plan_night(parameters)
    frames = tuple(frame_truth(parameters, frame) for frame in plan)
    detector, sources = make_detector(parameters), make_sources(parameters)
    dark_sky = np.zeros_like(detector.dark)

    def make(i: int) -> None:
        adu = simulate_frame(parameters, plan[i], frames[i], detector, sources, dark_sky)
        _write_raw(out / frames[i].file, parameters, plan[i], adu)

    with ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="simulate") as pool:
        # The truth's planes are written while the frames are made.
        truth = pool.submit(write_truth, out / "truth", parameters, frames, sources, detector)
        for done, future in enumerate([pool.submit(make, i) for i in range(len(plan))], start=1):
            future.result()
            if progress is not None:
                progress(done, len(plan))
        return truth.result()


def simulate_frame(
    parameters: NightParameters,
    frame: PlannedFrame,
    truth: FrameTruth,
    detector: Detector,
    sources: Table,
    dark_sky: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Simulate the ADU of one frame, shape (size, size); ``dark_sky`` is an empty scene for frames without sources."""
    scene = dark_sky
    if truth.pointing is not None and truth.fwhm is not None:
        scene = render(
            sources,
            truth.pointing,
            size=parameters.size,
            fwhm=truth.fwhm,
            beta=parameters.moffat_beta,
            exposure_time=truth.exposure_time,
        )
    rng = np.random.Generator(np.random.PCG64([parameters.seed, 5, frame_key(parameters.seed, frame.root)]))
    rays = parameters.cosmic_rate * truth.exposure / 60.0 * parameters.scale**2
    return expose(
        detector,
        Light(truth.level, truth.slope_x, truth.slope_y, truth.transparency),
        scene=scene,
        exposure_time=truth.exposure_time,
        read_pairs=truth.read_pairs,
        coadds=truth.coadds,
        key=frame_key(parameters.seed, frame.root),
        hits=cosmic_rays(rng, parameters.size, rays),
    )


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
    pointing = centre = error = None
    if science:
        pointing = (frame.offset[0] + z[3] * p.pointing_rms, frame.offset[1] + z[4] * p.pointing_rms)
        middle = (p.size - 1) / 2
        centre = (middle - pointing[1] / SKY_SCALE, middle - pointing[0] / SKY_SCALE)
        error = (frame.wcs[0] - pointing[0], frame.wcs[1] - pointing[1])
    return FrameTruth(
        root=frame.root,
        file=frame.root + _SUFFIX[p.compression],
        role=frame.role,
        number=frame.number,
        exposure_time=frame.exposure_time,
        coadds=frame.coadds,
        read_pairs=frame.read_pairs,
        level=level,
        slope_x=slope_x,
        slope_y=slope_y,
        transparency=max(0.05, 1 + p.transparency_rms * z[1]) if science else 1.0,
        fwhm=p.fwhm * (1 + p.seeing_rms * z[2]) if science else None,
        pointing=pointing,
        field_centre=centre,
        wcs_error=error,
    )


def _light(p: NightParameters, frame: PlannedFrame, z: list[float]) -> tuple[float, float, float]:
    if frame.role == "science":
        minutes = _minute_of_day(frame.started)
        wave = math.sin(2 * math.pi * minutes / 17.0 + p.seed % 7) + 0.3 * z[0]
        turn = minutes / 11.0 + p.seed % 5
        return (
            p.sky_rate * (1 + p.sky_variation * wave),
            p.sky_gradient * math.cos(turn),
            p.sky_gradient * math.sin(turn),
        )
    if frame.role == "lamp_on":
        return p.defaults.thermal + p.defaults.lamp * (1 + p.lamp_drift * z[0]), 0.0, 0.0
    if frame.role == "lamp_off":
        return p.defaults.thermal * (1 + p.lamp_drift * z[0]), 0.0, 0.0
    return 0.0, 0.0, 0.0


def _minute_of_day(when: datetime) -> float:
    return when.hour * 60 + when.minute + when.second / 60


def _write_raw(path: Path, parameters: NightParameters, frame: PlannedFrame, adu: NDArray[np.int32]) -> None:
    primary, extension = raw_headers(parameters, frame)
    image = fits.ImageHDU(adu[np.newaxis], header=extension)
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary), image])
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    content: bytes | memoryview = buffer.getbuffer()
    if parameters.compression == "bz2":
        content = bz2.compress(content)
    elif parameters.compression == "gz":
        content = gzip.compress(content, compresslevel=4, mtime=0)
    write_complete(path, [content], sync=False)


__all__ = ["NightParameters", "frame_truth", "simulate_frame", "simulate_night"]
