"""The master dark: the mean of the darks of one exposure time and read mode."""

from __future__ import annotations

from prefect.states import State

from imaging.calibrations.dark import VERSION, DarkParameters, make_dark
from imaging.figures import flat_values
from tasks.building.build import Built, find_or_build, open_frames
from tasks.building.peers import combined, left_out
from tasks.building.recipe import Ingredient, Recipe
from tasks.support.decorator import step_task
from tasks.support.references import FrameSet, ProductRef
from tasks.support.workspace import Workspace


@step_task("dark", "{frames.label}")
def build_dark(
    frames: FrameSet, parameters: DarkParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the master dark of ``frames``."""
    ingredients = [Ingredient("dark", frame) for frame in frames.frames]

    def build() -> Built:
        with open_frames(workspace, frames) as (raws,):
            result = make_dark(raws, parameters, threads=workspace.threads, memory=workspace.memory)
        return Built(
            result.image,
            flat_values(result.metrics),
            result.warnings,
            left_out=left_out(result.left_out, "dark"),
            doubts=result.doubts,
            linearised=parameters.linearise,
            combined=combined(ingredients, result.left_out),
        )

    return find_or_build(
        Recipe("dark", frames.label, VERSION, ingredients, {"dark": parameters}), build, workspace
    )
