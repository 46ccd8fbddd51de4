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
from calib_store.store import Store
from flows.run.in_progress import Night
from flows.run.remake_plan import NotPossibleError, Remake, own_parameters
from flows.run.science_group import submit_stack
from imaging.kinds import KINDS
from tasks.bpm import build_bpm
from tasks.choose import Choice, choose_calibrations
from tasks.dark import build_dark
from tasks.flat import build_flat
from tasks.support.references import BpmSet, FlatSet, FrameSet, ProductRef


def submit_remakes(night: Night) -> None:
    """Submit the products to make again, each after those that it was made with."""
    assert night.redo is not None
    store = night.workspace.store()
    bad = {product.id for product in night.redo.products}
    made: dict[UUID, PrefectFuture[Any]] = {}
    for remake in night.remakes:
        original = [store.get(one) for one in remake.made_with if one not in bad]
        still = [product for product in original if product.counts]
        again = [made[one] for one in remake.made_with if one in made]
        made_with = [store.get(one) for one in remake.made_with]
        future = _submit(_of_its_own(night, remake, still, made_with), remake, again, still, store)
        if future is not None:
            made[remake.old.id] = future
            night.remade.append((remake.old, future))


def _of_its_own(
    night: Night, remake: Remake, still: Sequence[Product], made_with: Sequence[Product]
) -> Night:
    """Return the night with a product's own parameters, those of its calibrations, and its user's choices.

    The parameters of its calibrations let the choice recognize those of the same variant.
    """
    choice = night.options.choice
    named = {p.kind: str(p.id) for p in still if p.kind in remake.named}
    changed = {
        "use": named | dict(choice.use),
        "allow_missing": choice.allow_missing | remake.missing,
    }
    own = Choice.model_validate(choice.model_dump() | changed)
    options = night.options.model_copy(update={"parameters": remake.parameters, "choice": own})
    chosen_by = remake.parameters
    for calibration in made_with:
        with suppress(NotPossibleError):  # it was made elsewhere, or by another version
            chosen_by = own_parameters(calibration, chosen_by)
    workspace = night.workspace.model_copy(update={"parameters": chosen_by})
    return replace(night, options=options, workspace=workspace)


def _submit(
    night: Night,
    remake: Remake,
    again: Sequence[PrefectFuture[Any]],
    still: Sequence[Product],
    store: Store,
) -> PrefectFuture[Any] | None:
    work, p, workspace = remake.work, remake.parameters, night.workspace
    # Its own calibrations are preferred to those that the rules would choose now, if they still serve.
    built: list[Any] = [*(allow_failure(one) for one in again), *(_reference(one) for one in still)]
    if isinstance(work, FrameSet):
        future: Any = build_dark.submit(work, p.dark, workspace)
        return _added(night, "dark", work.label, future)
    if isinstance(work, BpmSet):
        return _added(night, "bpm", work.label, build_bpm.submit(work, p.bpm, workspace))
    if isinstance(work, FlatSet):
        kinds = KINDS["flat"].made_with(thermal=work.thermal)
        chosen: Any = choose_calibrations.submit(
            work.label, work.first, kinds, built, night.options.choice, workspace
        )
        night.add("flat", work.label, chosen)
        return _added(night, "flat", work.label, build_flat.submit(work, chosen, p.flat, workspace))
    choosing: Any = choose_calibrations.submit(
        work.label, work.frames, KINDS["image"].made_with(), built, night.options.choice, workspace
    )
    return submit_stack(night, work, choosing)


def _added(night: Night, step: str, label: str, future: Any) -> PrefectFuture[Any]:
    done: PrefectFuture[Any] = night.add(step, label, future)
    return done


def _reference(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {
            "id": str(product.id), "kind": product.kind, "name": product.name, "sha256": product.sha256,
            "recipe_key": product.recipe_key, "reused": True,
        }
    )  # fmt: skip
