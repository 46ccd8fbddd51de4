"""Stars and galaxies: integrated light, places, and the sky's projection."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from moffat import moffat_enclosed

from imaging.simulator import star_field as s
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.f2_nights import SKY_SCALE


@given(st.floats(49.5, 50.5), st.floats(49.5, 50.5), st.floats(2.5, 6.0))
def test_a_star_keeps_its_flux_and_its_centre_wherever_it_falls(x: float, y: float, fwhm: float) -> None:
    plane = np.zeros((101, 101), np.float32)
    s.add_stars(plane, np.array([x]), np.array([y]), np.array([1e5]), fwhm=fwhm, beta=3.5, level=1e-3)
    yy, xx = np.indices(plane.shape)
    assert plane.sum(dtype=float) == pytest.approx(1e5, rel=2e-3)
    assert (plane * xx).sum(dtype=float) / plane.sum(dtype=float) == pytest.approx(x, abs=0.01)
    assert (plane * yy).sum(dtype=float) / plane.sum(dtype=float) == pytest.approx(y, abs=0.01)


def test_the_profile_is_integrated_over_the_pixels() -> None:
    fine = 25
    plane = np.zeros((21, 21), np.float32)
    s.add_stars(plane, np.array([10.3]), np.array([9.8]), np.array([1.0]), fwhm=2.5, beta=3.5, level=1e-9)
    axis = (np.arange(21 * fine) + 0.5) / fine - 0.5
    alpha = s.moffat_alpha(2.5, 3.5)
    r2 = (axis[None, :] - 10.3) ** 2 + (axis[:, None] - 9.8) ** 2
    profile = 2.5 / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -3.5 / fine**2
    expected = profile.reshape(21, fine, 21, fine).sum(axis=(1, 3))
    assert np.abs(plane - expected).max() < 2e-4 * expected.max()


def test_moffat_width_and_enclosed_light() -> None:
    alpha = s.moffat_alpha(4.0, 3.5)
    assert (1 + (2.0 / alpha) ** 2) ** -3.5 == pytest.approx(0.5)
    assert moffat_enclosed(1e4, 4.0, 3.5) == pytest.approx(1.0, abs=1e-9)
    plane = np.zeros((201, 201), np.float32)
    s.add_stars(plane, np.array([100.0]), np.array([100.0]), np.array([1.0]), fwhm=4.0, beta=3.5, level=1e-9)
    y, x = np.indices(plane.shape)
    inside = plane[np.hypot(x - 100, y - 100) <= 20].sum()
    assert inside == pytest.approx(moffat_enclosed(20, 4.0, 3.5), abs=5e-4)


def test_a_galaxy_keeps_its_flux_and_half_light_radius() -> None:
    catalogue = s.make_sources(NightParameters(size=256, n_bright=0, n_saturated=0, n_faint=0, n_galaxies=1))
    catalogue["half_light"], catalogue["axis_ratio"], catalogue["flux"] = 4.0, 1.0, 1e4
    plane = np.zeros((256, 256), np.float32)
    centre = np.array([128.0])
    s.render_at(
        plane, catalogue, centre, centre, axes=NightParameters().axes, fwhm=1.8, beta=3.5, exposure_time=120.0
    )
    y, x = np.indices(plane.shape)
    r = np.hypot(x - 128, y - 128)
    assert plane.sum(dtype=float) == pytest.approx(1e4, rel=0.01)
    assert plane[r <= 4.0 / SKY_SCALE].sum() == pytest.approx(5e3, rel=0.03)


@given(st.floats(-200, 200), st.floats(-200, 200))
def test_the_projection_is_the_one_of_astropy(xi: float, eta: float) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], list(s.FIELD), [1.0, 1.0]
    wcs.wcs.cd = np.eye(2) / 3600
    ra, dec = s.sky_position(xi, eta)
    expected = wcs.all_pix2world(xi, eta, 0)
    assert ra == pytest.approx(float(expected[0]), abs=1e-10)
    assert dec == pytest.approx(float(expected[1]), abs=1e-10)


def test_offsets_move_the_field_as_the_real_instrument_does() -> None:
    catalogue = s.make_sources(NightParameters(size=256))
    x0, y0 = s.pixel_position(catalogue, (0.0, 0.0), 256, NightParameters().axes)
    x1, y1 = s.pixel_position(catalogue, (5.0, -3.0), 256, NightParameters().axes)
    assert x1 - x0 == pytest.approx(np.full(len(x0), 3.0 / SKY_SCALE))  # x = -QOFFSET / scale
    assert y1 - y0 == pytest.approx(np.full(len(x0), -5.0 / SKY_SCALE))  # y = -POFFSET / scale


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_bright_stars_lie_in_every_dithered_frame_and_apart(size: int) -> None:
    parameters = NightParameters(size=size)
    catalogue = s.make_sources(parameters)
    bright = catalogue[catalogue["kind"] == "bright"]
    assert len(bright) == parameters.source_counts()[0] >= 12
    step = parameters.dither_step
    seen = np.ones(len(bright), bool)
    for offset in ((step, step), (-step, -step), (step, -step), (-step, step)):
        x, y = s.pixel_position(bright, offset, size, NightParameters().axes)
        seen &= (x > 5) & (y > 5) & (x < size - 6) & (y < size - 6)
    assert seen.mean() > 0.9
    x, y = s.pixel_position(bright, (0.0, 0.0), size, NightParameters().axes)
    distance = np.hypot(x[:, None] - x, y[:, None] - y)[~np.eye(len(x), dtype=bool)]
    assert np.median(distance) > 10 * parameters.fwhm
    assert len(catalogue) == sum(parameters.source_counts())


def test_fluxes_do_not_depend_on_the_band_in_electrons_per_exposure() -> None:
    y, k = (NightParameters(band=band, size=256) for band in ("Y", "Ks"))
    assert s.make_sources(y)["flux"] * y.exposure_time == pytest.approx(
        s.make_sources(k)["flux"] * k.exposure_time
    )
