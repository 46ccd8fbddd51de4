"""The comparison of a new master with the certified one, which is made whenever a master is added."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from calib_store.model.records import Product, Tier
from calib_store.store import Store
from calib_store.tables import products, rulebook, status
from imaging.calibrations.compare import COMPARED, Comparison, GateParameters, compare
from imaging.errors import NirflowError, StoreError
from imaging.frames.facts import FrameFacts
from imaging.kinds import KINDS, in_a_sentence
from imaging.products.product_file import ProductFile

logger = logging.getLogger(__name__)


def reference_for(
    store: Store, kind: str, facts: FrameFacts, *, but: Product | None = None, published: bool = False
) -> Product | None:
    """Return the certified product that a new one is compared with, or None.

    It is the nearest in time to ``facts`` of those of the same configuration, except `but`.
    """

    def ask(connection: Connection) -> Product | None:
        rules = rulebook.active_rules(connection)
        configuration = rules.configuration(kind, facts, published=published)
        if configuration is None:
            return None
        found = products.with_ids(connection, status.certified_like(connection, rules, configuration))
        others = [one for one in found if one.tier is not Tier.TAINTED and (but is None or one.id != but.id)]
        return min(others, key=lambda p: (abs(p.middle - facts.middle), p.id), default=None)

    return store.database.run(ask)


def verdict(
    store: Store,
    kind: str,
    file: Path,
    facts: FrameFacts,
    parameters: GateParameters,
    *,
    published: bool = False,
) -> dict[str, Any] | None:
    """Compare a file that will become a product; return the record for the store, or None for an image.

    Returns
    -------
    dict or None
        ``passed`` (true, false, or null if there is nothing to compare with), ``reasons``, ``figures``
        and ``reference`` (id and name).
    """
    if KINDS[kind].comparison is None:
        return None
    reference = reference_for(store, kind, facts, published=published)
    if reference is None:
        why = f"no {kind} of this configuration is certified, so there is nothing to compare with"
        return {"passed": None, "reasons": [why], "figures": {}, "reference": None}
    try:
        with ProductFile(file) as new:
            done = compared(store, kind, new, reference, parameters)
    except NirflowError as error:  # the reference is damaged or of another shape: inconclusive
        named = {"id": str(reference.id), "name": reference.name}
        return {"passed": None, "reasons": [str(error)], "figures": {}, "reference": named}
    if not done.passed:
        logger.warning("%s differs from %s: %s", file.name, reference.name, "; ".join(done.reasons))
    return noted(done, reference)


def doubted(gate: dict[str, Any] | None, doubts: Sequence[str]) -> dict[str, Any] | None:
    """Return the record of a comparison for a product that its own frames make doubtful, whatever the comparison found.

    It names no reference: the doubt remains if that one is no longer certified.
    """
    if not doubts:
        return gate
    found = gate or {}
    reasons = found.get("reasons", ()) if found.get("passed") is False else ()
    return {
        "passed": False, "reasons": [*doubts, *reasons], "figures": found.get("figures", {}), "reference": None,
    }  # fmt: skip


def noted(done: Comparison, reference: Product) -> dict[str, Any]:
    """Return a comparison in the form in which the store keeps it."""
    return {
        "passed": done.passed, "reasons": list(done.reasons), "figures": done.figures,
        "reference": {"id": str(reference.id), "name": reference.name},
    }  # fmt: skip


def record_comparison(store: Store, product: Product, reference: Product, done: Comparison) -> Product:
    """Replace the recorded comparison of a product.

    Raises
    ------
    StoreError
        If the reference is not certified: the result would not count.
    """
    if reference.status != "certified":
        raise StoreError(
            f"{reference.name_and_id} is {reference.status}; only a comparison with a certified product is recorded.",
            remedy="Compare without --record, or certify it first.",
        )
    store.database.run(
        lambda connection: products.set_comparison(connection, product, noted(done, reference))
    )
    return store.get(product.id)


def compared(
    store: Store, kind: str, new: ProductFile, reference: Product, parameters: GateParameters
) -> Comparison:
    """Compare an open product with one of the store."""
    with ProductFile(store.file_of(reference)) as file:
        return compare(kind, new, file, parameters)


def compare_products(
    store: Store, product: Product, other: Product | None, parameters: GateParameters
) -> tuple[Product, Comparison]:
    """Compare a product of the store with another, or with the certified one nearest in time.

    Returns
    -------
    tuple of Product and Comparison
        The reference and the result of the comparison.

    Raises
    ------
    StoreError
        If there is nothing to compare with, or the kinds differ.
    """
    if product.kind not in KINDS or KINDS[product.kind].comparison is None:
        raise StoreError(
            f"{product.name} is a {product.kind}; only {in_a_sentence(COMPARED, 'and')} can be compared.",
            remedy="Name one of these.",
        )
    if other is None:
        facts = FrameFacts.model_validate(product.facts)
        other = reference_for(store, product.kind, facts, but=product, published=product.published)
    if other is None:
        raise StoreError(
            f"No other {product.kind} of the configuration of {product.name} is certified.",
            remedy="Name one to compare with: --with ID.",
        )
    if other.kind != product.kind:
        raise StoreError(
            f"{product.name} is a {product.kind} and {other.name} a {other.kind}.",
            remedy="Compare two products of the same kind.",
        )
    with ProductFile(store.file_of(product)) as new:
        return other, compared(store, product.kind, new, other, parameters)
