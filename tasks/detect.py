"""The catalogue of one sky-subtracted frame, for the alignment."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from prefect.states import Completed, State

from imaging.errors import FrameError
from imaging.figures import Metric
from imaging.io.planes import Planes, PlanesWriter, write_planes
from imaging.sources.detect import CATALOGUE, VERSION, Detection, DetectParameters, detect
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


@step_task("detect", "sources of {name}")
def detect_sources(
    sky: SkyPass, name: str, parameters: DetectParameters, workspace: Workspace
) -> ScratchRef | State[ScratchRef | None] | None:
    """Detect the sources of the frame ``name``; return None if its sky was not subtracted."""
    frame = sky.frame(name)
    if frame is None:
        return Completed(name="Left out", data=None)
    key = scratch_key("detect", VERSION, [frame.key, frame.name, "catalogue"], parameters)
    with step("detect", frame.frame.facts.root, workspace) as current:
        earlier = found(workspace, key, frame.frame)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        planes = planes_of(frame)
        seen = detected(name, planes, parameters)
        rows, columns = planes.shape("sci")
        metrics: dict[str, Metric] = {
            "sources": len(seen.catalogue),
            "seeing": float(seen.seeing) if np.isfinite(seen.seeing) else None,
            "rms": float(seen.rms),
            "level": float(seen.level),
            "sky": frame.metrics["level"],
            "rows": rows,
            "columns": columns,
        }
        folder = folder_for(workspace, key, frame.frame)
        catalogue = np.frombuffer(seen.catalogue.tobytes(), np.uint8)
        write_planes(folder, {"catalogue": catalogue}, meta(key, metrics))
        return ScratchRef(frame=frame.frame, key=key, folder=folder, metrics=metrics)


def detected(
    name: str, planes: Planes | PlanesWriter, parameters: DetectParameters, **how: bool
) -> Detection:
    """Detect the sources in a frame's planes.

    Raises
    ------
    FrameError
        If the frame has no background to detect sources above.
    """
    try:
        return detect(planes.rows("sci"), planes.rows("dq"), parameters, overwrite=True, **how)
    except ValueError as error:
        raise FrameError(name, f"its sources cannot be detected: {error}", remedy=_REMEDY) from error


def catalogue_of(ref: ScratchRef) -> NDArray[np.void]:
    """Return the catalogue written by `detect_sources`."""
    return np.frombuffer(planes_of(ref).rows("catalogue").tobytes(), CATALOGUE)
