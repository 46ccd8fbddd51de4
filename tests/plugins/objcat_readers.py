"""What DRAGONS computes from OBJCAT, with the columns that it reads, in its own units."""

from __future__ import annotations

import numpy as np
from astropy.io.fits import Header
from astropy.table import Table


def clip_sources(catalogue: Table, header: Header, least_snr: float = 50.0) -> Table:
    """Return the stars that serve for a measurement of the image quality.

    The columns read, their units and the limits are those of the primitive measureIQ: sources with a profile,
    nearly circular, wider than 1.1 px, bright, stellar, large, with few flagged pixels and none saturated.
    """
    area, bits = catalogue["ISOAREA_IMAGE"], catalogue["IMAFLAGS_ISO"]
    flagged = np.where(bits & 4, 0, 0.02 * area)
    good = (
        (catalogue["PROFILE_FWHM"] > 0)
        & (catalogue["ELLIPTICITY"] > 0)
        & (catalogue["ELLIPTICITY"] < 0.5)
        & (catalogue["B_IMAGE"] > 1.1)
        & (catalogue["FLUX_AUTO"] > least_snr * catalogue["FLUXERR_AUTO"])
        & (catalogue["CLASS_STAR"] > 0.8)
        & (area > 20)
        & (catalogue["NIMAFLAGS_ISO"] <= flagged)
        & (catalogue["PROFILE_EE50"] > catalogue["PROFILE_FWHM"])
    )
    stars = catalogue[good]
    scale = 3600 * np.hypot(header["CD1_1"], header["CD2_1"])
    return Table(
        {
            "x": stars["X_IMAGE"],
            "y": stars["Y_IMAGE"],
            "fwhm_arcsec": stars["PROFILE_FWHM"] * scale,
            "ee50d_arcsec": stars["PROFILE_EE50"] * scale,
            "isofwhm": stars["FWHM_IMAGE"],
            "isofwhm_arcsec": stars["FWHM_WORLD"] * 3600,
            "ellipticity": stars["ELLIPTICITY"],
            "pa": stars["THETA_WORLD"],
            "flux": stars["FLUX_AUTO"],
            "flux_max": stars["FLUX_MAX"],
            "background": stars["BACKGROUND"],
            "flux_radius": stars["FLUX_RADIUS"],
        }
    )
