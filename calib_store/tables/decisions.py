"""Decisions: which product was taken for which frame, and what else was considered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.dialects.postgresql import insert

from calib_store.model.records import Decision
from calib_store.tables.frames import plain_json
from calib_store.tables.schema import decisions, frames, products


def record(connection: Connection, made: Sequence[Decision], act: UUID) -> None:
    """Write decisions in one statement, whatever their number; the same act is written only once."""
    if made:
        connection.execute(
            insert(decisions).on_conflict_do_nothing(), [_row(decision) | {"act": act} for decision in made]
        )


def of_frame(connection: Connection, sha256: str, limit: int = 50) -> Sequence[Row[Any]]:
    """Return the decisions about a raw frame, latest first, each with the product's name and status."""
    return connection.execute(
        select(decisions, products.c.name, products.c.status)
        .join_from(decisions, products, decisions.c.product_id == products.c.id, isouter=True)
        .where(decisions.c.frame_sha256 == sha256)
        .order_by(decisions.c.id.desc())
        .limit(limit)
    ).all()


def of_product(connection: Connection, product: UUID, limit: int = 50) -> Sequence[Row[Any]]:
    """Return the decisions by which a product was taken, latest first, each with the frame's name."""
    return connection.execute(
        select(decisions, frames.c.name)
        .join_from(decisions, frames, decisions.c.frame_sha256 == frames.c.sha256)
        .where(decisions.c.product_id == product)
        .order_by(decisions.c.id.desc())
        .limit(limit)
    ).all()


def last_by_rules(connection: Connection, version: str) -> Sequence[Row[Any]]:
    """Return frame, kind and product of the latest choice for each frame and kind, if it was made by those rules.

    Overrides by users and choices as of an earlier time are skipped: the choice before them still counts.
    """
    last = (
        select(decisions)
        .distinct(decisions.c.frame_sha256, decisions.c.kind)
        .where(decisions.c.as_of.is_(None), decisions.c.override_author.is_(None))
        .order_by(decisions.c.frame_sha256, decisions.c.kind, decisions.c.id.desc())
        .subquery()
    )
    query = select(last.c.frame_sha256, last.c.kind, last.c.product_id)
    return connection.execute(query.where(last.c.rules_version == version)).all()


def count_of_product(connection: Connection, product: UUID) -> int:
    """Return for how many frames a product was taken."""
    query = select(func.count(decisions.c.frame_sha256.distinct())).where(decisions.c.product_id == product)
    return int(connection.scalar(query) or 0)


def _row(decision: Decision) -> dict[str, Any]:
    override = decision.override
    return {
        "frame_sha256": decision.frame_sha256,
        "kind": decision.match.kind,
        "product_id": decision.product.id if decision.product is not None else None,
        "rules_version": decision.match.rules_version,
        "as_of": decision.match.as_of,
        "candidates": plain_json([candidate.as_json() for candidate in decision.match.candidates]),
        "override_author": override.author if override is not None else None,
        "override_reason": override.reason if override is not None else None,
        "flow_run_id": decision.flow_run_id,
    }
