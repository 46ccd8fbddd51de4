"""Alignment of the frames of a group to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prefect.states import Completed, State
from pydantic import Field

from imaging.errors import GroupError
from imaging.io.planes import open_if_intact, touch, write_planes
from imaging.io.raw_file import read_headers
from imaging.registration.align import VERSION, AlignParameters, align
from imaging.registration.entries import AlignInput, Alignment
from tasks.detect import catalogue_of
from tasks.sky_group import Outcome, sort_out
from tasks.support.artifacts import publish_alignment
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, Reference, ScratchRef
from tasks.support.scratching import folder_for, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: What to do about a frame that is not stacked.
_REMEDY: Final = "Inspect the frame and its header; leave it out if it is faulty."


class AlignedGroup(Reference):
    """The position of each frame of a group on the reference."""

    alignment: Alignment
    catalogues: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = Field(default=(), description="frames left out because an earlier step failed")


@step_task("align", "align {label}", tags=["science"])
def align_group(
    label: str, detected: dict[str, Outcome], parameters: AlignParameters, workspace: Workspace
) -> AlignedGroup | State[AlignedGroup]:
    """Align the frames of a group by their stars; report a frame that cannot be aligned as left out."""
    frames, left_out = sort_out(detected)
    failed = tuple(one.name for one in left_out)
    if not frames:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out) or "no sky could be subtracted"
        raise GroupError(f"{label}: no frame to align ({reasons}).", remedy=_remedy(left_out))
    key = scratch_key("align", VERSION, [f"{ref.key}:{ref.name}" for ref in frames], parameters)
    with step("align", label, workspace) as current:
        folder = folder_for(workspace, key, frames[0].frame)
        earlier = open_if_intact(folder)
        current.reused = earlier is not None and earlier.meta.get("key") == key
        if earlier is not None and current.reused:
            touch(folder)
            alignment = Alignment.model_validate(earlier.meta["alignment"])
        else:
            alignment = align([align_input(ref, workspace) for ref in frames], parameters)
            write_planes(folder, {}, {"key": key, "alignment": alignment.model_dump(mode="json")})
    publish_alignment(label, alignment)
    left_out += [LeftOut(name=e.name, reason=e.reason, remedy=_REMEDY) for e in alignment.left_out]
    group = AlignedGroup(
        alignment=alignment, catalogues=tuple(frames), left_out=tuple(left_out), failed=failed
    )
    return Completed(name="Reused", data=group) if current.reused else group


def _remedy(left_out: Sequence[LeftOut]) -> str:
    """Return the remedies of frames that were left out, each once."""
    return " ".join(dict.fromkeys(one.remedy for one in left_out if one.remedy)) or _REMEDY


def align_input(ref: ScratchRef, workspace: Workspace) -> AlignInput:
    """Return what the alignment needs from a frame: its sources, header and facts."""
    primary, extension = read_headers(workspace.readable(ref.frame))
    seeing = ref.metrics["seeing"]
    sky = ref.metrics["sky"]
    return AlignInput(
        catalogue=catalogue_of(ref),
        seeing=float(seeing) if seeing is not None else float("nan"),
        header=extension if extension is not None else primary,
        facts=ref.frame.facts,
        shape=(int(ref.metrics["rows"] or 0), int(ref.metrics["columns"] or 0)),
        sky=float(sky) if sky is not None else float("nan"),
    )
