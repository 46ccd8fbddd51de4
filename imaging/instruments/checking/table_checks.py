"""Checks of what a table means: units, defaults, conditions, and rules of which a later one can never apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from imaging.instruments.checking.table_errors import TableError
from imaging.instruments.checking.toml_lines import Place
from imaging.instruments.detector import NUMBERS
from imaging.instruments.instrument import COMMON, Choice, Instrument

#: Conditions by keyword or fact, each with the values or patterns that meet it.
When = Mapping[str, Sequence[Any]]


def check_table(table: Instrument) -> None:
    """Refuse a table whose parts are valid and mean nothing sensible together.

    Raises
    ------
    TableError
        With the place of the first problem.
    """
    checks = (_units, _factors, _fallbacks, _axes, _tolerances, _conditions, _compared)
    for check in (*checks, _shadowed_choices, _shadowed_modes):
        for place, message in check(table):
            raise TableError(message, *place)


def _units(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield common facts with another unit than theirs, in which everything computes."""
    for name, fact in table.facts.items():
        needed = table.unit(name)
        if name in COMMON and fact.unit not in ("", needed):
            expected = f"expected {needed!r}, in which it is used" if needed else "but it has none"
            yield ("facts", name, "unit"), f"is {fact.unit!r}, {expected}; `factor` converts"


def _factors(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield factors that give every frame the same number."""
    for name, fact in table.facts.items():
        if fact.factor == 0:
            yield ("facts", name, "factor"), "is 0, with which all values are the same"


def _fallbacks(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield defaults of numbers that are no numbers, or out of range."""
    for name, fact in table.facts.items():
        kind, default = table.type_of(name), fact.default
        if default is None or kind not in ("number", "count"):
            continue
        place: Place = ("facts", name, "default")
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if not number or (kind == "count" and default != int(default)):
            yield place, f"is {default!r}, expected {'a whole number' if kind == 'count' else 'a number'}"
        elif fact.range is not None and not fact.range[0] <= float(default) <= fact.range[1]:
            yield place, f"is {default!r}, which is outside of the fact's own range"


def _axes(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield axes of the detector that follow the same offset."""
    x, y = table.offsets.x, table.offsets.y
    if x[-1] == y[-1]:
        yield ("offsets", "y"), f"is {y!r}, but x, {x!r}, follows the same offset; one is P, the other Q"


def _tolerances(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield tolerances of texts."""
    for name in table.tolerance:
        if not table.is_number(name):
            yield ("tolerance", name), f"is for a number, but {name} is a text"


def _conditions(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield names in conditions that are neither keywords nor facts that are known when they are needed."""
    for name, fact in table.facts.items():
        for n, one in enumerate(fact.choices):
            for keyword in one.when:
                if not keyword.isupper():
                    place: Place = ("facts", name, "choices", n, "when", keyword)
                    yield place, "is not a keyword in capitals"
    lists: list[tuple[str, Sequence[Choice], Sequence[str]]] = [
        ("kinds", table.kinds, ("instrument", "filter_id", "filter")),
        ("lamp", table.lamp, [name for name in table.comparable if name != "lamp"]),
    ]  # fmt: skip
    for key, choices, known in lists:
        for n, choice in enumerate(choices):
            for name in choice.when:
                if name.isupper() or name in known:
                    continue
                facts = "facts that are known before the kind" if key == "kinds" else "facts"
                problem = f"is neither a keyword in capitals nor one of the {facts}: {', '.join(known)}"
                yield (key, n, "when", name), problem


def _compared(table: Instrument) -> Iterator[tuple[Place, str]]:
    """Yield values of another type than the fact that they are compared with: they never agree."""
    uses: list[tuple[Place, Mapping[str, Sequence[Any]]]] = [
        (("detector", "modes", n, "when"), mode.when) for n, mode in enumerate(table.detector.modes)
    ]
    uses += [(("zero_points", n, "when"), one.when) for n, one in enumerate(table.zero_points)]
    uses += [(("offsets", "unless"), table.offsets.unless)]
    for place, when in uses:
        for name, values in when.items():
            number = table.is_number(name)
            for value in values:
                if isinstance(value, str) == number:
                    wanted = "a number" if number else "a text, in quotes"
                    yield (*place, name), f"has {value!r}, but {name} is {wanted}"


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
