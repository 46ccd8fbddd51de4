"""The tangent plane against astropy, and the header's world coordinates in any frame."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from catalogue_fields import cards

from imaging.astrometry.tangent_plane import Prior, deproject, project
from imaging.header import Header

CENTRES = [(83.8, -5.4), (0.01, 60.0), (359.99, -60.0), (200.0, 89.97), (10.0, -89.97)]


@pytest.mark.parametrize("centre", CENTRES)
def test_offsets_are_those_of_wcslib(centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 2047, (2, 50))
    ra, dec = WCS(cards(centre, 30.0)).all_pix2world(x, y, 0)
    c, s = np.cos(np.radians(30.0)) * 0.18, np.sin(np.radians(30.0)) * 0.18
    u, v = x - 1023.5, y - 1023.5
    offsets = project(ra, dec, centre)
    assert offsets == pytest.approx(np.column_stack([-c * u + s * v, s * u + c * v]), abs=1e-6)
    ra_again, dec_again = deproject(offsets, centre)
    assert (
        SkyCoord(ra_again, dec_again, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).arcsec.max()
        < 1e-6
    )


def test_the_other_side_of_the_sky_has_no_offsets() -> None:
    assert np.isnan(project([180.0, 90.0], [0.0, 0.0], (0.0, 0.0))).all()


@pytest.mark.parametrize("centre", CENTRES)
def test_a_prior_is_centred_on_the_middle_of_the_image(centre: tuple[float, float]) -> None:
    header = Header(cards(centre, 20.0) | {"CRPIX1": 1200.0, "CRPIX2": 700.0})
    prior = Prior(header, (2048, 2048))
    there = WCS(dict(header)).all_pix2world(1023.5, 1023.5, 0)
    assert SkyCoord(*prior.centre, unit="deg").separation(SkyCoord(*there, unit="deg")).arcsec < 1e-6
    assert prior.scale == pytest.approx(0.18, rel=1e-5)
    assert prior.radius == pytest.approx(0.18 * 1024 * np.sqrt(2), rel=1e-3)
    assert np.hypot(
        *prior.offsets(np.array([1023.5, 1123.5]), np.array([1023.5, 1023.5])).T
    ) == pytest.approx([0.0, 18.0], abs=1e-3)


@pytest.mark.parametrize("frame", ["fk4", "fk5", "galactic"])
def test_a_prior_in_another_frame_is_converted(frame: str) -> None:
    there = SkyCoord(83.8, -5.4, unit="deg").transform_to(frame)
    position = there.spherical.lon.deg, there.spherical.lat.deg
    header = cards(position)
    header["RADESYS"] = frame.upper()
    if frame == "galactic":
        header |= {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}
        del header["RADESYS"]
    prior = Prior(Header(header), (2048, 2048))
    assert prior.centre == pytest.approx((83.8, -5.4), abs=1e-6)


def test_axes_in_the_other_order_keep_their_meaning() -> None:
    usual = cards((83.8, -5.4))
    swapped = usual | {
        "CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -5.4, "CRVAL2": 83.8,
        "CD1_1": usual["CD2_1"], "CD1_2": usual["CD2_2"], "CD2_1": usual["CD1_1"], "CD2_2": usual["CD1_2"],
    }  # fmt: skip
    a, b = (Prior(Header(one), (2048, 2048)) for one in (usual, swapped))
    assert b.matrix == pytest.approx(a.matrix, abs=1e-9)


@pytest.mark.parametrize("header", [{}, cards((83.8, -5.4)) | {"CD1_1": -3.25e-55}])
def test_without_valid_world_coordinates_there_is_no_prior(header: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no valid celestial world coordinates"):
        Prior(Header(header), (2048, 2048))
