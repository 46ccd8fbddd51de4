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
from imaging.registration.distortion.camera_distortion import Distortion, without_distortion
from imaging.registration.entries import AlignInput, Alignment
from tasks.detect import catalogue_of
from tasks.sky_group import Outcome, sort_out
from tasks.support.artifacts import publish_alignment
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, ProductRef, Reference, ScratchRef
from tasks.support.scratching import folder_for, scratch_key
from tasks.support.step import step
from tasks.support.verdicts import publish_verdicts
from tasks.support.workspace import Workspace

#: What to do about a frame that is not stacked.
_REMEDY: Final = "Inspect the frame and its header; leave it out if it is faulty."


class AlignedGroup(Reference):
    """The position of each frame of a group on the reference."""

    alignment: Alignment
    catalogues: tuple[ScratchRef, ...]
    left_out: tuple[LeftOut, ...] = ()
    failed: tuple[str, ...] = Field(default=(), description="frames left out because an earlier step failed")
    distortion: ProductRef | None = Field(
        default=None, description="distortion of the camera that positions are without"
    )


@step_task("align", "align {label}")
def align_group(
    label: str,
    detected: dict[str, Outcome],
    parameters: AlignParameters,
    workspace: Workspace,
    distortion: ProductRef | None = None,
) -> AlignedGroup | State[AlignedGroup]:
    """Align the frames of a group by their stars; report a frame that cannot be aligned as left out.

    The stars are compared where they would be without the ``distortion`` of the camera, where one is given.
    """
    frames, left_out = sort_out(detected)
    failed = tuple(one.name for one in left_out)
    if not frames:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out) or "no sky could be subtracted"
        raise GroupError(f"{label}: no frame to align ({reasons}).", remedy=_remedy(left_out))
    inputs = [f"{ref.key}:{ref.name}" for ref in frames]
    inputs += [f"distortion:{distortion.recipe_key}"] if distortion is not None else []
    key = scratch_key("align", VERSION, inputs, parameters)
    with step("align", label, workspace) as current:
        folder = folder_for(workspace, key, frames[0].frame)
        earlier = open_if_intact(folder)
        current.reused = earlier is not None and earlier.meta.get("key") == key
        if earlier is not None and current.reused:
            touch(folder)
            alignment = Alignment.model_validate(earlier.meta["alignment"])
        else:
            removed = distortion_in(distortion, workspace)
            alignment = align([align_input(ref, workspace, removed) for ref in frames], parameters)
            write_planes(folder, {}, {"key": key, "alignment": alignment.model_dump(mode="json")})
    publish_alignment(label, alignment)
    publish_verdicts(label, frames, workspace)
    left_out += [LeftOut(name=e.name, reason=e.reason, remedy=_REMEDY) for e in alignment.left_out]
    group = AlignedGroup(
        alignment=alignment, catalogues=tuple(frames), left_out=tuple(left_out), failed=failed,
        distortion=distortion,
    )  # fmt: skip
    return Completed(name="Reused", data=group) if current.reused else group


def _remedy(left_out: Sequence[LeftOut]) -> str:
    """Return the remedies of frames that were left out, each once."""
    return " ".join(dict.fromkeys(one.remedy for one in left_out if one.remedy)) or _REMEDY


def distortion_in(product: ProductRef | None, workspace: Workspace) -> Distortion | None:
    """Return the distortion that a product contains; None without a product."""
    if product is None:
        return None
    from imaging.registration.distortion.distortion_file import read_distortion  # few runs need it

    return read_distortion(workspace.file_of(product))


def align_input(ref: ScratchRef, workspace: Workspace, distortion: Distortion | None = None) -> AlignInput:
    """Return what the alignment needs from a frame: its sources, without distortion, its header and facts.

    Raises
    ------
    GroupError
        If the distortion is that of frames of another size.
    """
    shape = (int(ref.metrics["rows"] or 0), int(ref.metrics["columns"] or 0))
    sources = catalogue_of(ref)
    if distortion is not None:
        if distortion.shape != shape:
            raise GroupError(
                f"The distortion is that of frames of {distortion.shape[0]} x {distortion.shape[1]} pixels, and "
                f"{ref.name} has {shape[0]} x {shape[1]}.",
                remedy="Name another one with --use distortion=NAME, or do without: --set stack.distortion=never",
            )
        sources = without_distortion(sources, distortion)
    primary, extension = read_headers(workspace.readable(ref.frame))
    seeing = ref.metrics["seeing"]
    sky = ref.metrics["sky"]
    return AlignInput(
        catalogue=sources,
        seeing=float(seeing) if seeing is not None else float("nan"),
        header=extension if extension is not None else primary,
        facts=ref.frame.facts,
        shape=shape,
        sky=float(sky) if sky is not None else float("nan"),
    )
