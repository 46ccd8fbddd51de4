"""The status log of products: every change, with its author and reason."""

from __future__ import annotations

import uuid
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as upsert

from calib_store.model.records import StatusChange
from calib_store.tables.frames import plain_text
from calib_store.tables.schema import status_history


def log_status(
    connection: Connection,
    product: UUID,
    status: str,
    validity: object,
    *,
    author: str,
    reason: str,
    change: UUID | None = None,
    by: UUID | None = None,
    because: str | None = None,
    automatic: bool = False,
) -> bool:
    """Add an entry to a product's log, and return whether the change is new."""
    values = {
        "change": change or uuid.uuid4(), "product_id": product, "status": status, "validity": validity,
        "author": plain_text(author), "reason": plain_text(reason), "by_product": by, "because": because,
        "automatic": automatic,
    }  # fmt: skip
    write = upsert(status_history).values(values).on_conflict_do_nothing(index_elements=["change"])
    return connection.execute(write.returning(status_history.c.id)).one_or_none() is not None


def history(connection: Connection, product: UUID) -> tuple[StatusChange, ...]:
    """Return the status log of a product, earliest entry first."""
    rows = connection.execute(
        select(status_history).where(status_history.c.product_id == product).order_by(status_history.c.id)
    )
    return tuple(
        StatusChange(
            r.status, (r.validity.lower, r.validity.upper) if r.validity is not None else None,
            r.author, r.reason, r.changed_at, r.by_product, r.because, r.automatic,
        )
        for r in rows
    )  # fmt: skip
