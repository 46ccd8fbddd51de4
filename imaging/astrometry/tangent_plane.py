"""The tangent plane of a field: positions on the sky as offsets from its centre, and the reverse.

Offsets are standard coordinates (xi, eta), arcsec East and North: the gnomonic projection of Calabretta and Greisen
(2002, A&A 395, 1077, section 5.1.3).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.header import Header
from imaging.pixels.wcs import celestial_wcs

ARCSEC: Final = 3600.0
#: Offsets of points that are this many degrees from the centre, or more, are NaN: they are in no image.
_FAR: Final = 60.0
#: Step of the numerical derivative of a WCS, px.
_STEP: Final = 1.0

Point = tuple[float, float]


def project(ra: Any, dec: Any, centre: Point) -> NDArray[np.float64]:
    """Return the offsets of positions on the sky.

    Parameters
    ----------
    ra, dec
        deg, (n,).
    centre
        Right ascension and declination of the tangent point, deg.

    Returns
    -------
    ndarray
        float64 (n, 2): xi and eta, arcsec; NaN far from the centre, and where a position is not finite.
    """
    ra0, dec0 = np.radians(centre)
    ra, dec = np.radians(np.asarray([ra, dec], np.float64))
    valid = np.isfinite(ra) & np.isfinite(dec)
    east, dec = np.where(valid, ra - ra0, np.nan), np.where(valid, dec, np.nan)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(east)
    cosine = np.where(cosine > np.cos(np.radians(_FAR)), cosine, np.nan)
    xi = np.cos(dec) * np.sin(east) / cosine
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(east)) / cosine
    return np.degrees(np.column_stack([xi, eta])) * ARCSEC


def deproject(offsets: NDArray[np.float64], centre: Point) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension (0 to 360) and declination, deg, of offsets (n, 2) in arcsec."""
    ra0, dec0 = np.radians(centre)
    xi, eta = np.radians(np.asarray(offsets, np.float64) / ARCSEC).T
    along = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, along)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, along))
    return np.degrees(ra) % 360.0, np.degrees(dec)


class Prior:
    """The world coordinates of an image as its header has them, in ICRS.

    Parameters
    ----------
    header
        Header with a valid celestial WCS, of any projection and frame.
    shape
        (ny, nx) of the image.

    Attributes
    ----------
    centre
        Right ascension and declination of the middle of the image, deg.
    radius
        Distance of the farthest corner from it, arcsec.
    matrix
        float64 (2, 2): xi and eta, arcsec, for each pixel along x and y in the middle.

    Raises
    ------
    ValueError
        If the header has no valid celestial WCS.
    """

    def __init__(self, header: Header, shape: tuple[int, int]) -> None:
        self._wcs = celestial_wcs(header, shape)
        if self._wcs is None:
            raise ValueError("the header has no valid celestial world coordinates")
        ny, nx = shape
        x, y = (nx - 1) / 2, (ny - 1) / 2
        self.middle: Point = (x, y)
        (ra,), (dec,) = self.sky(np.array([x]), np.array([y]))
        self.centre: Point = (float(ra), float(dec))
        corners = self.offsets(
            np.array([-0.5, nx - 0.5, -0.5, nx - 0.5]), np.array([-0.5, -0.5, ny - 0.5, ny - 0.5])
        )
        self.radius = float(np.hypot(*corners.T).max())
        there = self.offsets(x + _STEP * np.array([1, -1, 0, 0]), y + _STEP * np.array([0, 0, 1, -1]))
        self.matrix = np.column_stack([there[0] - there[1], there[2] - there[3]]) / (2 * _STEP)

    @property
    def scale(self) -> float:
        """Side of a pixel, arcsec."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def sky(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return right ascension and declination, deg (ICRS), of pixels, which count from 0."""
        from astropy.coordinates import SkyCoord  # imported late: slow, and many runs need none
        from astropy.wcs.utils import wcs_to_celestial_frame

        # Not pixel_to_skycoord, which exchanges the pixels as well if the latitude is the first axis.
        world = self._wcs.all_pix2world(x, y, 0)
        lon, lat = world[self._wcs.wcs.lng], world[self._wcs.wcs.lat]
        place = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(self._wcs)).icrs
        return np.asarray(place.ra.deg, np.float64), np.asarray(place.dec.deg, np.float64)

    def offsets(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return xi and eta (n, 2), arcsec from the middle of the image, of pixels, which count from 0."""
        return project(*self.sky(x, y), self.centre)
