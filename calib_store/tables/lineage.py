"""What a product was made from, through all generations, and what must be redone when an ancestor goes bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from calib_store.model.records import Foreign, InputRef, Lineage, LineageEdge
from calib_store.tables.schema import inputs
from imaging.errors import StoreError

#: An input of a product made elsewhere may have been added to the store later: it is recognized by its sha256.
OWN_FRAME = """coalesce(i.frame_sha256,
    (SELECT f.sha256 FROM frames f WHERE f.sha256 = substring(i.foreign_sum FROM '^sha256:(.*)')))"""
OWN_PRODUCT = """coalesce(i.input_product_id,
    (SELECT p.id FROM products p WHERE p.sha256 = substring(i.foreign_sum FROM '^sha256:(.*)')
     AND p.id <> i.product_id ORDER BY p.made_at, p.id LIMIT 1))"""

_UP = text(f"""
    WITH RECURSIVE up AS (
        SELECT 1 AS depth, i.product_id, i.ordinal, i.role, {OWN_FRAME} AS frame_sha256,
               {OWN_PRODUCT} AS input_product_id, i.foreign_name, i.foreign_sum
        FROM inputs i WHERE i.product_id = :product
      UNION
        SELECT up.depth + 1, i.product_id, i.ordinal, i.role, {OWN_FRAME}, {OWN_PRODUCT},
               i.foreign_name, i.foreign_sum
        FROM up JOIN inputs i ON i.product_id = up.input_product_id
    )
    SELECT up.*, coalesce(f.name, p.name, up.foreign_name) AS name
    FROM up LEFT JOIN frames f ON f.sha256 = up.frame_sha256
            LEFT JOIN products p ON p.id = up.input_product_id
    ORDER BY depth, product_id, ordinal
""")

#: All ancestors of a product. The query also ends if the lineage is circular.
_ANCESTORS = f"""
    WITH RECURSIVE up AS (
        SELECT {OWN_PRODUCT} AS id FROM inputs i WHERE i.product_id = :product
      UNION
        SELECT {OWN_PRODUCT} FROM up JOIN inputs i ON i.product_id = up.id
    )
    SELECT id FROM up"""
_IS_ITS_OWN_ANCESTOR = text(f"SELECT :product IN ({_ANCESTORS})")

_DOWN = text("""
    WITH RECURSIVE down AS (
        SELECT i.product_id, 1 AS depth FROM inputs i
        WHERE i.frame_sha256 = :frame OR i.input_product_id = :product OR i.foreign_sum = :foreign
      UNION
        SELECT i.product_id, down.depth + 1 FROM down JOIN products p ON p.id = down.product_id
        JOIN inputs i ON (i.input_product_id = p.id OR i.foreign_sum = 'sha256:' || p.sha256) AND i.product_id <> p.id
    )
    SELECT product_id FROM down GROUP BY product_id ORDER BY max(depth), product_id
""")


def add_inputs(connection: Connection, product: UUID, name: str, sources: Sequence[InputRef]) -> None:
    """Write what a product was made from.

    Raises
    ------
    StoreError
        If a frame or product is not in the store, or the product would be its own ancestor.
    """
    if not sources:
        return
    try:
        connection.execute(insert(inputs), [_row(product, n, ref) for n, ref in enumerate(sources)])
    except IntegrityError as error:
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None) or ""
        raise StoreError(
            f"{name} names an input that the store does not know: {detail}",
            remedy="Ingest the frames and add the products that it was made from first.",
        ) from error
    if connection.scalar(_IS_ITS_OWN_ANCESTOR, {"product": product}):
        raise StoreError(f"{name} is named as its own ancestor.", remedy="Export it again where it was made.")


def _row(product: UUID, ordinal: int, ref: InputRef) -> dict[str, Any]:
    foreign = ref.source if isinstance(ref.source, Foreign) else None
    return {
        "product_id": product,
        "ordinal": ordinal,
        "role": ref.role,
        "frame_sha256": ref.source if isinstance(ref.source, str) else None,
        "input_product_id": ref.source if isinstance(ref.source, UUID) else None,
        "foreign_name": foreign.name if foreign else None,
        "foreign_sum": foreign.checksum if foreign else None,
    }


def inputs_of(connection: Connection, product: UUID) -> tuple[InputRef, ...]:
    """Return what a product was made from, in order."""
    rows = connection.execute(select(inputs).where(inputs.c.product_id == product).order_by(inputs.c.ordinal))
    return tuple(InputRef(row.role, _source(row)) for row in rows)


def _source(row: Any) -> str | UUID | Foreign:
    if row.foreign_name is not None:
        return Foreign(row.foreign_name, row.foreign_sum)
    source: str | UUID = row.frame_sha256 or row.input_product_id
    return source


def lineage(connection: Connection, product: UUID) -> Lineage:
    """Return every frame, product and foreign file that a product was made from, through all generations."""
    rows = connection.execute(_UP, {"product": product})
    return Lineage(
        tuple(
            LineageEdge(
                r.depth, r.product_id, r.role, r.frame_sha256, r.input_product_id, r.name, r.foreign_sum or ""
            )
            for r in rows
        )
    )


def affected(connection: Connection, source: UUID | str) -> tuple[UUID, ...]:
    """Return all descendants of a product (its id) or a raw frame (its sha256).

    Each comes after its ancestors: the order in which to redo them.
    """
    product, frame = (source, None) if isinstance(source, UUID) else (None, source)
    sha256 = frame
    if product is not None:
        sha256 = connection.scalar(text("SELECT sha256 FROM products WHERE id = :id"), {"id": product})
    values = {"product": product, "frame": frame, "foreign": f"sha256:{sha256}"}
    return tuple(connection.scalars(_DOWN, values))
