"""Calibrations from the complete set, used in place of those from a part of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from calib_store.curation.supersets import made_of_more
from calib_store.model.records import Product
from imaging.kinds import KINDS
from tasks.support.references import ProductRef
from tasks.support.workspace import Workspace

if TYPE_CHECKING:
    from tasks.building.recipe import Recipe

logger = logging.getLogger(__name__)


def complete_set(recipe: Recipe, workspace: Workspace) -> Product | None:
    """Return a product made in the same way as ``recipe``, from its frames and more.

    None of these was left out by the checks of this run, which may differ from those of the run that made it.
    Return None for an image or mosaic, for a recipe with calibrations that a user named or did without, and for a store
    seen as of a moment: then the same recipe always gives the same product.
    """
    if (
        not KINDS[recipe.kind].is_calibration
        or recipe.calibrations.user_decisions()
        or workspace.as_of is not None
    ):
        return None
    store = workspace.store()
    found = made_of_more(
        store,
        recipe.kind,
        recipe.inputs,
        recipe.values,
        recipe.algorithm_version,
        left_out=workspace.left_out,
    )
    return store.intact(found)


def refer_to_complete_set(
    ref: ProductRef, product: Product, recipe: Recipe, workspace: Workspace
) -> ProductRef:
    """Return the reference with the frames that the product was actually made from, and a warning about it."""
    store = workspace.store()
    sources = [one.source for one in store.inputs_of(product)]
    known = store.frames.with_sha256s(source for source in sources if isinstance(source, str))
    names = tuple(known[source].name for source in sources if isinstance(source, str))
    given = {ingredient.frame.name for ingredient in recipe.ingredients}
    left_out = sorted(given.difference(names))
    more = len(set(names) - given)
    warning = f"used in place of a {recipe.kind} of the {len(given)} frames given: it was made from these"
    if left_out:
        warning += f" without {', '.join(left_out)}, which were left out as unlike the others,"
    if more:
        warning += f" and {more} more, all of them usable"
    logger.info("%s: %s is %s", recipe.label, product.name_and_id, warning)
    return ref.model_copy(update={"inputs": names, "warnings": (*ref.warnings, warning)})
