"""Which calibration belongs to which frame: rules as data, with a version.

A rule names the facts of a frame that must agree with those of the product, how much numbers may differ, and how far
apart in time the two may be. The rules that nirflow ships follow from the tables of the instruments; a store keeps its
current and earlier rules in its database (`calib_store.tables.rulebook`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calib_store.model.values import STANDARD, json_digest
from calib_store.rules.order import ORDERS
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.instruments import catalogue
from imaging.kinds import CALIBRATION_KINDS, PRODUCT_KINDS, RuleKind

Facts = FrameFacts | Mapping[str, Any]

logger = logging.getLogger(__name__)


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of product.

    Raises
    ------
    StoreError
        If it is unknown; the message lists the known kinds.
    """
    if kind not in PRODUCT_KINDS:
        raise StoreError(
            f"There is no product kind {kind!r}.", remedy=f"Use one of {', '.join(PRODUCT_KINDS)}."
        )


class Rule(BaseModel):
    """One rule of association."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="name; part of the configuration that a product serves")
    kind: RuleKind = Field(
        description="kind of the products; standard: stacks of standard fields, for their zero points"
    )
    match: tuple[str, ...] = Field(
        min_length=1, description="facts that must agree, in the order of explanations"
    )
    tolerance: dict[str, float] = Field(
        default_factory=dict, description="largest difference of a number, in its unit"
    )
    window_days: float | None = Field(
        default=None, gt=0, description="largest distance of the middles of product and exposure, days"
    )
    frames: Literal["either", "later", "earlier"] = Field(
        default="either", description="whether it serves frames earlier or later than the product, or either"
    )
    published: bool = Field(
        default=False,
        description="for products published by the observatory instead of those made from frames",
    )

    instrument: str = Field(
        default="",
        description="for frames of this instrument; if empty, of instruments without their own rule",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.match)) < len(self.match):
            raise ValueError("match names a fact twice")
        for fact, tolerance in self.tolerance.items():
            if fact not in self.match:
                raise ValueError(f"tolerance names {fact!r}, which is not a numeric fact in match")
            if not 0 <= tolerance < float("inf"):
                raise ValueError(f"the tolerance of {fact} is {tolerance}; it must be a number of 0 or more")
        return self

    @property
    def window(self) -> timedelta | None:
        """The window as a duration."""
        return None if self.window_days is None else timedelta(days=self.window_days)

    def validity(self, middle: datetime) -> tuple[datetime | None, datetime | None]:
        """Return the time from and until which a product of that time serves by the rule; None means no limit."""
        first = middle - self.window if self.window is not None else None
        last = middle + self.window if self.window is not None else None
        return (middle if self.frames == "later" else first, middle if self.frames == "earlier" else last)

    def keys_of(self, facts: Facts) -> dict[str, Any]:
        """Return the values that the rule compares."""
        given = facts.value if isinstance(facts, FrameFacts) else facts.get
        return {name: _canonical(given(name)) for name in self.match}

    def agrees(self, fact: str, one: Any, other: Any) -> bool:
        """Return whether two values of a fact are the same to this rule."""
        tolerance = self.tolerance.get(fact, 0.0)
        if tolerance and isinstance(one, (int, float)) and isinstance(other, (int, float)):
            return abs(one - other) <= tolerance
        return bool(one == other)

    def first_difference(self, keys: Mapping[str, Any], facts: Facts) -> str | None:
        """Return the first fact on which a product's keys and a frame disagree, with both values."""
        for name, wanted in self.keys_of(facts).items():
            if name not in keys:
                return f"{catalogue.label(name, _instrument(facts))[0]} of the product unknown"
            if not self.agrees(name, keys[name], wanted):
                return _difference(name, keys[name], wanted, _instrument(facts))
        return None

    def time_difference(self, middle: datetime, frame: datetime) -> str | None:
        """Return why a product of that time does not serve a frame, or None.

        Parameters
        ----------
        middle
            Middle of the exposures that the product was made from.
        frame
            Middle of the frame's exposure.
        """
        if self.frames == "later" and middle > frame:
            return f"serves frames from {middle:%Y-%m-%d %H:%M} on, frame {frame:%Y-%m-%d %H:%M}"
        if self.frames == "earlier" and middle < frame:
            return f"serves frames until {middle:%Y-%m-%d %H:%M}, frame {frame:%Y-%m-%d %H:%M}"
        if self.window is not None and abs(middle - frame) > self.window:
            days = abs(middle - frame) / timedelta(days=1)
            side = "before" if middle < frame else "after"
            return f"{days:.1f} days {side} the frame, at most {self.window_days:g}"
        return None


