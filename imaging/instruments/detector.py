"""The response of a detector to light: its typed model, and its numbers for one frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imaging.instruments.regions import Regions

#: Coefficients (c1, c2, c3) of N' = c1 N + c2 N^2 + c3 N^3, N in electrons per coadd.
Polynomial = tuple[float, float, float]

#: Required rows and columns of an image: those of its detector, two numbers, or None for any.
WantedShape = tuple[int, int] | Literal["detector"] | None

_NO_CORRECTION: Final[Polynomial] = (1.0, 0.0, 0.0)

#: Decay times after which persistence is forgotten: 1/22000 of it is left.
_FORGOTTEN: Final = 10.0


class _Numbers(BaseModel):
    """Numbers that may depend on the read mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pixel_scale: float | None = Field(default=None, gt=0, description="arcsec")
    gain: float | None = Field(
        default=None, gt=0, description="electrons per ADU; of one read pair if read pairs are added"
    )
    read_noise: float | None = Field(default=None, gt=0, description="read noise of one coadd, electrons")
    well_depth: float | None = Field(default=None, gt=0, description="full well, electrons")
    linear_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="fraction of saturation above which the correction is not trusted",
    )
    nonlinearity: Polynomial | None = Field(
        default=None, description="c1, c2, c3 of N' = c1 N + c2 N^2 + c3 N^3, N in electrons per coadd"
    )
    extra_exposure: float | None = Field(
        default=None, ge=0,
        description="time for which each coadd collects light beyond its exposure time, s; N' is scaled to the "
        "exposure time. Default: none; only together with nonlinearity",
    )  # fmt: skip
    field_diameter: float | None = Field(
        default=None, gt=0, description="diameter of the fully lit field on the sky, arcsec"
    )

    @model_validator(mode="after")
    def _scaled_where_corrected(self) -> Self:
        if self.extra_exposure is not None and self.nonlinearity is None:
            raise ValueError("extra_exposure needs nonlinearity in the same place")
        return self


#: The numbers that every frame needs.
NUMBERS = tuple(name for name in _Numbers.model_fields if name != "extra_exposure")


class Mode(_Numbers):
    """Numbers that hold for frames with some facts."""

    when: dict[str, tuple[str | int | float, ...]] = Field(
        default_factory=dict, description="fact to the values that it may have; default: all frames"
    )
    note: str = Field(default="", description="what is noted with a frame that has one of these numbers")


class Illuminated(BaseModel):
    """The circle of light on the detector, used if a flat does not show it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: tuple[float, float] = Field(description="x and y, counted from 0, px")
    radius: float = Field(gt=0, description="px")


class Plausible(BaseModel):
    """Levels of frames without light, beyond which the detector does not work or the shutter is open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dark: tuple[float, float] = Field(
        description="lowest and highest level of a short dark of one coadd, electrons"
    )
    dark_current: float = Field(ge=0, description="highest dark current, electrons per second")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.dark[0] < self.dark[1]:
            raise ValueError(f"dark goes from {self.dark[0]:g} down to {self.dark[1]:g}")
        return self


class Persistence(BaseModel):
    """Charge that bright pixels trap in an exposure and release in later ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(gt=0, description="electrons of one coadd above which charge is trapped")
    fraction: float = Field(
        gt=0, le=0.5, description="part of the electrons above the threshold that is released in total"
    )
    decay: float = Field(gt=0, le=86400, description="time in which the release falls by a factor e, s")
    saturated: float = Field(
        default=1.0,
        ge=1,
        le=1000,
        description="light that a saturated pixel is assumed to have had, full wells",
    )

    @property
    def horizon(self) -> float:
        """Time after which an exposure's persistence is forgotten, s."""
        return _FORGOTTEN * self.decay

    def released(self, age: float, exposure: float) -> float:
        """Return the part of the charge above the threshold that is released during an exposure.

        The release falls exponentially; this is its integral over the exposure.

        Parameters
        ----------
        age
            Time from the end of the exposure that trapped the charge to the start of this one, s.
        exposure
            Length of this one, all coadds, s.
        """
        return -self.fraction * math.exp(-age / self.decay) * math.expm1(-exposure / self.decay)


