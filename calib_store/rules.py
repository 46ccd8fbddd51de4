"""Which calibration belongs to which frame: rules as data, with a version.

After the association rules of the Gemini archive for FLAMINGOS-2 imaging. A rule names the facts of a
frame that must agree with those of the product, and how far apart in time the two may be. To change a rule,
change the table and raise `RULES_VERSION`: every decision names the version that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from imaging.errors import StoreError
from imaging.facts import FrameFacts

#: Version of the table below.
RULES_VERSION = "f2-imaging-2"

ProductKind = Literal["dark", "flat", "bpm", "skyflat", "image"]
PRODUCT_KINDS: tuple[str, ...] = get_args(ProductKind)

Direction = Literal["either", "after"]

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


@dataclass(frozen=True)
class Rule:
    """One rule of association.

    Parameters
    ----------
    name
        Name of the rule; part of the configuration that a product serves.
    kind
        Kind of the product.
    match
        Facts that must be equal, in the order in which they are told.
    window_days
        How far the middle of the product's inputs may be from the middle of the exposure, days; None
        for no limit.
    direction
        ``either`` side in time, or only frames taken ``after`` the product's beginning.
    """

    name: str
    kind: ProductKind
    match: tuple[str, ...]
    window_days: float | None = 90.0
    direction: Direction = "either"

    @property
    def window(self) -> timedelta | None:
        """The window as a duration."""
        return None if self.window_days is None else timedelta(days=self.window_days)


_DETECTOR = ("instrument", "detector", "binning")
_OPTICS = ("filter_id", "lyot", "focal_mask", "disperser")

RULES: tuple[Rule, ...] = (
    Rule("dark", "dark", (*_DETECTOR, "exposure_time", "read_pairs", "coadds", "section")),
    Rule("flat", "flat", ("instrument", "detector", *_OPTICS)),
    Rule("skyflat", "skyflat", ("instrument", *_OPTICS)),
    Rule("bpm", "bpm", _DETECTOR),
    # A mask that the observatory publishes holds from its date on, until a later one is nearer.
    Rule("static bpm", "bpm", _DETECTOR, window_days=None, direction="after"),
)
_BY_NAME = {rule.name: rule for rule in RULES}


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
        """Identity of the configuration: sha256 of its canonical JSON."""
        told = json.dumps(
            {"rule": self.rule, "kind": self.kind, "keys": dict(self.keys)},
            sort_keys=True, separators=(",", ":"), allow_nan=False,
        )  # fmt: skip
        return hashlib.sha256(told.encode()).hexdigest()


def rules_for(kind: str) -> tuple[Rule, ...]:
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
    return tuple(rule for rule in RULES if rule.kind == kind)


def rule_named(name: str) -> Rule:
    """The rule of that name."""
    return _BY_NAME[name]


def configuration(kind: str, facts: FrameFacts, *, static: bool = False) -> Configuration | None:
    """The configuration that a product of ``kind`` with these facts serves; None for an image.

    Parameters
    ----------
    kind
        Kind of the product.
    facts
        Facts of the product (those of its inputs).
    static
        A bad pixel mask that holds from its date on.
    """
    rules = rules_for(kind)
    if static and kind != "bpm":
        raise StoreError(f"Only a bad pixel mask can be static, not a {kind}.")
    if not rules:
        return None
    rule = rules[-1] if static else rules[0]
    return Configuration(rule.name, kind, keys_of(rule, facts))


def configurations_of_frame(kind: str, facts: FrameFacts) -> tuple[Configuration, ...]:
    """The configurations of which a product of ``kind`` may serve the frame, one for each rule."""
    return tuple(Configuration(rule.name, kind, keys_of(rule, facts)) for rule in rules_for(kind))


def keys_of(rule: Rule, facts: FrameFacts) -> dict[str, Any]:
    """The values of a frame's facts that a rule compares."""
    return {name: _canonical(getattr(facts, name)) for name in rule.match}


def first_difference(rule: Rule, keys: Mapping[str, Any], facts: FrameFacts) -> str | None:
    """The first fact on which a product's keys and a frame disagree, told with both values."""
    for name, wanted in keys_of(rule, facts).items():
        if name not in keys:
            return f"{FACT_WORDS[name][0]} of the product unknown"
        if keys[name] != wanted:
            return _difference(name, keys[name], wanted)
    return None


def differences(names: Sequence[str], product: FrameFacts, frame: FrameFacts) -> tuple[str, ...]:
    """The facts among ``names`` on which a product and a frame disagree, each told with both values."""
    pairs = [(name, _canonical(getattr(product, name)), _canonical(getattr(frame, name))) for name in names]
    return tuple(_difference(name, its, wanted) for name, its, wanted in pairs if its != wanted)


def _difference(name: str, its: Any, wanted: Any) -> str:
    word, unit = FACT_WORDS[name]
    return f"{word} {_told(its, unit)}, frame {_told(wanted, unit)}"


def time_difference(
    rule: Rule, middle: datetime, started: datetime, frame: datetime
) -> str | None:  # fmt: skip
    """Why a product of that time does not serve a frame exposed at ``frame`` (its middle), or None."""
    if rule.direction == "after" and started > frame:
        return f"serves frames from {started:%Y-%m-%d %H:%M} on, frame {frame:%Y-%m-%d %H:%M}"
    if rule.window is not None and abs(middle - frame) > rule.window:
        days = abs(middle - frame) / timedelta(days=1)
        side = "before" if middle < frame else "after"
        return f"{days:.1f} days {side} the frame, at most {rule.window_days:g}"
    return None


def _canonical(value: Any) -> Any:
    """Exposure times to the millisecond, so that single and double precision headers agree."""
    return round(value, 3) if isinstance(value, float) else value


def _told(value: Any, unit: str) -> str:
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{number or 'unknown'} {unit}".strip()
