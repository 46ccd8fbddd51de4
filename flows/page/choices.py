"""The calibrations of a group, their distances in time, and why no others were chosen, as recorded in the
store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from calib_store.model.records import Match
from calib_store.store import Store
from calib_store.tables import decisions
from calib_store.tables import products as product_rows
from flows.page.model import Chosen, Group, NightFrame, NotTaken

#: Number of products near in time to list for each kind although they do not serve.
_NEAREST: Final = 3
_MOST_OTHERS: Final = 6


def with_choices(store: Store, group: Group, frames: Mapping[str, NightFrame]) -> Group:
    """Return the group with the calibrations of its middle frame; unchanged if it needs none.

    One choice, made for the frame in its middle, applies to the group. ``frames`` are keyed by sha256.
    """
    frame = frames.get(group.middle)
    if frame is None or not group.needs:
        return group
    return replace(group, chosen=tuple(_chosen(store, group, frame)))


def _chosen(store: Store, group: Group, frame: NightFrame) -> Iterator[Chosen]:
    rows = store.database.run(lambda connection: decisions.of_frame(connection, frame.sha256))
    ids = [row.product_id for row in rows if row.product_id is not None]
    taken = {
        p.id: p for p in store.database.run(lambda c: product_rows.with_ids(c, list(dict.fromkeys(ids))))
    }
    for kind in group.needs:
        row = next((one for one in rows if one.kind == kind), None)
        if group.waits_for == kind:
            row = None  # an earlier run may have found one that has been rejected since
        match = store.explain(frame.facts, kind, limit=_NEAREST)
        recorded = [one for one in row.candidates if not one["taken"]] if row is not None else []
        rejected = [NotTaken(one["name"], one["status"], one["reason"]) for one in recorded]
        there = {one["product"] for one in (row.candidates if row is not None else ())}
        rejected += [
            NotTaken(one.product.name, one.product.status, one.reason)
            for one in match.candidates
            if not one.serves and str(one.product.id) not in there
        ]
        others = tuple(rejected[:_MOST_OTHERS])
        if row is None:
            yield Chosen(kind, None, others=others, now=_now(match))
        else:
            yield _from(row, taken, frame, others)


def _from(row: Any, taken: Mapping[UUID, Any], frame: NightFrame, others: tuple[NotTaken, ...]) -> Chosen:
    product = taken.get(row.product_id)
    reason = next((one["reason"] for one in row.candidates if one["taken"]), "none served")
    if row.override_reason is not None:
        reason = f"{row.override_author}: {row.override_reason}"
    days = (product.middle - frame.facts.middle) / timedelta(days=1) if product is not None else None
    return Chosen(
        row.kind,
        row.name,
        status=row.status or "",
        days=days,
        why=reason.removeprefix("taken: "),
        rules=row.rules_version,
        others=others,
    )


def _now(match: Match) -> str:
    return f"{match.product.name} serves now" if match.product is not None else "none serves"