class Pattern(BaseModel):
    """Offsets that repeat along the columns of each quadrant of a readout, counted from the quadrant's own corner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    period: int = Field(ge=2, le=64, description="columns after which they repeat")


@dataclass(frozen=True)
class Readout:
    """The detector's numbers for one frame.

    Attributes
    ----------
    gain
        Electrons per ADU, in all coadds together.
    read_noise
        Read noise of the frame, all coadds, electrons.
    saturation
        ADU at and above which a pixel is saturated.
    saturation_electrons
        The saturation of one coadd, electrons.
    linear_fraction
        Fraction of saturation above which the correction for non-linearity is not trusted.
    nonlinearity
        Coefficients of the correction, on electrons per coadd.
    pixel_scale
        Arcsec.
    time_scale
        Exposure time over the time for which light was collected. It is part of ``nonlinearity``: a corrected value is
        the charge times this, so that its shot noise variance is the value times this.
    """

    gain: float
    read_noise: float
    saturation: int
    saturation_electrons: float
    linear_fraction: float
    nonlinearity: Polynomial
    pixel_scale: float
    time_scale: float = 1.0


class Detector(_Numbers, Regions):
    """A detector. The numbers of a mode take precedence over those here."""

    shape: tuple[int, int] = Field(description="rows and columns")
    subarrays: tuple[tuple[int, int], ...] = Field(
        default=(), description="rows and columns of parts that may be read alone"
    )
    coadds: Literal["summed", "averaged"] = Field(description="how the controller combines coadds")
    reads: Literal["summed", "averaged"] = Field(
        description="how the controller combines the read pairs of a coadd"
    )
    illuminated: Illuminated | None = Field(
        default=None, description="circle of light; default: fully illuminated"
    )
    plausible: Plausible | None = Field(
        default=None, description="levels of frames without light; default: any"
    )
    persistence: Persistence | None = Field(
        default=None, description="persistence of bright pixels; default: none is flagged"
    )
    channels: int = Field(
        default=0, ge=0, le=1024,
        description="readout channels: strips of columns or rows of equal width, over the array or, if there are as "
        "many in each, in its four quadrants; 0: their offsets are not removed",
    )  # fmt: skip
    pattern: Pattern | None = Field(
        default=None, description="offsets that repeat along the columns of each quadrant; default: none"
    )
    modes: tuple[Mode, ...] = Field(
        default=(), description="the first mode that matches a frame and has a number determines it"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; rows and columns must be 1 or more")
        for rows, columns in self.subarrays:
            if not (1 <= rows <= self.shape[0] and 1 <= columns <= self.shape[1]):
                raise ValueError(f"subarrays has {rows} x {columns}, which is no part of {self.shape}")
        for name in NUMBERS:
            if getattr(self, name) is None and not any(
                getattr(mode, name) is not None for mode in self.modes
            ):
                raise ValueError(f"neither the detector nor a mode has {name}")
        return self

    def number(self, name: str, facts: Mapping[str, Any]) -> Any:
        """Return the number for a frame with these facts; None if no mode matches."""
        return getattr(self._source(name, facts), name)

    def _source(self, name: str, facts: Mapping[str, Any]) -> Detector | Mode:
        """Return the first mode that matches a frame and has the number, or the detector."""
        for mode in self.modes:
            matches = all(facts.get(fact) in allowed for fact, allowed in mode.when.items())
            if matches and getattr(mode, name) is not None:
                return mode
        return self

    def notes(self, facts: Mapping[str, Any]) -> list[str]:
        """Return what the table notes about the numbers of a frame with these facts."""
        sources = [self._source(name, facts) for name in NUMBERS]
        return list(dict.fromkeys(one.note for one in sources if isinstance(one, Mode) and one.note))

    def missing(self, facts: Mapping[str, Any]) -> tuple[str, dict[str, list[str | int | float]]] | None:
        """Return the first number that no mode gives for a frame, and the possible values of its facts."""
        for name in NUMBERS:
            if self.number(name, facts) is None:
                known: dict[str, list[str | int | float]] = {}
                for mode in self.modes:
                    if getattr(mode, name) is not None:
                        for fact, allowed in mode.when.items():
                            known.setdefault(fact, []).extend(
                                v for v in allowed if v not in known.get(fact, [])
                            )
                return name, known
        return None

    def readout(self, facts: Mapping[str, Any]) -> Readout:
        """Return the numbers for a frame with these facts.

        They are ``coadds``, ``read_pairs``, ``exposure_time`` if the detector collects light for longer, and those
        that modes compare.
        """
        coadds = facts["coadds"]
        gain = self.number("gain", facts)
        if self.reads == "summed":
            gain = gain / facts["read_pairs"]
        one = int(self.number("well_depth", facts) / gain)
        summed = self.coadds == "summed"
        step = gain if summed else gain * coadds
        correction = self._source("nonlinearity", facts)
        scale = 1.0
        if correction.extra_exposure:
            scale = facts["exposure_time"] / (facts["exposure_time"] + correction.extra_exposure)
        c1, c2, c3 = correction.nonlinearity or _NO_CORRECTION
        return Readout(
            gain=step,
            read_noise=self.noise_without_overscan(
                float(self.number("read_noise", facts) * coadds**0.5), step
            ),
            saturation=one * coadds if summed else one,
            saturation_electrons=one * gain,
            linear_fraction=self.number("linear_fraction", facts),
            nonlinearity=(scale * c1, scale * c2, scale * c3),
            pixel_scale=self.number("pixel_scale", facts),
            time_scale=scale,
        )


def wanted_shapes(shape: WantedShape, detector: Detector) -> tuple[tuple[int, int], ...] | None:
    """Return the rows and columns that an image of a detector may have; None for any."""
    if shape is None:
        return None
    return (detector.shape, *detector.subarrays) if shape == "detector" else (shape,)
