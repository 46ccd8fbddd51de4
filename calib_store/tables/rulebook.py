"""The rules that a store uses: every version is kept in its database, with who changed them and why.

The rules belong to the store, not to the process: all machines that use one database make the same choices. A change is
made by a user (`activate`). A store whose rules nobody has changed adopts those of a newer nirflow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.range import TimestamptzRange
from sqlalchemy import Connection, bindparam, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from calib_store.rules.order import CURRENT, noise_of
from calib_store.rules.rules import Configuration, Rule, RuleSet, stored_rules
from calib_store.rules.rules_toml import shipped_rules
from calib_store.tables.locks import KEEPING, changes_alone
from calib_store.tables.schema import configurations, products, rule_changes, rule_sets, serves
from calib_store.tables.status_log import log_status
from imaging.errors import StoreError
from imaging.kinds import PRODUCT_KINDS

logger = logging.getLogger(__name__)

#: Author of the changes that nirflow ships.
SHIPPED = "nirflow"
_CAME = "came with nirflow"
#: Number of products whose configuration is determined at a time when the rules change.
_BATCH = 5000

#: Rules by version and digest: neither ever changes, so each is read once per process.
_read: dict[tuple[str, str], RuleSet] = {}

_ACTIVE = text("""
    SELECT s.version, s.digest FROM rule_changes c JOIN rule_sets s USING (version)
    WHERE CAST(:as_of AS timestamptz) IS NULL OR c.changed_at <= :as_of
       OR c.id = (SELECT min(id) FROM rule_changes)
    ORDER BY c.id DESC LIMIT 1
""")

#: The latest change of the rules, the order that they use, and whether the store has ever had the shipped ones.
_LAST = text("""
    SELECT c.author, c.reason, coalesce(CAST(s.content ->> 'order' AS int), 1) AS "order",
           EXISTS (SELECT FROM rule_sets WHERE version = :shipped) AS known
    FROM rule_changes c JOIN rule_sets s USING (version)
    ORDER BY c.id DESC LIMIT 1
""")

_CERTIFIED = text("""
    SELECT p.id, p.name, p.middle, p.validity, c.rule
    FROM products p JOIN configurations c ON c.id = p.configuration_id
    WHERE p.status = 'certified' ORDER BY p.middle, p.id
""")

#: Certified products of one rule that are valid at the same time and agree in all facts that must be equal.
_CERTIFIED_TOGETHER = text("""
    SELECT one.name, one.id, a.keys, other.name AS other_name, other.id AS other_id, b.keys AS other_keys
    FROM configurations a
    JOIN configurations b ON b.rule = a.rule AND b.facts = a.facts
         AND b.keys - CAST(:loose AS text[]) = a.keys - CAST(:loose AS text[])
    JOIN products one ON one.configuration_id = a.id AND one.status = 'certified'
    JOIN products other ON other.configuration_id = b.id AND other.status = 'certified'
         AND other.validity && one.validity AND other.id > one.id
    WHERE a.rule = :rule
    ORDER BY one.id, other.id
