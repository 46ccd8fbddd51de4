"""Status of products and frames: who certified, rejected or superseded which, for what time, and why.

Every change is logged, so that a past choice can be repeated. A change has its own id: if it is repeated because the
answer to the first attempt was lost, it is done only once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.range import TimestamptzRange
from sqlalchemy import ColumnElement, Connection, ScalarSelect, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from calib_store.model.records import Frame, Product, Status, StatusChange
from calib_store.rules.rules import Configuration, RuleSet
from calib_store.tables import succession
from calib_store.tables.frames import plain_text
from calib_store.tables.locks import CERTIFYING, changes_alone, keep
from calib_store.tables.rulebook import active_rules, near_configurations
from calib_store.tables.schema import configurations, frame_history, products, status_history
from calib_store.tables.status_log import log_status
from imaging.errors import StoreError
from imaging.kinds import CALIBRATIONS, in_a_sentence, such_a

Validity = tuple[datetime | None, datetime | None]


def set_status(
    connection: Connection,
    product: Product,
    status: Status,
    *,
    author: str,
    reason: str,
    validity: Validity | None = None,
    change: UUID | None = None,
    by: UUID | None = None,
    because: str | None = None,
) -> None:
    """Change a product's status and log who did it and why; see `calib_store.store.Store.set_status`."""
    start, end = validity if validity is not None else (None, None)
    if start is not None and end is not None and start >= end:
        raise StoreError(
            f"{product.name} cannot be valid from {start} to {end}: the validity ends before it begins.",
            remedy="Give an end that is later than the beginning.",
        )
    span = None if validity is None else TimestamptzRange(start, end)
    if status == "certified":
        keep(connection)  # the rules determine whether certifications overlap
    changes_alone(connection)
    # The log has simultaneous changes in the order in which the row took them.
    connection.execute(select(products.c.id).where(products.c.id == product.id).with_for_update())
    if not log_status(
        connection,
        product.id,
        status,
        span,
        author=author,
        reason=reason,
        change=change,
        by=by,
        because=because,
    ):
        return
    if status == "certified" and validity is not None:
        near = alike(connection, product)
        if len(near) > 1:  # the constraint covers a single configuration
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CERTIFYING})
            if overlapping(connection, near, validity, but=product.id):
                raise _overlap(connection, product, validity)
    try:
        with connection.begin_nested():
            connection.execute(
                update(products).where(products.c.id == product.id).values(status=status, validity=span)
            )
    except IntegrityError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        if constraint == "products_certified_once":
            raise _overlap(connection, product, validity) from error
        raise StoreError(
            f"{product.name} cannot become {status} with the validity {validity}: {constraint} forbids it.",
            remedy="Only a certified product has a validity, which must not be empty; an image has none.",
        ) from error
    succession.reexamine(connection, succession.descendants_and(connection, product.id))


def overlapping(
    connection: Connection, alike: Sequence[int], validity: Validity, *, but: UUID
) -> Sequence[Any]:
    """Return rows (id, name, validity, middle) of products certified for part of a validity, in order of time.

    ``alike`` are the rows of their configurations.
    """
    return connection.execute(
        select(products.c.id, products.c.name, products.c.validity, products.c.middle)
        .where(
            products.c.configuration_id.in_(alike), products.c.status == "certified",
            products.c.id != but, products.c.validity.op("&&")(TimestamptzRange(*validity)),
        )
        .order_by(text("lower(validity) NULLS FIRST"))
    ).all()  # fmt: skip


def _overlap(connection: Connection, product: Product, validity: Validity | None) -> StoreError:
    near = alike(connection, product)
    others = overlapping(connection, near, validity or (None, None), but=product.id)
    others = "; ".join(
        f"{row.name} ({str(row.id)[:8]}) for {validity_text((row.validity.lower, row.validity.upper))}"
        for row in others
    )
    return StoreError(
        f"{product.name} cannot be certified for {validity_text(validity)}: another {product.kind} of the same "
        f"configuration is certified for part of that time: {others or 'by another process at this moment'}.",
        remedy="Choose a time that does not overlap (--from, --to), supersede the other one first, or share the "
        "time between them (--take-over).",
    )


