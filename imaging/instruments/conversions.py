"""Parts of a table for headers of another build: other units, offsets on the sky, another keyword for the name."""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from imaging.instruments.keywords import Keywords
from imaging.instruments.requested_conditions import Conditions

_SEXAGESIMAL: Final = re.compile(r"\s*([+-]?)(\d{1,3})[: ](\d{1,2})[: ](\d{1,2}(?:\.\d*)?)\s*")


class Conversion(BaseModel):
    """The unit of a number in a header."""

    factor: float = Field(
        default=1.0,
        description="a number is multiplied by this: 3600 for offsets in degrees",
        allow_inf_nan=False,
    )
    add: float = Field(default=0.0, description="and this is added", allow_inf_nan=False)

    def converted(self, number: float) -> float:
        """Return a number of a header in the unit of its fact."""
        return number if (self.factor, self.add) == (1.0, 0.0) else self.factor * number + self.add


class SkyOffsets(BaseModel):
    """What the offsets and positions in the headers mean."""

    axes: Literal["instrument", "sky"] = Field(
        default="instrument",
        description="poffset and qoffset are along the axes of the instrument, or towards East and North",
    )
    position: Literal["target", "telescope"] = Field(
        default="target",
        description="ra and dec are those of the target, or of the telescope with its offsets",
    )

    def with_offsets(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the facts with offsets along the axes of the instrument and the position of the target.

        P is East and Q is North at position angle 0; both rotate with it.
        """
        if (self.axes, self.position) == ("instrument", "target"):
            return facts
        angle = math.radians(facts["pa"])
        first, second = facts["poffset"], facts["qoffset"]
        cosine, sine = math.cos(angle), math.sin(angle)
        p, q, east, north = first, second, first, second
        if self.axes == "sky":
            p, q = east * cosine - north * sine, east * sine + north * cosine
        else:
            east, north = p * cosine + q * sine, q * cosine - p * sine
        found = facts | {"poffset": p, "qoffset": q}
        if self.position == "telescope" and facts["ra"] is not None and facts["dec"] is not None:
            here = max(math.cos(math.radians(facts["dec"])), 1e-6)
            found |= {"ra": (facts["ra"] - east / 3600 / here) % 360, "dec": facts["dec"] - north / 3600}
        return found


class Adaptation(BaseModel):
    """How an instrument is recognised, and how its frames are reduced unless the user decides otherwise."""

    named_by: tuple[str, ...] = Field(
        default=(), description="keywords that have the instrument's name, next to INSTRUME"
    )
    defaults: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="parameters of the steps of science frames that replace the general defaults",
    )
    conditions: Conditions = Field(
        default=Conditions(), description="what requested conditions mean; no product depends on them"
    )


def optional_angle(keys: Keywords, keyword: str, *, hours: bool) -> float | None:
    """Return an informative number, or None if the card is missing or invalid.

    Parameters
    ----------
    keys
        The header.
    keyword
        The keyword.
    hours
        A sexagesimal text, such as ``05:35:17.3``, is hours, to be returned in degrees.
    """
    value = keys.header.get(keyword)
    parts = _SEXAGESIMAL.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        return keys.optional(keyword)
    sign, whole, minutes, seconds = parts.groups()
    size = int(whole) + int(minutes) / 60 + float(seconds) / 3600
    return (-size if sign == "-" else size) * (15.0 if hours else 1.0)
