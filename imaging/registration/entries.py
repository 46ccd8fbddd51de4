"""Input and result of the alignment of a group of frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.registration.geometry import Affine

#: Values of ``found_by`` of frames that stars alone do not place.
WEAK: Final = ("few stars", "wcs only", "offsets only")


@dataclass(frozen=True)
class AlignInput:
    """The input of the alignment for one frame.

    Attributes
    ----------
    catalogue
        Structured array of `imaging.sources.detect.CATALOGUE`.
    seeing
        FWHM in pixels (NaN where unknown).
    header
        Extension header, with or without a WCS.
    facts
        The frame's facts: name and telescope offsets.
    shape
        (ny, nx).
    sky
        Sky level, electrons (NaN where unknown).
    """

    catalogue: NDArray[np.void]
    seeing: float
    header: Header
    facts: FrameFacts
    shape: tuple[int, int]
    sky: float = math.nan

    @property
    def name(self) -> str:
        """The frame's file name."""
        return self.facts.name


class AlignEntry(BaseModel):
    """The position of one frame relative to the reference."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="frame")
    transform: Affine = Field(description="frame pixel to reference pixel")
    rms: float = Field(description="residual of the matched stars along one axis, px")
    uncertainty: float = Field(description="standard error of a position along one axis, px")
    n_matched: int = Field(description="matched stars")
    flux_scale: float = Field(description="flux of the matched stars over their flux in the reference")
    flux_error: float | None = Field(
        default=None, description="relative standard error of flux_scale; None if unknown"
    )
    found_by: str = Field(
        description="reference; wcs, search or telescope: by stars, found from there; few stars; wcs only; "
        "offsets only; empty when not aligned"
    )
    wcs_error: float | None = Field(description="error of the header's world coordinates, arcsec")
    used: bool = Field(description="aligned; other frames must not be stacked")
    reason: str = Field(description="why it is not used, or what is unusual about it")

    @property
    def dx(self) -> float:
        """Shift in x, px."""
        return self.transform.x0

    @property
    def dy(self) -> float:
        """Shift in y, px."""
        return self.transform.y0

    @property
    def rotation(self) -> float:
        """Rotation, deg."""
        return self.transform.rotation

    @property
    def scale(self) -> float:
        """Scale."""
        return self.transform.scale


class Alignment(BaseModel):
    """The positions of the frames of a group relative to one of them."""

    model_config = ConfigDict(frozen=True)

    reference: str = Field(description="name of the reference frame")
    entries: tuple[AlignEntry, ...] = Field(description="one for each frame, in the order given")

    @property
    def used(self) -> tuple[AlignEntry, ...]:
        """The frames that may be stacked."""
        return tuple(entry for entry in self.entries if entry.used)

    @property
    def weak(self) -> tuple[AlignEntry, ...]:
        """The frames in use that stars alone do not place."""
        return tuple(entry for entry in self.used if entry.found_by in WEAK)

    @property
    def left_out(self) -> tuple[AlignEntry, ...]:
        """The frames that must not be stacked, each with its reason."""
        return tuple(entry for entry in self.entries if not entry.used)

    def entry(self, name: str) -> AlignEntry:
        """Return the entry of the frame ``name``."""
        return next(entry for entry in self.entries if entry.name == name)


def entry(frame: AlignInput, transform: Affine, **values: object) -> AlignEntry:
    """Return the entry of a frame, with defaults for missing values."""
    defaults: dict[str, object] = {
        "rms": 0.0, "uncertainty": 0.0, "n_matched": 0, "flux_scale": 1.0, "flux_error": None, "found_by": "",
        "wcs_error": None, "used": True, "reason": "",
    }  # fmt: skip
    return AlignEntry.model_validate({"name": frame.name, "transform": transform, **defaults, **values})