""")


@dataclass(frozen=True)
class RuleChange:
    """A change of the rules: which ones, since when, and who made it."""

    version: str
    author: str
    reason: str
    changed_at: datetime


def active_rules(connection: Connection, as_of: datetime | None = None) -> RuleSet:
    """Return the rules in force now, or at an earlier time (before the first rules: those).

    Raises
    ------
    StoreError
        If the store has no rules because its tables were not created by nirflow.
    """
    found = connection.execute(_ACTIVE, {"as_of": as_of}).one_or_none()
    if found is None:
        raise StoreError("The store has no association rules.", remedy="Run `nirflow cal init`.")
    key = (found.version, found.digest)
    if key not in _read:
        _read[key] = rules_of(connection, found.version)
    return _read[key]


def rules_of(connection: Connection, version: str) -> RuleSet:
    """Return a version of the rules.

    Raises
    ------
    StoreError
        If the store has not had that version.
    """
    content = connection.scalar(select(rule_sets.c.content).where(rule_sets.c.version == version))
    if content is None:
        known = ", ".join(connection.scalars(select(rule_sets.c.version).order_by(rule_sets.c.version)))
        raise StoreError(
            f"The store never had the rules {version!r}.", remedy=f"It has had {known or 'none'}."
        )
    return stored_rules(content)


def rule_history(connection: Connection) -> tuple[RuleChange, ...]:
    """Return every change of the rules, latest first."""
    rows = connection.execute(select(rule_changes).order_by(rule_changes.c.id.desc()))
    return tuple(RuleChange(r.version, r.author, r.reason, r.changed_at) for r in rows)


def activate(connection: Connection, rules: RuleSet, *, author: str, reason: str) -> bool:
    """Make the store use ``rules`` from now on, and return whether that is a change.

    The configuration that each product serves is determined again. Those by earlier rules are kept, for choices as of
    an earlier time.

    Raises
    ------
    StoreError
        If another table of rules already has that version, or two certified products would serve the same
        frames at the same time.
    """
    # A product that is being added has read the previous rules: wait for it, and determine it again with the others.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": KEEPING})
    changes_alone(connection)
    connection.execute(text("LOCK TABLE rule_changes IN SHARE ROW EXCLUSIVE MODE"))
    last = connection.execute(_ACTIVE, {"as_of": None}).one_or_none()
    if last is not None and (last.version, last.digest) == (rules.version, rules.digest):
        return False
    _note_version(connection, rules)
    if last is not None:
        _shorten_validities(connection, rules_of(connection, last.version), rules, author)
    _work_out_configurations(connection, rules)
    # Last: up to this point choices used the previous rules.
    connection.execute(insert(rule_changes).values(version=rules.version, author=author, reason=reason))
    logger.info("The store uses the rules %s: %s (%s)", rules.version, reason, author)
    return True


def take_over_shipped(connection: Connection) -> bool:
    """Use the rules that nirflow ships unless a user has set others, and return whether that is a change.

    A user's rules are kept, but with the newer order among the products that serve by them.
    """
    if not shipped_are_new(connection):
        return False
    active = connection.execute(_ACTIVE, {"as_of": None}).one_or_none()
    if active is not None and not _came_with_nirflow(connection):
        own = rules_of(connection, active.version)
        newer = own.model_copy(update={"version": f"{own.version}+order{CURRENT}", "order": CURRENT})
        return activate(connection, newer, author=SHIPPED, reason=f"{own.version} with the order {CURRENT}")
    return activate(connection, shipped_rules(), author=SHIPPED, reason=_CAME)


def shipped_are_new(connection: Connection) -> bool:
    """Return whether the store uses rules or an order that another nirflow shipped, and never had those of this one.

    An older nirflow used alongside a newer one keeps the newer rules; every version keeps those set by an account
    called nirflow.
    """
    last = connection.execute(_LAST, {"shipped": shipped_rules().version}).one_or_none()
    if last is None:
        return True
    return not last.known if _came(last) else last.order < CURRENT


def _came_with_nirflow(connection: Connection) -> bool:
    return _came(connection.execute(_LAST, {"shipped": ""}).one())


def _came(change: Any) -> bool:
    return (change.author, change.reason) == (SHIPPED, _CAME)


def near_configurations(connection: Connection, rules: RuleSet, configuration: Configuration) -> list[int]:
    """Return the rows of the configurations that its rule cannot distinguish from this one, nearest first."""
    rule = rules.named(configuration.rule)
    assert rule is not None
    exact = {name: value for name, value in configuration.keys.items() if not rule.tolerance.get(name)}
    there = connection.execute(
        select(configurations.c.id, configurations.c["keys"]).where(
            configurations.c.rule == rule.name,
            configurations.c.facts == sorted(configuration.keys),
            configurations.c["keys"].contains(exact),
        )
    )
    near = [(number, keys) for number, keys in there if not rule.first_difference(keys, configuration.keys)]
    near.sort(key=lambda row: (_distance(rule, row[1], configuration.keys), row[0]))
    return [number for number, _ in near]


def configuration_id(connection: Connection, rules: RuleSet, configuration: Configuration) -> int:
    """Return the row of a configuration: an existing one within the rule's tolerance, or a new one."""
    near = near_configurations(connection, rules, configuration)
    if near:
        return near[0]
    values = {
        "digest": configuration.digest,
        "rule": configuration.rule,
        "kind": configuration.kind,
        "keys": dict(configuration.keys),
        "facts": sorted(configuration.keys),
    }
    connection.execute(upsert(configurations).values(values).on_conflict_do_nothing())
    found = connection.scalar(select(configurations.c.id).where(configurations.c.digest == values["digest"]))
    assert found is not None
    return int(found)


