"""Magnitude systems, and nominal zero points of stacks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from imaging.reference_catalogue.reference_stars import MagnitudeSystem

#: Photometric system of the nominal zero points, and of filters that no catalogue describes.
USUAL_PASSBANDS: Final = "MKO"
#: AB magnitude minus Vega magnitude by passbands and band: Hewett et al. 2006, MNRAS 367, 454 (MKO, as of UKIDSS);
#: Blanton & Roweis 2007, AJ 133, 734 (2MASS); Gonzalez-Fernandez et al. 2018, MNRAS 474, 5459 (VISTA).
AB_MINUS_VEGA: Final[Mapping[str, Mapping[str, float]]] = {
    "MKO": {"Y": 0.634, "J": 0.938, "H": 1.379, "K": 1.900, "Ks": 1.85},
    "2MASS": {"J": 0.91, "H": 1.39, "Ks": 1.85},
    "VISTA": {"Y": 0.600, "J": 0.916, "H": 1.366, "Ks": 1.827},
}  # fmt: skip


def ab_minus_vega(passbands: str, band: str) -> float | None:
    """Return the AB magnitude minus the Vega magnitude in a band; None if it is unknown.

    Parameters
    ----------
    passbands
        Photometric system; that of a system without a table is the usual one's.
    band
        Y, J, H, K or Ks.
    """
    return AB_MINUS_VEGA.get(passbands, AB_MINUS_VEGA[USUAL_PASSBANDS]).get(band)


def conversion(given: MagnitudeSystem, wanted: MagnitudeSystem, passbands: str, band: str) -> float | None:
    """Return what is added to magnitudes of one system to have those of another; None if it is unknown."""
    if given == wanted:
        return 0.0
    offset = ab_minus_vega(passbands, band)
    if offset is None:
        return None
    return offset if wanted == "AB" else -offset


def nominal_zero_point(
    of_a_second: float, exposure: float, *, extinction: float = 0.0, airmass: float | None = None
) -> float:
    """Return the nominal zero point of pixels in electrons of an exposure.

    Parameters
    ----------
    of_a_second
        Magnitude of a star of 1 electron per second at airmass 1.
    exposure
        s.
    extinction
        mag per airmass.
    airmass
        That of the exposure; None: 1.
    """
    above = 0.0 if airmass is None else extinction * (airmass - 1.0)
    return of_a_second + 2.5 * math.log10(exposure) - above
