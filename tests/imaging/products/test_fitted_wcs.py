"""Products with fitted world coordinates: every reader gets the same positions, with distortion and its inverse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from catalogue_fields import make_field
from small_products import Write

from imaging.astrometry.world_coordinates import WorldCoordinates, fit_world_coordinates
from imaging.pixels.image import Image
from imaging.products.ccd import read_ccd


def test_distortion_is_written_and_read(write: Write, image: Image) -> None:
    field = make_field(
        np.random.default_rng(1), 200, error=20.0, centroid=0.01, radial=0.5, shape=(1024, 1024)
    )
    found = fit_world_coordinates(field.sources, field.catalogue, field.header, (1024, 1024))
    assert isinstance(found, WorldCoordinates)
    assert found.distortion == 3
    path = write(what=replace(image, header=found.header))
    expected = WCS(dict(found.header)).all_pix2world([3.0, 30.0], [5.0, 35.0], 0)
    with fits.open(path) as hdus:
        for plane in ("SCI", "VAR", "DQ"):
            header = hdus[plane].header
            assert header["CTYPE1"] == "RA---TAN-SIP"
            assert {"A_3_0", "AP_1_0", "BP_ORDER"} <= set(header)
            assert "EQUINOX" not in header
            assert np.array(WCS(header).all_pix2world([3.0, 30.0], [5.0, 35.0], 0)) == pytest.approx(
                np.array(expected)
            )
    for ccd in (read_ccd(path), CCDData.read(path, hdu="SCI", unit="electron")):
        assert np.array(ccd.wcs.all_pix2world([3.0, 30.0], [5.0, 35.0], 0)) == pytest.approx(
            np.array(expected)
        )
        back = ccd.wcs.all_world2pix(*expected, 0)
        assert np.array(back) == pytest.approx(np.array([[3.0, 30.0], [5.0, 35.0]]), abs=1e-3)
