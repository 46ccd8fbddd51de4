"""The cards that describe the data of an HDU: their number of bytes, the shape, the scaling and undefined pixels.

They are needed to read a file at all, so a value that is missing or invalid refuses it, with keyword and value.
"""

from __future__ import annotations

import math
import re

import numpy as np

from imaging.errors import FrameError
from imaging.header import Header, text_of

#: Limits on the cards of a frame: a longer axis, or a larger scaling, means a damaged header.
_LONGEST_AXIS = 2**31 - 1
_MOST_AXES = 999
_MOST_FIELDS = 999
_TABLES = ("BINTABLE", "TABLE")
_LARGEST_SCALING = 1e30
#: Types of pixels by BITPIX.
DTYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


def data_length(header: Header, name: str) -> int:
    """Return the bytes of data that a header announces (FITS standard 4.0, equations 1 and 2)."""
    bitpix = whole_number(header, "BITPIX", name, least=min(DTYPES))
    if bitpix not in DTYPES:
        raise bad_card(name, "BITPIX", bitpix, "one of " + ", ".join(map(str, DTYPES)))
    naxis = whole_number(header, "NAXIS", name, most=_MOST_AXES)
    axes = [whole_number(header, f"NAXIS{i}", name) for i in range(1, naxis + 1)]
    parameters = whole_number(header, "PCOUNT", name, 0)
    groups = whole_number(header, "GCOUNT", name, 1, least=1)
    if str(header.get("XTENSION", "")).strip() in _TABLES:
        _check_table(header, axes, name)
    if naxis == 0:
        return 0
    return abs(bitpix) // 8 * groups * (parameters + math.prod(axes))


def _check_table(header: Header, axes: list[int], name: str) -> None:
    """Refuse columns and rows that take no bytes of the file, because their number is not limited by its size."""
    whole_number(header, "TFIELDS", name, 0, most=_MOST_FIELDS)
    if len(axes) > 1 and axes[0] == 0 and axes[1] > 0:
        raise bad_card(name, "NAXIS1", 0, f"the bytes of each of the {axes[1]} rows of the table")


def image_shape(header: Header) -> tuple[int, ...]:
    """Return the shape of an image in numpy's order, without length-1 axes before the last two."""
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, int(header["NAXIS"]) + 1)][::-1]
    while len(axes) > 2 and axes[0] == 1:
        axes.pop(0)
    return tuple(axes)


def blank_of(header: Header) -> int | None:
    """Return the stored value of pixels without a value (BLANK).

    None if the header has none, in an image of floating-point numbers, and for a value that its pixels cannot
    have (`blank_note`).
    """
    value, bitpix = header.get("BLANK"), int(header.get("BITPIX", 0))
    if bitpix <= 0 or isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        return None
    limits = np.iinfo(DTYPES[bitpix])
    return int(value) if limits.min <= value <= limits.max else None


def blank_note(header: Header) -> str:
    """Return why BLANK of an image is ignored; empty if it is used or missing."""
    if "BLANK" not in header or blank_of(header) is not None:
        return ""
    return f"BLANK = {header['BLANK']!r} is ignored: it is not a value of pixels with BITPIX = {header['BITPIX']}"


def whole_number(
    header: Header, keyword: str, name: str, default: int | None = None, *,
    least: int = 0, most: int = _LONGEST_AXIS,
) -> int:  # fmt: skip
    """Return the value of a card that is a count, also one written as 8.0 or as a text."""
    value = found_value(header, keyword, default)
    if (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and re.fullmatch(r" *[+-]?\d{1,18} *", value)
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_card(name, keyword, value, "a whole number")
    if not least <= value <= most:
        raise bad_card(name, keyword, value, f"a whole number from {least} to {most}")
    return value


def flag(header: Header, keyword: str) -> bool:
    """Return the value of a card that is true or false, also one written as 1 or as a text; default: false."""
    value = header.get(keyword, False)
    return value.strip().upper() in ("T", "TRUE", "1") if isinstance(value, str) else bool(value)


def found_value(header: Header, keyword: str, default: object = None) -> object:
    """Return the value of a card, or the text of one that could not be read."""
    return header.get(keyword, default) if keyword in header else text_of(header, keyword) or default


def _number(header: Header, keyword: str, name: str, default: float) -> float:
    value = found_value(header, keyword, default)
    if isinstance(value, str) and re.fullmatch(r" *[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)? *", value):
        value = float(value.upper().replace("D", "E"))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad_card(name, keyword, value, "a number")
    if not abs(value) <= _LARGEST_SCALING:  # NaN too
        raise bad_card(name, keyword, value, f"a number within {_LARGEST_SCALING:g}")
    return value


def bad_card(name: str, keyword: str, found: object, expected: str) -> FrameError:
    """Return the error of a file whose header does not describe its data."""
    return FrameError(
        name, "the header does not describe its data", keyword=keyword, found=found, expected=expected,
        remedy="Fetch the file again or leave it out.",
    )  # fmt: skip


def scaling(header: Header, name: str) -> tuple[float, float]:
    """Return BZERO and BSCALE of an image: its pixels are the stored values times BSCALE plus BZERO."""
    return _number(header, "BZERO", name, 0), _number(header, "BSCALE", name, 1)
