"""Zero points from standard fields of the night, for fields without stars of a catalogue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from imaging.photometry.magnitude_systems import nominal_zero_point

#: Change of the transparency from field to field in a photometric night, mag, if one standard alone cannot show it.
USUAL_NIGHT: Final = 0.03
#: The least of it if several standards agree by chance.
_LEAST_NIGHT: Final = 0.01
#: Standard error of an extinction, relative to it and at least, mag per airmass: it changes with the water vapour.
_RELATIVE_EXTINCTION: Final = 0.5
_LEAST_EXTINCTION: Final = 0.02
#: Difference in airmass that is assumed where a header has none.
_UNKNOWN_AIRMASS: Final = 0.5


class StandardZeroPoint(NamedTuple):
    """The zero point of a standard field.

    Attributes
    ----------
    value, error
        Magnitude of a star of 1 electron per second at airmass 1, and its standard error from the stars.
    airmass
        That of its frames; None if unknown.
    """

    value: float
    error: float
    airmass: float | None


def standard_zero_point(
    zero_point: float, error: float, exposure: float, airmass: float | None, extinction: float
) -> StandardZeroPoint:
    """Return the zero point of a standard field's stack for one second at airmass 1.

    Parameters
    ----------
    zero_point, error
        For the pixels of its stack, mag.
    exposure
        That its pixels are electrons of, s.
    airmass
        Mean of its frames; None: unknown.
    extinction
        mag per airmass.
    """
    above = nominal_zero_point(0.0, exposure, extinction=extinction, airmass=airmass)
    return StandardZeroPoint(zero_point - above, error, airmass)


def scatter_of_night(standards: Sequence[StandardZeroPoint]) -> float:
    """Return the standard deviation of the zero points of a night's standards, mag.

    Parameters
    ----------
    standards
        All that serve; with one alone it is that of a usual photometric night.
    """
    if len(standards) < 2:
        return USUAL_NIGHT
    middle = math.fsum(one.value for one in standards) / len(standards)
    variance = math.fsum((one.value - middle) ** 2 for one in standards) / (len(standards) - 1)
    return max(math.sqrt(variance), _LEAST_NIGHT)


def zero_point_from_standard(
    standard: StandardZeroPoint,
    night: float,
    *,
    exposure: float,
    airmass: float | None,
    extinction: float,
) -> tuple[float, float]:
    """Return the zero point of another field's pixels, and its standard error, mag.

    Parameters
    ----------
    standard
        That of the standard field.
    night
        Scatter of the night (`scatter_of_night`), mag.
    exposure
        That the pixels of the field are electrons of, s.
    airmass
        Of the field; None: unknown.
    extinction
        mag per airmass.
    """
    value = nominal_zero_point(standard.value, exposure, extinction=extinction, airmass=airmass)
    if airmass is None or standard.airmass is None:
        difference = _UNKNOWN_AIRMASS
    else:
        difference = abs(airmass - standard.airmass)
    of_extinction = max(_RELATIVE_EXTINCTION * extinction, _LEAST_EXTINCTION) * difference
    return value, math.hypot(standard.error, night, of_extinction)
