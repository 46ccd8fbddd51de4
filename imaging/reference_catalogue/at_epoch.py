"""Positions in any frame and at any epoch, brought to ICRS and to the epoch of an observation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from astropy import units
from astropy.coordinates import FK4, FK5, ICRS, BaseCoordinateFrame, Galactic, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray

_J2000: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)
#: Days of a Julian year.
_YEAR: Final = 365.25
_MAS: Final = np.pi / 180.0 / 3.6e6
#: Julian days of a year, and the epoch J2000.
_JD_J2000: Final = 2451545.0
_MJD_J2000: Final = 51544.5


@dataclass(frozen=True)
class SkyFrame:
    """A reference frame of positions.

    Attributes
    ----------
    name
        ``icrs``, ``fk5``, ``fk4`` or ``galactic``.
    equinox
        Equinox, years: Julian of FK5, Besselian of FK4; not used by the others.
    """

    name: str = "icrs"
    equinox: float = 2000.0

    def at(self, epoch: float) -> BaseCoordinateFrame:
        """Return the frame of astropy for positions at an epoch (Julian years)."""
        if self.name == "fk5":
            return FK5(equinox=Time(self.equinox, format="jyear"))
        if self.name == "fk4":
            return FK4(equinox=Time(self.equinox, format="byear"), obstime=Time(epoch, format="jyear"))
        return Galactic() if self.name == "galactic" else ICRS()

    @property
    def label(self) -> str:
        """The frame as messages name it: ``FK5 2000``."""
        return f"{self.name.upper()} {self.equinox:g}" if self.name.startswith("fk") else self.name


def julian_year(moment: datetime) -> float:
    """Return the Julian year of a time; the minute between its time scales is neglected."""
    return 2000.0 + (moment - _J2000) / timedelta(days=_YEAR)


def years_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Julian years of times that are Julian dates, modified Julian dates or years already; NaN of others."""
    values = np.asarray(values, np.float64)
    years = np.where((values > 1800) & (values < 2200), values, np.nan)
    with np.errstate(invalid="ignore"):
        mjd, jd = (values > 15000) & (values < 100000), (values > 2.3e6) & (values < 2.6e6)
    years = np.where(mjd, 2000.0 + (values - _MJD_J2000) / _YEAR, years)
    return np.where(jd, 2000.0 + (values - _JD_J2000) / _YEAR, years)


def moved(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], motion: Any, years: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions after a proper motion along straight lines in space without radial velocity.

    Parameters
    ----------
    longitude, latitude
        Positions, deg, shape (stars,).
    motion
        Proper motions along the two axes, mas/yr, the first with the cosine of the latitude, shape (2, stars).
    years
        Time, yr; a number, or one for each star.

    Returns
    -------
    longitude, latitude : ndarray
        deg (the rigorous formula without its terms of distance: ESA SP-1200 1997, volume 1, section 1.2.8).
    """
    a, d = np.radians(longitude), np.radians(latitude)
    step = np.asarray(motion) * _MAS * np.asarray(years)
    radial = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    first = np.array([-np.sin(a), np.cos(a), np.zeros_like(a)])
    second = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    x, y, z = radial + step[0] * first + step[1] * second
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def to_icrs(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], frame: SkyFrame, epoch: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions (deg) of a frame at an epoch (Julian years) as right ascension and declination, deg, ICRS."""
    if frame.name == "icrs":
        return longitude % 360.0, latitude
    return _converted(longitude, latitude, frame.at(epoch), ICRS())


def from_icrs(ra: float, dec: float, frame: SkyFrame, epoch: float) -> tuple[float, float]:
    """Return a position (deg, ICRS) at an epoch (Julian years) in a frame, deg."""
    if frame.name == "icrs":
        return ra, dec
    longitude, latitude = _converted(np.array([ra]), np.array([dec]), ICRS(), frame.at(epoch))
    return float(longitude[0]), float(latitude[0])


def _converted(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], given: Any, wanted: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Earth's rotation beyond its tables, which plays no part
        there = SkyCoord(longitude * units.deg, latitude * units.deg, frame=given).transform_to(wanted)
    spherical = there.spherical
    return np.asarray(spherical.lon.wrap_at(360 * units.deg).deg), np.asarray(spherical.lat.deg)
