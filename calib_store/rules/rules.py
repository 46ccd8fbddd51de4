"""Which calibration belongs to which frame: rules as data, with a version.

A rule names the facts of a frame that must agree with those of the product, how far numbers may be off, and
how far apart in time the two may be. The rules that nirflow comes with are in ``rules.toml``; a store keeps
the rules that it uses, and those that it used before, in its database (`calib_store.tables.rulebook`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calib_store.rules.order import CURRENT, ORDERS
from imaging.errors import FrameError, StoreError
from imaging.frames.facts import FrameFacts
from imaging.io.limits import opened, size_text
from imaging.kinds import CALIBRATION_KINDS, PRODUCT_KINDS, CalibrationKind

#: What each fact is called when a person is told about it, and its unit.
FACT_WORDS: dict[str, tuple[str, str]] = {
    "instrument": ("instrument", ""),
    "detector": ("detector", ""),
    "section": ("detector section", ""),
    "binning": ("binning", ""),
    "exposure_time": ("exposure", "s"),
    "read_pairs": ("read pairs", ""),
    "coadds": ("coadds", ""),
    "filter_id": ("filter", ""),
    "lyot": ("Lyot stop", ""),
    "focal_mask": ("focal-plane mask", ""),
    "disperser": ("disperser", ""),
}
#: Largest table of rules that is read, bytes; ours has 2 kB.
_LARGEST: Final = 1 << 20
_NUMBERS = ("exposure_time", "read_pairs", "coadds")

Facts = FrameFacts | Mapping[str, Any]

logger = logging.getLogger(__name__)


class Rule(BaseModel):
    """One rule of association."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="name; part of the configuration that a product serves")
    kind: CalibrationKind = Field(description="kind of the products")
    match: tuple[str, ...] = Field(min_length=1, description="facts that must agree, in the order told")
    tolerance: dict[str, float] = Field(
        default_factory=dict, description="how far a number may be off, in its unit"
    )
    window_days: float | None = Field(
        default=None, gt=0, description="largest distance of the middles of product and exposure, days"
    )
    frames: Literal["either", "later", "earlier"] = Field(
        default="either", description="side in time, seen from the product, on which it serves frames"
    )
    published: bool = Field(
        default=False, description="for products that the observatory publishes, not for those made of frames"
    )

    @model_validator(mode="after")
    def _facts_exist(self) -> Self:
        for fact in self.match:
            if fact not in FACT_WORDS:
                raise ValueError(f"match names {fact!r}, which is none of {', '.join(FACT_WORDS)}")
        if len(set(self.match)) < len(self.match):
            raise ValueError("match names a fact twice")
        for fact, tolerance in self.tolerance.items():
            if fact not in _NUMBERS or fact not in self.match:
                raise ValueError(f"tolerance names {fact!r}, which is no number among the facts of match")
            if not 0 <= tolerance < float("inf"):
                raise ValueError(f"the tolerance of {fact} is {tolerance}, no number of 0 or more")
        return self

    @property
    def window(self) -> timedelta | None:
        """The window as a duration."""
        return None if self.window_days is None else timedelta(days=self.window_days)

    def validity(self, middle: datetime) -> tuple[datetime | None, datetime | None]:
        """From when to when a product of that time serves by the rule; None for a side without a limit."""
        first = middle - self.window if self.window is not None else None
        last = middle + self.window if self.window is not None else None
        return (middle if self.frames == "later" else first, middle if self.frames == "earlier" else last)

    def keys_of(self, facts: Facts) -> dict[str, Any]:
        """The values that the rule compares."""
        given = (lambda name: getattr(facts, name)) if isinstance(facts, FrameFacts) else facts.get
        return {name: _canonical(given(name)) for name in self.match}

    def agrees(self, fact: str, one: Any, other: Any) -> bool:
        """Whether two values of a fact are the same to this rule."""
        tolerance = self.tolerance.get(fact, 0.0)
        if tolerance and isinstance(one, (int, float)) and isinstance(other, (int, float)):
            return abs(one - other) <= tolerance
        return bool(one == other)

    def first_difference(self, keys: Mapping[str, Any], facts: Facts) -> str | None:
        """The first fact on which a product's keys and a frame disagree, told with both values."""
        for name, wanted in self.keys_of(facts).items():
            if name not in keys:
                return f"{FACT_WORDS[name][0]} of the product unknown"
            if not self.agrees(name, keys[name], wanted):
                return _difference(name, keys[name], wanted)
        return None

    def time_difference(self, middle: datetime, frame: datetime) -> str | None:
        """Why a product of that time does not serve a frame, or None.

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
        served = [("published " if rule.published else "") + rule.kind for rule in self.rules]
        for names in ([rule.name for rule in self.rules], served):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"two rules are for {twice!r}")
        return self

    @property
    def digest(self) -> str:
        """Identity of the rules themselves, whatever the version is called."""
        # Rules of before the order had a version keep the digest that they are known by.
        return _digest(
            self.model_dump(mode="json", exclude={"version"} | ({"order"} if self.order == 1 else set()))
        )

    def for_kind(self, kind: str) -> tuple[Rule, ...]:
        """The rules by which products of ``kind`` serve frames; none for an image.

        Raises
        ------
        StoreError
            For a kind that there is not.
        """
        if kind not in PRODUCT_KINDS:
            raise StoreError(
                f"There is no product kind {kind!r}.", remedy=f"Use one of {', '.join(PRODUCT_KINDS)}."
            )
        return tuple(rule for rule in self.rules if rule.kind == kind)

    def named(self, name: str) -> Rule | None:
        """The rule of that name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def configuration(self, kind: str, facts: Facts, *, published: bool = False) -> Configuration | None:
        """The configuration that a product serves; None where no rule is about it (an image).

        Parameters
        ----------
        kind
            Kind of the product.
        facts
            Facts of the product: those of its inputs.
        published
            The observatory published it.
        """
        for rule in self.for_kind(kind):
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
        return _digest({"rule": self.rule, "kind": self.kind, "keys": dict(self.keys)})


