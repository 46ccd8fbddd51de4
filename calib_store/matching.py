"""Which product serves a frame, and why not another: the choice and its explanation.

The hard rules and the order are one SQL query (`serving`); `judge` tells the same rules in words, one
product at a time. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from calib_store.objects import ObjectStore
from calib_store.products import to_product
from calib_store.records import Candidate, Product
from calib_store.rules import (
    configurations_of_frame,
    first_difference,
    rule_named,
    rules_for,
    time_difference,
)
from imaging.facts import FrameFacts

#: Candidates that a choice records; the first is taken.
_SERVING_LIMIT = 16

#: What a product was at the moment asked about: now, or by the log of its status.
_STATE_NOW = "(SELECT p.status, p.validity) s"
_STATE_AS_OF = """LATERAL (
        SELECT h.status, h.validity FROM status_history h
        WHERE h.product_id = p.id AND h.changed_at <= :as_of
        ORDER BY h.changed_at DESC, h.id DESC LIMIT 1) s"""

_COLUMNS = """p.id, p.kind, p.name, p.sha256, p.size, p.recipe_key, s.status, s.validity, c.rule,
        c.keys AS configuration_keys, p.span_start, p.span_end, p.middle, p.facts, p.metrics, p.parameters,
        p.algorithm_version, p.software_version, p.flow_run_id, p.preview, p.made_at, p.damaged"""

_ORDER = """(s.status = 'certified') DESC, (p.id = ANY(CAST(:prefer AS uuid[]))) DESC,
        abs(extract(epoch FROM p.middle - :middle)), p.middle > :middle, p.made_at DESC, p.id"""

_SERVING = """
    SELECT {columns}
    FROM unnest(CAST(:digests AS text[]), CAST(:windows AS interval[]), CAST(:afters AS boolean[]))
            AS r(digest, time_window, only_after)
    JOIN configurations c ON c.digest = r.digest
    JOIN products p ON p.configuration_id = c.id
    CROSS JOIN {state}
    WHERE NOT p.damaged AND (
        (s.status = 'certified' AND s.validity @> CAST(:middle AS timestamptz))
        OR (s.status = 'candidate'
            AND (NOT r.only_after OR p.span_start <= :middle)
            AND (r.time_window IS NULL
                 OR p.middle BETWEEN :middle - r.time_window AND :middle + r.time_window)))
    ORDER BY {order}
    LIMIT :limit
"""

_OF_KIND = """
    SELECT {columns}
    FROM products p
    LEFT JOIN configurations c ON c.id = p.configuration_id
    CROSS JOIN {state}
    WHERE p.kind = :kind
    ORDER BY {order}
    LIMIT :limit
