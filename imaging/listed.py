"""Many messages with the same text, gathered into one line with a count and a list of names.

Every list of problems that a user sees (terminal, log, report, page, artifact) passes through `gathered`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any, Final, NamedTuple

#: Names in a list before it is cut.
_MOST: Final = 6
#: Texts that differ only in numbers are gathered from this number on.
_SIMILAR: Final = 4
#: A number, date, time or size that stands alone: digits in the name of a file, an id or a keyword are not masked.
_NUMBER: Final = re.compile(
    r"(?<![^\s(\[{'\"=])(?:[-+]?\d[\d.:x]*(?:e[-+]?\d+)?|\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?)%?"
    r"(?=[.,:;)\]}'\"]*(?:\s|$))"
)


class Gathered(NamedTuple):
    """A text and everything that it holds for.

    Attributes
    ----------
    names
        The names, in order.
    text
        The common text; if the texts differ in their numbers, that of the first name, marked as such.
    noun
        What the names are names of, in the singular.
    """

    names: tuple[str, ...]
    text: str
    noun: str = "file"

    @property
    def label(self) -> str:
        """The names for the beginning of a line: the name of one, or the number of several and the first names."""
        if len(self.names) == 1:
            return self.names[0]
        return f"{counted(len(self.names), self.noun)} ({listed(self.names)})"


def gathered(messages: Iterable[tuple[str, str]], noun: str = "file") -> list[Gathered]:
    """Gather messages of the same text.

    Parameters
    ----------
    messages
        Pairs of name and text; a repeated pair counts once.
    noun
        What the names are names of, in the singular.

    Returns
    -------
    list of Gathered
        In the order in which the texts first occur.
    """
    similar: dict[str, list[tuple[str, str]]] = {}
    for name, text in dict.fromkeys(messages):
        similar.setdefault(_without_numbers(name, text), []).append((name, text))
    found: list[Gathered] = []
    for alike in similar.values():
        same: dict[str, list[str]] = {}
        for name, text in alike:
            same.setdefault(text, []).append(name)
        if len(same) >= _SIMILAR:
            first, text = alike[0]
            names = tuple(dict.fromkeys(name for name, _ in alike))
            found.append(Gathered(names, f"{text} [{first}; the others differ in numbers]", noun))
        else:
            found += [Gathered(tuple(names), text, noun) for text, names in same.items()]
    return found


def listed(names: Iterable[str], most: int = _MOST) -> str:
    """Return names separated by commas, the first few of many: ``a, b, c and 36 more``."""
    every = list(names)
    if len(every) <= most + 1:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun, which takes an s in the plural if no other is given: ``1 file``, ``2 files``."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def filled(template: str, facts: Mapping[str, Any]) -> str:
    """Return a template with its facts; ``{coadds:n coadd}`` gives a number with its noun, as `counted` does."""
    return _COUNTING.vformat(template, (), facts)


class _Counting(Formatter):
    """Formats ``{...:n noun}`` as a number of things."""

    def format_field(self, value: Any, format_spec: str) -> str:
        noun = format_spec.removeprefix("n ")
        return super().format_field(value, format_spec) if noun == format_spec else counted(value, noun)


_COUNTING: Final = _Counting()


def _without_numbers(name: str, text: str) -> str:
    """Return a text with its numbers and the name that it is about masked."""
    for part in (name, name.rsplit(".fits", 1)[0]):
        if len(part) > 3:
            text = text.replace(part, "\0")
    return _NUMBER.sub("#", text)
