"""FLAMINGOS-2: the detector's constants and the relations between them.

Sources: the instrument's public web pages and the Gemini archive's association rules.
"""

from __future__ import annotations

from typing import Final

#: Names that the INSTRUME keyword has had.
INSTRUMENT_NAMES: Final = ("F2", "Flam")

#: Rows and columns of the HAWAII-2 array.
SHAPE: Final = (2048, 2048)

#: Pixel scale on the sky at f/16, arcsec.
PIXEL_SCALE: Final = 0.179

#: Electrons per ADU of one read pair. The controller adds a frame's read pairs up.
GAIN_ONE_READ: Final = 4.44

#: Read noise in electrons, by the number of read pairs (LNRS).
READ_NOISE: Final[dict[int, float]] = {1: 11.7, 4: 6.0, 6: 5.3, 8: 5.0}

#: Full well in electrons.
WELL_DEPTH: Final = 155400.0

#: Fraction of saturation above which the correction for non-linearity is not trusted.
LINEAR_FRACTION: Final = 0.72

#: Coefficients (c1, c2, c3) of N' = c1 N + c2 N^2 + c3 N^3, N in electrons per coadd.
NONLINEARITY: Final = (0.9999107, -4.2854848e-8, 1.0096585e-12)

#: Centre (x, y; from 0) and radius in pixels of the circle of light; a fallback, measured from the flat
#: where there is one.
ILLUMINATED_CENTRE: Final = (1049.9, 1055.0)
ILLUMINATED_RADIUS: Final = 1054.0

#: Bands whose flats are lamp on minus lamp off.
LAMP_BANDS: Final = ("Y", "J", "H")

#: Bands where the calibration unit's own heat is the lamp: lamp off minus dark.
THERMAL_BANDS: Final = ("Ks", "K-red", "K-blue", "K-long")


def gain(read_pairs: int) -> float:
    """Electrons per ADU of a frame whose ``read_pairs`` read pairs were added up."""
    return GAIN_ONE_READ / read_pairs


def read_noise(read_pairs: int, coadds: int = 1) -> float:
    """Read noise of a whole frame in electrons."""
    return float(READ_NOISE[read_pairs] * coadds**0.5)


def saturation_adu(read_pairs: int, coadds: int = 1) -> int:
    """ADU at and above which a pixel is saturated."""
    return int(WELL_DEPTH / gain(read_pairs)) * coadds
