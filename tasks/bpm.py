"""The bad pixel mask, made from lamp flats and short darks."""

from __future__ import annotations

from prefect.states import State

from imaging.calibrations.bpm import VERSION, BpmParameters, make_bpm
from imaging.errors import GroupError
from imaging.figures import flat_values
from tasks.building.build import Built, find_or_build, open_frames
from tasks.building.peers import combined, left_out
from tasks.building.recipe import Ingredient, Recipe
from tasks.flat import FlatSet
from tasks.support.decorator import step_task
from tasks.support.references import FrameSet, ProductRef, ProductSet
from tasks.support.workspace import Workspace


class BpmSet(ProductSet):
    """The sets of one bad pixel mask."""

    flat: FlatSet
    short_darks: FrameSet


@step_task("bpm", "{plan.label}")
def build_bpm(
    plan: BpmSet, parameters: BpmParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the bad pixel mask of ``plan``."""
    light, none = plan.flat.light_and_none
    if none is None:
        raise GroupError(
            f"{plan.label}: no frames to subtract from {light.label}.",
            remedy="Add lamp-off flats (in the K bands: darks of the same exposure time).",
        )

    roles = ("lamp_off", "dark") if plan.flat.thermal else ("lamp_on", "lamp_off")
    ingredients = [
        Ingredient(role, frame)
        for role, part in zip((*roles, "short_dark"), (light, none, plan.short_darks), strict=True)
        for frame in part.frames
    ]

    def build() -> Built:
        with open_frames(workspace, light, none, plan.short_darks) as (on, off, short):
            result = make_bpm(on, off, short, parameters, threads=workspace.threads, memory=workspace.memory)
        return Built(
            result.mask,
            flat_values(result.metrics),
            result.warnings,
            left_out=left_out(result.left_out, "bpm"),
            doubts=result.doubts,
            linearised=False,
            combined=combined(ingredients, result.left_out),
        )

    return find_or_build(
        Recipe("bpm", plan.label, VERSION, ingredients, {"bpm": parameters}), build, workspace
    )
