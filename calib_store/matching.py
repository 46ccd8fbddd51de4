"""Which product serves a frame, and why not another: the choice and its explanation.

The hard rules are one SQL query (`serving`), in the order of `calib_store.order`; `judge` applies the same rules to
one product at a time and explains them. A test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from calib_store.order import (
    EQUALLY_NEAR,
    LESS_NOISE,
    OTHER_PARAMETERS,
    PROVISIONAL_LAST,
    Asked,
    first_outranked,
    noise_of,
    order_by,
    rank,
)
from calib_store.products import to_product
from calib_store.records import Candidate, Product
from calib_store.rules import Rule, RuleSet
from calib_store.variants import Parameters, differences
from imaging.facts import FrameFacts

#: Candidates that a choice records; the first is taken.
SERVING_LIMIT = 8
#: What keeps a product back whose file is not what it was, and one that is being made again.
DAMAGED: Final = "its file is missing or damaged"
REMADE: Final = "made with something bad; it is being made again"

#: What a product was at the moment asked about: now, or by the logs of its status and of its tier.
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

#: What is known to be damaged serves nobody now. As of a moment it is looked at: that the choice of then cannot be
#: repeated has to be said.
_INTACT_NOW, _INTACT_AS_OF = "NOT p.damaged", "true"

#: Candidates of a configuration and tier on one side of the frame in time, nearest first. By the indexes on
#: configuration, tier, variant and middle, however long the store's history, no more of it is read than is asked for.
_ON_A_SIDE = """FROM serves v JOIN products p ON p.id = v.product_id CROSS JOIN LATERAL {state}
             WHERE v.configuration_id = c.id AND v.tier = t.tier {variant} AND r.frames <> '{but}'
               AND {bounds} AND s.status = 'candidate' AND s.tier = v.tier AND {intact} AND {current}"""
_NEAREST_FIRST = "ORDER BY v.middle {direction}, p.made_at DESC, p.id"
_BEFORE = """v.middle <= CAST(:middle AS timestamptz)
           AND v.middle >= coalesce(CAST(:middle AS timestamptz) - r.days * interval '1 day', '-infinity')"""
_AFTER = """v.middle > CAST(:middle AS timestamptz)
           AND v.middle <= coalesce(CAST(:middle AS timestamptz) + r.days * interval '1 day', 'infinity')"""
#: How many whole steps of the order a candidate is away from the frame.
_STEPS = f"floor(abs(extract(epoch FROM v.middle - CAST(:middle AS timestamptz))) / {EQUALLY_NEAR.total_seconds():.0f})"

#: On one side: the nearest, of whatever variant; and of all that are as near as the nearest one to be had, by the
#: run's own parameters and by any, those with the least noise.
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

#: Certified at the moment asked about: now at most one of a configuration, by the exclusion's own index.
_CERTIFIED_NOW = """
        SELECT p.id FROM products p
        WHERE p.status = 'certified' AND p.validity @> CAST(:middle AS timestamptz)
          AND int8range(p.configuration_id, p.configuration_id, '[]') && int8range(c.id, c.id, '[]')"""
#: Then also those whose tier has changed since: the index knows the tier of now only.
_CERTIFIED_AS_OF = """
        SELECT v.product_id FROM status_history h JOIN serves v ON v.product_id = h.product_id
        WHERE h.status = 'certified' AND h.validity @> CAST(:middle AS timestamptz) AND h.changed_at <= :as_of
          AND v.configuration_id = c.id
      UNION
        SELECT v.product_id FROM tier_changes h JOIN serves v ON v.product_id = h.product_id
        WHERE h.changed_at > :as_of AND v.configuration_id = c.id"""

_SERVING = """
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


def _side(
    state: str, current: str, intact: str, *, but: str, bounds: str, direction: str, within: str
) -> str:
    """The candidates on one side of the frame in time."""
    given = {"state": state, "current": current, "intact": intact, "but": but, "bounds": bounds}
    return _SIDE.format(
        on_a_side=_ON_A_SIDE.format(**given, variant=""),
        on_a_side_own=_ON_A_SIDE.format(**given, variant="AND v.variant_id = w.id"),
        nearest_first=_NEAREST_FIRST.format(direction=direction),
        within=within.format(step=int(EQUALLY_NEAR.total_seconds())),
        steps=_STEPS,
        direction=direction,
    )


