"""Which stacks of standard fields give a frame's field its zero point, and why not another.

A standard field is reduced as any other, so it is an image, which serves no configuration: the rule of the kind
``standard`` is applied to the images near the frame in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from calib_store.choice import matching
from calib_store.model.records import Candidate, Match, Product, Tier
from calib_store.model.values import STANDARD
from calib_store.rules.rules import Rule, RuleSet
from calib_store.tables import rulebook
from calib_store.tables.database import Database
from imaging.frames.facts import FrameFacts
from imaging.kinds import STACK

#: Class of the frames of a standard field.
STANDARD_CLASS: Final = "partnerCal"
#: Stacks before and after the frame that are considered: more than a night has.
_CONSIDERED: Final = 300


def match_standard(
    database: Database,
    facts: FrameFacts,
    *,
    as_of: datetime | None = None,
    system: str = "Vega",
    others: int = 0,
) -> Match:
    """Return the stack of a standard field that gives a frame's field its zero point, if any.

    Of several that serve, the nearest in time is taken; all are among the candidates, because their scatter is that of
    the night.

    Parameters
    ----------
    database
        That of the store.
    facts
        The frame.
    as_of
        Choose as at that time.
    system
        Magnitude system that is needed, Vega or AB.
    others
        Stacks that do not serve to list, with their reasons.
    """

    def read(connection: Connection) -> tuple[RuleSet, list[Product]]:
        rules = rulebook.active_rules(connection, as_of)
        wanted = matching.Wanted(facts, STACK.name, rules, as_of)
        return rules, matching.nearest(connection, wanted, _CONSIDERED)

    rules, stacks = database.read(read)
    rule = next(iter(rules.for_kind(STANDARD, facts)), None)
    judged = [(product, why_not(product, rule, facts, system)) for product in stacks]
    judged.sort(key=lambda one: _rank(one[0], facts))
    serving = [product for product, failure in judged if failure is None]
    taken = serving[0] if serving else None
    candidates = [
        Candidate(product, True, product is taken, _reason(product, product is taken, facts))
        for product in serving
    ]
    failures = [(product, failure) for product, failure in judged if failure is not None]
    failures.sort(key=lambda one: not _is_standard(one[0]))
    candidates += [Candidate(product, False, False, failure) for product, failure in failures[:others]]
    return Match(facts.name, STANDARD, taken, tuple(candidates), rules.version, as_of)


def why_not(product: Product, rule: Rule | None, facts: FrameFacts, system: str) -> str | None:
    """Return the first reason why a stack gives no zero point to a frame's field; None if it does.

    Parameters
    ----------
    product
        A stack.
    rule
        The rule for standards; None if the store's rules have none.
    facts
        The frame.
    system
        Magnitude system that is needed.
    """
    if rule is None:
        return "the store's rules have none for standard fields"
    if not _is_standard(product):
        return f"not a standard field (class {product.facts.get('observation_class') or 'unknown'})"
    difference = rule.first_difference(rule.keys_of(product.facts), facts)
    if difference is not None:
        return difference
    if not product.counts:
        return f"status {product.status}"
    if product.tier is Tier.TAINTED:
        return "made with something rejected"
    if product.damaged:
        return matching.DAMAGED
    if not _stars(product.metrics):
        return (
            f"its zero point is {product.metrics.get('zero_point_source') or 'unknown'}, not from a catalogue"
        )
    if product.metrics.get("magnitude_system") != system:
        return f"magnitudes in {product.metrics.get('magnitude_system')}, the frame's in {system}"
    return rule.time_difference(product.middle, facts.middle)


def _is_standard(product: Product) -> bool:
    return bool(product.facts.get("observation_class") == STANDARD_CLASS)


def _stars(metrics: Mapping[str, Any]) -> int:
    return int(metrics.get("zero_point_stars") or 0)


def _rank(product: Product, facts: FrameFacts) -> tuple[Any, ...]:
    """Return what is smaller for a stack that comes first: nearest in time, then the newest made."""
    return abs(product.middle - facts.middle), -product.made_at.timestamp(), str(product.id)


def _reason(product: Product, taken: bool, facts: FrameFacts) -> str:
    how = matching.distance(product, facts)
    zero_point, error = product.metrics["zero_point"], product.metrics["zero_point_error"]
    stars = f"{how}; {zero_point:.3f} +- {error:.3f} mag from {_stars(product.metrics)} stars"
    return (
        f"taken: {stars}" if taken else f"{stars}; a nearer one was taken, this one shows the night's scatter"
    )
