"""Master dark: the mean of the darks of one exposure time and read mode."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State
from pydantic import validate_call

from imaging.dark import DarkParameters, make_dark
from tasks.building import Built, Ingredient, Recipe, figures, find_or_build, open_frames
from tasks.references import FrameSet, ProductRef
from tasks.workspace import Workspace

VERSION = 1


@task(
    name="dark",
    task_run_name="{frames.label}",
    tags=["calibration"],
    cache_policy=NO_CACHE,
    persist_result=False,
)
@validate_call
def build_dark(
    frames: FrameSet, parameters: DarkParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the master dark of ``frames``."""

    def build() -> Built:
        with open_frames(workspace, frames) as (raws,):
            result = make_dark(raws, parameters, threads=workspace.threads, memory=workspace.memory)
        return Built(result.image, figures(result.metrics), result.warnings, linearised=parameters.linearise)

    ingredients = [Ingredient("dark", frame) for frame in frames.frames]
    return find_or_build(
        Recipe("dark", frames.label, VERSION, ingredients, {"dark": parameters}), build, workspace
    )
