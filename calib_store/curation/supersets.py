"""Products made from supersets of given inputs: the master of a complete set, when only part of it is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from calib_store.model.records import Foreign, InputRef, Product
from calib_store.store import Store
from calib_store.tables import lineage, products
from calib_store.tables.frames import any_of, plain_json, with_sha256s
from calib_store.tables.schema import inputs as table


def made_of_more(
    store: Store,
    kind: str,
    inputs: Sequence[InputRef],
    parameters: Mapping[str, Any],
    algorithm_version: str,
    *,
    left_out: Collection[str] = frozenset(),
) -> Product | None:
    """Find a product that was made in the same way from all these frames and others.

    Frames that it was given and left out, because they are unlike the others, belong to its set. It may have been made
    with another product of the same kind and parameters (a flat with another mask), as long as that one counts.

    Parameters
    ----------
    store
        The store.
    kind
        Kind of the product.
    inputs
        Frames and products with their roles.
    parameters, algorithm_version
        How it was made.
    left_out
        Frames (sha256) that the user's checks left out: no product made from one of them, in any generation, is
        returned.

    Returns
    -------
    Product or None
        The product with the most inputs (certified before candidate, then oldest), among those that count, are not
        provisional, are made from frames that agree, have an intact file as far as known, and have no ancestor that is
        rejected or in quarantine.
    """
    frames = [ref.source for ref in inputs if isinstance(ref.source, str)]
    if not frames:
        return None
    how = plain_json(parameters)

    def ask(connection: Connection) -> list[tuple[int, Product]]:
        found = []
        for product in _made_of(connection, frames):
            same = (product.kind, product.parameters, product.algorithm_version) == (
                kind,
                how,
                algorithm_version,
            )
            if not same or not product.counts or product.damaged or product.provisional is not None:
                continue
            if product.disputed:  # a user may be choosing among its frames
                continue
            more = _frames_more(connection, product, inputs)
            if more and _is_sound(connection, product, left_out):
                found.append((more, product))
        return found

    found = store.database.read(ask)
    found.sort(key=lambda one: (-one[0], one[1].status != "certified", one[1].made_at, one[1].id))
    return found[0][1] if found else None


def _frames_more(connection: Connection, product: Product, inputs: Sequence[InputRef]) -> int:
    """Return how many frames a product was given in addition to these inputs; 0 if it is not made from all of them."""
    refs = lineage.inputs_of(connection, product.id)
    if any(isinstance(ref.source, Foreign) for ref in refs):
        return 0
    given = {(ref.role, ref.source) for ref in refs if isinstance(ref.source, str)}
    given |= {(role, sha256) for sha256, role in product.metrics.get("given_as", {}).items()}
    wanted = {(ref.role, ref.source) for ref in inputs if isinstance(ref.source, str)}
    if not wanted < given:
        return 0
    its, asked = (
        products.with_ids(connection, [ref.source for ref in refs_ if isinstance(ref.source, UUID)])
        for refs_ in (refs, inputs)
    )
    alike = sorted((p.kind, p.variant) for p in its) == sorted((p.kind, p.variant) for p in asked)
    counting = all(p.counts for p in its if p not in asked)
    return len(given) - len(wanted) if alike and counting else 0


def _made_of(connection: Connection, frames: Sequence[str]) -> Sequence[Product]:
    """Return the products that are made from any of the frames."""
    query = select(table.c.product_id).where(table.c.frame_sha256 == any_of(frames)).distinct()
    return products.with_ids(connection, connection.scalars(query).all())


def _is_sound(connection: Connection, product: Product, left_out: Collection[str]) -> bool:
    """Return whether nothing that a product was made from, in any generation, was refused or left out."""
    origins = lineage.lineage(connection, product.id)
    if not set(left_out).isdisjoint(origins.frames):
        return False
    frames = with_sha256s(connection, origins.frames)
    ancestors = products.with_ids(connection, origins.products)
    return all(frame.rejected is None and frame.quarantine is None for frame in frames.values()) and all(
        ancestor.status != "rejected" for ancestor in ancestors
    )
