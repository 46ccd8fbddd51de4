"""Conditions that observers request: the image quality and the cloud cover that a value in a header stands for."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

#: Width of the seeing over that at the zenith: airmass to this power (Kolmogorov turbulence; Roddier 1981, Progress in
#: Optics 19, 281).
_AIRMASS_POWER: Final = 0.6

_Width = Annotated[float, Field(gt=0, le=30, allow_inf_nan=False)]
_Magnitudes = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]


class Conditions(BaseModel):
    """The limits that values of the facts `requested_quality` and `requested_clouds` stand for.

    A value that is not listed, such as ``Any``, is no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeing: dict[str, dict[str, _Width]] = Field(
        default_factory=dict,
        description="value to the largest FWHM of a star at the zenith in each band, arcsec",
    )
    clouds: dict[str, _Magnitudes] = Field(
        default_factory=dict, description="value to the largest loss of light by clouds, mag"
    )

    def widest(self, requested: str, band: str) -> float | None:
        """Return the largest FWHM at the zenith, arcsec, of a request in a band; None without a limit."""
        return self.seeing.get(requested.strip(), {}).get(band)

    def most_clouds(self, requested: str) -> float | None:
        """Return the largest loss of light by clouds, mag, of a request; None without a limit."""
        return self.clouds.get(requested.strip())


def at_zenith(fwhm: float, airmass: float | None) -> float:
    """Return the FWHM that stars of a width at some airmass would have at the zenith; unchanged if it is unknown."""
    return fwhm / airmass**_AIRMASS_POWER if airmass is not None and airmass >= 1 else fwhm
