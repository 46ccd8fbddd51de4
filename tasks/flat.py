"""The master flat: lamp on minus lamp off; in the K bands lamp off minus darks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from prefect.states import State

from imaging.calibrations.flat import VERSION, FlatParameters, FlatResult, make_flat, make_thermal_flat
from imaging.figures import flat_values
from imaging.products.header_cards import CardValue
from imaging.products.product_file import ProductFile
from tasks.building.build import Built, find_or_build, open_frames
from tasks.building.peers import combined, left_out
from tasks.building.recipe import Ingredient, Recipe
from tasks.support.decorator import step_task
from tasks.support.references import Calibrations, FrameSet, ProductRef, ProductSet, RawFrame
from tasks.support.workspace import Workspace


class FlatSet(ProductSet):
    """The sets of one flat: lamp on and lamp off; in the K bands lamp off and matching darks; or the sky alone."""

    filter: str
    on: FrameSet | None
    off: FrameSet | None
    darks: FrameSet | None = None
    sky: FrameSet | None = None

    @property
    def thermal(self) -> bool:
        """Whether the calibration unit's heat serves as the lamp, with darks in place of the lamp-offs."""
        return self.on is None and self.sky is None

    @property
    def first(self) -> FrameSet:
        """The set with light, after which the flat is named."""
        return self.light_and_none[0]

    @property
    def light_and_none(self) -> tuple[FrameSet, FrameSet | None]:
        """The set with light, and the set to subtract from it, if any."""
        if self.sky is not None:
            return self.sky, None
        if self.on is not None:
            return self.on, self.off
        if self.off is None:
            raise ValueError(f"{self.label} has neither lamp-ons nor lamp-offs")
        return self.off, self.darks

    @property
    def frames(self) -> tuple[RawFrame, ...]:
        """The frames with light and those to subtract from them."""
        return tuple(frame for part in self.light_and_none if part is not None for frame in part.frames)

    @property
    def lamps(self) -> tuple[RawFrame, ...]:
        """The lamp-ons and lamp-offs."""
        return tuple(frame for part in (self.on, self.off) if part is not None for frame in part.frames)


@step_task("flat", "{plan.label}")
def build_flat(
    plan: FlatSet, calibrations: Calibrations, parameters: FlatParameters, workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Find or build the flat of ``plan`` with the bad pixel mask, and in K the dark, of ``calibrations``."""
    light, none = plan.first, plan.off if not plan.thermal else None
    ingredients = [Ingredient("lamp_off" if plan.thermal else "lamp_on", f) for f in light.frames]
    ingredients += [Ingredient("lamp_off", f) for f in (none.frames if none is not None else ())]

    def build() -> Built:
        with ExitStack() as stack:
            bpm = None
            if (mask := calibrations.of("bpm")) is not None:
                bpm = stack.enter_context(ProductFile(workspace.file_of(mask))).bad_pixels()
            common: dict[str, Any] = {"bpm": bpm, "threads": workspace.threads, "memory": workspace.memory}
            if plan.thermal:
                (off,) = stack.enter_context(open_frames(workspace, light))
                dark = None
                if (chosen := calibrations.of("dark")) is not None:
                    dark = stack.enter_context(ProductFile(workspace.file_of(chosen)))
                result = make_thermal_flat(off, dark, parameters, **common)
            else:
                on, off = stack.enter_context(open_frames(workspace, light, none))
                result = make_flat(on, off, parameters, **common)
        return Built(
            result.image,
            flat_values(result.metrics),
            result.warnings,
            left_out=left_out(result.left_out, "flat"),
            doubts=result.doubts,
            linearised=parameters.linearise,
            cards=_lamp_cards(result),
            combined=combined(ingredients, result.left_out),
        )

    recipe = Recipe("flat", plan.label, VERSION, ingredients, {"flat": parameters}, calibrations)
    return find_or_build(recipe, build, workspace)


def _lamp_cards(flat: FlatResult) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the counts and files of the frames with and without light."""
    cards: dict[str, CardValue | tuple[CardValue, str]] = {}
    for prefix, count, names, what in (
        ("NFON", "NLAMPON", flat.on, "with light"),
        ("NFOFF", "NLAMPOFF", flat.off, "without light"),
    ):
        cards[count] = (len(names), f"Number of frames {what}")
        cards |= {f"{prefix}{n:03d}": name for n, name in enumerate(names[:999], start=1)}
    return cards
