"""Which product serves a frame, and why not another: the choice and its explanation.

The hard rules and the order are one SQL query (`serving`); `judge` tells the same rules in words, one
product at a time. A test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from calib_store.products import to_product
from calib_store.records import Candidate, Product
from calib_store.rules import Rule, RuleSet
from imaging.facts import FrameFacts

#: Candidates that a choice records; the first is taken.
SERVING_LIMIT = 8

#: What a product was at the moment asked about: now, or by the log of its status.
_STATE_NOW = "(SELECT p.status, p.validity) s"
_STATE_AS_OF = """(
        SELECT h.status, h.validity FROM status_history h
        WHERE h.product_id = p.id AND h.changed_at <= :as_of
        ORDER BY h.changed_at DESC, h.id DESC LIMIT 1) s"""

_COLUMNS = """p.id, p.kind, p.name, p.sha256, p.size, p.recipe_key, s.status, s.validity, c.rule,
        c.keys AS configuration_keys, p.span_start, p.span_end, p.middle, p.facts, p.metrics, p.parameters,
        p.algorithm_version, p.software_version, p.flow_run_id, p.gate, p.published, p.made_at, p.damaged"""

_ORDER = """(s.status = 'certified') DESC, (p.id = ANY(CAST(:prefer AS uuid[]))) DESC, p.doubtful,
        abs(extract(epoch FROM p.middle - :middle)), p.middle > :middle, p.made_at DESC, p.id"""

#: The rules for the kind, each with the frame's values: those to be equal, and those to be near.
_RULES = """jsonb_to_recordset(CAST(:rules AS jsonb)) AS r(
        rule text, facts text[], same jsonb, near jsonb, days float8, frames text)"""

#: Whether a configuration is the one that the frame needs by a rule.
_FITS = """c.rule = r.rule AND c.facts = r.facts AND c.keys @> r.same AND NOT EXISTS (
            SELECT FROM jsonb_each(r.near) n
            WHERE abs(CAST(c.keys ->> n.key AS float8) - CAST(n.value ->> 0 AS float8))
                  > CAST(n.value ->> 1 AS float8))"""

#: Now a product serves by the configuration that it has; what it served by earlier rules counts for choices of then.
_CURRENT_NOW, _CURRENT_AS_OF = "p.configuration_id = c.id", "true"

#: Nearest candidates of a configuration on one side in time, by the index on configuration, doubt and middle:
#: however long the store's history, no more of it is read. ``v.doubtful`` is what the product's gate says.
_SIDE = """
        (SELECT v.product_id FROM serves v JOIN products p ON p.id = v.product_id CROSS JOIN LATERAL {state}
         WHERE v.configuration_id = c.id AND v.doubtful = d.doubtful AND r.frames <> '{but}'
           AND {bounds} AND s.status = 'candidate' AND NOT p.damaged AND {current}
         ORDER BY v.middle {direction}, p.made_at DESC, p.id LIMIT :limit)"""
_BEFORE = """v.middle <= CAST(:middle AS timestamptz)
           AND v.middle >= coalesce(CAST(:middle AS timestamptz) - r.days * interval '1 day', '-infinity')"""
_AFTER = """v.middle > CAST(:middle AS timestamptz)
           AND v.middle <= coalesce(CAST(:middle AS timestamptz) + r.days * interval '1 day', 'infinity')"""

#: Certified at the moment asked about: now at most one of a configuration, by the exclusion's own index.
_CERTIFIED_NOW = """
        SELECT p.id FROM products p
        WHERE p.status = 'certified' AND p.validity @> CAST(:middle AS timestamptz)
          AND int8range(p.configuration_id, p.configuration_id, '[]') && int8range(c.id, c.id, '[]')"""
_CERTIFIED_AS_OF = """
        SELECT v.product_id FROM status_history h JOIN serves v ON v.product_id = h.product_id
        WHERE h.status = 'certified' AND h.validity @> CAST(:middle AS timestamptz) AND h.changed_at <= :as_of
          AND v.configuration_id = c.id"""

_SERVING = """
    SELECT {columns}
    FROM {rules}
    JOIN configurations c ON {fits}
    CROSS JOIN LATERAL (
        SELECT n.product_id FROM (VALUES (false), (true)) d (doubtful)
        CROSS JOIN LATERAL ({before} UNION ALL {after}) n
      UNION {certified}
      UNION
        SELECT v.product_id FROM serves v
        WHERE v.product_id = ANY(CAST(:prefer AS uuid[])) AND v.configuration_id = c.id
    ) n
    JOIN products p ON p.id = n.product_id
    CROSS JOIN LATERAL {state}
    WHERE NOT p.damaged AND {current} AND (
        (s.status = 'certified' AND s.validity @> CAST(:middle AS timestamptz))
        OR (s.status = 'candidate'
            AND (r.frames <> 'later' OR p.middle <= :middle)
            AND (r.frames <> 'earlier' OR p.middle >= :middle)
            AND (r.days IS NULL OR p.middle BETWEEN CAST(:middle AS timestamptz) - r.days * interval '1 day'
                                            AND CAST(:middle AS timestamptz) + r.days * interval '1 day')))
    ORDER BY {order}
    LIMIT :limit
