"""The camera that the simulator imitates: the numbers of its table for one night, and its axes on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from imaging.instruments.detector import Polynomial, Readout
from imaging.instruments.instrument import Instrument

#: Exposure of a readout whose numbers do not depend on the exposure, s.
_ANY_TIME: Final = 1.0


@dataclass(frozen=True)
class SkyAxes:
    """How the sky lies on the array: the inverse of what the table's offsets do to a star.

    A telescope that moves by P to the East and Q to the North (at position angle 0) moves a star by ``x`` and ``y`` of
    the table, so that East and North run against them.
    """

    scale: float  #: arcsec per pixel
    x: str  #: offset that moves a star along x, with its sign: p, -p, q, -q
    y: str

    def on_array(self, east: Any, north: Any) -> tuple[Any, Any]:
        """Return components along x and y of components along East and North, in the same unit."""
        return _along(self.x, east, north), _along(self.y, east, north)

    def on_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return components along East and North of components along x and y, in the same unit."""
        first, second = (
            -part if not axis.startswith("-") else part for axis, part in ((self.x, x), (self.y, y))
        )
        return (first, second) if self.x.endswith("p") else (second, first)

    def pixels(self, east: Any, north: Any) -> tuple[Any, Any]:
        """Return pixels along x and y of arcsec along East and North."""
        x, y = self.on_array(east, north)
        return x / self.scale, y / self.scale

    def moved(self, offset: tuple[float, float]) -> tuple[float, float]:
        """Return the pixels (x, y) by which an offset (P, Q) of the telescope, arcsec, moves a star."""
        x, y = self.on_array(*offset)
        return -x / self.scale, -y / self.scale

    @property
    def parity(self) -> int:
        """1 where North turns to East counterclockwise on the array, from x to y; otherwise -1."""
        north, east = self.on_array(0, 1), self.on_array(1, 0)
        return int(north[0] * east[1] - north[1] * east[0])


def _along(axis: str, east: Any, north: Any) -> Any:
    part = east if axis.endswith("p") else north
    return part if axis.startswith("-") else -part


@dataclass(frozen=True)
class Camera:
    """An instrument with the facts that a night's frames have in common.

    Attributes
    ----------
    instrument
        Its table.
    facts
        Facts that determine its numbers, other than reads, coadds and exposure: the read mode, the section...
    size
        Rows and columns that are read.
    sky_scale
        Pixel scale of its world coordinates, arcsec; None: that of the table.
    """

    instrument: Instrument
    facts: Mapping[str, Any]
    size: int
    sky_scale: float | None = None

    def readout(self, read_pairs: int, coadds: int = 1, exposure_time: float = _ANY_TIME) -> Readout:
        """Return the detector's numbers for a frame; the exposure time, s, is that of one coadd."""
        frame = {"read_pairs": read_pairs, "coadds": coadds, "exposure_time": exposure_time}
        return self.instrument.detector.readout(frame | dict(self.facts))

    def gain(self, read_pairs: int, coadds: int = 1) -> float:
        """Return electrons, of all coadds, per ADU."""
        return self.readout(read_pairs, coadds).gain

    def read_noise(self, read_pairs: int, coadds: int = 1) -> float:
        """Return the read noise of a frame, electrons."""
        return self.readout(read_pairs, coadds).read_noise

    def saturation_adu(self, read_pairs: int, coadds: int = 1) -> int:
        """Return the ADU at and above which a pixel is saturated."""
        return self.readout(read_pairs, coadds).saturation

    def light_time(self, read_pairs: int, exposure_time: float) -> float:
        """Return for how long a coadd of an exposure time collects light, s."""
        return exposure_time / self.readout(read_pairs, 1, exposure_time).time_scale

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the complete array."""
        return self.instrument.detector.shape

    @cached_property
    def read_pairs(self) -> tuple[int, ...]:
        """Numbers of read pairs that frames may have; empty where the table does not list them."""
        modes = self.instrument.detector.modes
        return tuple(int(n) for mode in modes for n in mode.when.get("read_pairs", ()))

    def _number(self, name: str) -> Any:
        reads = {"read_pairs": self.read_pairs[0]} if self.read_pairs else {}
        return self.instrument.detector.number(name, reads | dict(self.facts))

    @cached_property
    def pixel_scale(self) -> float:
        """Pixel scale of the table, arcsec."""
        return float(self._number("pixel_scale"))

    @cached_property
    def well_depth(self) -> float:
        """Full well, electrons."""
        return float(self._number("well_depth"))

    @cached_property
    def linear_fraction(self) -> float:
        """Fraction of saturation above which the correction for non-linearity is not trusted."""
        return float(self._number("linear_fraction"))

    @cached_property
    def nonlinearity(self) -> Polynomial:
        """Coefficients of the correction to the collected light, on electrons per coadd."""
        return self._number("nonlinearity") or (1.0, 0.0, 0.0)

    @cached_property
    def circle(self) -> tuple[float, float, float]:
        """Centre x, y (from 0) and radius of the circle of light on the complete array; beyond it if all is lit."""
        lit = self.instrument.detector.illuminated
        if lit is None:
            rows, columns = self.shape
            return (columns - 1) / 2, (rows - 1) / 2, 2.0 * max(rows, columns)
        return (*lit.centre, lit.radius)

    @cached_property
    def axes(self) -> SkyAxes:
        """How the sky lies on the array."""
        offsets = self.instrument.offsets
        return SkyAxes(self.sky_scale or self.pixel_scale, offsets.x, offsets.y)

    @property
    def leaves_out_first(self) -> bool:
        """Whether a reduction leaves out the first frame of each observation."""
        return self.instrument.unfit.first_of_observation is not None
