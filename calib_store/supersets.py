"""Products made of more than some inputs: a master of a complete set, when only a part of the set is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from calib_store import lineage, products
from calib_store.frames import plain_json, with_sha256s
from calib_store.models import inputs as table
from calib_store.records import Foreign, InputRef, Product, Tier
from calib_store.store import Store


def made_of_more(
    store: Store, kind: str, inputs: Sequence[InputRef], parameters: Mapping[str, Any], algorithm_version: str
) -> Product | None:
    """Find the product that was made in the same way of all these inputs and of others.

    A frame that was given to a product and left out of it by a figure is one of its set.

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

    Returns
    -------
    Product or None
        The one of the most inputs (certified before candidate, then the oldest), of those that count and serve like
        any other, whose file was not found damaged, and whose raw frames are all usable.
    """
    given = [ref.source for ref in inputs if isinstance(ref.source, str)]
    wanted = {(ref.role, ref.source) for ref in inputs}
    how = plain_json(parameters)

    def ask(connection: Connection) -> list[tuple[int, Product]]:
        found = []
        for product in _made_of(connection, given):
            same = (product.kind, product.parameters, product.algorithm_version) == (
                kind,
                how,
                algorithm_version,
            )
            if not same or not product.counts or product.damaged or product.tier >= Tier.PROVISIONAL:
                continue
            sources = lineage.inputs_of(connection, product.id)
            own: set[tuple[str, object]] = {(ref.role, ref.source) for ref in sources}
            own |= {(role, sha256) for sha256, role in product.metrics.get("given_as", {}).items()}
            known = not any(isinstance(source, Foreign) for _, source in own)
            if known and wanted < own and _is_usable(connection, product):
                found.append((len(own), product))
        return found

    found = store.database.read(ask) if given else []
    found.sort(key=lambda one: (-one[0], one[1].status != "certified", one[1].made_at, one[1].id))
    return found[0][1] if found else None


def _made_of(connection: Connection, frames: Sequence[str]) -> Sequence[Product]:
    """The products that are made of any of some frames."""
    query = select(table.c.product_id).where(table.c.frame_sha256.in_(frames)).distinct()
    return products.with_ids(connection, connection.scalars(query).all())


def _is_usable(connection: Connection, product: Product) -> bool:
    """Whether none of the raw frames of a product, in any generation, is rejected or in quarantine."""
    frames = with_sha256s(connection, lineage.lineage(connection, product.id).frames)
    return all(frame.rejected is None and frame.quarantine is None for frame in frames.values())
