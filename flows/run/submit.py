"""Submission of a night's products, kind by kind: each after those of its calibrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture

from flows.recipes.all_recipes import RECIPES
from flows.recipes.kind_recipe import KindRecipe, S
from flows.recipes.submissions import Submissions
from flows.run.in_progress import Night
from imaging.kinds import CalibrationKind, ProductKind, target_of
from tasks.choose import choose_calibrations


def submit_night(night: Night) -> None:
    """Submit all sets of a night's plan; each waits for the night's calibrations of the kinds that it takes.

    A calibration that failed does not fail what needs it: the store may have another.
    """
    made: dict[ProductKind, list[PrefectFuture[Any]]] = {}
    run = night.submissions
    for kind, recipe in RECIPES.items():
        sets = [
            (one, [allow_failure(future) for kind in _taken(recipe, one, run) for future in made[kind]])
            for one in night.plan.of(kind)
        ]
        futures = submit_sets(recipe, sets, run)
        made[kind] = [future for future in futures if future is not None]


def _taken(recipe: KindRecipe[S], one: S, run: Submissions) -> tuple[CalibrationKind, ...]:
    """Return the kinds of calibration that are chosen for a set: those that it needs, and optional ones."""
    return (*recipe.needs(one), *recipe.uses(one, run))


def submit_sets(
    recipe: KindRecipe[S], sets: Sequence[tuple[S, list[Any]]], run: Submissions
) -> list[PrefectFuture[Any] | None]:
    """Submit sets of one kind: first the choice of calibrations for all of them, then their steps.

    Parameters
    ----------
    recipe
        The recipe of the kind.
    sets
        Its sets, each with the products, or the tasks that make them, that the choice prefers.
    run
        The tasks of the run.

    Returns
    -------
    list
        The task that makes each product; None if its calibrations could not be chosen.
    """
    chosen: list[Any] = [
        choose_calibrations.submit(one.label, recipe.main(one), kinds, built, run.choice, run.workspace)
        if (kinds := _taken(recipe, one, run))
        else None
        for one, built in sets
    ]
    futures = []
    for (one, _), choosing in zip(sets, chosen, strict=True):
        if choosing is not None:
            run.add(target_of(recipe.name), one.label, choosing)
        futures.append(recipe.build(one, choosing, run))
    return futures
