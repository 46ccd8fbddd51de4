"""Regions of stored images, as a table declares them: overscan, what is kept, and where each array belongs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from imaging.instruments.sections import Bounds, bounds


def _section(text: str) -> str:
    if bounds(text) is None:
        raise ValueError(
            f"{text!r} is not a section: write [first column:last column,first row:last row], from 1"
        )
    return text


Section = Annotated[str, AfterValidator(_section)]


class Overscan(BaseModel):
    """How the level of the overscan is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statistic: Literal["mean", "median"] = Field(
        default="mean", description="the level of each line of the overscan"
    )
    degree: int | None = Field(
        default=None, ge=0, le=9,
        description="degree of a polynomial fitted along the overscan; default: the level of each line as measured",
    )  # fmt: skip


class Array(BaseModel):
    """One image of a raw file: how it is recognised, and the part of it that is kept, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="keywords of the image's header (or the primary one) and their values, with * and ?",
    )
    size: tuple[int, int] = Field(description="rows and columns of the image as stored")
    trim: Section | None = Field(default=None, description="section that is kept; default: all")
    overscan: Section | None = Field(
        default=None, description="section without light, whose level is subtracted; default: none"
    )
    at: tuple[int, int] = Field(
        default=(1, 1), description="column and row, counted from 1, of the first kept pixel in the frame"
    )

    @model_validator(mode="after")
    def _sections_inside(self) -> Self:
        rows, columns = self.size
        if min(self.size) < 1 or min(self.at) < 1:
            raise ValueError(f"size is {self.size} and at is {self.at}; both count from 1")
        for key in ("trim", "overscan"):
            section = getattr(self, key)
            found = bounds(section) if section else None
            if found and (found[1] > columns or found[3] > rows):
                raise ValueError(
                    f"{key} is {section}, but the image has {columns} columns and {rows} rows (size)"
                )
        if self.overscan is None:
            return self
        ours, its = self.kept, self.without_light
        assert its is not None
        if ours[0] <= its[1] and its[0] <= ours[1] and ours[2] <= its[3] and its[2] <= ours[3]:
            raise ValueError(f"overscan is {self.overscan}, which overlaps what is kept, trim = {self.trim}")
        if ours[2:] != its[2:] and ours[:2] != its[:2]:
            raise ValueError(
                f"overscan is {self.overscan}; it needs either the rows or the columns of trim = {self.trim}"
            )
        return self

    @property
    def kept(self) -> Bounds:
        """First and last column, first and last row of what is kept, counted from 1."""
        return bounds(self.trim or "") or (1, self.size[1], 1, self.size[0])

    @property
    def without_light(self) -> Bounds | None:
        """The same of the overscan; None without one."""
        return bounds(self.overscan) if self.overscan else None

    @property
    def along_rows(self) -> bool:
        """Whether the overscan has a level for each row, not for each column."""
        return self.without_light is not None and self.without_light[2:] == self.kept[2:]

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that it fills."""
        x, y = self.at[0] - 1, self.at[1] - 1
        left, right, bottom, top = self.kept
        return slice(y, y + top - bottom + 1), slice(x, x + right - left + 1)

    def matches(self, image: Mapping[str, Any], primary: Mapping[str, Any]) -> bool:
        """Return whether an image of a file is that of this array."""
        for keyword, patterns in self.when.items():
            value = image.get(keyword, primary.get(keyword))
            text = "" if value is None else str(value).strip().upper()
            text = {True: "T", False: "F"}[value] if isinstance(value, bool) else text
            if not any(fnmatchcase(text, pattern.upper()) for pattern in patterns):
                return False
        return True

    def variance_of_level(self, overscan: Overscan, noise: float, step: float) -> float:
        """Return the variance of the overscan's level, in the unit of the noise squared.

        That of a mean of n pixels is 1 / n of theirs; that of a median is about pi / (2 n + pi - 2), and it is rounded
        like them. A polynomial of degree d through N lines has (d + 1) / N of it.

        Parameters
        ----------
        overscan
            How the level is found.
        noise
            Standard deviation of a pixel.
        step
            Distance of two values that a pixel may have.
        """
        if self.without_light is None:
            return 0.0
        left, right, bottom, top = self.without_light
        wide, high = right - left + 1, top - bottom + 1
        n, lines = (wide, high) if self.along_rows else (high, wide)
        if overscan.statistic == "mean":
            one = (noise**2 + step**2 / 12) / n
        else:
            one = noise**2 * math.pi / (2 * n + math.pi - 2) + step**2 / 12
        return one if overscan.degree is None else one * min(1.0, (overscan.degree + 1) / lines)


class Regions(BaseModel):
    """The images of a raw file that make up a frame."""

    shape: tuple[int, int]
    arrays: tuple[Array, ...] = Field(
        default=(),
        description="images of a raw file; default: the only image is the frame, without an overscan",
    )
    overscan: Overscan = Field(default=Overscan(), description="how the overscan's level is found")

    @model_validator(mode="after")
    def _arrays_fit(self) -> Self:
        rows, columns = self.shape
        for n, one in enumerate(self.arrays, 1):
            high, wide = one.place
            if high.stop > rows or wide.stop > columns:
                raise ValueError(
                    f"arrays[{n}].at is {one.at}: {wide.stop} columns and {high.stop} rows are needed, shape has "
                    f"{columns} and {rows}"
                )
            if len(self.arrays) > 1 and not one.when:
                raise ValueError(f"arrays[{n}].when is missing: it distinguishes the arrays")
            lines = one.size[0] if one.along_rows else one.size[1]
            if one.overscan and self.overscan.degree is not None and self.overscan.degree >= lines:
                raise ValueError(
                    f"overscan.degree is {self.overscan.degree}, but arrays[{n}] has {lines} lines"
                )
            for m, other in enumerate(self.arrays[: n - 1], 1):
                y, x = other.place
                if (
                    high.start < y.stop
                    and y.start < high.stop
                    and wide.start < x.stop
                    and x.start < wide.stop
                ):
                    raise ValueError(f"arrays[{n}].at is {one.at}: it overlaps arrays[{m}]")
        return self

    def noise_without_overscan(self, noise: float, step: float) -> float:
        """Return the noise of a pixel after the level of its overscan was subtracted; of the noisiest array.

        The noise of the level is that of a line: the pixels of a line share it.

        Parameters
        ----------
        noise
            Noise of a pixel as read.
        step
            Distance of two values that a pixel may have, in the same unit.
        """
        levels = [one.variance_of_level(self.overscan, noise, step) for one in self.arrays if one.overscan]
        return math.sqrt(noise**2 + max(levels)) if levels else noise