def _distance(rule: Rule, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return sum(abs(one[name] - other[name]) / t for name, t in rule.tolerance.items() if t)


def _note_version(connection: Connection, rules: RuleSet) -> None:
    there = connection.execute(
        select(rule_sets.c.version, rule_sets.c.digest).where(
            (rule_sets.c.version == rules.version) | (rule_sets.c.digest == rules.digest)
        )
    ).all()
    if any(row.version == rules.version and row.digest != rules.digest for row in there):
        raise StoreError(
            f"The store already has different rules with the version {rules.version!r}.",
            remedy="Give the changed table a new version.",
        )
    other = next((row.version for row in there if row.version != rules.version), None)
    if other is not None:
        raise StoreError(
            f"The rules {rules.version!r} are the same as {other!r}, which the store already has.",
            remedy=f"Call them {other!r}.",
        )
    if not there:
        content = rules.model_dump(mode="json")
        connection.execute(
            insert(rule_sets).values(version=rules.version, digest=rules.digest, content=content)
        )


def beyond(connection: Connection, rules: RuleSet) -> list[str]:
    """Return the certified products that are valid longer than their rule allows: a user chose that time."""
    found = []
    for row in connection.execute(_CERTIFIED):
        rule = rules.named(row.rule)
        if rule is not None and _within(row.validity, rule.validity(row.middle)) != row.validity:
            found.append(f"{row.name} ({str(row.id)[:8]})")
    return found


def _shorten_validities(connection: Connection, old: RuleSet, new: RuleSet, author: str) -> None:
    """Shorten the validities that came from a rule to those of the stricter rule.

    A limit that a user chose is kept.
    """
    for row in connection.execute(_CERTIFIED).all():
        before, now = old.named(row.rule), new.named(row.rule)
        if before is None or now is None:
            continue
        theirs, ours = before.validity(row.middle), now.validity(row.middle)
        start = ours[0] if row.validity.lower == theirs[0] else None
        end = ours[1] if row.validity.upper == theirs[1] else None
        validity = _within(row.validity, (start, end))
        if validity != row.validity:
            reason = f"the rules {new.version} allow a shorter validity than {old.version}"
            log_status(connection, row.id, "certified", validity, author=author, reason=reason)
            connection.execute(update(products).where(products.c.id == row.id).values(validity=validity))


def _within(validity: Any, bounds: tuple[datetime | None, datetime | None]) -> TimestamptzRange:
    """Return the part of a validity that is within bounds; None means no bound."""
    starts = [moment for moment in (validity.lower, bounds[0]) if moment is not None]
    ends = [moment for moment in (validity.upper, bounds[1]) if moment is not None]
    return TimestamptzRange(max(starts, default=None), min(ends, default=None))


def _work_out_configurations(connection: Connection, rules: RuleSet) -> None:
    """Link every product to the configuration that it serves by ``rules``."""
    # Certified products may overlap temporarily: only the final state counts.
    connection.execute(text("SET CONSTRAINTS products_certified_once DEFERRED"))
    known: dict[str, int] = {}
    query = select(
        products.c.id, products.c.kind, products.c.name, products.c.middle, products.c.facts,
        products.c.published, products.c.status, products.c.configuration_id, products.c.tier, products.c.variant_id,
        products.c.metrics,
    ).order_by(products.c.id)  # fmt: skip
    page = query
    while rows := connection.execute(page.limit(_BATCH)).all():
        page = query.where(products.c.id > rows[-1].id)
        changed, served = [], []
        for row in rows:
            number = None
            if row.kind not in PRODUCT_KINDS:
                continue  # from another version of nirflow: it is left unchanged, and serves nothing here
            configuration = rules.configuration(row.kind, row.facts, published=row.published)
            if configuration is not None:
                if configuration.digest not in known:
                    known[configuration.digest] = configuration_id(connection, rules, configuration)
                number = known[configuration.digest]
                served.append(
                    {
                        "product_id": row.id, "configuration_id": number, "middle": row.middle,
                        "tier": row.tier, "variant_id": row.variant_id, "noise": noise_of(row.metrics),
                    }
                )  # fmt: skip
            elif row.status == "certified":
                raise StoreError(
                    f"By these rules {row.name} ({row.id}), which is certified, would serve no frame.",
                    remedy="Keep a rule for it, or supersede it first.",
                )
            if number != row.configuration_id:
                changed.append({"product": row.id, "number": number})
        if served:
            connection.execute(upsert(serves).on_conflict_do_nothing(), served)
        if changed:
            connection.execute(
                update(products)
                .where(products.c.id == bindparam("product"))
                .values(configuration_id=bindparam("number")),
                changed,
            )
    _refuse_overlaps(connection, rules)
    connection.execute(text("SET CONSTRAINTS products_certified_once IMMEDIATE"))


def _refuse_overlaps(connection: Connection, rules: RuleSet) -> None:
    for rule in rules.rules:
        loose = [name for name, tolerance in rule.tolerance.items() if tolerance]
        for pair in connection.execute(_CERTIFIED_TOGETHER, {"rule": rule.name, "loose": loose}):
            if rule.first_difference(pair.keys, pair.other_keys) is None:
                raise StoreError(
                    f"By these rules {pair.name} ({pair.id}) and {pair.other_name} ({pair.other_id}), both certified, "
                    "would serve the same frames at the same time.",
                    remedy="Supersede one of the two first, or keep the rules that distinguish them.",
                )
