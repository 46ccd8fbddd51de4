"""Stars of a reference catalogue as standards: their pixels on a stack, their magnitudes in its band and system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from imaging.errors import CatalogueError
from imaging.header import Header
from imaging.photometry.calibrate import StandardStars
from imaging.photometry.magnitude_systems import conversion
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.pixels.wcs import celestial_wcs
from imaging.reference_catalogue.reference_stars import Magnitudes, ReferenceCatalogue

#: Stars this far outside the image count, too: its world coordinates may be wrong, arcsec.
_MARGIN: Final = 60.0


class Standards(NamedTuple):
    """Standards of a stack.

    Attributes
    ----------
    stars
        The stars; None without any.
    band
        Band of the catalogue.
    note
        Why there are no stars, or no colours; empty without a problem.
    """

    stars: StandardStars | None
    band: str = ""
    note: str = ""


def standards_of(
    catalogue: ReferenceCatalogue,
    header: Header,
    shape: tuple[int, int],
    bands: Sequence[str],
    parameters: PhotometryParameters,
) -> Standards:
    """Return the stars of a catalogue that can calibrate a stack.

    Parameters
    ----------
    catalogue
        Reference stars of its field, at the epoch of the observation.
    header
        Header with the celestial WCS of the stack.
    shape
        (ny, nx).
    bands
        Bands whose magnitudes stand for those of its filter, the best first.
    parameters
        Magnitude system and colour.
    """
    wcs = celestial_wcs(header, shape)
    if wcs is None:
        return Standards(
            None, note=f"no zero point from {catalogue.name}: the stack has no world coordinates"
        )
    found, band, problems = None, "", []
    for band in bands:
        try:
            found = catalogue.in_band(band)
        except CatalogueError as error:
            problems.append(str(error))
        else:
            break
    if found is None:
        return Standards(None, note=f"no zero point from the catalogue: {'; '.join(problems)}")
    offset = conversion(found.magnitude_system, parameters.system, found.photometric_system, band)
    if offset is None:
        return Standards(
            None,
            note=f"no zero point from {catalogue.name}: the conversion of {band} to {parameters.system} is unknown",
        )
    from astropy.wcs.utils import proj_plane_pixel_scales

    x, y = wcs.all_world2pix(catalogue.ra, catalogue.dec, 0, quiet=True)
    margin = _MARGIN / (3600.0 * float(np.mean(proj_plane_pixel_scales(wcs))))
    near = np.isfinite(x) & np.isfinite(y)
    near &= (x > -margin) & (x < shape[1] + margin) & (y > -margin) & (y < shape[0] + margin)
    near &= found.valid
    if not near.any():
        return Standards(None, band, f"{catalogue.name} has no stars with magnitudes in {band} in the field")
    colour, note = _colour(catalogue, parameters)
    stars = StandardStars(
        catalogue.name,
        np.asarray(x)[near],
        np.asarray(y)[near],
        found.value[near] + offset,
        found.error[near],
        None if colour is None else colour[near],
    )
    return Standards(stars, band, note)


def _colour(catalogue: ReferenceCatalogue, parameters: PhotometryParameters) -> tuple[Any, str]:
    """Return the colours of the stars, in the catalogue's own system, and why they are missing."""
    if not parameters.colour:
        return None, ""
    blue, red = parameters.colour.split("-", 1)
    try:
        first: Magnitudes = catalogue.in_band(blue)
        second = catalogue.in_band(red)
    except CatalogueError as error:
        return None, f"no colour term in {parameters.colour}: {error}"
    return first.value - second.value, ""
