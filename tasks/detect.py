"""The sources of one sky-subtracted frame: their mask, and a catalogue for the alignment."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from prefect.states import Completed, State

from imaging.errors import FrameError
from imaging.figures import Metric
from imaging.io.planes import write_planes
from imaging.sources.detect import CATALOGUE, VERSION, DetectParameters, detect
from tasks.sky import SkyPass
from tasks.support.decorator import step_task
from tasks.support.references import ScratchRef
from tasks.support.scratching import folder_for, found, meta, planes_of, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: What to do about a frame without a background.
_REMEDY: Final = (
    "Inspect the frame and its masks. If the object masks leave no sky (an object fills the field), take sky frames "
    "next to it, raise detect.threshold or lower detect.dilation."
)


@step_task("detect", "sources of {name} ({purpose})", tags=["science"])
def detect_sources(
    sky: SkyPass, name: str, purpose: str, parameters: DetectParameters, workspace: Workspace
) -> ScratchRef | State[ScratchRef | None] | None:
    """Detect the sources of the frame ``name``; return None if its sky was not subtracted.

    ``purpose`` is ``mask`` after the first pass of the sky, ``catalogue`` after the second.
    """
    frame = sky.frame(name)
    if frame is None:
        return Completed(name="Left out", data=None)
    key = scratch_key("detect", VERSION, [frame.key, frame.name, purpose], parameters)
    with step("detect", f"{frame.frame.facts.root} ({purpose})", workspace) as current:
        earlier = found(workspace, key, frame.frame)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        planes = planes_of(frame)
        catalogued = purpose == "catalogue"
        try:
            seen = detect(
                planes.rows("sci"), planes.rows("dq"), parameters, deblend=catalogued, catalogue=catalogued
            )
        except ValueError as error:
            raise FrameError(name, f"its sources cannot be detected: {error}", remedy=_REMEDY) from error
        metrics: dict[str, Metric] = {
            "sources": len(seen.catalogue),
            "seeing": float(seen.seeing) if np.isfinite(seen.seeing) else None,
            "rms": float(seen.rms),
            "level": float(seen.level),
            "sky": frame.metrics["level"],
        }
        folder = folder_for(workspace, key, frame.frame)
        stored = {
            "objmask": seen.object_mask,
            "catalogue": np.frombuffer(seen.catalogue.tobytes(), np.uint8),
        }
        write_planes(folder, stored, meta(key, metrics))
        return ScratchRef(frame=frame.frame, key=key, folder=folder, metrics=metrics)


def catalogue_of(ref: ScratchRef) -> NDArray[np.void]:
    """Return the catalogue written by `detect_sources`."""
    return np.frombuffer(planes_of(ref).rows("catalogue").tobytes(), CATALOGUE)
