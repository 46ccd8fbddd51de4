"""The queries of the choice: the products that serve a frame, best first, and those nearest to it in time."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import text

from calib_store.rules.order import EQUALLY_NEAR, order_by

#: State of a product at the requested time: now, or from the logs of its status and its tier.
_STATE_NOW = "(SELECT p.status, p.validity, p.tier) s"
_STATE_AS_OF = """(
        SELECT h.status, h.validity, coalesce((
            SELECT t.previous FROM tier_changes t
            WHERE t.product_id = p.id AND t.changed_at > :as_of
            ORDER BY t.changed_at, t.id LIMIT 1), p.tier) AS tier
        FROM status_history h
        WHERE h.product_id = p.id AND h.changed_at <= :as_of
        ORDER BY h.changed_at DESC, h.id DESC LIMIT 1) s"""

_COLUMNS = """p.id, p.kind, p.name, p.sha256, p.size, p.recipe_key, s.status, s.validity, s.tier, c.rule,
        c.keys AS configuration_keys, p.span_start, p.span_end, p.middle, p.facts, p.metrics, p.parameters,
        p.algorithm_version, p.software_version, p.flow_run_id, p.gate, p.published, p.made_at, p.damaged,
        p.doubtful, p.provisional, p.variant_id"""

#: The rules for the kind, each with the frame's values: those that must be equal, and those that must be near.
_RULES = """jsonb_to_recordset(CAST(:rules AS jsonb)) AS r(
        rule text, facts text[], same jsonb, near jsonb, days float8, frames text)"""

#: Whether a configuration is the one that the frame needs by a rule.
_FITS = """c.rule = r.rule AND c.facts = r.facts AND c.keys @> r.same AND NOT EXISTS (
            SELECT FROM jsonb_each(r.near) n
            WHERE abs(CAST(c.keys ->> n.key AS float8) - CAST(n.value ->> 0 AS float8))
                  > CAST(n.value ->> 1 AS float8))"""

#: Now a product serves by its current configuration; what it served by earlier rules counts for choices of that time.
_CURRENT_NOW, _CURRENT_AS_OF = "p.configuration_id = c.id", "true"

#: A damaged product serves nothing now. For an earlier time it is considered, because it must be reported when that
#: choice cannot be repeated.
_INTACT_NOW, _INTACT_AS_OF = "NOT p.damaged", "true"

#: Candidates of a configuration and tier on one side of the frame in time, nearest first. With the indexes on
#: configuration, tier, variant and middle, no more rows are read than requested, however long the store's history.
_ON_A_SIDE = """FROM serves v JOIN products p ON p.id = v.product_id CROSS JOIN LATERAL {state}
             WHERE v.configuration_id = c.id AND v.tier = t.tier {variant} AND r.frames <> '{but}'
               AND {bounds} AND s.status = 'candidate' AND s.tier = v.tier AND {intact} AND {current}"""
_BY_TIME = "ORDER BY v.middle {direction}, p.made_at DESC, p.id"
_BEFORE = """v.middle <= CAST(:middle AS timestamptz)
           AND v.middle >= coalesce(CAST(:middle AS timestamptz) - r.days * interval '1 day', '-infinity')"""
_AFTER = """v.middle > CAST(:middle AS timestamptz)
           AND v.middle <= coalesce(CAST(:middle AS timestamptz) + r.days * interval '1 day', 'infinity')"""
#: How many whole steps of the order a candidate is away from the frame.
_STEPS = f"floor(abs(extract(epoch FROM v.middle - CAST(:middle AS timestamptz))) / {EQUALLY_NEAR.total_seconds():.0f})"

#: On one side: the nearest of any variant; and among those as near as the nearest available one, with the run's own
#: parameters and with any, those with the least noise.
_SIDE = """
        (SELECT v.product_id {on_a_side} {nearest_first} LIMIT :limit)
        UNION ALL
        SELECT b.product_id FROM unnest(CAST(:variants AS bigint[])) w (id)
        CROSS JOIN LATERAL (SELECT {steps} AS steps {on_a_side_own} AND NOT v.product_id = ANY(CAST(:without AS uuid[]))
                            {nearest_first} LIMIT 1) f
        CROSS JOIN LATERAL (SELECT v.product_id {on_a_side_own} AND {within} AND {steps} = f.steps
                            ORDER BY v.noise NULLS LAST, v.middle {direction}, p.made_at DESC, p.id LIMIT :limit) b
        UNION ALL
        SELECT b.product_id FROM (
            SELECT {steps} AS steps {on_a_side} AND NOT v.product_id = ANY(CAST(:without AS uuid[]))
            {nearest_first} LIMIT 1) f
        CROSS JOIN LATERAL (SELECT v.product_id {on_a_side} AND {within} AND {steps} = f.steps
                            ORDER BY v.noise NULLS LAST, v.middle {direction}, p.made_at DESC, p.id LIMIT :limit) b"""
#: The step of the nearest one, as bounds that the index on time knows.
_WITHIN_BEFORE = """v.middle > CAST(:middle AS timestamptz) - (f.steps + 1) * interval '{step} seconds'"""
_WITHIN_AFTER = """v.middle < CAST(:middle AS timestamptz) + (f.steps + 1) * interval '{step} seconds'"""

#: Certified at the requested time: now at most one of a configuration, by the exclusion's own index.
_CERTIFIED_NOW = """
        SELECT p.id FROM products p
        WHERE p.status = 'certified' AND p.validity @> CAST(:middle AS timestamptz)
          AND int8range(p.configuration_id, p.configuration_id, '[]') && int8range(c.id, c.id, '[]')"""
#: For an earlier time also those whose tier has changed since: the index has only the current tier.
_CERTIFIED_AS_OF = """
        SELECT v.product_id FROM status_history h JOIN serves v ON v.product_id = h.product_id
        WHERE h.status = 'certified' AND h.validity @> CAST(:middle AS timestamptz) AND h.changed_at <= :as_of
          AND v.configuration_id = c.id
      UNION
        SELECT v.product_id FROM tier_changes h JOIN serves v ON v.product_id = h.product_id
        WHERE h.changed_at > :as_of AND v.configuration_id = c.id"""

SERVING = """
    SELECT {columns}
    FROM {rules}
    JOIN configurations c ON {fits}
    CROSS JOIN LATERAL (
        SELECT n.product_id FROM (VALUES (0), (1), (2), (3)) t (tier)
        CROSS JOIN LATERAL ({before} UNION ALL {after}) n
      UNION {certified}
      UNION
        SELECT v.product_id FROM serves v
        WHERE v.product_id = ANY(CAST(:prefer AS uuid[])) AND v.configuration_id = c.id
    ) n
    JOIN products p ON p.id = n.product_id
    CROSS JOIN LATERAL {state}
    WHERE {intact} AND {current} AND (
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
NEAREST = """
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


def _side(
    state: str, current: str, intact: str, *, but: str, bounds: str, direction: str, within: str
) -> str:
    """Return the candidates on one side of the frame in time."""
    given = {"state": state, "current": current, "intact": intact, "but": but, "bounds": bounds}
    return _SIDE.format(
        on_a_side=_ON_A_SIDE.format(**given, variant=""),
        on_a_side_own=_ON_A_SIDE.format(**given, variant="AND v.variant_id = w.id"),
        nearest_first=_BY_TIME.format(direction=direction),
        within=within.format(step=int(EQUALLY_NEAR.total_seconds())),
        steps=_STEPS,
        direction=direction,
    )


@cache
def query(template: str, past: bool, order: int) -> Any:
    """Return the query for now, or for a moment in the past, by a version of the order."""
    state = _STATE_AS_OF if past else _STATE_NOW
    current = _CURRENT_AS_OF if past else _CURRENT_NOW
    intact = _INTACT_AS_OF if past else _INTACT_NOW
    both = state, current, intact
    parts = {
        "current": current, "intact": intact,
        "columns": _COLUMNS, "rules": _RULES, "fits": _FITS, "state": state, "order": order_by(order),
        "before": _side(*both, but="earlier", bounds=_BEFORE, direction="DESC", within=_WITHIN_BEFORE),
        "after": _side(*both, but="later", bounds=_AFTER, direction="ASC", within=_WITHIN_AFTER),
        "certified": _CERTIFIED_AS_OF if past else _CERTIFIED_NOW,
    }  # fmt: skip
    return text(template.format(**parts))
