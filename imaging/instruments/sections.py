"""Sections of a detector, as headers state them: ``[1:2048,1:2048]``, counted from 1 in unbinned pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_SECTION: Final = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
_BINNING: Final = re.compile(r"\s*(\d+)\s*[x ]\s*(\d+)\s*")

#: First and last column, first and last row.
Bounds = tuple[int, int, int, int]


def bounds(section: str) -> Bounds | None:
    """Return the bounds of a section; None if it is not written as a section."""
    found = _SECTION.fullmatch(section.strip())
    if found is None:
        return None
    x1, x2, y1, y2 = map(int, found.groups())
    return (x1, x2, y1, y2) if 1 <= x1 <= x2 and 1 <= y1 <= y2 else None


def contains(section: str, part: str) -> bool:
    """Return whether a section contains another one."""
    outer, inner = bounds(section), bounds(part)
    if outer is None or inner is None:
        return section == part
    return outer[0] <= inner[0] and inner[1] <= outer[1] and outer[2] <= inner[2] and inner[3] <= outer[3]


def section_of_pixels(stated: str, binning: str, image: Mapping[str, Any]) -> str:
    """Return the section that the pixels of an image are from.

    A part that was cut out of a frame or product usually keeps the section of the original in its header.

    Parameters
    ----------
    stated
        Section according to the header, or that of a full frame.
    binning
        Columns x rows.
    image
        Header of the image.

    Returns
    -------
    str
        The section as stated if it has as many pixels as the image, or if the image's header has no size.
        Otherwise a section of that size: at the place that LTV1 and LTV2 give, or at the first pixel of the
        stated section.
    """
    known = bounds(stated)
    pixels = [_number(image, keyword) for keyword in (_axis(image, 1), _axis(image, 2))]
    factors = _BINNING.fullmatch(binning)
    if known is None or factors is None or None in pixels:
        return stated
    width, height = (int(n or 0) * int(by) for n, by in zip(pixels, factors.groups(), strict=True))
    if min(width, height) < 1 or (known[1] - known[0] + 1, known[3] - known[2] + 1) == (width, height):
        return stated
    first = [_first(image, f"LTV{axis}", int(by)) for axis, by in zip((1, 2), factors.groups(), strict=True)]
    x = known[0] if first[0] is None else first[0]
    y = known[2] if first[1] is None else first[1]
    return f"[{x}:{x + width - 1},{y}:{y + height - 1}]"


def _axis(image: Mapping[str, Any], axis: int) -> str:
    """Return the keyword of an axis' length; a compressed image has those of its table in NAXISn."""
    return f"ZNAXIS{axis}" if f"ZNAXIS{axis}" in image else f"NAXIS{axis}"


def _number(image: Mapping[str, Any], keyword: str) -> int | None:
    value = image.get(keyword)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first(image: Mapping[str, Any], keyword: str, binning: int) -> int | None:
    """Return the first pixel of a part on its original, counted from 1, from IRAF's LTV card."""
    value = image.get(keyword)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e6 < value <= 0:
        return None
    return 1 - round(value) * binning
