"""What the store says of a product that is delivered: rejected, superseded, doubtful; and what a run says of it."""

from __future__ import annotations

import logging

from calib_store.certify import certify, status_as_of, take_back
from calib_store.records import Product
from imaging.errors import StoreError
from tasks.workspace import Workspace

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


def counting(product: Product, workspace: Workspace) -> tuple[Product, str]:
    """The product, and what it takes its place back from where it was superseded because of what counts again."""
    if product.status != "superseded" or workspace.as_of is not None:
        return product, ""
    store = workspace.store()
    product, other = take_back(store, product)
    if product.status == "superseded":
        return product, ""
    logger.info("%s (%s) counts again", product.name, product.id)
    if any(change.status == "certified" for change in store.history(product)):
        logger.warning(
            "%s was certified and is a candidate: nirflow cal certify %s", product.name, product.short_id
        )
    told = other.told if other is not None else ""
    return product, told


def certified(product: Product, workspace: Workspace) -> Product:
    """The product, certified where it passed the comparison, that is wanted, and nobody has said anything of it yet.

    A run that was killed before it came to that is made up for by the next.
    """
    if not workspace.gate.certify or product.gate is None or not product.gate["passed"]:
        return product
    if product.status != "candidate" or workspace.as_of is not None:
        return product
    store = workspace.store()
    if {change.status for change in store.history(product)} != {"candidate"}:
        return product
    reason = f"within the limits of {product.gate['reference']['name']}"
    try:
        return certify(store, product, author="gate", reason=reason, take_over=True)
    except StoreError as error:
        logger.warning("%s stays a candidate: %s", product.name, error)
        return product


def warnings_of(product: Product, workspace: Workspace) -> tuple[str, ...]:
    """What whoever uses it has to know: why it stays a candidate, and who superseded it."""
    return (*_gate_warnings(product), *_superseded(product, workspace))


def _gate_warnings(product: Product) -> tuple[str, ...]:
    """Why it stays a candidate, where the comparison says so."""
    if not product.doubtful or product.gate is None:
        return ()
    reference = (product.gate.get("reference") or {}).get("name", "the certified one")
    return tuple(f"differs from {reference}, which is certified: {why}" for why in product.gate["reasons"])


def _superseded(product: Product, workspace: Workspace) -> tuple[str, ...]:
    """The word of a person who has superseded a product that is used all the same."""
    if product.status != "superseded" or workspace.as_of is not None:
        return ()
    said = workspace.store().history(product)[-1]
    return (
        f"superseded by {said.author} on {said.changed_at:%Y-%m-%d %H:%M}: {said.reason}. To have it count again: "
        f"nirflow cal reinstate {product.short_id} --reason WHY",
    )
