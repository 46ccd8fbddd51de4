"""The stars of a catalogue where a frame would have them if its camera had no distortion."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import ARCSEC
from imaging.astrometry.world_coordinates import (
    MAS,
    UNSTATED,
    AstrometryParameters,
    CatalogueStars,
    fit_world_coordinates,
)
from imaging.header import Header
from imaging.pixels.wcs import celestial_wcs
from imaging.registration.distortion.dithered_distortion import SkyStars

#: Stars as far as this outside the frame, in its sides, may be in the dithered ones.
_MARGIN: Final = 0.3


def stars_without_distortion(
    sources: NDArray[np.void],
    catalogue: CatalogueStars,
    header: Header,
    shape: tuple[int, int],
    parameters: AstrometryParameters | None = None,
) -> SkyStars | str:
    """Place the stars of a catalogue on a frame.

    Parameters
    ----------
    sources, catalogue, header, shape, parameters
        As for `imaging.astrometry.world_coordinates.fit_world_coordinates`: those of the frame.

    Returns
    -------
    SkyStars or str
        The stars, or why the frame does not match the catalogue.
    """
    found = fit_world_coordinates(sources, catalogue, header, shape, parameters)
    if isinstance(found, str):
        return found
    wcs = celestial_wcs(found.header, shape)
    known = np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec)
    ra, dec, error = (one[known] for one in (catalogue.ra, catalogue.dec, catalogue.error))
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    ny, nx = shape
    near = (abs(x - nx / 2) < (0.5 + _MARGIN) * nx) & (abs(y - ny / 2) < (0.5 + _MARGIN) * ny)
    x, y, ra, dec, error = (one[near] for one in (x, y, ra, dec, error))
    # Beyond the frame the polynomials may have no inverse: such stars are searched where they are without distortion.
    seen_x, seen_y = wcs.all_world2pix(ra, dec, 0, quiet=True) if found.distortion > 1 and len(x) else (x, y)
    valid = np.isfinite(seen_x) & np.isfinite(seen_y)
    scale = float(np.sqrt(abs(np.linalg.det(wcs.wcs.cd)))) * ARCSEC
    stated = np.where(np.isfinite(error) & (error > 0), error, UNSTATED)
    return SkyStars(
        x, y, np.where(valid, seen_x, x), np.where(valid, seen_y, y), stated / MAS / scale
    )  # fmt: skip