class RuleSet(BaseModel):
    """All rules, and the name of their version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(pattern=r"^[\w.+-]{1,80}$", description="name of the version, as decisions give it")
    order: int = Field(default=1, description="version of the order among the products that serve a frame")
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        if self.order not in ORDERS:
            known = ", ".join(str(version) for version in ORDERS)
            raise ValueError(f"order is {self.order}; this nirflow knows {known}")
        served = [
            " ".join(filter(None, (rule.instrument, "published" if rule.published else "", rule.kind)))
            for rule in self.rules
        ]
        for names in ([rule.name for rule in self.rules], served):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"two rules are for {twice!r}")
        return self

    @property
    def digest(self) -> str:
        """Identity of the rules themselves, whatever the version is called."""
        # Rules older than the versions of the order, or than rules for an instrument, keep the digest under which they
        # are known.
        content = self.model_dump(
            mode="json", exclude={"version"} | ({"order"} if self.order == 1 else set())
        )
        for rule in content["rules"]:
            if not rule["instrument"]:
                del rule["instrument"]
        return json_digest(content)

    def for_kind(self, kind: str, facts: Facts) -> tuple[Rule, ...]:
        """Return the rules by which products of ``kind`` serve frames of an instrument; none for an image.

        Parameters
        ----------
        kind
            Kind of the product, or `calib_store.model.values.STANDARD`.
        facts
            Facts of a frame or product of the instrument.

        Raises
        ------
        StoreError
            For an unknown kind.
        """
        if kind != STANDARD:
            check_kind(kind)
        rules = [rule for rule in self.rules if rule.kind == kind]
        own = tuple(rule for rule in rules if rule.instrument == _instrument(facts))
        return own or tuple(rule for rule in rules if not rule.instrument)

    def named(self, name: str) -> Rule | None:
        """Return the rule of that name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def configuration(self, kind: str, facts: Facts, *, published: bool = False) -> Configuration | None:
        """Return the configuration that a product serves, or None if no rule is about it (an image).

        Parameters
        ----------
        kind
            Kind of the product.
        facts
            Facts of the product: those of its inputs.
        published
            Whether the observatory published it.
        """
        for rule in self.for_kind(kind, facts):
            if rule.published == published:
                return Configuration(rule.name, kind, rule.keys_of(facts))
        return None


@dataclass(frozen=True)
class Configuration:
    """What a product serves: a rule and the values that a frame must have.

    Parameters
    ----------
    rule
        Name of the rule.
    kind
        Kind of the product.
    keys
        Facts and their values, JSON.
    """

    rule: str
    kind: str
    keys: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Identity of the configuration."""
        return json_digest({"rule": self.rule, "kind": self.kind, "keys": dict(self.keys)})


def stored_rules(content: Mapping[str, Any]) -> RuleSet:
    """Return the rules that a store keeps, without those about kinds of product that this nirflow does not know.

    Another version of nirflow may have set them. They have no effect here, where such products are neither made nor
    chosen.
    """
    known = [rule for rule in content["rules"] if rule["kind"] in (*CALIBRATION_KINDS, STANDARD)]
    for rule in content["rules"]:
        if rule not in known:
            version, name, kind = content["version"], rule["name"], rule["kind"]
            logger.debug("Rule %r of %s is about the unknown kind %r and is ignored", name, version, kind)
    return RuleSet.model_validate({**content, "rules": known})


def differences(names: Sequence[str], product: FrameFacts, frame: FrameFacts) -> tuple[str, ...]:
    """Return the facts among ``names`` on which a product and a frame disagree, each with both values."""
    pairs = [(name, _canonical(product.value(name)), _canonical(frame.value(name))) for name in names]
    return tuple(
        _difference(name, its, wanted, frame.instrument) for name, its, wanted in pairs if its != wanted
    )


def _difference(name: str, its: Any, wanted: Any, instrument: str) -> str:
    label, unit = catalogue.label(name, instrument)
    return f"{label} {_with_unit(its, unit)}, frame {_with_unit(wanted, unit)}"


def _instrument(facts: Facts) -> str:
    return facts.instrument if isinstance(facts, FrameFacts) else str(facts.get("instrument", ""))


def _canonical(value: Any) -> Any:
    """Return a value with exposure times rounded to the millisecond, the precision of headers."""
    return round(value, 3) if isinstance(value, float) else value


def _with_unit(value: Any, unit: str) -> str:
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{number or 'unknown'} {unit}".strip()
