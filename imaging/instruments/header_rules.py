"""Parts of a table for facts that one keyword does not give: by several keywords, by levels, by corners."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from imaging.instruments.keywords import Keywords

#: Patterns with * and ?, case-insensitive, one of which a value must match.
Patterns = tuple[str, ...]


def fits(value: Any, patterns: Patterns) -> bool:
    """Return whether a value matches any of the patterns, ignoring case."""
    return any(fnmatchcase(str(value).upper(), pattern.upper()) for pattern in patterns)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


#: A regular expression.
Pattern = Annotated[str, AfterValidator(_pattern)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FactChoice(_Part):
    """A value of a fact that applies if every keyword matches."""

    value: str | None = Field(
        default=None, description="the value; default: the text of the fact's own keyword"
    )
    when: dict[str, Patterns] = Field(
        min_length=1, description="keyword to patterns, one of which must match"
    )


class Corners(_Part):
    """A section whose borders are in four keywords: first and last column, first and last row."""

    first: int = Field(default=1, ge=0, le=1, description="number of the first pixel in the header")
    centred: bool = Field(
        default=False,
        description="a part that begins at the first pixel is read from the centre of the detector, whatever its "
        "header counts",
    )


_CORNERS: Final = 4


class FactRules(BaseModel):
    """How a fact follows from more than the value of one keyword."""

    choices: tuple[FactChoice, ...] = Field(
        default=(), description="the first one whose keywords match gives the value; otherwise the default"
    )
    minus: tuple[str, ...] = Field(
        default=(), description="keywords of a number that is subtracted; the first one present is used"
    )
    levels: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="values and the range of the number that each stands for"
    )
    corners: Corners | None = Field(
        default=None, description="`keywords` are first and last column, first and last row of a section"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.minus and not self.levels:
            raise ValueError("minus needs levels")
        if sum(map(bool, (self.choices, self.levels, self.corners))) > 1:
            raise ValueError("choices, levels and corners exclude each other")
        if self.corners is not None and len(getattr(self, "keywords", ())) != _CORNERS:
            raise ValueError("corners needs four keywords: first and last column, first and last row")
        ordered = sorted(self.levels.items(), key=lambda item: item[1])
        for name, (low, high) in ordered:
            if low > high:
                raise ValueError(f"levels.{name} goes from {low:g} down to {high:g}")
        for (one, (_, high)), (other, (low, _)) in pairwise(ordered):
            if low <= high:
                raise ValueError(f"levels.{one} and levels.{other} both contain {low:g}")
        return self

    def chosen(self, keys: Keywords, own: str, default: str | None) -> str | None:
        """Return the value of the first choice whose keywords match; otherwise the default.

        Parameters
        ----------
        keys
            The header.
        own
            Text of the fact's own keyword, for a choice without a value.
        default
            Value without a match.
        """
        for choice in self.choices:
            if all(fits(keys.text(keyword, ""), patterns) for keyword, patterns in choice.when.items()):
                return own if choice.value is None else choice.value
        return default

    def level(self, keys: Keywords, keyword: str) -> str:
        """Return the name of the level in whose range a number lies.

        Raises
        ------
        FrameError
            If a keyword is missing or not a number, or the number is in no range.
        """
        number, names = keys.number(keyword), keyword
        if self.minus:
            other = next((one for one in self.minus if keys.found(one) is not None), self.minus[0])
            number = round(number - keys.number(other), 6)
            names = f"{keyword} - {other}"
        for name, (low, high) in self.levels.items():
            if low <= number <= high:
                return name
        ranges = " or ".join(f"{low:g} to {high:g} ({name})" for name, (low, high) in self.levels.items())
        raise keys.error(names, round(number, 4), ranges)

    def section(self, keys: Keywords, keywords: tuple[str, ...], shape: tuple[int, int]) -> str | None:
        """Return the section between four corners, counted from 1; None if the header has none of them.

        Parameters
        ----------
        keys
            The header that has them.
        keywords
            First and last column, first and last row.
        shape
            Rows and columns of the detector.

        Raises
        ------
        FrameError
            If one of them is missing or not a whole number, or the section is outside the detector.
        """
        assert self.corners is not None
        if all(keys.found(keyword) is None for keyword in keywords):
            return None
        first = self.corners.first
        borders = []
        for axis, size in ((0, shape[1]), (1, shape[0])):
            names = keywords[2 * axis : 2 * axis + 2]
            low = keys.count(names[0], size - 1 + first, least=first)
            high = keys.count(names[1], size - 1 + first, least=low)
            low, high = low - first + 1, high - first + 1
            if self.corners.centred and low == 1:
                low, high = (low + (size - high) // 2, high + (size - high) // 2)
            borders.append(f"{low}:{high}")
        return f"[{','.join(borders)}]"


class WheelRules(BaseModel):
    """What else a wheel may hold than a filter."""

    blockers: Patterns = Field(
        default=(), description="filters that only block other light: not named next to another filter"
    )
    refused: Patterns = Field(
        default=(), description="texts that are no position of a wheel: such a frame is refused"
    )

    def check(self, keys: Keywords, keyword: str, value: str) -> None:
        """Refuse a text that is no position of a wheel.

        Raises
        ------
        FrameError
            With the text.
        """
        if fits(value, self.refused):
            raise keys.error(keyword, value, "the name of a filter")


class UnfitRules(BaseModel):
    """Frames that are of no use for a reason of their instrument."""

    dark_filters: Patterns = Field(
        default=(), description="filters that let no light through: only darks are used with them"
    )
    first_of_observation: Pattern | None = Field(
        default=None,
        description="pattern of the data label of an observation's first frame, if that one is bad",
    )


#: Standard error of a nominal zero point of which the table has none, mag.
USUAL_ZERO_POINT_ERROR: Final = 0.08


class ZeroPoints(_Part):
    """Nominal zero points of bands: magnitude of a star of 1 electron per second at airmass 1."""

    when: dict[str, tuple[str | int | float, ...]] = Field(
        default_factory=dict, description="fact to the values that it may have; default: all frames"
    )
    values: dict[str, float] = Field(min_length=1, description="band to its zero point, mag")
    errors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description=f"band to the standard error of its zero point, mag; default: {USUAL_ZERO_POINT_ERROR:g}",
    )
    extinction: dict[str, float] = Field(
        default_factory=dict,
        description="band to the extinction of the atmosphere, mag per airmass; default: 0",
    )


def zero_point(points: tuple[ZeroPoints, ...], facts: Mapping[str, Any]) -> float | None:
    """Return the nominal zero point for a frame, mag; None if its table has none.

    Parameters
    ----------
    points
        Those of the table.
    facts
        Facts of the frame, with its ``filter``.
    """
    found = _entry(points, facts)
    return None if found is None else found.values[str(facts.get("filter"))]


def zero_point_error(points: tuple[ZeroPoints, ...], facts: Mapping[str, Any]) -> float:
    """Return the standard error of the nominal zero point for a frame, mag."""
    found = _entry(points, facts)
    usual = USUAL_ZERO_POINT_ERROR
    return usual if found is None else found.errors.get(str(facts.get("filter")), usual)


def extinction(points: tuple[ZeroPoints, ...], facts: Mapping[str, Any]) -> float:
    """Return the extinction for a frame, mag per airmass; 0 if its table has none."""
    found = _entry(points, facts)
    return 0.0 if found is None else found.extinction.get(str(facts.get("filter")), 0.0)


def _entry(points: tuple[ZeroPoints, ...], facts: Mapping[str, Any]) -> ZeroPoints | None:
    """Return the first entry that matches a frame and has its band."""
    band = str(facts.get("filter"))
    return next(
        (
            one
            for one in points
            if all(facts.get(fact) in allowed for fact, allowed in one.when.items()) and band in one.values
        ),
        None,
    )
