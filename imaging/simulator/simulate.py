"""Simulation of a night: raw files and the truth from which they were made."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.io.atomic import write_complete
from imaging.pixels.bands import thread_count
from imaging.simulator.detector import make_detector
from imaging.simulator.disturbances.affected import affected_path, write_affected
from imaging.simulator.draw_truth import frame_truth
from imaging.simulator.exposures import Night, affected_of, simulate_frame, trapped_before, trapped_by
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import PlannedFrame, Role
from imaging.simulator.reference.draw_catalogue import catalogue_bytes, draw_catalogue
from imaging.simulator.star_field import make_sources
from imaging.simulator.truth import CATALOGUE, NightTruth, write_truth

#: Called with the number of finished frames and the total.
Progress = Callable[[int, int], None]


def simulate_night(
    out: Path, parameters: NightParameters, *, progress: Progress | None = None, threads: int | None = None,
    roles: Collection[Role] = (),
) -> NightTruth:  # fmt: skip
    """Write the raw files of a night into ``out``, and its truth with a catalogue of the field into ``out/truth``.

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
    roles
        Sets of frames to write; all if empty. The truth is that of the complete night.

    Returns
    -------
    NightTruth
        The truth, as `load_truth` would load it.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plan = plan_night(parameters)
    frames = tuple(frame_truth(parameters, frame) for frame in plan)
    night = Night(parameters, make_detector(parameters), make_sources(parameters))
    catalogue = catalogue_bytes(draw_catalogue(parameters, night.sources))

    def make(i: int) -> None:
        affected = affected_of(night, plan[i], frames[i]) if frames[i].disturbance.local else None
        if affected is not None:
            write_affected(affected_path(out / "truth", frames[i].root), affected)
        _write_raw(
            out / frames[i].file, parameters, plan[i], simulate_frame(night, plan[i], frames[i], affected)
        )

    with ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="simulate") as pool:
        if parameters.persistence:
            science = [i for i, truth in enumerate(frames) if truth.role == "science"]
            left = list(pool.map(lambda i: trapped_by(night, plan[i], frames[i]), science))
            if parameters.exposed_before is not None:
                left += trapped_before(Path(parameters.exposed_before), night)
            night = replace(night, trapped=left)
        (out / "truth").mkdir(exist_ok=True)
        write_complete(out / "truth" / CATALOGUE, [catalogue], sync=False)
        # The truth's planes are written while the frames are made.
        truth = pool.submit(write_truth, out / "truth", parameters, frames, night.sources, night.detector)
        wanted = [i for i, frame in enumerate(plan) if not roles or frame.role in roles]
        for done, future in enumerate([pool.submit(make, i) for i in wanted], start=1):
            future.result()
            if progress is not None:
                progress(done, len(wanted))
        return truth.result()


def _write_raw(path: Path, parameters: NightParameters, frame: PlannedFrame, adu: NDArray[np.int32]) -> None:
    plan = parameters.plan
    primary, extension = plan.headers(plan, parameters, frame)
    pixels = adu.astype(plan.pixels, copy=False)
    image = fits.ImageHDU(pixels[np.newaxis] if plan.cube else pixels, header=extension)
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary), image])
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    content: bytes | memoryview = buffer.getbuffer()
    if parameters.compression == "bz2":
        content = bz2.compress(content)
    elif parameters.compression == "gz":
        content = gzip.compress(content, compresslevel=4, mtime=0)
    write_complete(path, [content], sync=False)


__all__ = ["NightParameters", "simulate_night"]
