"""What the store says of a product that is delivered or used, and what follows for it."""

from __future__ import annotations

import logging

from calib_store.curation.certify import certify_compared, status_as_of
from calib_store.curation.objections import objections
from calib_store.model.records import Product
from imaging.errors import StoreError
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


def not_rejected(product: Product | None, workspace: Workspace) -> Product | None:
    """A product that the store has, if it has it.

    Raises
    ------
    StoreError
        Where a person rejected it: made again it would be the same.
    """
    if product is None or (workspace.as_of is None and product.status != "rejected"):
        return product
    said = status_as_of(workspace.store(), product, workspace.as_of)
    if said.status == "rejected":
        raise StoreError(
            f"{product.name} was rejected by {said.author} on {said.changed_at:%Y-%m-%d %H:%M}: {said.reason}.",
            remedy="Give other frames, or take the word back: nirflow cal reinstate "
            f"{product.short_id} --reason WHY",
        )
    return product


def confirmed(product: Product, provisional: str | None, workspace: Workspace) -> Product:
    """The product, which serves like any other from now on where an ordinary run would make the same.

    Parameters
    ----------
    provisional
        Why it would be provisional if this run made it, or None.
    """
    if product.provisional is None or provisional is not None:
        return product
    return workspace.store().confirm(product)


def certified(product: Product, workspace: Workspace) -> Product:
    """The product, certified where it passed the comparison, that is wanted, and nobody has decided about it yet.

    A run that was killed before it came to that is made up for by the next.
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
    """What whoever uses it has to know: what speaks against it, and who superseded it.

    Why it is provisional it says itself since it was made.
    """
    if workspace.as_of is not None:
        return ()
    ordinary = product.model_copy(update={"provisional": None})
    return tuple(f"it {text}" for text in objections(workspace.store(), ordinary))
