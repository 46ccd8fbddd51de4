"""Judged frames as rows of texts, for the page of the night and for a terminal."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.kinds import FRAMES_OF_A_BAND
from imaging.printable import printable
from imaging.quick_look.frame_figures import FrameFigures, Verdict

#: How a cell is coloured: good, odd (unlike the group), bad (worse than requested), none.
Tone = Literal["good", "odd", "bad", "none"]
#: Headings of the columns.
COLUMNS: Final = (
    "frame", "UT", "what", "seeing", "at zenith", "ellipticity", "sky e-/s", "sky mag", "transparency", "saturated",
    "pointing", "verdict",
)  # fmt: skip
#: Rows that the page shows: the latest ones.
MOST_ROWS: Final = 300
_TONES: Final[dict[Verdict, Tone]] = {
    "good": "good", "unlike its group": "odd", "worse than requested": "bad", "not measurable": "none",
    "not judged": "none",
}  # fmt: skip


class Cell(BaseModel):
    """A cell: its text, what it was judged against, and its tone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    title: str = ""
    tone: Tone = "none"


class ArrivingRows(BaseModel):
    """The rows of a night for its page, the latest frame first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: date
    written: datetime | None = None
    columns: tuple[str, ...] = COLUMNS
    rows: tuple[tuple[Cell, ...], ...] = ()
    total: int = Field(default=0, description="frames of the night, also those without a row")


def rows_of(frames: tuple[FrameFigures, ...], night: date, written: datetime | None) -> ArrivingRows:
    """Return the latest frames of a night as rows."""
    latest = sorted(frames, key=lambda one: (one.started, one.name), reverse=True)[:MOST_ROWS]
    return ArrivingRows(night=night, written=written, rows=tuple(map(row_of, latest)), total=len(frames))


def row_of(one: FrameFigures) -> tuple[Cell, ...]:
    """Return a frame as cells, one for each of `COLUMNS`."""
    values = one.values

    def cell(value: float | None, digits: int, figure: str = "", factor: float = 1.0, unit: str = "") -> Cell:
        judged = one.judged.get(figure)
        text = "-" if value is None else f"{factor * value:.{digits}f}{unit}"
        if judged is None:
            return Cell(text=text)
        if figure == "sky" and value is None and values.level is not None:  # a dark or a flat
            text = f"{values.level:.0f} e-"
        return Cell(text=text, title=printable(judged.against), tone=_TONES[judged.verdict])

    what = (one.kind, one.filter if one.kind in FRAMES_OF_A_BAND else "", f"{one.exposure:g} s")
    return (
        Cell(text=printable(one.name.removesuffix(".fits"))), Cell(text=f"{one.started:%H:%M:%S}"),
        Cell(text=printable(" ".join(filter(None, what))), title=printable(one.label)),
        cell(values.seeing, 2, "seeing"), cell(values.seeing_at_zenith, 2, "seeing"),
        cell(values.ellipticity, 2, "ellipticity"), cell(values.sky, 1, "sky"), cell(values.sky_brightness, 2),
        cell(values.transparency, 0, "transparency", 100.0, " %"), cell(values.saturated, 2, "saturated", 100.0, " %"),
        cell(values.pointing_error, 2, "pointing"),
        Cell(text=verdict_text(one), tone=_TONES[one.verdict]),
    )  # fmt: skip


def verdict_text(one: FrameFigures) -> str:
    """Return the verdict about a frame with everything that is wrong with it."""
    remarks = [one.problem] if one.problem else list(one.remarks)
    remarks += [f"uncalibrated: {one.uncalibrated}"] if one.uncalibrated else []
    remarks += [f"not reduced: {one.note}"] if one.note else []
    return printable("; ".join((one.verdict, *remarks)))