def alike(connection: Connection, product: Product) -> Sequence[int]:
    """Return the configurations that the rule of a product cannot distinguish from its own, which comes first.

    Raises
    ------
    StoreError
        For an image, which serves no frame.
    """
    row = connection.execute(
        select(configurations.c.rule, configurations.c.kind, configurations.c["keys"])
        .join(products, products.c.configuration_id == configurations.c.id)
        .where(products.c.id == product.id)
    ).one_or_none()
    if row is None:
        raise StoreError(
            f"{product.name} serves no frame: no rule applies to {such_a(product.kind)}.",
            remedy=f"Only {in_a_sentence((kind.plural for kind in CALIBRATIONS), 'and')} can be certified.",
        )
    return near_configurations(connection, active_rules(connection), Configuration(*row))


def certified_like(connection: Connection, rules: RuleSet, configuration: Configuration) -> Sequence[UUID]:
    """Return the ids of the certified products of a configuration, within the tolerance of its rule."""
    numbers = near_configurations(connection, rules, configuration)
    return connection.scalars(
        select(products.c.id)
        .where(products.c.configuration_id.in_(numbers), products.c.status == "certified")
        .order_by(products.c.middle, products.c.id)
    ).all()


def changed_with(connection: Connection, product: UUID) -> Sequence[UUID]:
    """Return the ids of other products that a product replaced or took time from in its latest change of status."""
    own = (
        select(status_history.c.id)
        .where(status_history.c.product_id == product)
        .order_by(status_history.c.id.desc())
        .offset(1)
        .limit(1)
    )
    query = select(status_history.c.product_id).where(
        status_history.c.by_product == product, status_history.c.id > own.scalar_subquery()
    )
    return connection.scalars(query.order_by(status_history.c.id)).all()


def superseded_by(connection: Connection, product: UUID) -> Sequence[UUID]:
    """Return the ids of the products that a product supersedes at present by the store's own rules."""
    changed = select(status_history.c.product_id).where(
        status_history.c.by_product == product, status_history.c.automatic
    )
    query = select(products.c.id).where(
        products.c.id.in_(changed),
        products.c.status == "superseded",
        _last(status_history.c.by_product) == product,
    )
    return connection.scalars(query.order_by(products.c.middle, products.c.id)).all()


def _last(column: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return a column of the latest entry of a product's log."""
    of_product = select(column).where(status_history.c.product_id == products.c.id)
    return of_product.order_by(status_history.c.id.desc()).limit(1).scalar_subquery()


def changed_because(connection: Connection, what: str, status: Status) -> Sequence[UUID]:
    """Return the ids of the products whose latest status the store set because of some product or frame."""
    changed = select(status_history.c.product_id).where(status_history.c.because == what)
    query = select(products.c.id).where(
        products.c.id.in_(changed), products.c.status == status, _last(status_history.c.because) == what
    )
    return connection.scalars(query.order_by(products.c.middle, products.c.id)).all()


def set_frame_status(
    connection: Connection, frame: Frame, status: str, *, author: str, reason: str, change: UUID | None = None
) -> None:
    """Set the status of a raw frame: rejected, or usable again."""
    changes_alone(connection)
    values = {
        "change": change or uuid.uuid4(), "frame_sha256": frame.sha256, "status": status,
        "author": plain_text(author), "reason": plain_text(reason),
    }  # fmt: skip
    connection.execute(upsert(frame_history).values(values).on_conflict_do_nothing(index_elements=["change"]))
    succession.reexamine(connection, succession.descendants_and(connection, frame.sha256))


def frame_status_history(connection: Connection, sha256: str) -> tuple[StatusChange, ...]:
    """Return the users' decisions about a raw frame, earliest first."""
    rows = connection.execute(
        select(frame_history).where(frame_history.c.frame_sha256 == sha256).order_by(frame_history.c.id)
    )
    return tuple(StatusChange(r.status, None, r.author, r.reason, r.changed_at) for r in rows)


def status_text(status: str, validity: Validity | None) -> str:
    """Return a status as text, with the validity of a certified one."""
    return status if validity is None else f"{status} for {validity_text(validity)}"


def validity_text(validity: Validity | None) -> str:
    """Return a validity as text."""
    if validity is None:
        return "no time"
    start, end = validity
    if start is None and end is None:
        return "all time"
    if start is None:
        return f"all time until {end:%Y-%m-%d %H:%M}"
    if end is None:
        return f"{start:%Y-%m-%d %H:%M} on"
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