@cache
def _query(template: str, past: bool, order: int) -> Any:
    """The query for now, or for a moment in the past, by a version of the order."""
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
        Products that the run has made from its own frames.
    without
        Products that are not to be taken.
    variants
        Numbers of the variants whose parameters agree with those of the run.
    parameters
        The run's parameters by step.
    """

    facts: FrameFacts
    kind: str
    rules: RuleSet
    as_of: datetime | None = None
    prefer: Sequence[UUID] = field(default=())
    without: Collection[UUID] = field(default=())
    variants: Collection[int] = field(default=())
    parameters: Parameters = field(default_factory=dict)

    @property
    def asked(self) -> Asked:
        """What the order depends on."""
        return Asked(self.facts.middle, self.prefer, self.variants)

    def values(self, limit: int) -> dict[str, Any]:
        """Values of the queries' parameters."""
        rules = [_row(rule, self.facts) for rule in self.rules.for_kind(self.kind)]
        given = {
            "rules": json.dumps(rules), "kind": self.kind, "middle": self.facts.middle,
            "prefer": list(self.prefer), "without": list(self.without), "variants": list(self.variants),
            "limit": limit,
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
    """The products that serve the frame, best first, in the order of the rules: no two are equal in it.

    The first one is exact, and so is the order; further ones may lack some that are nearer than the last.
    """
    query = _query(_SERVING, wanted.as_of is not None, wanted.rules.order)
    return [to_product(row) for row in connection.execute(query, wanted.values(limit))]


def first_intact(
    ask: Callable[[Collection[UUID]], tuple[Wanted, Sequence[Product]]],
    flaw_of: Callable[[Product], str | None],
    without: Collection[UUID],
) -> tuple[Wanted, Product | None, list[tuple[Product, str | None]]]:
    """The first product that can be used, and all that were looked at, each with what keeps it from being taken.

    Parameters
    ----------
    ask
        Gives what is wanted and the products that serve, best first, where some are not to be taken.
    flaw_of
        What is wrong with a product's file, or None.
    without
        Products that are not to be taken.
    """
    flaws: dict[UUID, tuple[Product, str]] = {}
    while True:
        wanted, found = ask({*without, *flaws})
        first = next((one for one in found if one.id not in without and one.id not in flaws), None)
        flaw = flaw_of(first) if first is not None else None
        if first is None or flaw is None:
            break
        flaws[first.id] = (
            first,
            flaw,
        )  # what is the best now is another question: which is as near may have changed
    considered: dict[UUID, tuple[Product, str | None]] = dict(flaws)
    for product in found:
        considered.setdefault(product.id, (product, REMADE if product.id in without else None))
    ranked = sorted(considered.values(), key=lambda one: rank(one[0], wanted.asked, wanted.rules.order))
    return wanted, first, ranked


def nearest(connection: Connection, wanted: Wanted, limit: int) -> list[Product]:
    """Products of the kind whether they serve the frame or not, in the order of `serving`.

    At most ``limit`` on either side in time, of those of the right configuration and of all.
    """
    query = _query(_NEAREST, wanted.as_of is not None, wanted.rules.order)
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
        return DAMAGED
    if product.validity is not None:
        start, end = product.validity
        if (start is not None and facts.middle < start) or (end is not None and facts.middle >= end):
            return f"valid {_moment(start)} to {_moment(end)}, frame {_moment(facts.middle)}"
        return None
    return rule.time_difference(product.middle, facts.middle)


def first_failure(product: Product, failure: str | None, wanted: Wanted) -> int:
    """How early a product fails: 0 for none, 1 for the right configuration, 2 for another one."""
    rule = wanted.rules.named(product.rule) if product.rule is not None else None
    if failure is None:
        return 0
    return 1 if rule is not None and rule.first_difference(product.keys, wanted.facts) is None else 2


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
    criterion = first_outranked(product, taken, wanted.asked, wanted.rules.order)
    if criterion.label == PROVISIONAL_LAST and product.provisional:
        return f"{product.provisional}; another was taken"
    if criterion.label == OTHER_PARAMETERS and (others := differences(product.parameters, wanted.parameters)):
        return f"made with other parameters: {'; '.join(others)}"
    if criterion.label == LESS_NOISE:
        return f"{_noise(product)} of noise, {_noise(taken)} of the one taken, which is as near to {_step()}"
    if criterion.outranked:
        return criterion.outranked
    return f"{_distance(product, wanted.facts)}; the one taken {_distance(taken, wanted.facts)}"


def _noise(product: Product) -> str:
    noise = noise_of(product.metrics)
    return "unknown" if noise is None else f"{noise:.4g}"


def _step() -> str:
    return f"{EQUALLY_NEAR / timedelta(hours=1):g} hours"


def _distance(product: Product, facts: FrameFacts) -> str:
    gap = product.middle - facts.middle
    side = "before" if gap < timedelta(0) else "after"
    hours = abs(gap) / timedelta(hours=1)
    return f"{hours:.1f} hours {side}" if hours < 48 else f"{hours / 24:.1f} days {side}"


def _moment(moment: datetime | None) -> str:
    return "always" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
