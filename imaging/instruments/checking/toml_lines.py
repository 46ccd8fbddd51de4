"""The lines of a TOML text on which its keys are, for messages about their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: A key or an index in an array, from the top of a text.
Place = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_PART: Final = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
_SCALAR: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\n]+''', re.DOTALL
)


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key in a TOML text, counted from 1.

    Parameters
    ----------
    text
        A text that is valid TOML.
    place
        Keys and indices from the top: ``("detector", "modes", 0, "gain")``. If the text does not have the last of
        them, such as a key that is missing, the line is that of the table that should have it.

    Returns
    -------
    int or None
        The line; None if the text has not even the first key, or cannot be followed.
    """
    try:
        lines = _Scanner(text).lines()
    except (_NoTomlError, IndexError, RecursionError):
        return None
    wanted = tuple(place)
    return next((lines[wanted[:n]] for n in range(len(wanted), 0, -1) if wanted[:n] in lines), None)


class _NoTomlError(ValueError):
    """The text is not valid TOML."""


class _Scanner:
    """A walk over a valid text that notes where each key begins."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._found: dict[Place, int] = {}
        self._lengths: dict[Place, int] = {}

    def lines(self) -> dict[Place, int]:
        """Return the line of every key and array element."""
        table: Place = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return self._found
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        start = self._at
        several = self._text.startswith("[[", start)
        self._at += 2 if several else 1
        place: Place = ()
        *parents, last = self._key()
        for part in parents:
            place = (*place, part)
            if place not in self._found:  # a table that only its parts name
                self._note(place, start)
            place = self._entered(place)
        place = (*place, last)
        self._at += 2 if several else 1
        if several:
            number = self._lengths.get(place, 0)
            self._lengths[place] = number + 1
            self._note(place, start)
            place = (*place, number)
        self._note(place, start)
        return place

    def _entered(self, place: Place) -> Place:
        """Return the place of a table, or of the last one so far in an array of tables."""
        return (*place, self._lengths[place] - 1) if place in self._lengths else place

    def _pair(self, table: Place) -> None:
        start, place = self._at, table
        for part in self._key():
            place = (*place, part)
            self._note(place, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(place)

    def _key(self) -> list[str]:
        parts = []
        while True:
            part = _PART.match(self._text, self._at)
            if part is None:
                raise _NoTomlError
            parts.append(next(one for one in part.groups() if one is not None))
            self._at = part.end()
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, place: Place) -> None:
        match self._text[self._at]:
            case "[":
                self._at += 1
                number = 0
                while self._skip(_BLANK) != "]":
                    self._note((*place, number), self._at)
                    self._value((*place, number))
                    number += 1
                self._at += 1
            case "{":
                self._at += 1
                while self._skip(_BLANK) != "}":
                    self._pair(place)
                self._at += 1
            case _:
                start = self._at
                self._skip(_SCALAR)
                if self._at == start:
                    raise _NoTomlError

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Go behind what a pattern matches, and return the next character; an empty text at the end."""
        found = pattern.match(self._text, self._at)
        self._at = self._at if found is None else found.end()
        return self._text[self._at : self._at + 1]

    def _note(self, place: Place, at: int) -> None:
        self._found.setdefault(place, self._text.count("\n", 0, at) + 1)
