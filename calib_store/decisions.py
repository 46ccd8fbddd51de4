"""Decisions: which product was taken for which frame, and what else was considered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from calib_store.frames import plain_json
from calib_store.models import decisions
from calib_store.records import Decision


def record(connection: Connection, made: Sequence[Decision]) -> None:
    """Write decisions, in one statement whatever their number."""
    if made:
        connection.execute(insert(decisions), [_row(decision) for decision in made])


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
