"""What the pixels of a raw frame show at its first reading; kept with its facts."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

#: Fraction of saturated pixels from which it is noted: ten times what the dead pixels and bright stars of usual
#: frames have.
_SATURATED: Final = 0.01


class PixelState(BaseModel):
    """Figures of the pixels of a raw frame, measured once by `imaging.pixels.raw_pixels`, and the check of its sums."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checksum: str = Field(description="checksum of the values: equal for frames with identical pixels")
    level: float = Field(description="median, ADU")
    noise: float = Field(description="scatter from pixel to pixel, ADU")
    no_data: float = Field(description="fraction of pixels without data")
    saturated: float = Field(description="fraction of saturated pixels")
    steps: tuple[float | None, ...] = Field(
        default=(),
        description="steps across the borders of the quadrants: left, right, lower, upper half; ADU",
    )
    bright: int | None = Field(
        default=None, description="pixels that leave persistence in later exposures; None if not counted"
    )
    bright_from: float | None = Field(
        default=None, description="threshold of those pixels by the detector's table, electrons of one coadd"
    )
    sums: str | None = Field(
        default=None,
        description="which DATASUM or CHECKSUM disagrees with the bytes; empty if none; None if they were not compared",
    )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the pixels."""
        found = []
        if self.no_data > 0:
            found.append(
                f"{_share(self.no_data)} of the pixels have no data (undefined, unread or impossible) and are flagged"
            )
        if self.saturated >= _SATURATED:
            found.append(f"{_share(self.saturated)} of the pixels are saturated and are flagged")
        return tuple(found)


def _share(fraction: float) -> str:
    """Return a fraction above 0 as text."""
    return f"{fraction:.2%}" if fraction >= 1e-4 else "less than 0.01%"