"""

#: The products nearest in time, of the configurations that the frame needs, and of all.
_NEAREST = """
    SELECT {columns}
    FROM (
        SELECT n.product_id AS id FROM {rules}
        JOIN configurations c ON {fits}
        CROSS JOIN LATERAL (
            (SELECT product_id FROM serves WHERE configuration_id = c.id AND middle <= :middle
             ORDER BY middle DESC LIMIT :limit)
            UNION ALL
            (SELECT product_id FROM serves WHERE configuration_id = c.id AND middle > :middle
             ORDER BY middle LIMIT :limit)
        ) n
        UNION
        (SELECT id FROM products WHERE kind = :kind AND middle <= :middle ORDER BY middle DESC LIMIT :limit)
        UNION
        (SELECT id FROM products WHERE kind = :kind AND middle > :middle ORDER BY middle LIMIT :limit)
    ) nearest
    JOIN products p USING (id)
    LEFT JOIN LATERAL (
        SELECT c.rule, c.keys FROM serves v
        JOIN configurations c ON c.id = v.configuration_id
        JOIN {rules} ON r.rule = c.rule AND r.facts = c.facts
        WHERE v.product_id = p.id AND {current}
        ORDER BY c.id DESC LIMIT 1
    ) c ON true
    CROSS JOIN LATERAL {state}
    ORDER BY {order}
"""


def _queries(template: str) -> dict[bool, Any]:
    """The query for now and the one for a moment in the past."""
    queries = {}
    for past in (False, True):
        state = _STATE_AS_OF if past else _STATE_NOW
        current = _CURRENT_AS_OF if past else _CURRENT_NOW
        parts = {
            "current": current,
            "columns": _COLUMNS, "rules": _RULES, "fits": _FITS, "state": state, "order": _ORDER,
            "before": _SIDE.format(state=state, current=current, but="earlier", bounds=_BEFORE, direction="DESC"),
            "after": _SIDE.format(state=state, current=current, but="later", bounds=_AFTER, direction="ASC"),
            "certified": _CERTIFIED_AS_OF if past else _CERTIFIED_NOW,
        }  # fmt: skip
        queries[past] = text(template.format(**parts))
    return queries


_SERVING_QUERIES = _queries(_SERVING)
_NEAREST_QUERIES = _queries(_NEAREST)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a product of a kind for a frame.

    Parameters
    ----------
    facts
        The frame.
    kind
        Kind of the product.
    rules
        The rules to go by.
    as_of
        The moment whose knowledge counts; now without it.
    prefer
        Products that come before other candidates.
    """

    facts: FrameFacts
    kind: str
    rules: RuleSet
    as_of: datetime | None = None
    prefer: Sequence[UUID] = field(default=())

    def values(self, limit: int) -> dict[str, Any]:
        """Values of the queries' parameters."""
        rules = [_row(rule, self.facts) for rule in self.rules.for_kind(self.kind)]
        given = {
            "rules": json.dumps(rules), "kind": self.kind, "middle": self.facts.middle,
            "prefer": list(self.prefer), "limit": limit,
        }  # fmt: skip
        return given if self.as_of is None else given | {"as_of": self.as_of}


def _row(rule: Rule, facts: FrameFacts) -> dict[str, Any]:
    keys = rule.keys_of(facts)
    near = {name: (keys[name], tolerance) for name, tolerance in rule.tolerance.items() if tolerance}
    return {
        "rule": rule.name,
        "facts": sorted(keys),
        "same": {name: value for name, value in keys.items() if name not in near},
        "near": near,
        "days": rule.window_days,
        "frames": rule.frames,
    }


def serving(connection: Connection, wanted: Wanted, limit: int = SERVING_LIMIT) -> list[Product]:
    """The products that serve the frame, best first.

    Certified before candidate, then preferred ones, then those that did not fail the comparison with a
    certified one, then the nearest in time, earlier before later, newest made, id: no two products are equal
    in this order.
    """
    query = _SERVING_QUERIES[wanted.as_of is not None]
    return [to_product(row) for row in connection.execute(query, wanted.values(limit))]


