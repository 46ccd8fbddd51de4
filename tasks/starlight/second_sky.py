"""The sky of a crowded field, subtracted again without the light of stars outside the masks.

The masks of a frame end where the wings of its stars disappear in its noise. Among many stars, this light is in every
sky frame. A stack of the first pass shows most of it: its significant sources, spread by the profile of its stars, are
the light that each frame has outside its mask. It is subtracted from the frames while they serve as sky.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from prefect.states import Completed, State

from imaging.io.planes import Planes, write_planes
from imaging.pixels.dq import UNUSABLE
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.entries import AlignEntry, Alignment
from imaging.registration.geometry import Grid
from imaging.sky.starlight.components import VERSION, find_points, spread_points
from imaging.sky.starlight.frame_light import LIGHT, crowding, light_on_frame
from imaging.sky.starlight.star_profile import StarProfile, measure_profile
from imaging.sources.detect import detect
from imaging.stack.zero_level import raise_to_zero
from tasks import sky as sky_step
from tasks import stack as stack_step
from tasks.align import AlignedGroup, distortion_in
from tasks.detect import catalogue_of
from tasks.detrend import Detrending
from tasks.science.science_set import ScienceSet
from tasks.sky import SKY_LAYOUT, SkyPass, subtract_portions
from tasks.sky_group import Outcome, SkyMasks, group_of
from tasks.stack import stack_frames, within_limits
from tasks.support.decorator import step_task
from tasks.support.parameters import ReductionParameters
from tasks.support.references import ScratchRef
from tasks.support.scratching import found, planes_of, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Fewest frames whose stack shows more than each of them.
_FEWEST: Final = 3
#: Stars whose width differs from that of the stack's by less than this factor have its profile, which has less noise
#: than that of a frame. Stars of another seeing do not: the stack's have wings of the broadest frames.
_ALIKE: Final = 1.1


@step_task("starlight", "starlight in the sky of {group.label}")
def remove_starlight(
    group: ScienceSet,
    detrended: dict[str, Outcome],
    detrending: Detrending,
    masks: SkyMasks,
    sky: SkyPass,
    aligned: AlignedGroup,
    parameters: ReductionParameters,
    workspace: Workspace,
) -> SkyPass | State[SkyPass]:
    """Return the frames with a sky without starlight; those of ``sky`` if the field is not crowded.

    Parameters
    ----------
    group
        The group.
    detrended
        Its detrended frames by name; a frame with an error in its place is left out.
    detrending
        What the frames were detrended with.
    masks, sky, aligned
        The object masks, the first pass of the sky, and the alignment.
    parameters
        Those for the group (`tasks.science.science_set.for_group`).
    """
    used = _stacked(sky, aligned, parameters)
    if used is None or not _wanted(group.label, aligned, parameters):
        return Completed(name="Not crowded", data=sky)
    alignment, catalogues = used
    key = scratch_key(
        "sky without starlight", VERSION,
        [
            *(f.key for f in sky.frames), *(f"{c.name}:{c.key}" for c in catalogues.values()),
            *(e.model_dump_json() for e in alignment.used), f"sky {sky_step.VERSION}",
            f"stack {stack_step.VERSION}", *SKY_LAYOUT,
            *(() if aligned.distortion is None else (f"distortion:{aligned.distortion.recipe_key}",)),
        ],
        parameters.sky, parameters.detect, parameters.align, parameters.resample, parameters.stack,
    )  # fmt: skip
    with step("starlight", group.label, workspace) as current:
        frames = _found(key, sky, workspace)
        if frames is not None:
            current.reused = True
            return Completed(name="Reused", data=sky.model_copy(update={"frames": frames}))
        chosen = group_of(
            group.label, detrended, group.objects, group.skies, parameters.sky, failed=masks.left_out
        )
        masked = {ref.name: ref for ref in masks.frames}
        detrending = detrending.after("before_sky", masked)
        with tempfile.TemporaryDirectory(prefix=".starlight-", dir=workspace.scratch) as folder:
            lights = _lights(
                Path(folder), group.label, alignment, catalogues, sky, masked, parameters, workspace,
                distortion_in(aligned.distortion, workspace),
            )  # fmt: skip
            if not lights:
                return Completed(name="No profile", data=sky)
            made, _ = subtract_portions(key, chosen, masked, detrending, parameters.sky, workspace, lights)
        by_name = {one.name: one for one in made}
        return sky.model_copy(update={"frames": tuple(by_name[one.name] for one in sky.frames)})


def _stacked(
    sky: SkyPass, aligned: AlignedGroup, parameters: ReductionParameters
) -> tuple[Alignment, dict[str, ScratchRef]] | None:
    """Return the frames of the first stack; None if too few have a sky made of others."""
    catalogues = {ref.name: ref for ref in aligned.catalogues}
    if not aligned.alignment.used:
        return None
    alignment, _, _ = within_limits(aligned.alignment, catalogues, parameters.stack)
    if sum(bool(sky.skies.get(entry.name)) for entry in alignment.used) < _FEWEST:
        return None
    return alignment, catalogues


def _wanted(label: str, aligned: AlignedGroup, parameters: ReductionParameters) -> bool:
    """Return whether the field is crowded, or its starlight is to be removed in any case."""
    if parameters.sky.starlight != "auto":
        return parameters.sky.starlight == "always"
    measured = [
        crowding(
            int(m["sources"] or 0), float(m["seeing"] or 0.0), (int(m["rows"] or 1), int(m["columns"] or 1))
        )
        for m in (ref.metrics for ref in aligned.catalogues)
    ]
    usual = median(measured)
    logger.debug("%s: %.4f sources on the area of one FWHM squared", label, usual)
    return usual > parameters.sky.crowded


def _found(key: str, sky: SkyPass, workspace: Workspace) -> tuple[ScratchRef, ...] | None:
    """Return the frames of an earlier run; None unless all are there."""
    earlier = [found(workspace, key, one.frame) for one in sky.frames]
    return tuple(one for one in earlier if one is not None) if all(earlier) else None


def _lights(
    folder: Path,
    label: str,
    alignment: Alignment,
    catalogues: Mapping[str, ScratchRef],
    sky: SkyPass,
    masks: Mapping[str, ScratchRef],
    parameters: ReductionParameters,
    workspace: Workspace,
    distortion: Distortion | None,
) -> dict[str, Planes]:
    """Stack the first pass; write the light outside the masks of its frames, and return it by their names."""
    grid, frames, result = stack_frames(alignment, catalogues, sky, parameters, workspace, distortion)
    sources = detect(result.sci, result.dq, parameters.detect)
    profile = measure_profile(result.sci, result.dq, sources.catalogue, sources.seeing)
    if profile is None:
        logger.warning(
            "%s: too few isolated stars to measure their profile; their light stays in the skies", label
        )
        return {}
    raise_to_zero(result, sources)
    good = ((result.dq & np.uint16(UNUSABLE)) == 0) & (result.var > 0) & np.isfinite(result.sci)
    points = find_points(
        result.sci, result.var, good, profile.stamp(),
        noise_correlation=result.metrics.noise_correlation, threads=workspace.threads,
    )  # fmt: skip
    lights = {}
    for entry, frame in zip(alignment.used, frames, strict=True):
        planes, found_in = frame.planes, catalogues[entry.name]
        width = _width(found_in, sources.seeing)
        own = None if max(width, 1 / width) < _ALIKE else _profile_of(found_in, planes)
        stamp = profile.stamp(width) if own is None else own.stamp()
        (spread,) = spread_points(points, grid.shape, [stamp], threads=workspace.threads)
        shape = planes.shape("sci")
        light = light_on_frame(
            spread, _to_grid(grid, entry), (shape[0], shape[1]), 1 / result.metrics.scales[entry.name],
            planes_of(masks[entry.name]).rows("objmask") if entry.name in masks else None, distortion,
        )  # fmt: skip
        lights[entry.name] = Planes(write_planes(folder / entry.name, {LIGHT: light}))
    logger.info(
        "%s: %d points of starlight were measured in a first stack, for the skies",
        label,
        len(points.flux),
    )
    return lights


def _profile_of(catalogue: ScratchRef, planes: Planes) -> StarProfile | None:
    """Return the profile of a frame's stars; None with too few of them."""
    seeing = catalogue.metrics["seeing"]
    if seeing is None:
        return None
    return measure_profile(planes.rows("sci"), planes.rows("dq"), catalogue_of(catalogue), float(seeing))


def _width(catalogue: ScratchRef, seeing: float) -> float:
    """Return the width of a frame's stars over that of the stack's; 1 if it is not known."""
    own = catalogue.metrics["seeing"]
    return float(own) / seeing if own is not None and np.isfinite(seeing) else 1.0


def _to_grid(grid: Grid, entry: AlignEntry) -> Sequence[float]:
    """Return xx, xy, yx, yy, x0, y0 from a frame's pixels to those of the grid."""
    to = grid.place(entry.transform)
    return to.xx, to.xy, to.yx, to.yy, to.x0, to.y0
