"""A flat from the sky of science frames, where neither the reduced frames nor the store have one of a lamp.

It serves as a last resort: any flat of a lamp comes before it, in later runs too.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Final

from prefect.states import State

from calib_store.model.records import Product
from imaging.calibrations.sky_flat import VERSION, SkyFlatParameters, make_sky_flat
from imaging.figures import flat_values
from imaging.products.header_cards import CardValue
from imaging.products.product_file import ProductFile
from tasks.building.build import Built, find_or_build, open_frames
from tasks.building.peers import combined, left_out
from tasks.building.recipe import Ingredient, Recipe
from tasks.choose import Choice, flaw_in_run
from tasks.flat import FlatSet
from tasks.support.decorator import step_task
from tasks.support.references import Calibrations, FrameSet, ProductRef
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: Why such a flat serves as a last resort, as the store records it.
FROM_SKY: Final = "made from the sky of science frames, not of a lamp"


def is_sky_flat(product: Product) -> bool:
    """Return whether a product is a flat from the sky."""
    return product.kind == "flat" and product.provisional == FROM_SKY


@step_task("calibrations", "flat of a lamp for {label}")
def lamp_flat_serves(label: str, frames: FrameSet, choice: Choice, workspace: Workspace) -> bool:
    """Return whether the store has a flat of a lamp that serves the middle of a set by the rules of this run."""
    store = workspace.store()
    with step("choose", label, workspace):
        match = store.match(
            frames.middle.facts, "flat", as_of=workspace.as_of, without=choice.without,
            parameters=workspace.parameters.model_dump(mode="json"),
            flaw_of=partial(flaw_in_run, store, workspace),
        )  # fmt: skip
    return match.product is not None and not is_sky_flat(match.product)


@step_task("flat", "{plan.label}")
def build_sky_flat(
    plan: FlatSet, calibrations: Calibrations, parameters: SkyFlatParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the flat from the sky of ``plan`` with the dark and the bad pixel mask of ``calibrations``."""
    frames = plan.first.without({one.name for one in calibrations.unserved})
    ingredients = [Ingredient("sky", f) for f in frames.frames]

    def build() -> Built:
        with ExitStack() as stack:
            bpm = dark = None
            if (mask := calibrations.of("bpm")) is not None:
                bpm = stack.enter_context(ProductFile(workspace.file_of(mask))).bad_pixels()
            if (chosen := calibrations.of("dark")) is not None:
                dark = stack.enter_context(ProductFile(workspace.file_of(chosen)))
            (raws,) = stack.enter_context(open_frames(workspace, frames))
            flat = make_sky_flat(
                raws, dark, parameters, bpm=bpm, threads=workspace.threads, memory=workspace.memory
            )
        cards: dict[str, CardValue | tuple[CardValue, str]] = {
            "FLATFROM": ("sky", "Light of the flat"),
            "NSKY": (len(flat.on), "Number of science frames with the sky"),
        }
        return Built(
            flat.image,
            flat_values(flat.metrics),
            flat.warnings,
            left_out=left_out(flat.left_out, "sky_flat"),
            linearised=parameters.linearise,
            cards=cards,
            combined=combined(ingredients, flat.left_out),
        )

    recipe = Recipe(
        "flat", plan.label, VERSION, ingredients, {"sky_flat": parameters}, calibrations, last_resort=FROM_SKY
    )
    return find_or_build(recipe, build, workspace)
