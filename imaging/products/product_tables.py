"""The tables in which a product describes itself: its processing, its inputs and their ancestors; further planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.printable import ascii_text


@dataclass(frozen=True)
class Plane:
    """A further plane of a science image: pixels, shape (ny, nx), and their unit."""

    pixels: NDArray[np.float32]
    unit: str


@dataclass(frozen=True)
class HistoryRow:
    """One step, in the columns that astrodata reads as HISTORY."""

    primitive: str
    args: str
    timestamp_start: str
    timestamp_stop: str


@dataclass(frozen=True)
class ProvenanceRow:
    """One input, in the columns that astrodata reads as PROVENANCE, in its order."""

    timestamp: str
    filename: str
    md5: str
    provenance_added_by: str


@dataclass(frozen=True)
class LineageRow:
    """One ancestor: an input, a calibration, or an input of a calibration.

    Attributes
    ----------
    file
        File name.
    sha256
        Identity of the uncompressed bytes.
    role
        Its role: dark, lamp_on, lamp_off, short_dark, science, bpm, flat.
    step
        Name of the product that was made with it.
    """

    file: str
    sha256: str
    role: str
    step: str


@dataclass(frozen=True)
class Table:
    """A table of measurements (OBJCAT, ALIGNMENT).

    Attributes
    ----------
    rows
        Structured array.
    units
        Unit of each column, by name; only units of the FITS standard, which has no electrons.
    meanings
        What each column is, by name.
    """

    rows: NDArray[Any]
    units: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)


Row = HistoryRow | ProvenanceRow | LineageRow


def stamped(moment: datetime) -> str:
    """Return a time in the format of these tables and of Gemini's headers: ISO 8601, UTC, without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"the time {moment} has no time zone; stamps are UTC")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def rows_to_array(rows: Sequence[Row], kind: type[Row]) -> NDArray[Any]:
    """Return rows as a structured array of texts, with the columns in the order of the fields of ``kind``."""
    names = [column.name for column in fields(kind)]
    columns = [
        [ascii_text(str(value)).encode("ascii") for value in column]
        for column in (zip(*map(astuple, rows), strict=True) if rows else [[] for _ in names])
    ]
    dtype = [(name, f"S{max([1, *map(len, column)])}") for name, column in zip(names, columns, strict=True)]
    out = np.empty(len(rows), dtype)
    for name, column in zip(names, columns, strict=True):
        out[name] = column
    return out
