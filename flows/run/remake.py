"""Submission of products to make again, with their own frames and parameters, and calibrations that are still
valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect import allow_failure
from prefect.futures import PrefectFuture

from calib_store.model.records import Product
from flows.recipes.all_recipes import RECIPES
from flows.recipes.submissions import Submissions
from flows.run.in_progress import Night
from flows.run.remake_plan import NotPossibleError, Remake, own_parameters
from flows.run.submit import submit_sets
from tasks.choose import Choice
from tasks.support.references import ProductRef


def submit_remakes(night: Night) -> None:
    """Submit the products to make again, each after those that it was made with."""
    assert night.redo is not None
    store = night.workspace.store()
    bad = {product.id for product in night.redo.products}
    made: dict[UUID, PrefectFuture[Any]] = {}
    standards: list[PrefectFuture[Any]] = []
    for remake in night.remakes:
        original = [store.get(one) for one in remake.made_with if one not in bad]
        still = [product for product in original if product.counts]
        again = [made[one] for one in remake.made_with if one in made]
        made_with = [store.get(one) for one in remake.made_with]
        # Its own calibrations are preferred to those that the rules would choose now, if they still serve.
        built: list[Any] = [*(allow_failure(one) for one in again), *(_reference(one) for one in still)]
        run = replace(_of_its_own(night, remake, still, made_with), standards=standards)
        (future,) = submit_sets(RECIPES[remake.kind], [(remake.work, built)], run)
        if future is not None:
            made[remake.old.id] = future
            night.remade.append((remake.old, future))


def _of_its_own(
    night: Night, remake: Remake, still: Sequence[Product], made_with: Sequence[Product]
) -> Submissions:
    """Return what a product is submitted with: its own parameters, those of its calibrations, its user's choices.

    The parameters of its calibrations let the choice recognize those of the same variant.
    """
    choice = night.options.choice
    named = {p.kind: str(p.id) for p in still if p.kind in remake.named}
    changed = {
        "use": named | dict(choice.use),
        "allow_missing": choice.allow_missing | remake.missing,
    }
    own = Choice.model_validate(choice.model_dump() | changed)
    chosen_by = remake.parameters
    for calibration in made_with:
        with suppress(NotPossibleError):  # it was made elsewhere, or by another version
            chosen_by = own_parameters(calibration, chosen_by)
    workspace = night.workspace.model_copy(update={"parameters": chosen_by})
    return Submissions(remake.parameters, own, workspace, night.submitted)


def _reference(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {
            "id": str(product.id), "kind": product.kind, "name": product.name, "sha256": product.sha256,
            "recipe_key": product.recipe_key, "reused": True,
        }
    )  # fmt: skip
