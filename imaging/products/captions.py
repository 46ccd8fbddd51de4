"""Captions of pictures: what a preview shows, recorded in its PNG, for the pages that show it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: Keyword of the caption in a PNG.
CAPTION: Final = "nirflow caption"

#: What the pixels of a mask are bad for, as previews colour them.
ReasonName = Literal["hot", "cold", "high-response", "low-response", "bad"]


class Counted(BaseModel):
    """The pixels of one colour in the preview of a mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: ReasonName
    pixels: int = Field(ge=0)

    @property
    def label(self) -> str:
        """The reason in plain English."""
        return self.reason.replace("-", " ")


class Caption(BaseModel):
    """What a preview shows.

    Attributes
    ----------
    limits
        Values shown black and white; None for a mask, or without data.
    unit
        Their unit.
    counts
        Of a mask: the bad pixels of each colour.
    shape
        Rows and columns of the image.
    block
        Rows and columns of the image in one pixel of the preview.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    limits: tuple[float, float] | None = None
    unit: str = Field(default="", max_length=80)
    counts: tuple[Counted, ...] | None = Field(default=None, max_length=10)
    shape: tuple[int, int]
    block: int = Field(ge=1)

    @property
    def total(self) -> int:
        """Pixels of the image."""
        return max(1, self.shape[0] * self.shape[1])

    def share(self, counted: Counted) -> str:
        """Return the pixels of one colour in percent of the image, as text."""
        return f"{100 * counted.pixels / self.total:.2g} %"

    @property
    def text(self) -> str:
        """The caption as one line."""
        if self.counts is not None:
            parts = [f"{one.label} {one.pixels} px ({self.share(one)})" for one in self.counts]
            return ", ".join(parts) if parts else "no bad pixels"
        if self.limits is None:
            return "no data"
        low, high = (f"{value:.3g}" for value in self.limits)
        return f"black {low}, white {high} {self.unit}".rstrip()


def notes_of(path: Path) -> dict[str, str] | None:
    """Return the texts in a PNG by keyword; None if it is missing, damaged, or not a PNG."""
    from PIL import Image  # slow to import

    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            return {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None  # Pillow's errors for bytes that are not a picture


def caption_of(path: Path) -> Caption | None:
    """Return the caption of a preview; None if it is missing or damaged, or an earlier version made it."""
    notes = notes_of(path)
    try:
        return None if notes is None else Caption.model_validate_json(notes.get(CAPTION, ""))
    except ValidationError:
        return None
