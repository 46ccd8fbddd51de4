"""Planes between steps, found by the key of their recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from calib_store.model.records import recipe_key
from imaging.io.planes import Planes, open_if_intact, release, released, touch, write_planes
from imaging.parameters import StepParameters
from tasks.support.references import RawFrame, ScratchRef
from tasks.support.workspace import Workspace


def scratch_key(step: str, version: int, inputs: Sequence[str], *parameters: StepParameters) -> str:
    """Return the key of the planes that a step makes, from its inputs, parameters and algorithm."""
    values = {type(model).__name__: model.model_dump(mode="json") for model in parameters}
    return recipe_key(step, inputs, values, str(version))


def folder_for(workspace: Workspace, key: str, frame: RawFrame) -> Path:
    """Return the folder of one frame's planes."""
    return workspace.scratch / f"{frame.facts.root}-{key[:24]}"


def found(
    workspace: Workspace, key: str, frame: RawFrame, *, although_released: bool = False
) -> ScratchRef | None:
    """Return the planes of an earlier run, if present and intact, or perhaps only the manifest of released ones."""
    folder = folder_for(workspace, key, frame)
    planes = open_if_intact(folder)
    if planes is None and although_released:
        planes = released(folder)
    if planes is None or planes.meta.get("key") != key:
        return None
    touch(folder)
    return ScratchRef(frame=frame, key=key, folder=folder, metrics=planes.meta["metrics"], reused=True)


def meta(key: str, metrics: BaseModel | Mapping[str, object]) -> dict[str, object]:
    """Return the content of a folder's manifest."""
    values = metrics.model_dump(mode="json") if isinstance(metrics, BaseModel) else dict(metrics)
    return {"key": key, "metrics": values}


def planes_of(ref: ScratchRef) -> Planes:
    """Open the planes that a reference names."""
    return Planes(ref.folder)


def release_if_scarce(frames: Iterable[ScratchRef], workspace: Workspace) -> None:
    """Remove planes that no later step of the run needs, if the scratch is scarce; their figures stay."""
    if workspace.scarce_scratch:
        for frame in frames:
            release(frame.folder)


def write_changed_planes(
    folder: Path, source: Planes, planes: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
) -> None:
    """Write the planes of ``source`` as another folder, those in ``planes`` with new content.

    The files of planes that are not there, or have the content that they had, are shared by both folders.
    """
    new = {
        name: plane
        for name, plane in planes.items()
        if name not in source or not np.array_equal(source.rows(name), plane)
    }
    write_planes(folder, new, meta, same={name: source for name in source.names if name not in new})
