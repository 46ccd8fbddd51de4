"""Checks of what a table means: units, and rules of which a later one can never apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from imaging.instruments.checking.table_errors import TableError
from imaging.instruments.checking.toml_lines import Place
from imaging.instruments.detector import NUMBERS
from imaging.instruments.instrument import COMMON, Instrument

#: Conditions by keyword or fact, each with the values or patterns that meet it.
When = Mapping[str, Sequence[Any]]


def check_table(table: Instrument) -> None:
    """Refuse a table whose parts are valid and mean nothing sensible together.

    Raises
    ------
    TableError
        With the place of the first problem.
    """
    for place, message in (*_units(table), *_shadowed_choices(table), *_shadowed_modes(table)):
        raise TableError(message, *place)


def _units(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield common facts with another unit than theirs, in which everything computes."""
    for name, fact in table.facts.items():
        needed = table.unit(name)
        if name in COMMON and fact.unit not in ("", needed):
            expected = f"expected {needed!r}, in which it is used" if needed else "but it has none"
            yield ("facts", name, "unit"), f"is {fact.unit!r}, {expected}; `factor` converts"


def _shadowed_choices(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield choices that no frame reaches, because an earlier one with another value matches the same frames."""
    lists: list[tuple[Place, Sequence[Any]]] = [(("kinds",), table.kinds), (("lamp",), table.lamp)]
    lists += [(("facts", name, "choices"), fact.choices) for name, fact in table.facts.items()]
    for place, choices in lists:
        for later, one in enumerate(choices):
            for earlier, other in enumerate(choices[:later]):
                if other.value != one.value and _covers(other.when, one.when):
                    yield (*place, later), (
                        f"never applies: {place[-1]}[{earlier + 1}] ({other.value!r}) comes first and matches all "
                        f"frames that this one ({one.value!r}) does"
                    )  # fmt: skip


def _shadowed_modes(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield numbers of modes that no frame gets, because an earlier mode has another for the same frames."""
    modes = table.detector.modes
    for later, one in enumerate(modes):
        for earlier, other in enumerate(modes[:later]):
            for number in NUMBERS:
                mine, its = getattr(one, number), getattr(other, number)
                if None not in (mine, its) and mine != its and _covers(other.when, one.when):
                    yield ("detector", "modes", later, number), (
                        f"never applies: modes[{earlier + 1}] comes first and has {its!r} for the same frames"
                    )  # fmt: skip


def _covers(one: When, other: When) -> bool:
    """Return whether whatever meets the other conditions meets these."""
    return all(
        name in other and all(any(_fits(value, pattern) for pattern in patterns) for value in other[name])
        for name, patterns in one.items()
    )


def _fits(value: Any, pattern: Any) -> bool:
    if isinstance(value, str) and isinstance(pattern, str):
        return fnmatchcase(value.upper(), pattern.upper())
    return bool(value == pattern)
