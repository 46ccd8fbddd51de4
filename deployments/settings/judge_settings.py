"""The settings of the judge, which measures each frame as it becomes complete."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class JudgeSettings(BaseModel):
    """Settings of the judge: limits of its figures, of which users are notified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="measure each frame as it becomes complete")
    look_back: float = Field(
        default=12.0,
        ge=0,
        description="at its start, files that appeared up to this long before are measured if they were not, h",
    )
    seeing: float | None = Field(
        default=None, gt=0, description="notify of a larger FWHM at the zenith, arcsec; default: none"
    )
    ellipticity: float | None = Field(
        default=None, gt=0, lt=1, description="notify of a larger ellipticity of the stars; default: none"
    )
    sky: float | None = Field(
        default=None, description="notify of a brighter sky, mag per square arcsec; default: none"
    )
    transparency: float | None = Field(
        default=None, gt=0, lt=1,
        description="notify of a smaller transparency, relative to the clearest frame of the group; default: none",
    )  # fmt: skip
    saturated: float | None = Field(
        default=None, gt=0, lt=1, description="notify of a larger fraction of saturated pixels; default: none"
    )
    pointing: float | None = Field(
        default=None, gt=0, description="notify of a larger error of a frame's offset, arcsec; default: none"
    )
    frames: PositiveInt = Field(
        default=3,
        description="consecutive frames beyond a limit that are notified, and within it that end this",
    )
