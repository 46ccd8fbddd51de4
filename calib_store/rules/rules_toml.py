"""Rules as tables in TOML, and the rules that follow from the tables of the instruments."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from calib_store.rules.order import CURRENT
from calib_store.rules.rules import Rule, RuleSet
from imaging.errors import FrameError, StoreError
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument, SameKind
from imaging.io.limits import opened, told_size

#: Largest table of rules that is read, bytes; ours has 2 kB.
_LARGEST: Final = 1 << 20
_HEADING: Final = Path(__file__).with_name("heading.toml")
#: A name that needs no quotes in TOML.
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
#: The kinds that serve frames, and the kind whose facts and time they go by.
_SERVING: Final[tuple[tuple[Literal["dark", "flat", "bpm", "skyflat"], SameKind], ...]] = (
    ("dark", "dark"), ("flat", "flat"), ("skyflat", "flat"), ("bpm", "bpm"),
)  # fmt: skip


def rules_text(rules: RuleSet) -> str:
    """Rules as the table that `read_rules` reads, with comments on what is what."""
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
    """Return a text as TOML, in ASCII that can be seen; JSON's pairs of surrogates are not TOML's."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(c if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in plain)


def read_rules(text: str, source: str) -> RuleSet:
    """Read a table of rules.

    Parameters
    ----------
    text
        TOML, as `rules_text` writes it.
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
        found = RuleSet.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(
            rules[part]["name"] if isinstance(part, int) and before == "rules" else str(part)
            for before, part in zip(("", *first["loc"]), first["loc"], strict=False)
            if part != "rules"
        )
        told = first["msg"].removeprefix("Value error, ")
        raise StoreError(f"{source}: {place or 'the table'}: {told}.", remedy=remedy) from error
    known = catalogue.comparable()
    for rule in found.rules:
        for fact in rule.match:
            if fact not in known:
                told = f"match names {fact!r}, which is none of {', '.join(known)}"
                raise StoreError(f"{source}: {rule.name}: {told}.", remedy=remedy)
        for fact in rule.tolerance:
            if not catalogue.is_number(fact):
                told = f"tolerance names {fact!r}, which is no number among the facts of match"
                raise StoreError(f"{source}: {rule.name}: {told}.", remedy=remedy)
    return found


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
            f"{path} is larger than {told_size(_LARGEST)}, and no table of rules is.",
            remedy="Start from: nirflow cal rules --toml",
        )
    return read_rules(text.decode(errors="replace"), path.name)


def shipped_text() -> str:
    """The rules that nirflow comes with, as TOML."""
    return rules_text(shipped_rules())


@cache
def shipped_rules() -> RuleSet:
    """The rules that follow from the tables of the instruments.

    Those of the first table hold for every instrument without a table of its own, so that a store that knows frames of
    one instrument has its rules in their plain form.
    """
    tables = catalogue.instruments()
    rules = [
        rule for n, table in enumerate(tables) for rule in _rules_of(table, "" if n == 0 else table.name)
    ]
    return RuleSet(version="+".join(table.version for table in tables), order=CURRENT, rules=tuple(rules))


def _rules_of(table: Instrument, instrument: str) -> Iterator[Rule]:
    """The rules of one instrument: what its table says has to be the same, within its time for serving."""
    prefix = f"{instrument} " if instrument else ""
    for kind, like in _SERVING:
        match = ("instrument", *table.same[like])
        tolerance = {fact: off for fact, off in table.tolerance.items() if fact in match}
        yield Rule(
            name=prefix + kind, kind=kind, match=match, tolerance=tolerance,
            window_days=table.windows[like].serve, instrument=instrument,
        )  # fmt: skip
    # A mask that the observatory publishes holds from its date on, until a later one is nearer.
    yield Rule(
        name=prefix + "static bpm", kind="bpm", match=("instrument", *table.same["bpm"]), frames="later",
        published=True, instrument=instrument,
    )  # fmt: skip
