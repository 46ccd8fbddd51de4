"""The object masks of a group's frames: the first pass of the sky, which only serves to find the sources."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from prefect.states import Completed, State

from imaging.io.planes import PlanesWriter, write_planes
from imaging.sky.choice import SkyParameters
from imaging.sky.flatten import Measured
from imaging.sky.subtract import SkyMetrics
from imaging.sources.detect import DetectParameters
from tasks import detect as detect_step
from tasks import sky as sky_step
from tasks.detect import detected
from tasks.detrend import Detrending
from tasks.sky_group import Outcome, SkyGroup, SkyMasks, group_of, left_out_by
from tasks.sky_planes import subtracted
from tasks.support.decorator import may_pass, step_task
from tasks.support.references import LeftOut, ScratchRef
from tasks.support.scratching import folder_for, found, meta, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: Planes of the first pass: sources are found without variances.
_LAYOUT: Final = {"sci": np.float32, "dq": np.uint16}


@step_task("masks", "object masks of {label}")
def find_masks(
    label: str,
    detrended: dict[str, Outcome],
    skies: tuple[str, ...],
    detrending: Detrending,
    sky: SkyParameters,
    parameters: DetectParameters,
    workspace: Workspace,
) -> SkyMasks | State[SkyMasks]:
    """Subtract the sky of every frame of a group and find the sources; only their masks are kept.

    Parameters
    ----------
    label
        Name of the group.
    detrended
        The detrended frames by name; a frame with an error in its place is left out.
    skies
        Names of the frames that may serve as sky.
    detrending
        What the frames were detrended with.
    """
    group = group_of(label, detrended, tuple(detrended), skies, sky)
    inputs = [f.key for f in group.frames]
    inputs += [f"{name}:{','.join(of_it)}" for name, of_it in group.skies.items()]
    key = scratch_key("masks", detect_step.VERSION, [*inputs, f"sky {sky_step.VERSION}"], sky, parameters)
    masks: list[ScratchRef] = []
    left_out: list[LeftOut] = []
    known: dict[str, Measured] = {}
    with step("masks", label, workspace) as current:
        current.reused = True
        for portion in group.portions():
            earlier = [found(workspace, key, f.frame) for f in portion]
            if all(earlier):
                masks += [e for e in earlier if e]
                continue
            current.reused = False
            for one in _masks(key, portion, group, detrending, sky, parameters, workspace, known):
                if isinstance(one, ScratchRef):
                    masks.append(one)
                else:
                    left_out.append(one)
    done = SkyMasks(frames=tuple(masks), left_out=tuple(left_out))
    return Completed(name="Reused", data=done) if current.reused else done


def _masks(
    key: str,
    portion: Sequence[ScratchRef],
    group: SkyGroup,
    detrending: Detrending,
    sky: SkyParameters,
    parameters: DetectParameters,
    workspace: Workspace,
    known: dict[str, Measured],
) -> list[ScratchRef | LeftOut]:
    """Return the mask of each frame of a portion, or why its sources could not be detected."""
    by_name = {f.name: f for f in portion}

    def mask(one: tuple[SkyMetrics, PlanesWriter]) -> ScratchRef | LeftOut:
        metrics, planes = one
        frame = by_name[metrics.name].frame
        try:
            seen = detected(frame.name, planes, parameters, deblend=False, catalogue=False)
        except Exception as error:
            if isinstance(error, (OSError, MemoryError)) or may_pass(error):
                raise  # not the frame's fault
            return left_out_by(frame.name, error)
        planes.discard()
        folder = folder_for(workspace, key, frame)
        write_planes(folder, {"objmask": seen.object_mask}, meta(key, {}))
        return ScratchRef(frame=frame, key=key, folder=folder)

    with (
        subtracted(key, _LAYOUT, portion, group, {}, detrending, sky, workspace, known) as done,
        ThreadPoolExecutor(workspace.threads, thread_name_prefix="masks") as pool,
    ):
        return list(pool.map(mask, done))
