"""Which product serves a frame, and why not another: the choice and its explanation.

The hard rules are one SQL query (`serving`), in the order of `calib_store.rules.order`; `judge` applies the same rules
to one product at a time and explains them. A test checks that the two agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from calib_store.choice.matching_queries import NEAREST, SERVING, query
from calib_store.model.records import Candidate, Product
from calib_store.rules.order import (
    EQUALLY_NEAR,
    LESS_NOISE,
    OTHER_PARAMETERS,
    PROVISIONAL_LAST,
    Asked,
    first_outranked,
    noise_of,
    rank,
)
from calib_store.rules.rules import Rule, RuleSet
from calib_store.tables.products import to_product
from calib_store.tables.variants import Parameters, differences
from imaging.frames.facts import FrameFacts
from imaging.kinds import such_a

#: Candidates that a choice records; the first is taken.
SERVING_LIMIT = 8
#: Why a product whose file has changed, or one that is being made again, is not used.
DAMAGED: Final = "its file is missing or damaged"
REMADE: Final = "made with something bad; it is being made again"


@dataclass(frozen=True)
class Wanted:
    """A request for a product of a kind for a frame.

    Parameters
    ----------
    facts
        The frame.
    kind
        Kind of the product.
    rules
        The rules to apply.
    as_of
        The time whose state of the store counts; default: now.
    prefer
        Products that the run has made from its own frames.
        without
        Products that must not be taken.
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
        """Return the values of the queries' parameters."""
        rules = [_row(rule, self.facts) for rule in self.rules.for_kind(self.kind, self.facts)]
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
    """Return the products that serve the frame, best first, in the order of the rules, which is total.

    The first one and the order are exact; some products nearer than the last one may be missing from the rest.
    """
    serve = query(SERVING, wanted.as_of is not None, wanted.rules.order)
    return [to_product(row) for row in connection.execute(serve, wanted.values(limit))]


def first_intact(
    ask: Callable[[Collection[UUID]], tuple[Wanted, Sequence[Product]]],
    flaw_of: Callable[[Product], str | None],
    without: Collection[UUID],
) -> tuple[Wanted, Product | None, list[tuple[Product, str | None]]]:
    """Return the first usable product, and all that were examined, each with the reason why it cannot be taken.

    Parameters
    ----------
    ask
        Returns the request and the products that serve, best first, given those that must not be taken.
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
        )  # choose again: which masters count as equally near may have changed
    considered: dict[UUID, tuple[Product, str | None]] = dict(flaws)
    for product in found:
        considered.setdefault(product.id, (product, REMADE if product.id in without else None))
    ranked = sorted(considered.values(), key=lambda one: rank(one[0], wanted.asked, wanted.rules.order))
    return wanted, first, ranked


def nearest(connection: Connection, wanted: Wanted, limit: int) -> list[Product]:
    """Return products of the kind, whether or not they serve the frame, in the order of `serving`.

    There are at most ``limit`` before and after, of those of the right configuration and of all.
    """
    near = query(NEAREST, wanted.as_of is not None, wanted.rules.order)
    return [to_product(row) for row in connection.execute(near, wanted.values(limit))]


def judge(product: Product, wanted: Wanted) -> str | None:
    """Return the first rule that a product fails for a frame, with both values; None when it serves."""
    facts = wanted.facts
    rule = wanted.rules.named(product.rule) if product.rule is not None else None
    if rule is None:
        return f"no rule applies to {such_a(product.kind)}"
    difference = rule.first_difference(product.keys, facts)
    if difference is not None:
        return difference
    if not product.counts:
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
    """Return how early a product fails: 0 for none, 1 for the right configuration, 2 for another one."""
    rule = wanted.rules.named(product.rule) if product.rule is not None else None
    if failure is None:
        return 0
    return 1 if rule is not None and rule.first_difference(product.keys, wanted.facts) is None else 2


def judged_candidates(
    considered: Sequence[tuple[Product, str | None]],
    taken: Product | None,
    wanted: Wanted,
) -> tuple[Candidate, ...]:
    """Return the candidates, each with the reason why it was or was not taken; a given reason is a failed rule."""
    candidates = []
    for product, failure in considered:
        if failure is not None:
            candidates.append(Candidate(product, serves=False, taken=False, reason=failure))
        elif taken is not None and product.id == taken.id:
            candidates.append(Candidate(product, True, True, f"taken: {distance(product, wanted.facts)}"))
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
        return f"noise {_noise(product)}, the one taken {_noise(taken)} (equally near, within {_step()})"
    if criterion.outranked:
        return criterion.outranked
    return f"{distance(product, wanted.facts)}; the one taken {distance(taken, wanted.facts)}"


def _noise(product: Product) -> str:
    noise = noise_of(product.metrics)
    return "unknown" if noise is None else f"{noise:.4g}"


def _step() -> str:
    return f"{EQUALLY_NEAR / timedelta(hours=1):g} hours"


def distance(product: Product, facts: FrameFacts) -> str:
    """Return how far a product is from a frame in time, for an explanation."""
    gap = product.middle - facts.middle
    side = "before" if gap < timedelta(0) else "after"
    hours = abs(gap) / timedelta(hours=1)
    return f"{hours:.1f} hours {side}" if hours < 48 else f"{hours / 24:.1f} days {side}"


def _moment(moment: datetime | None) -> str:
    return "always" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
