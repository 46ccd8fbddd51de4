"""Typed values of keywords."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from imaging.errors import FrameError
from imaging.header import text_of

Header = Mapping[str, Any]

_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d*,\d+(?:[EDed][+-]?\d+)?")


class Keywords:
    """Typed look-ups in a header, with errors that name the file, the keyword, the value and the remedy.

    Parameters
    ----------
    header
        The header.
    name
        The file's name.

    Attributes
    ----------
    notes
        What was unusual about the values that were read.
    """

    def __init__(self, header: Header, name: str) -> None:
        self.header, self.name = header, name
        self.notes: list[str] = []

    def text(self, keyword: str, default: str | None = None) -> str:
        """Return a string, or the default if the card is missing or has no value."""
        value = self.header.get(keyword)
        if value is None or not isinstance(value, (str, int, float)):
            if default is not None:
                return default
            raise self.error(keyword, self.found(keyword), "a text")
        return ("T" if value else "F") if isinstance(value, bool) else str(value).strip()

    def number(self, keyword: str, default: float | None = None) -> float:
        """Return a finite number, also one written as a text, or the default if the card is missing.

        A card that is there and cannot be read is not missing: its number is unknown.
        """
        value = self.found(keyword)
        if value is None and default is not None:
            return default
        try:
            number = float(self._with_point(keyword, value))
        except (TypeError, ValueError):
            raise self.error(keyword, value, "a number") from None
        except OverflowError:
            raise self.error(keyword, value, "a finite number") from None
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(keyword, value, "a finite number")
        return number

    def optional(self, keyword: str) -> float | None:
        """Return an informative number, or None if the card is missing or invalid."""
        value = self.header.get(keyword)
        if value is None:
            return None
        try:
            return self.number(keyword)
        except FrameError:
            self.notes.append(f"{keyword} is not a number and counts as missing")
            return None

    def count(self, keyword: str, most: float, default: int | None = None, least: float = 1) -> int:
        """Return a whole number between limits, or the default if the card is missing."""
        number = self.number(keyword, default)
        if not least <= number <= most or number != int(number):
            raise self.error(keyword, self.found(keyword), f"a whole number from {least:.0f} to {most:.0f}")
        return int(number)

    def found(self, keyword: str) -> Any:
        """Return the value of a card, or the text of one that could not be read; None if it is missing."""
        value = self.header.get(keyword)
        return text_of(self.header, keyword) if value is None else value

    def _with_point(self, keyword: str, value: Any) -> Any:
        """Return a number in a text with a decimal point in place of a comma."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        if _DECIMAL_COMMA.fullmatch(text):
            self.notes.append(f"{keyword} has a decimal comma, read as a point")
            text = text.replace(",", ".")
        return text.upper().replace("D", "E") if text[:1] in "+-.0123456789" else text

    def error(self, keyword: str, found: object, expected: str) -> FrameError:
        """Return the error of a keyword that is missing or invalid."""
        problem = "keyword is missing" if found is None else "keyword is invalid"
        return FrameError(
            self.name, problem, keyword=keyword, found=found, expected=expected,
            remedy="Correct the header (for example with astropy's fitsheader) or leave the file out.",
        )  # fmt: skip
