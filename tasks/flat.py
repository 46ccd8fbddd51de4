"""Master flat: lamp on minus lamp off; in the K bands lamp off minus darks."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State
from pydantic import validate_call

from imaging.errors import GroupError
from imaging.flat import FlatParameters, make_flat, make_thermal_flat
from imaging.products import ProductFile
from tasks.building import Built, Ingredient, Recipe, figures, find_or_build, open_frames
from tasks.references import Calibrations, FlatSet, ProductRef
from tasks.workspace import Workspace

VERSION = 1


@task(
    name="flat",
    task_run_name="{plan.label}",
    tags=["calibration"],
    cache_policy=NO_CACHE,
    persist_result=False,
)
@validate_call
def build_flat(
    plan: FlatSet, calibrations: Calibrations, parameters: FlatParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the flat of ``plan`` with the bad pixel mask of ``calibrations``."""
    light, none = plan.light_and_none
    if plan.thermal and none is None:
        raise GroupError(
            f"{plan.label}: no darks of {light.first.facts.exposure_time:g} s for the lamp-offs.",
            remedy="Give raw darks of the same exposure time and read mode; a processed dark of the store "
            "does not take their place.",
        )

    def build() -> Built:
        sets = (light,) if none is None else (light, none)
        with open_frames(workspace, *sets) as opened:
            bpm = None
            if calibrations.bpm is not None:
                with ProductFile(calibrations.bpm.path) as mask:
                    bpm = mask.bad_pixels()
            make = make_thermal_flat if plan.thermal else make_flat
            result = make(
                opened[0],
                opened[1] if none is not None else (),
                parameters,
                bpm=bpm,
                threads=workspace.threads,
                memory=workspace.memory,
            )
        return Built(result.image, figures(result.metrics), result.warnings, linearised=parameters.linearise)

    roles = ("lamp_off", "dark") if plan.thermal else ("lamp_on", "lamp_off")
    parts = [(roles[0], light)] + ([(roles[1], none)] if none is not None else [])
    ingredients = [Ingredient(role, frame) for role, part in parts for frame in part.frames]
    recipe = Recipe("flat", plan.label, VERSION, ingredients, {"flat": parameters}, calibrations)
    return find_or_build(recipe, build, workspace)
