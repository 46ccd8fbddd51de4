"""One exposure of a night's plan, and what headers are written from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from imaging.simulator.camera import Camera

Role = Literal["science", "dark", "short_dark", "flat_dark", "lamp_on", "lamp_off"]
#: Sets of frames without light.
DARKS: Final[tuple[Role, ...]] = ("dark", "short_dark", "flat_dark")
#: A card of a header: keyword, value, comment.
Card = tuple[str, object, str]


@dataclass(frozen=True)
class BandDefaults:
    """Values that differ between bands; rates are at response 1."""

    filter_id: str
    wavelength: float  #: Angstrom
    science_time: float  #: s
    science_reads: int
    flat_time: float  #: s
    sky: float  #: e-/s/pixel
    lamp: float  #: e-/s/pixel of the lamp alone; 0 where the flats need no lamp
    thermal: float  #: e-/s/pixel of the warm calibration unit with its shutter closed


@dataclass(frozen=True)
class PlannedFrame:
    """One exposure of the night's plan."""

    root: str  #: S20131121S0075
    role: Role
    number: int  #: index in its set
    started: datetime
    exposure_time: float  #: s, of one coadd
    read_pairs: int
    coadds: int
    offset: tuple[float, float] = (0.0, 0.0)  #: commanded (P, Q), arcsec
    wcs: tuple[float, float] = (0.0, 0.0)  #: (P, Q) according to the WCS, arcsec
    rotation: float = 0.0  #: position angle of the field, deg
    file_date: str = ""  #: date in the file's name, YYYYMMDD
    file_number: int = 0  #: number in the file's name


class Written(Protocol):
    """What headers need of a night's parameters."""

    @property
    def seed(self) -> int:
        """Seed of the night."""

    @property
    def size(self) -> int:
        """Rows and columns."""

    @property
    def band(self) -> str:
        """Name of the band."""

    @property
    def defaults(self) -> BandDefaults:
        """The band's own values."""

    @property
    def camera(self) -> Camera:
        """The instrument."""


def on_sky(offset: tuple[float, float], rotation: float) -> tuple[float, float]:
    """Return an offset (P, Q) as offsets East and North; P and Q turn with the field's position angle, deg."""
    p, q = offset
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    return p * c + q * s, q * c - p * s
