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
from imaging.kinds import ProductKind
from tasks.choose import choose_calibrations


def submit_night(night: Night) -> None:
    """Submit all sets of a night's plan; each waits for the night's calibrations of the kinds that it needs.

    A calibration that failed does not fail what needs it: the store may have another.
    """
    made: dict[ProductKind, list[PrefectFuture[Any]]] = {}
    for kind, recipe in RECIPES.items():
        sets = [
            (one, [allow_failure(future) for need in recipe.needs(one) for future in made[need]])
            for one in night.plan.of(kind)
        ]
        futures = submit_sets(recipe, sets, night.submissions)
        made[kind] = [future for future in futures if future is not None]


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
        choose_calibrations.submit(one.label, recipe.main(one), needs, built, run.choice, run.workspace)
        if (needs := recipe.needs(one))
        else None
        for one, built in sets
    ]
    futures = []
    for (one, _), choosing in zip(sets, chosen, strict=True):
        if choosing is not None:
            run.add(recipe.kind.target, one.label, choosing)
        futures.append(recipe.build(one, choosing, run))
    return futures
