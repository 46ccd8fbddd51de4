"""Rules as tables in TOML, and the rules that follow from the tables of the instruments."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from calib_store.model.values import STANDARD
from calib_store.rules.order import CURRENT
from calib_store.rules.rules import Rule, RuleSet
from imaging.errors import FrameError, StoreError
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.io.limits import opened
from imaging.kinds import CALIBRATIONS, STACK
from imaging.machine import size_text

#: Largest table of rules that is read, bytes; the shipped one has 2 kB.
_LARGEST: Final = 1 << 20
_HEADING: Final = Path(__file__).with_name("heading.toml")
#: A name that needs no quotes in TOML.
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def rules_text(rules: RuleSet) -> str:
    """Return rules as the table that `read_rules` reads, with comments."""
    lines = [*_HEADING.read_text(encoding="utf-8").splitlines(), ""]
    lines.append(f"version = {_quoted(rules.version)}")
    lines.append(f"order = {rules.order}")
    for rule in rules.rules:
        name = rule.name if _BARE.fullmatch(rule.name) else _quoted(rule.name)
        lines += ["", f"[{name}]", f"kind = {json.dumps(rule.kind)}"]
        if rule.instrument:
            lines.append(f"instrument = {_quoted(rule.instrument)}")
        lines.append(f"match = {json.dumps(rule.match)}")
        if rule.tolerance:
            off = ", ".join(f"{name} = {tolerance!r}" for name, tolerance in rule.tolerance.items())
            lines.append(f"tolerance = {{ {off} }}")
        if rule.window_days is not None:
            days = rule.window_days
            lines.append(f"window_days = {int(days) if days == int(days) else repr(days)}")
        if rule.frames != "either":
            lines.append(f"frames = {json.dumps(rule.frames)}")
        if rule.published:
            lines.append("published = true")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as TOML in printable ASCII; TOML does not allow JSON's surrogate pairs."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(c if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in plain)


def read_rules(text: str, source: str) -> RuleSet:
    """Read a table of rules.

    Parameters
    ----------
    text
        TOML, as `rules_text` writes it.
    source
        Name of the source in errors.

    Raises
    ------
    StoreError
        If it cannot be read or is invalid; the message names the rule and the key.
    """
    remedy = "Compare it with the table that nirflow comes with: nirflow cal rules --toml."
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an endless number, endlessly nested lists
        raise StoreError(f"{source} is not valid TOML: {error}.", remedy=remedy) from error
    rules = [
        {"name": name, **given} if isinstance(given, dict) else {"name": name, "kind": given}
        for name, given in table.items()
        if name not in ("version", "order")
    ]
    given = {"version": table.get("version"), "order": table.get("order", CURRENT), "rules": rules}
    for rule in rules:
        _check_names(rule, source, remedy)
    try:
        return RuleSet.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(
            rules[part]["name"] if isinstance(part, int) and before == "rules" else str(part)
            for before, part in zip(("", *first["loc"]), first["loc"], strict=False)
            if part != "rules"
        )
        problem = first["msg"].removeprefix("Value error, ")
        raise StoreError(f"{source}: {place or 'the table'}: {problem}.", remedy=remedy) from error


def _check_names(rule: Mapping[str, Any], source: str, remedy: str) -> None:
    """Refuse facts that no instrument has.

    This is checked only here: a store may have rules about an instrument whose table no longer exists.
    """
    known = catalogue.comparable()
    match, tolerance = rule.get("match"), rule.get("tolerance")
    for fact in match if isinstance(match, list) else ():
        if fact not in known:
            problem = f"match names {fact!r}, which is not one of {', '.join(known)}"
            raise StoreError(f"{source}: {rule['name']}: {problem}.", remedy=remedy)
    for fact in tolerance if isinstance(tolerance, dict) else ():
        if not catalogue.is_number(fact):
            problem = f"tolerance names {fact!r}, which is not a numeric fact in match"
            raise StoreError(f"{source}: {rule['name']}: {problem}.", remedy=remedy)


def rules_in(path: Path) -> RuleSet:
    """Read the rules in a file.

    Raises
    ------
    StoreError
        As for `read_rules`, and if the file cannot be read or is larger than any table of rules.
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
            f"{path} is larger than {size_text(_LARGEST)}, the most that a table of rules may have.",
            remedy="Start from: nirflow cal rules --toml",
        )
    return read_rules(text.decode(errors="replace"), path.name)


def shipped_text() -> str:
    """Return the rules that nirflow comes with, as TOML."""
    return rules_text(shipped_rules())


@cache
def shipped_rules() -> RuleSet:
    """Return the rules that follow from the tables of the instruments.

    Those of the first table apply to every instrument without its own table, so a store with frames of only one
    instrument has its rules in their simple form.
    """
    tables = catalogue.instruments()
    rules = [
        rule for n, table in enumerate(tables) for rule in _rules_of(table, "" if n == 0 else table.name)
    ]
    return RuleSet(version="+".join(table.version for table in tables), order=CURRENT, rules=tuple(rules))


def _rules_of(table: Instrument, instrument: str) -> Iterator[Rule]:
    """Yield the rules of one instrument: the facts that its table requires to be equal, within its time limits."""
    prefix = f"{instrument} " if instrument else ""
    for kind in sorted(CALIBRATIONS, key=lambda kind: kind.published):
        match = ("instrument", *table.same[kind.name])
        tolerance = {fact: off for fact, off in table.tolerance.items() if fact in match}
        made = Rule.model_validate(
            {
                "name": prefix + kind.name, "kind": kind.name, "match": match, "tolerance": tolerance,
                "window_days": table.windows[kind.name].serve, "instrument": instrument,
            }
        )  # fmt: skip
        yield made
        if kind.published:  # it is valid from its date until a later one is nearer
            changes = {
                "name": f"{prefix}static {kind.name}",
                "window_days": None,
                "frames": "later",
                "published": True,
            }
            yield made.model_copy(update=changes)
    # The light path of a standard is that of the field: what a flat and its frames share, but for the section.
    yield Rule.model_validate(
        {
            "name": f"{prefix}{STANDARD}", "kind": STANDARD, "instrument": instrument,
            "match": ("instrument", *(fact for fact in table.same["flat"] if fact != "section")),
            "window_days": table.windows[STACK.name].serve or STACK.windows["serve"],
        }
    )  # fmt: skip