def first_whole(
    ask: Callable[[int], tuple[Wanted, Sequence[Product]]],
    whole: Callable[[Product], bool],
    without: Collection[UUID],
) -> tuple[Wanted, Product | None, list[tuple[Product, str | None]]]:
    """The first product whose file is whole, and all that were looked at, each with what keeps it from being taken.

    Parameters
    ----------
    ask
        Gives what is wanted, and so many at the most of those that serve, best first.
    whole
        Whether a product's file is whole.
    without
        Products that are not to be taken.
    """
    looked_at: dict[UUID, tuple[Product, str | None]] = {}
    limit, taken = SERVING_LIMIT + len(without), None
    while True:
        wanted, found = ask(limit)
        for product in found:
            if product.id in looked_at:
                continue
            failure = None
            if product.id in without:
                failure = "made with something bad; it is being made again"
            elif taken is None and whole(product):
                taken = product
            elif taken is None:
                failure = "its file is missing or damaged"
            looked_at[product.id] = product, failure
        # None of them: others may come after.
        if taken is not None or len(found) < limit:
            return wanted, taken, list(looked_at.values())
        limit *= 2


def nearest(connection: Connection, wanted: Wanted, limit: int) -> list[Product]:
    """Products of the kind whether they serve the frame or not, in the order of `serving`.

    At most ``limit`` on either side in time, of those of the right configuration and of all.
    """
    query = _NEAREST_QUERIES[wanted.as_of is not None]
    return [to_product(row) for row in connection.execute(query, wanted.values(limit))]


def judge(product: Product, wanted: Wanted) -> str | None:
    """The first rule that a product fails for a frame, with both values; None when it serves."""
    facts = wanted.facts
    rule = wanted.rules.named(product.rule) if product.rule is not None else None
    if rule is None:
        return f"no rule is about {'an' if product.kind == 'image' else 'such a'} {product.kind}"
    difference = rule.first_difference(product.keys, facts)
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
    return rule.time_difference(product.middle, facts.middle)


def rank(product: Product, wanted: Wanted) -> tuple[Any, ...]:
    """The order of `serving` as a key to sort by: smallest first."""
    return (
        product.status != "certified",
        product.id not in wanted.prefer,
        product.doubtful,
        abs(product.middle - wanted.facts.middle),
        product.middle > wanted.facts.middle,
        -product.made_at.timestamp(),
        product.id,
    )


def first_failure(product: Product, failure: str | None, wanted: Wanted) -> int:
    """How early a product fails: 0 for none, 1 for the right configuration, 2 for another one."""
    rule = wanted.rules.named(product.rule) if product.rule is not None else None
    if failure is None:
        return 0
    return 1 if rule is not None and rule.first_difference(product.keys, wanted.facts) is None else 2


_ORDER_WORDS = (
    "a candidate; a certified one was taken",
    "not of this night's own frames; one of them was taken",
    "failed its comparison with a certified one; another was taken",
    "",
    "as near in time but later",
    "as near in time but made earlier",
    "equal but for its id",
)


def told(
    considered: Sequence[tuple[Product, str | None]],
    taken: Product | None,
    wanted: Wanted,
) -> tuple[Candidate, ...]:
    """Candidates with the reason each was or was not taken; a reason given is that of a failed rule."""
    candidates = []
    for product, failure in considered:
        if failure is not None:
            candidates.append(Candidate(product, serves=False, taken=False, reason=failure))
        elif taken is not None and product.id == taken.id:
            candidates.append(Candidate(product, True, True, f"taken: {_distance(product, wanted.facts)}"))
        else:
            candidates.append(Candidate(product, True, False, _outranked(product, taken, wanted)))
    return tuple(candidates)


def _outranked(product: Product, taken: Product | None, wanted: Wanted) -> str:
    if taken is None:
        return "serves"
    pairs = zip(rank(product, wanted), rank(taken, wanted), strict=True)
    first = next(i for i, (own, best) in enumerate(pairs) if own != best)
    if _ORDER_WORDS[first]:
        return _ORDER_WORDS[first]
    return f"{_distance(product, wanted.facts)}; the one taken {_distance(taken, wanted.facts)}"


def _distance(product: Product, facts: FrameFacts) -> str:
    gap = product.middle - facts.middle
    side = "before" if gap < timedelta(0) else "after"
    hours = abs(gap) / timedelta(hours=1)
    return f"{hours:.1f} hours {side}" if hours < 48 else f"{hours / 24:.1f} days {side}"


def _moment(moment: datetime | None) -> str:
    return "always" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
