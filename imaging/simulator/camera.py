"""The camera that the simulator imitates: the numbers of its table."""

from __future__ import annotations

from typing import Final

from imaging.instruments import catalogue
from imaging.instruments.detector import Readout

INSTRUMENT: Final = catalogue.named("F2")
_DETECTOR: Final = INSTRUMENT.detector
_ILLUMINATED: Final = _DETECTOR.illuminated
assert _ILLUMINATED is not None

#: Rows and columns.
SHAPE: Final = _DETECTOR.shape
#: Numbers of read pairs that frames may have.
READ_PAIRS: Final = tuple(int(n) for mode in _DETECTOR.modes for n in mode.when["read_pairs"])
#: Centre (x, y; from 0) and radius of the circle of light, px.
ILLUMINATED_CENTRE: Final = _ILLUMINATED.centre
ILLUMINATED_RADIUS: Final = _ILLUMINATED.radius
#: Bands where the calibration unit's own heat is the lamp.
THERMAL_BANDS: Final = INSTRUMENT.thermal_bands


def readout(read_pairs: int, coadds: int = 1) -> Readout:
    """Return the detector's numbers for a frame."""
    return _DETECTOR.readout({"read_pairs": read_pairs, "coadds": coadds})


_ONE: Final = readout(READ_PAIRS[0])
PIXEL_SCALE: Final = _ONE.pixel_scale
LINEAR_FRACTION: Final = _ONE.linear_fraction
NONLINEARITY: Final = _ONE.nonlinearity
#: Full well, electrons.
WELL_DEPTH: Final = float(_DETECTOR.number("well_depth", {}))


def gain(read_pairs: int) -> float:
    """Return electrons per ADU."""
    return readout(read_pairs).gain


def read_noise(read_pairs: int, coadds: int = 1) -> float:
    """Return the read noise of a frame, electrons."""
    return readout(read_pairs, coadds).read_noise


def saturation_adu(read_pairs: int, coadds: int = 1) -> int:
    """Return the ADU at and above which a pixel is saturated."""
    return readout(read_pairs, coadds).saturation