"""


def _queries(template: str) -> dict[bool, Any]:
    """The query for now and the one for a moment in the past."""
    states = {False: f"LATERAL {_STATE_NOW}", True: _STATE_AS_OF}
    return {
        past: text(template.format(columns=_COLUMNS, state=state, order=_ORDER))
        for past, state in states.items()
    }


_SERVING_QUERIES = _queries(_SERVING)
_OF_KIND_QUERIES = _queries(_OF_KIND)


def serving(
    connection: Connection,
    facts: FrameFacts,
    kind: str,
    objects: ObjectStore,
    *,
    as_of: datetime | None,
    prefer: Sequence[UUID],
) -> list[Product]:
    """The products of ``kind`` that serve the frame, best first.

    Certified before candidate, then those in ``prefer``, then the nearest in time, earlier before later,
    newest made, id: no two products are equal in this order.
    """
    configurations = configurations_of_frame(kind, facts)
    rules = [rule_named(c.rule) for c in configurations]
    values: dict[str, Any] = {
        "digests": [c.digest for c in configurations],
        "windows": [rule.window for rule in rules],
        "afters": [rule.direction == "after" for rule in rules],
        "middle": facts.middle,
        "prefer": list(prefer),
        "limit": _SERVING_LIMIT,
    }
    return _products(connection, _SERVING_QUERIES, values, as_of, objects)


def of_kind(
    connection: Connection,
    facts: FrameFacts,
    kind: str,
    objects: ObjectStore,
    *,
    as_of: datetime | None,
    prefer: Sequence[UUID],
    limit: int,
) -> list[Product]:
    """Products of ``kind``, whether they serve the frame or not, in the order of `serving`."""
    rules_for(kind)
    values = {"kind": kind, "middle": facts.middle, "prefer": list(prefer), "limit": limit}
    return _products(connection, _OF_KIND_QUERIES, values, as_of, objects)


def _products(
    connection: Connection,
    queries: dict[bool, Any],
    values: dict[str, Any],
    as_of: datetime | None,
    objects: ObjectStore,
) -> list[Product]:
    if as_of is not None:
        values["as_of"] = as_of
    return [to_product(row, objects) for row in connection.execute(queries[as_of is not None], values)]


def judge(product: Product, facts: FrameFacts) -> str | None:
    """The first rule that a product fails for a frame, with both values; None when it serves."""
    if product.rule is None:
        return f"a {product.kind} serves no frame"
    rule = rule_named(product.rule)
    difference = first_difference(rule, product.keys, facts)
    if difference is not None:
        return difference
    if product.status not in ("candidate", "certified"):
        return f"status {product.status}"
    if product.damaged:
        return "its file is missing or damaged"
    if product.validity is not None:
        start, end = product.validity
        if (start is not None and facts.middle < start) or (end is not None and facts.middle >= end):
            return f"valid {_moment(start)} to {_moment(end)}, frame {_moment(facts.middle)}"
        return None
    return time_difference(rule, product.middle, product.span[0], facts.middle)


def rank(product: Product, facts: FrameFacts, prefer: Sequence[UUID]) -> tuple[Any, ...]:
    """The order of `serving` as a key to sort by: smallest first."""
    return (
        product.status != "certified",
        product.id not in prefer,
        abs(product.middle - facts.middle),
        product.middle > facts.middle,
        -product.made_at.timestamp(),
        product.id,
    )


_ORDER_WORDS = (
    "a candidate; a certified one was taken",
    "not of this night's own frames; one of them was taken",
    "",
    "as near in time but later",
    "as near in time but made earlier",
    "equal but for its id",
)


def told(
    considered: Sequence[tuple[Product, str | None]],
    taken: Product | None,
    facts: FrameFacts,
    prefer: Sequence[UUID],
) -> tuple[Candidate, ...]:
    """Candidates with the reason each was or was not taken; a reason given is that of a failed rule."""
    candidates = []
    for product, failure in considered:
        if failure is not None:
            candidates.append(Candidate(product, serves=False, taken=False, reason=failure))
        elif taken is not None and product.id == taken.id:
            candidates.append(Candidate(product, True, True, f"taken: {_distance(product, facts)}"))
        else:
            candidates.append(Candidate(product, True, False, _outranked(product, taken, facts, prefer)))
    return tuple(candidates)


def _outranked(product: Product, taken: Product | None, facts: FrameFacts, prefer: Sequence[UUID]) -> str:
    if taken is None:
        return "serves"
    pairs = zip(rank(product, facts, prefer), rank(taken, facts, prefer), strict=True)
    first = next(i for i, (own, best) in enumerate(pairs) if own != best)
    if _ORDER_WORDS[first]:
        return _ORDER_WORDS[first]
    return f"{_distance(product, facts)}; the one taken {_distance(taken, facts)}"


def _distance(product: Product, facts: FrameFacts) -> str:
    gap = product.middle - facts.middle
    side = "before" if gap < timedelta(0) else "after"
    hours = abs(gap) / timedelta(hours=1)
    return f"{hours:.1f} hours {side}" if hours < 48 else f"{hours / 24:.1f} days {side}"


def _moment(moment: datetime | None) -> str:
    return "always" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
