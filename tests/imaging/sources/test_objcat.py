"""OBJCAT: shapes, profiles and world coordinates of sources of known width, against theory and SEP."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from astropy.io.fits import Header
from astropy.units import Unit
from astropy.wcs import WCS
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.sources.detect import Detection, DetectParameters, detect
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.sources.objcat import COLUMNS, SourceLight, object_catalogue

NOISE = 2.0
SKY = 300.0
#: Minor axis over major axis, and the position angle of the major axis.
RATIO, ANGLE = 0.7, 30.0
SIGMA = 2.2
PLACES = np.array([(x, y) for y in range(40, 240, 40) for x in range(40, 240, 40)], float) + 0.3
FLUX = 40_000.0
SCALE = 0.18 / 3600
#: x runs to the North and y to the East, as on the detector.
CELESTIAL = Header(
    [
        ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 63.5), ("CRVAL2", -47.8), ("CRPIX1", 120.0),
        ("CRPIX2", 130.0), ("CD1_1", 0.0), ("CD1_2", SCALE), ("CD2_1", SCALE), ("CD2_2", 0.0), ("RADESYS", "FK5"),
    ]
)  # fmt: skip


def gaussians(ratio: float = RATIO, angle: float = ANGLE) -> NDArray[np.float32]:
    rng = np.random.default_rng(4)
    plane = rng.normal(SKY, NOISE, (256, 256))
    y, x = np.indices(plane.shape)
    turn = np.radians(angle)
    for px, py in PLACES:
        u = (x - px) * np.cos(turn) + (y - py) * np.sin(turn)
        v = (y - py) * np.cos(turn) - (x - px) * np.sin(turn)
        light = np.exp(-0.5 * ((u / SIGMA) ** 2 + (v / SIGMA / ratio) ** 2))
        plane += FLUX * light / (2 * np.pi * SIGMA**2 * ratio)
    return plane.astype(np.float32)


def catalogue(
    sci: NDArray[np.float32], dq: NDArray[np.uint16] | None = None, header: Header = CELESTIAL
) -> tuple[NDArray[np.void], Detection]:
    flags = np.zeros(sci.shape, np.uint16) if dq is None else dq
    found = detect(sci, flags, DetectParameters())
    return object_catalogue(sci, flags, found, header, DetectParameters().aperture), found


@pytest.fixture(scope="module")
def stars() -> NDArray[np.void]:
    return catalogue(gaussians())[0]


def test_axes_and_angle_are_those_of_the_sources(stars: NDArray[np.void]) -> None:
    assert len(stars) == len(PLACES)
    assert stars["A_IMAGE"] == pytest.approx(SIGMA, rel=0.02)
    assert stars["B_IMAGE"] == pytest.approx(SIGMA * RATIO, rel=0.02)
    assert stars["THETA_IMAGE"] == pytest.approx(ANGLE, abs=2)
    assert stars["ELLIPTICITY"] == pytest.approx(1 - RATIO, abs=0.03)


def test_sep_finds_the_same_shapes(stars: NDArray[np.void]) -> None:
    plane = gaussians() - np.float32(SKY)
    theirs = sep.extract(plane, 2.0, err=NOISE, minarea=8)
    order = np.argmin(np.hypot(*(stars[a][:, None] - theirs[a] for a in "xy")), axis=1)
    ratio = theirs["b"][order] / theirs["a"][order]
    assert stars["B_IMAGE"] / stars["A_IMAGE"] == pytest.approx(ratio, abs=0.05)
    assert np.radians(stars["THETA_IMAGE"]) == pytest.approx(theirs["theta"][order], abs=0.06)
    assert stars["X_IMAGE"] - 1 == pytest.approx(theirs["x"][order], abs=0.1)  # SEP counts from 0


def test_a_round_source_has_the_width_of_a_gaussian() -> None:
    rows, _ = catalogue(gaussians(ratio=1.0))
    fwhm = SIGMA * FWHM_PER_SIGMA
    assert rows["FWHM_IMAGE"] == pytest.approx(fwhm, rel=0.02)
    assert np.median(rows["PROFILE_FWHM"]) == pytest.approx(fwhm, rel=0.05)
    assert rows["FLUX_RADIUS"] == pytest.approx(fwhm / 2, rel=0.04)  # half of a Gaussian's light is within it
    assert rows["PROFILE_EE50"] == pytest.approx(2 * rows["FLUX_RADIUS"])
    assert rows["ELLIPTICITY"] == pytest.approx(0.0, abs=0.03)
    assert rows["CLASS_STAR"].min() > 0.9


def test_fluxes_magnitudes_and_background(stars: NDArray[np.void]) -> None:
    assert stars["FLUX_AUTO"] == pytest.approx(FLUX, rel=0.02)
    assert stars["MAG_AUTO"] == pytest.approx(-2.5 * np.log10(stars["FLUX_AUTO"]), abs=1e-5)
    assert stars["MAGERR_AUTO"] == pytest.approx(1.0857 / stars["snr"], rel=1e-3)
    assert stars["BACKGROUND"] == pytest.approx(SKY, abs=1.0)
    peak = FLUX / (2 * np.pi * SIGMA**2 * RATIO)
    assert stars["FLUX_MAX"] == pytest.approx(peak, rel=0.1)
    assert list(stars["NUMBER"]) == list(range(1, len(stars) + 1))
    assert (np.diff(stars["MAG_AUTO"]) >= 0).all()


def test_the_background_follows_a_gradient() -> None:
    slope = 0.5
    rows, found = catalogue(gaussians() + (slope * np.arange(256)).astype(np.float32))
    middle = (rows["x"] > 40) & (
        rows["x"] < 210
    )  # beyond, the surface ends at the centres of the outermost cells
    assert rows["BACKGROUND"][middle] == pytest.approx(SKY + slope * rows["x"][middle], abs=4.0)
    assert found.background.level_mesh.shape == (4, 4)


def test_a_source_without_a_positive_flux_has_no_magnitude() -> None:
    plane = gaussians()
    flags = np.zeros(plane.shape, np.uint16)
    found = detect(plane, flags)
    found.catalogue["flux"][0] = -5.0
    rows = object_catalogue(plane, flags, found, CELESTIAL, 2.0)
    assert (rows["MAG_AUTO"][0], rows["MAGERR_AUTO"][0], rows["FLUX_RADIUS"][0]) == (99.0, 99.0, -999.0)
    assert rows["MAG_AUTO"][1:].max() < 90


def test_a_wide_source_is_not_a_star() -> None:
    plane = gaussians(ratio=1.0)
    y, x = np.indices(plane.shape)
    plane += (200 * np.exp(-0.5 * np.hypot(x - 20, y - 236) ** 2 / 6.0**2)).astype(np.float32)
    rows, _ = catalogue(plane)
    wide = np.argmin(np.hypot(rows["x"] - 20, rows["y"] - 236))
    assert rows["CLASS_STAR"][wide] < 0.1
    assert np.delete(rows["CLASS_STAR"], wide).min() > 0.9


def test_few_stars_leave_the_class_open() -> None:
    plane = np.random.default_rng(2).normal(SKY, NOISE, (128, 128)).astype(np.float32)
    y, x = np.indices(plane.shape)
    plane += (500 * np.exp(-0.5 * np.hypot(x - 60, y - 60) ** 2 / SIGMA**2)).astype(np.float32)
    rows, found = catalogue(plane)
    assert not np.isfinite(found.seeing)
    assert list(rows["CLASS_STAR"]) == [0.5]


def test_flagged_pixels_are_counted() -> None:
    plane, dq = gaussians(), np.zeros((256, 256), np.uint16)
    x, y = PLACES[0].astype(int)
    dq[y, x - 1 : x + 2] = int(DQ.NON_LINEAR)
    dq[y + 1, x] = int(DQ.SATURATED)
    rows, _ = catalogue(plane, dq)
    hit = np.argmin(np.hypot(rows["x"] - x, rows["y"] - y))
    assert (rows["IMAFLAGS_ISO"][hit], rows["NIMAFLAGS_ISO"][hit]) == (6, 4)
    assert rows["FLAGS"][hit] & 4
    others = np.delete(rows, hit)
    assert not others["IMAFLAGS_ISO"].any()
    assert not others["FLAGS"].any()


def test_world_coordinates_and_sizes(stars: NDArray[np.void]) -> None:
    header = CELESTIAL.copy()
    ra, dec = WCS(header).all_pix2world(stars["X_IMAGE"], stars["Y_IMAGE"], 1)
    assert stars["X_WORLD"] == pytest.approx(ra, abs=1e-9)
    assert stars["Y_WORLD"] == pytest.approx(dec, abs=1e-9)
    assert stars["FWHM_WORLD"] == pytest.approx(stars["FWHM_IMAGE"] * SCALE, rel=1e-6)
    assert stars["A_WORLD"] == pytest.approx(stars["A_IMAGE"] * SCALE, rel=1e-6)
    # x is the second world axis here, so the angle from the first one is measured from y.
    assert stars["THETA_WORLD"] == pytest.approx(90.0 - stars["THETA_IMAGE"], abs=1e-3)
    assert stars["ERRX2_WORLD"] == pytest.approx((stars["error"] * SCALE) ** 2, rel=1e-5)


def test_without_a_wcs_world_coordinates_are_not_numbers() -> None:
    rows, _ = catalogue(gaussians(), header=Header())
    assert np.isnan(rows["X_WORLD"]).all()
    assert np.isnan(rows["FWHM_WORLD"]).all()
    assert np.isfinite(rows["FWHM_IMAGE"]).all()


def test_an_image_without_sources_has_an_empty_catalogue() -> None:
    plane = np.random.default_rng(1).normal(SKY, NOISE, (128, 128)).astype(np.float32)
    rows, _ = catalogue(plane)
    assert len(rows) == 0
    assert rows.dtype.names == tuple(column.name for column in COLUMNS)


def test_names_differ_by_more_than_capitals_and_units_are_those_of_fits() -> None:
    names = [column.name.lower() for column in COLUMNS]
    assert len(set(names)) == len(names)
    for column in COLUMNS:
        Unit(column.unit, format="fits")
        assert column.meaning


def test_all_light_of_the_sources_has_the_zero_point_and_the_catalogues_magnitudes() -> None:
    plane = gaussians()
    flags = np.zeros(plane.shape, np.uint16)
    found = detect(plane, flags)
    n = len(found.catalogue)
    flux = np.linspace(2e4, 1e4, n)
    flux[-1] = -1.0
    reference, magnitude = np.zeros(n, np.intp), np.full(n, np.nan)
    reference[:2], magnitude[0] = (7, 9), 15.5
    light = SourceLight(flux, np.full(n, 100.0), 31.0, reference, magnitude, np.full(n, 0.03))
    rows = object_catalogue(plane, flags, found, CELESTIAL, 2.0, light)
    assert rows["FLUX_AUTO"] == pytest.approx(flux)
    assert rows["flux"] == pytest.approx(found.catalogue["flux"])
    assert rows["MAG_AUTO"][:-1] == pytest.approx(31.0 - 2.5 * np.log10(flux[:-1]), abs=1e-5)
    assert rows["MAG_AUTO"][-1] == 99.0
    assert rows["MAGERR_AUTO"][0] == pytest.approx(1.0857 * 100 / 2e4, rel=1e-3)
    # The second star has no magnitude there.
    assert list(rows["REF_NUMBER"][:3]) == [7, -999, -999]
    assert rows["REF_MAG"][0] == pytest.approx(15.5)
    assert rows["REF_MAG_ERR"][0] == pytest.approx(0.03)
    assert (rows["REF_MAG"][1:] == -999).all()
