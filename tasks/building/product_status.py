"""The status of a product that is delivered or used, and its consequences."""

from __future__ import annotations

import logging

from calib_store.curation.certify import certify_compared, status_as_of
from calib_store.curation.objections import objections
from calib_store.model.records import Product
from imaging.errors import StoreError
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


def not_rejected(product: Product | None, workspace: Workspace) -> Product | None:
    """Return a product unless it is rejected; None stays None.

    Raises
    ------
    StoreError
        If a user rejected it: made again, it would be the same.
    """
    if product is None or (workspace.as_of is None and product.status != "rejected"):
        return product
    change = status_as_of(workspace.store(), product, workspace.as_of)
    if change.status == "rejected":
        raise StoreError(
            f"{product.name} was rejected by {change.author} on {change.changed_at:%Y-%m-%d %H:%M}: {change.reason}.",
            remedy="Use other frames, or reinstate it: nirflow cal reinstate "
            f"{product.short_id} --reason WHY",
        )
    return product


def confirmed(product: Product, provisional: str | None, workspace: Workspace) -> Product:
    """Return the product, no longer provisional if an ordinary run would make the same one.

    Parameters
    ----------
    provisional
        The reason why it would be provisional if this run made it, or None.
    """
    if product.provisional is None or provisional is not None:
        return product
    return workspace.store().confirm(product)


def certified(product: Product, workspace: Workspace) -> Product:
    """Return the product, certified if it passed the comparison, this is wanted and no user has decided about
    it.

    This also completes the work of a run that was killed before it certified the product.
    """
    if not workspace.parameters.gate.certify or product.gate is None or not product.gate["passed"]:
        return product
    if product.status != "candidate" or workspace.as_of is not None:
        return product
    store = workspace.store()
    if {change.status for change in store.history(product)} != {"candidate"}:
        return product
    try:
        return certify_compared(store, product, f"within the limits of {product.gate['reference']['name']}")
    except StoreError as error:
        logger.warning("%s stays a candidate: %s", product.name, error)
        return product


def warnings_of(product: Product, workspace: Workspace) -> tuple[str, ...]:
    """Return what its users have to know: the objections to it, and who superseded it.

    The reason why it is provisional has been recorded in the product itself.
    """
    if workspace.as_of is not None:
        return ()
    ordinary = product.model_copy(update={"provisional": None})
    return tuple(f"it {text}" for text in objections(workspace.store(), ordinary))
