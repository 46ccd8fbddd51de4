"""Stacks of a field combined into one image, with its sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from prefect.states import State

from imaging.figures import flat_values
from imaging.header import Header
from imaging.kinds import MOSAIC
from imaging.mosaic.mosaic import VERSION, MosaicResult, make_mosaic
from imaging.photometry.calibrate import NOMINAL, KnownZeroPoint
from imaging.photometry.magnitudes import Photometry, measure_photometry
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.pixels.image import Image
from imaging.products.product_tables import Plane
from imaging.sources.detect import Detection, detect
from imaging.stack.background_error import background_error
from tasks import detect as detect_step
from tasks.building.build import Built, find_or_build, find_reused
from tasks.building.recipe import Ingredient, Recipe
from tasks.mosaic.arrange_stacks import ArrangedStacks
from tasks.mosaic.choose_stacks import MosaicSet
from tasks.mosaic.measure_stack import ROLE, as_frame, mosaic_input, opened
from tasks.mosaic.mosaic_record import mosaic_cards, stacks_table, without_cards_of_a_stack
from tasks.stack_record import source_table
from tasks.support.decorator import step_task
from tasks.support.parameters import ReductionParameters, for_instrument
from tasks.support.references import ProductRef, ScratchRef
from tasks.support.workspace import Workspace

#: Steps whose parameters determine a mosaic.
_STEPS: Final = ("detect", "resample", "mosaic", "photometry")


def for_stacks(parameters: ReductionParameters, group: MosaicSet) -> ReductionParameters:
    """Return the parameters with those of the instrument of the stacks."""
    return for_instrument(parameters, group.stacks[0].facts.table)


def mosaic_recipe(group: MosaicSet, parameters: ReductionParameters, workspace: Workspace) -> Recipe:
    """Return the recipe of a mosaic: all stacks that are given, also those that are left out when it is made."""
    parameters = for_stacks(parameters, group)
    return Recipe(
        MOSAIC.name,
        group.label,
        VERSION,
        [
            Ingredient(ROLE, as_frame(stack, workspace), stack)
            for stack in sorted(group.stacks, key=lambda one: (one.span[0], one.name))
        ],
        {name: getattr(parameters, name) for name in _STEPS},
        earlier_versions={"detect": detect_step.VERSION},
    )


@step_task("find mosaic", "look for {group.label}")
def find_mosaic(
    group: MosaicSet, parameters: ReductionParameters, workspace: Workspace
) -> ProductRef | State[ProductRef] | None:
    """Return the mosaic if the store has it, made from the same stacks in the same way; otherwise None."""
    recipe = mosaic_recipe(group, parameters, workspace)
    return find_reused(recipe, MOSAIC.step, workspace)


@step_task("mosaic", "combine {group.label}")
def build_mosaic(
    group: MosaicSet,
    measured: dict[str, Any],
    arranged: ArrangedStacks,
    parameters: ReductionParameters,
    workspace: Workspace,
) -> ProductRef | State[ProductRef]:
    """Resample the stacks onto one grid, match their backgrounds, combine them, and measure the sources."""
    # A stack that could not be measured may be the next time: the mosaic without it is a different product.
    whole = group.model_copy(
        update={"stacks": tuple(s for s in group.stacks if isinstance(measured[s.name], ScratchRef))}
    )
    recipe = mosaic_recipe(whole, parameters, workspace)
    parameters = for_stacks(parameters, group)

    def build() -> Built:
        with ExitStack() as files:
            inputs, primaries = [], {}
            for stack in whole.stacks:
                file = files.enter_context(opened(stack, workspace))
                primaries[stack.name] = file.primary
                inputs.append(mosaic_input(stack, measured[stack.name], file))
            result = make_mosaic(
                arranged.arrangement(inputs),
                parameters.mosaic,
                parameters.resample,
                threads=workspace.threads,
            )
        facts = {stack.name: stack.facts for stack in whole.stacks}
        reference = primaries[arranged.reference]
        header = result.grid.header()
        sources = detect(result.sci, result.dq, parameters.detect)
        measured_light, figures = calibrated(result, sources, arranged, reference, parameters.photometry)
        metrics = result.metrics.completed(
            **figures,
            **_world_coordinates(arranged, primaries),
            seeing=float(sources.seeing) if math.isfinite(sources.seeing) else None,
            sources=len(sources.catalogue),
            background_error=background_error(
                result.sci, result.var, result.dq, sources.object_mask, result.metrics.noise_correlation
            ),
        )
        names = tuple(one.name for one in arranged.stacks)
        return Built(
            Image(result.sci, result.var, result.dq, header, without_cards_of_a_stack(reference)),
            flat_values(metrics),
            warnings=(*arranged.notes, *result.notes, *measured_light.notes),
            left_out=arranged.left_out,
            cards=mosaic_cards(metrics),
            object_mask=sources.object_mask,
            maps={"EXPOSURE": Plane(result.exposure, "s")},
            tables={
                "OBJCAT": source_table(
                    result, sources, header, parameters.detect.aperture, measured_light.light()
                ),
                "STACKS": stacks_table(
                    whole,
                    arranged,
                    result,
                    {one.name: one.seeing for one in inputs},
                    {one.name: one.exposure for one in inputs},
                ),
            },
            combined=names,
            facts=facts[arranged.reference],
        )

    return find_or_build(recipe, build, workspace)


def calibrated(
    result: MosaicResult,
    sources: Detection,
    arranged: ArrangedStacks,
    reference: Header,
    parameters: PhotometryParameters,
) -> tuple[Photometry, dict[str, Any]]:
    """Measure the sources of a mosaic; its zero point is that of the reference, from all stacks together.

    Parameters
    ----------
    result, sources
        The mosaic and its sources.
    arranged
        The zero points of the stacks.
    reference
        Primary header of the reference, whose nominal zero point is taken if no stack has another.
    parameters
        Apertures.

    Returns
    -------
    tuple
        The photometry, and its figures.
    """
    found = measure_photometry(
        result.sci,
        result.var,
        result.dq,
        sources,
        noise_correlation=result.metrics.noise_correlation,
        pixel_scale=result.grid.scale,
        known=_zero_point(arranged, reference),
        reference=None,
        parameters=parameters,
    )
    system = arranged.system or str(reference.get("MAGSYS") or parameters.system)
    return found, found.figures(system)  # type: ignore[arg-type]


def _zero_point(arranged: ArrangedStacks, reference: Header) -> KnownZeroPoint | None:
    """Return the zero point of the reference: that of all stacks, or the nominal one of its header."""
    value = {one.name: one.zero_point for one in arranged.stacks}[arranged.reference]
    if value is not None:
        its_error = arranged.zero_point_error
        return KnownZeroPoint(value, math.nan if its_error is None else its_error, arranged.source)
    nominal, stated = (reference.get(keyword) for keyword in ("MAGZERO", "MAGZERR"))
    if not isinstance(nominal, (int, float)):
        return None
    error = float(stated) if isinstance(stated, (int, float)) else math.nan
    return KnownZeroPoint(float(nominal), error, NOMINAL)


def _world_coordinates(arranged: ArrangedStacks, primaries: dict[str, Header]) -> dict[str, Any]:
    """Return the figures of the world coordinates: those of the stack whose catalogue is the most accurate."""

    def number(cards: Header, keyword: str) -> float | None:
        value = cards.get(keyword)
        return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None

    names: Sequence[str] = [arranged.reference, *(one.name for one in arranged.stacks)]
    fitted = [name for name in names if number(primaries[name], "ASTERR") is not None]
    best = min(fitted, key=lambda name: number(primaries[name], "ASTERR") or 0.0, default=arranged.reference)
    cards = primaries[best]
    source = cards.get("WCSFROM")
    return {
        "wcs_from": str(source) if source else None,
        "astrometry_rms": number(cards, "ASTRMS"),
        "astrometry_error": number(cards, "ASTERR"),
    }
