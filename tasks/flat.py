"""Master flat: lamp on minus lamp off; in the K bands lamp off minus darks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from prefect.states import State

from imaging.flat import FlatParameters, make_flat, make_thermal_flat
from imaging.marks import CardValue
from imaging.products import ProductFile
from tasks.building import Built, Ingredient, Recipe, figures, find_or_build, open_frames
from tasks.decorator import step_task
from tasks.references import Calibrations, FlatSet, FrameSet, ProductRef
from tasks.workspace import Workspace

VERSION = 1


@step_task("flat", "{plan.label}", tags=["calibration"])
def build_flat(
    plan: FlatSet, calibrations: Calibrations, parameters: FlatParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the flat of ``plan`` with the bad pixel mask, and in K the dark, of ``calibrations``."""
    light, none = plan.first, plan.off if not plan.thermal else None

    def build() -> Built:
        with ExitStack() as stack:
            bpm = None
            if calibrations.bpm is not None:
                bpm = stack.enter_context(ProductFile(workspace.file_of(calibrations.bpm))).bad_pixels()
            common: dict[str, Any] = {"bpm": bpm, "threads": workspace.threads, "memory": workspace.memory}
            if plan.thermal:
                (off,) = stack.enter_context(open_frames(workspace, light))
                dark = None
                if calibrations.dark is not None:
                    dark = stack.enter_context(ProductFile(workspace.file_of(calibrations.dark)))
                result = make_thermal_flat(off, dark, parameters, **common)
            else:
                on, off = stack.enter_context(open_frames(workspace, light, none))
                result = make_flat(on, off, parameters, **common)
        return Built(
            result.image,
            figures(result.metrics),
            result.warnings,
            linearised=parameters.linearise,
            cards=_lamp_cards(light, none),
        )

    ingredients = [Ingredient("lamp_off" if plan.thermal else "lamp_on", f) for f in light.frames]
    ingredients += [Ingredient("lamp_off", f) for f in (none.frames if none is not None else ())]
    recipe = Recipe("flat", plan.label, VERSION, ingredients, {"flat": parameters}, calibrations)
    return find_or_build(recipe, build, workspace)


def _lamp_cards(light: FrameSet, none: FrameSet | None) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Counts and files of the frames with light and without."""
    cards: dict[str, CardValue | tuple[CardValue, str]] = {}
    for prefix, count, frames, what in (
        ("NFON", "NLAMPON", light.frames, "with light"),
        ("NFOFF", "NLAMPOFF", none.frames if none is not None else (), "without light"),
    ):
        cards[count] = (len(frames), f"Number of frames {what}")
        cards |= {f"{prefix}{n:03d}": frame.name for n, frame in enumerate(frames[:999], start=1)}
    return cards