def rules_text(rules: RuleSet) -> str:
    """Rules as the table that `read_rules` reads, with words on what is what; the shipped ones as they are shipped."""
    if rules == shipped_rules():
        return shipped_text()
    lines = [*takewhile(lambda line: line.startswith("#"), shipped_text().splitlines()), ""]
    lines.append(f"version = {_quoted(rules.version)}")
    lines.append(f"order = {rules.order}")
    for rule in rules.rules:
        lines += ["", f"[{_quoted(rule.name)}]", f"kind = {json.dumps(rule.kind)}"]
        lines.append(f"match = {json.dumps(rule.match)}")
        if rule.tolerance:
            off = ", ".join(f"{name} = {tolerance!r}" for name, tolerance in rule.tolerance.items())
            lines.append(f"tolerance = {{ {off} }}")
        if rule.window_days is not None:
            lines.append(f"window_days = {rule.window_days!r}")
        if rule.frames != "either":
            lines.append(f"frames = {json.dumps(rule.frames)}")
        if rule.published:
            lines.append("published = true")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as TOML, in ASCII that can be seen; JSON's pairs of surrogates are not TOML's."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(c if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in plain)


def read_rules(text: str, source: str) -> RuleSet:
    """Read a table of rules.

    Parameters
    ----------
    text
        TOML, as in ``rules.toml``.
    source
        What it is called in errors.

    Raises
    ------
    StoreError
        Where it cannot be read or makes no sense; names the rule and the key.
    """
    remedy = "Compare it with the table that nirflow comes with: nirflow cal rules --toml."
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number without end, lists in lists without end
        raise StoreError(f"{source} is no TOML: {error}.", remedy=remedy) from error
    rules = [
        {"name": name, **given} if isinstance(given, dict) else {"name": name, "kind": given}
        for name, given in table.items()
        if name not in ("version", "order")
    ]
    given = {"version": table.get("version"), "order": table.get("order", CURRENT), "rules": rules}
    try:
        return RuleSet.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(
            rules[part]["name"] if isinstance(part, int) and before == "rules" else str(part)
            for before, part in zip(("", *first["loc"]), first["loc"], strict=False)
            if part != "rules"
        )
        told = first["msg"].removeprefix("Value error, ")
        raise StoreError(f"{source}: {place or 'the table'}: {told}.", remedy=remedy) from error


def stored_rules(content: Mapping[str, Any]) -> RuleSet:
    """Return rules as a store keeps them, without those about kinds of product that this nirflow does not know.

    Another version of nirflow may have set them. Nothing of such a kind is made or chosen here, so they have no effect.
    """
    known = [rule for rule in content["rules"] if rule["kind"] in CALIBRATION_KINDS]
    for rule in content["rules"]:
        if rule not in known:
            version, name, kind = content["version"], rule["name"], rule["kind"]
            logger.debug("Rule %r of %s is about the unknown kind %r and is ignored", name, version, kind)
    return RuleSet.model_validate({**content, "rules": known})


def rules_in(path: Path) -> RuleSet:
    """Read the rules in a file.

    Raises
    ------
    StoreError
        As `read_rules` does, and for a file that is none, or larger than any table of rules.
    """
    try:
        with opened(path) as file:
            text = file.read(_LARGEST + 1)
    except FrameError as error:
        raise StoreError(
            f"{path}: {error.problem}.", remedy="Start from: nirflow cal rules --toml"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Start from: nirflow cal rules --toml",
        ) from error
    if len(text) > _LARGEST:
        raise StoreError(
            f"{path} is larger than {size_text(_LARGEST)}, and no table of rules is.",
            remedy="Start from: nirflow cal rules --toml",
        )
    return read_rules(text.decode(errors="replace"), path.name)


def shipped_text() -> str:
    """The table that nirflow comes with, as TOML."""
    return Path(__file__).with_name("rules.toml").read_text(encoding="utf-8")


@cache
def shipped_rules() -> RuleSet:
    """The rules that nirflow comes with."""
    return read_rules(shipped_text(), "rules.toml")


def differences(names: Sequence[str], product: FrameFacts, frame: FrameFacts) -> tuple[str, ...]:
    """The facts among ``names`` on which a product and a frame disagree, each told with both values."""
    pairs = [(name, _canonical(getattr(product, name)), _canonical(getattr(frame, name))) for name in names]
    return tuple(_difference(name, its, wanted) for name, its, wanted in pairs if its != wanted)


def _difference(name: str, its: Any, wanted: Any) -> str:
    word, unit = FACT_WORDS[name]
    return f"{word} {_told(its, unit)}, frame {_told(wanted, unit)}"


def _canonical(value: Any) -> Any:
    """Exposure times to the millisecond, which is as exact as headers are."""
    return round(value, 3) if isinstance(value, float) else value


def _told(value: Any, unit: str) -> str:
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{number or 'unknown'} {unit}".strip()


def _digest(value: Any) -> str:
    told = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(told.encode()).hexdigest()
