"""The frames of a group on one of them."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import validate_call

from imaging.align import AlignParameters, align
from imaging.alignment import AlignInput, Alignment
from imaging.errors import GroupError
from imaging.rawio import read_headers
from imaging.scratch import Planes
from tasks.artifacts import tell_alignment
from tasks.detect import catalogue_of
from tasks.references import LeftOut, Reference, ScratchRef
from tasks.sky import Outcome, sort_out
from tasks.step import step
from tasks.workspace import Workspace


class AlignedGroup(Reference):
    """Where each frame of a group lies on the reference."""

    alignment: Alignment
    catalogues: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()


@task(
    name="align", task_run_name="align {label}", tags=["science"], cache_policy=NO_CACHE, persist_result=False
)
@validate_call
def align_group(
    label: str, detected: list[Outcome], parameters: AlignParameters, workspace: Workspace
) -> AlignedGroup:
    """Align the frames of a group by their stars; a frame that cannot be aligned is left out by name."""
    frames, left_out = sort_out(detected)
    if not frames:
        raise GroupError(f"{label}: there is no frame to align.")
    with step("align", label, workspace):
        alignment = align([align_input(ref, workspace) for ref in frames], parameters)
    tell_alignment(label, alignment)
    left_out += [LeftOut(name=e.name, reason=e.reason) for e in alignment.left_out]
    return AlignedGroup(alignment=alignment, catalogues=tuple(frames), left_out=tuple(left_out))


def align_input(ref: ScratchRef, workspace: Workspace) -> AlignInput:
    """What the alignment needs of a frame: its sources, its header and its facts."""
    primary, extension = read_headers(workspace.readable(ref.frame))
    seeing = ref.metrics["seeing"]
    shape = Planes(ref.folder).shape("objmask")
    return AlignInput(
        catalogue=catalogue_of(ref),
        seeing=float(seeing) if seeing is not None else float("nan"),
        header=extension if extension is not None else primary,
        facts=ref.frame.facts,
        shape=(shape[0], shape[1]),
    )
