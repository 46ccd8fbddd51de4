"""The sky of some frames subtracted, with the planes of the others next to them; the caller decides what is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imaging.errors import FrameError
from imaging.frames.pointing import moved_by
from imaging.io.planes import Planes, PlanesWriter
from imaging.products.product_file import ProductFile
from imaging.sky.extended.frame_mesh import MESH, empty_mesh
from imaging.sky.flatten import Measured
from imaging.sky.own_background import subtract_own_background
from imaging.sky.subtract import (
    SkyInput,
    SkyMetrics,
    SkyParameters,
    plane_shape,
    subtract_sky,
)
from tasks.detrend import Detrending, with_planes
from tasks.sky_group import SkyGroup, level_of
from tasks.support.references import ScratchRef
from tasks.support.scratching import folder_for, planes_of
from tasks.support.workspace import Workspace

#: Smallest square of a flat's response in a relative variance.
_LEAST_SQUARE: Final = 1e-4
#: Attempts to read the planes of a portion, which another group may release and this one then makes again.
_ATTEMPTS: Final = 3


@contextmanager
def subtracted(
    key: str,
    layout: Mapping[str, DTypeLike],
    portion: Sequence[ScratchRef],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    parameters: SkyParameters,
    workspace: Workspace,
    known: MutableMapping[str, Measured],
    lights: Mapping[str, Planes] | None = None,
) -> Iterator[list[tuple[SkyMetrics, PlanesWriter]]]:
    """Subtract the sky from a portion of a group; yield figures and planes, which are lost unless committed.

    ``known`` passes what was measured in the frames of a portion to the next one of the same pass; ``lights`` has the
    light of stars outside the masks of some frames, by their names.
    """
    shape = planes_of(portion[0]).shape("sci")
    with_sky = {f.name: group.skies[f.name] for f in portion if group.skies[f.name]}
    with ExitStack() as stack:
        writers = {
            f.name: stack.enter_context(
                PlanesWriter(
                    folder_for(workspace, key, f.frame),
                    {p: (t, plane_shape(p, shape)) for p, t in layout.items()},
                )
            )
            for f in portion
        }
        dark, flat = (
            stack.enter_context(ProductFile(workspace.file_of(one))) if one is not None else None
            for one in (detrending.calibrations.of("dark"), detrending.calibrations.of("flat"))
        )
        detector = portion[0].frame.facts.table.detector
        for attempt in range(_ATTEMPTS):
            try:
                measured = [
                    _own_background(
                        with_planes(f, detrending, workspace),
                        masks.get(f.name),
                        writers[f.name],
                        dark,
                        flat,
                        parameters,
                    )
                    for f in portion
                    if f.name not in with_sky
                ]
                if with_sky:
                    measured += subtract_sky(
                        _inputs(with_sky, group, masks, detrending, workspace, lights or {}),
                        with_sky,
                        parameters,
                        writers=writers,
                        flat_variance=_relative_variance(flat) if flat is not None else None,
                        channels=detector.channels,
                        period=0 if detector.pattern is None else detector.pattern.period,
                        threads=workspace.threads,
                        memory=workspace.memory,
                        known=known,
                        serving=set().union(*group.skies.values()),
                    )
                break
            except FileNotFoundError:  # another group shares a frame, and released it meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise
        yield [(metrics, writers[metrics.name]) for metrics in measured]


def _inputs(
    skies: Mapping[str, Collection[str]],
    group: SkyGroup,
    masks: Mapping[str, ScratchRef],
    detrending: Detrending,
    workspace: Workspace,
    lights: Mapping[str, Planes],
) -> list[SkyInput]:
    """Return the frames of a group that have sky frames or serve as such; those of ``skies`` have their planes."""
    used = set(skies).union(*skies.values())
    with_sky = {name: sky for name, sky in group.skies.items() if sky}
    serving = set(with_sky).union(*with_sky.values())
    frames = [with_planes(f, detrending, workspace) if f.name in used else f for f in group.frames]
    return [
        SkyInput(
            name=f.name,
            planes=planes_of(f),
            level=level_of(f),
            object_mask=planes_of(masks[f.name]) if f.name in masks else None,
            moved=moved_by(f.frame.facts),
            light=lights.get(f.name),
        )
        for f in frames
        if f.name in serving
    ]


def _own_background(
    frame: ScratchRef,
    mask: ScratchRef | None,
    writer: PlanesWriter,
    dark: ProductFile | None,
    flat: ProductFile | None,
    parameters: SkyParameters,
) -> SkyMetrics:
    """Write a frame without its smooth background."""
    planes = planes_of(frame)
    sci, dq = planes.rows("sci").copy(), planes.rows("dq").copy()
    var = planes.rows("var").copy() if "var" in writer else None
    rows = slice(0, len(sci))
    dark_variance = None
    if dark is not None:
        dark_variance = np.asarray(dark.rows("VAR", rows), np.float32)
        if flat is not None:
            dark_variance = dark_variance / np.maximum(np.square(flat.rows("SCI", rows)), _LEAST_SQUARE)
    try:
        metrics = subtract_own_background(
            frame.name,
            sci,
            var,
            dq,
            mask=planes_of(mask).rows("objmask") if mask is not None else None,
            cell=parameters.own_cell,
            level=level_of(frame),
            dark_variance=dark_variance,
            flat_variance=_relative_variance(flat)(rows) if flat is not None else None,
        )
    except ValueError as error:
        raise FrameError(
            frame.name,
            f"its smooth background cannot be measured: {error}",
            remedy="Inspect the frame, its flat and its bad pixel mask, or add frames of the sky next to it.",
        ) from error
    for name, plane in (("sci", sci), ("var", var), ("dq", dq)):
        if plane is not None:
            writer.write(name, rows, plane)
    if MESH in writer:
        mesh = empty_mesh(sci.shape)
        writer.write(MESH, slice(0, len(mesh)), mesh)
    return metrics


def _relative_variance(flat: ProductFile) -> Callable[[slice], NDArray[np.float32]]:
    def rows(wanted: slice) -> NDArray[np.float32]:
        response = flat.rows("SCI", wanted)
        return np.asarray(
            flat.rows("VAR", wanted) / np.maximum(response * response, _LEAST_SQUARE), np.float32
        )

    return rows
