"""Data quality: one 16-bit plane whose bits have the meanings defined by Gemini, and one more."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class DQ(IntFlag):
    """Bits of a data quality plane (the values that Gemini's software writes and reads, and `GLOW`)."""

    GOOD = 0
    BAD_PIXEL = 1
    NON_LINEAR = 2
    SATURATED = 4
    COSMIC_RAY = 8
    NO_DATA = 16
    OVERLAP = 32
    UNILLUMINATED = 64
    GLOW = 128


#: A pixel with one of these bits has no measurement of the sky.
#: `DQ.GLOW` is not among them: the glow was subtracted.
UNUSABLE = DQ.BAD_PIXEL | DQ.SATURATED | DQ.COSMIC_RAY | DQ.NO_DATA | DQ.OVERLAP | DQ.UNILLUMINATED

#: Levels of badness, least bad first: a stack uses the inputs at the lowest level that any input has.
#: Non-linear and saturated pixels hold a (poor) measurement and count as good here, as do those whose glow was removed.
LEVELS: tuple[DQ, ...] = (
    DQ.COSMIC_RAY,
    DQ.OVERLAP,
    DQ.BAD_PIXEL,
    DQ.UNILLUMINATED,
    DQ.NO_DATA,
)


def gemini_bits(dq: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return a data quality plane without `DQ.GLOW`.

    Gemini's software does not define that bit, and takes a pixel with an undefined bit for bad.
    """
    return np.asarray(dq & ~np.uint16(DQ.GLOW), np.uint16)
