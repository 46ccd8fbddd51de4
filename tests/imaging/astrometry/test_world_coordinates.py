"""World coordinates fitted to simulated catalogues: as accurate as these allow, and refused where nothing matches."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import fit_wcs_from_points
from catalogue_fields import SCALE, SHAPE, Field, make_field

from imaging.astrometry.first_guess import Pointing
from imaging.astrometry.world_coordinates import AstrometryParameters, WorldCoordinates, fit_world_coordinates
from imaging.header import Header
from imaging.pixels.wcs import celestial_cards, wcs_problem
from imaging.sources.detect import Flag

#: A header as wrong as it may be, with half of the stars missing and a fifth of the sources false.
HARD: dict[str, Any] = {"pointing": (57.0, -59.0), "rotation": 4.9, "missing": 0.5, "false": 0.2}


def fitted(field: Field, parameters: AstrometryParameters | None = None) -> WorldCoordinates:
    found = fit_world_coordinates(field.sources, field.catalogue, field.header, SHAPE, parameters)
    assert isinstance(found, WorldCoordinates), found
    return found


def refused(field: Field, **changes: Any) -> str:
    found = fit_world_coordinates(
        field.sources, field.catalogue, field.header, SHAPE, AstrometryParameters(**changes)
    )
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(("error", "n"), [(80.0, 30), (20.0, 150)])
@pytest.mark.parametrize(
    "conditions",
    [{}, HARD, HARD | {"rotation": -4.9, "pointing": (-59.0, 58.0), "outliers": 0.1, "scale_error": 0.003}],
    ids=["easy", "hard", "with outliers"],
)
def test_the_error_is_what_the_catalogue_allows(error: float, n: int, conditions: dict[str, Any]) -> None:
    """That of a fit to the true pairs alone; a limit of the size of random errors would be exceeded by chance."""
    expected = error / math.sqrt(n) * math.sqrt(3)
    pulls, errors = [], []
    for seed in range(4):
        field = make_field(np.random.default_rng(seed), n, error=error, **conditions)
        found = fitted(field)
        # Rotation and scale, or a linear transform where it is significant. Wrong pairs remain that are off by no more
        # than the catalogue's errors.
        assert field.error(found) <= 1.3 * max(field.least_error(), field.least_error(1))
        errors.append(field.error(found))
        assert found.distortion == 1
        assert found.n >= 0.85 * n
        assert found.rms == pytest.approx(error, rel=0.35)
        assert found.chance < 1e-5
        pulls.append(field.error(found) / found.error)
    assert 0.4 < np.sqrt(np.mean(np.square(pulls))) < 1.8
    # Four fields with four parameters each: chi-square of 16 degrees of freedom, beyond this in one of 10 000 draws.
    assert np.sqrt(np.mean(np.square(errors))) <= 1.5 * expected


def test_figures_describe_how_wrong_the_header_was() -> None:
    found = fitted(make_field(np.random.default_rng(1), 100, **HARD | {"scale_error": 0.002}))
    assert found.offset == pytest.approx(math.hypot(57.0, 59.0), abs=0.3)
    assert abs(found.rotation) == pytest.approx(4.9, abs=0.05)
    assert found.scale == pytest.approx(1.002, abs=2e-4)
    assert found.share == pytest.approx(0.5, abs=0.15)
    assert found.catalogue == "simulated"


@pytest.mark.parametrize(
    "centre", [(0.002, 40.0), (359.998, -40.0), (120.0, 89.95), (300.0, -89.95), (83.8, 0.0)]
)
def test_any_place_on_the_sky(centre: tuple[float, float]) -> None:
    field = make_field(
        np.random.default_rng(2), 60, centre=centre, pointing=(10.0, -20.0), rotation=1.0, margin=0.0
    )
    if abs(centre[1]) > 80:  # the header's offset in right ascension would be a rotation
        field = make_field(
            np.random.default_rng(2), 60, centre=centre, pointing=(0.0, -20.0), rotation=1.0, margin=0.0
        )
    assert field.error(fitted(field)) < 2 * 50 / math.sqrt(60) * math.sqrt(3)


def test_the_cards_are_a_valid_wcs() -> None:
    found = fitted(make_field(np.random.default_rng(3), 80))
    assert wcs_problem(found.header) == ""
    assert (found.header["CTYPE1"], found.header["RADESYS"]) == ("RA---TAN", "ICRS")
    assert (found.header["CRPIX1"], found.header["CRPIX2"]) == (1024.5, 1024.5)
    assert "EQUINOX" not in found.header
    names = [card[0] for card in celestial_cards(found.header)]
    assert {"CD1_1", "CD2_2", "CRVAL1"} <= set(names)


def test_distortion_is_fitted_where_it_is_there_with_its_inverse() -> None:
    field = make_field(np.random.default_rng(4), 200, error=30.0, radial=1.0)
    found, plain = fitted(field), fitted(field, AstrometryParameters(distortion="never"))
    assert (found.distortion, plain.distortion) == (3, 1)
    assert found.gain is not None
    assert found.gain > 1.5
    assert plain.gain is None
    assert field.error(found) < 2 * 30 / math.sqrt(200) * math.sqrt(10)
    assert field.error(plain) > 3 * field.error(found)
    assert (found.header["CTYPE1"], found.header["A_ORDER"]) == ("RA---TAN-SIP", 3)
    assert {"AP_ORDER", "BP_ORDER", "A_3_0", "B_0_3", "AP_1_0"} <= set(found.header)
    assert wcs_problem(found.header) == ""


@pytest.mark.parametrize("n", [40, 55])
def test_distortion_needs_enough_stars(n: int) -> None:
    found = fitted(make_field(np.random.default_rng(6), n, error=20.0, radial=0.5))
    assert (found.distortion, found.gain) == (1, None)


def test_without_distortion_none_is_fitted() -> None:
    orders = [fitted(make_field(np.random.default_rng(seed), 90)).distortion for seed in range(12)]
    assert orders == [1] * 12


def test_pixels_of_another_shape_are_fitted() -> None:
    """Refraction compresses the field along one axis by a few parts in ten thousand."""
    field = make_field(np.random.default_rng(7), 150, error=20.0)
    offsets = (field.catalogue.dec - field.catalogue.dec.mean()) * 8e-4
    field = replace(field, catalogue=replace(field.catalogue, dec=field.catalogue.dec + offsets))
    found = fitted(field)
    matrix = np.array([[found.header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    assert abs(matrix[1, 1] / matrix[0, 0]) == pytest.approx(1 + 8e-4, abs=1e-4)


def test_errors_of_the_catalogue_are_weights() -> None:
    """Stars with accurate positions decide, which a fit without weights does not allow."""
    rng = np.random.default_rng(8)
    field = make_field(rng, 60, error=0.0, centroid=0.02)
    poor = np.arange(len(field.catalogue.ra)) % 2 == 0
    off = np.where(poor, 0.3, 0.01) / 3600
    known = replace(
        field.catalogue,
        ra=field.catalogue.ra + rng.normal(0, 1, len(off)) * off,
        dec=field.catalogue.dec + rng.normal(0, 1, len(off)) * off,
        error=np.where(poor, 300.0, 10.0),
    )
    assert field.error(fitted(replace(field, catalogue=known))) < 2 * 11 / math.sqrt(30) * math.sqrt(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        even = fit_wcs_from_points(
            (field.sources["x"][:60], field.sources["y"][:60]),
            SkyCoord(known.ra[:60], known.dec[:60], unit="deg"),
        )
    assert field.error(replace(fitted(field), header=Header(dict(even.to_header())))) > 25


def test_a_catalogue_of_another_field_is_refused() -> None:
    field, other = (make_field(np.random.default_rng(seed), 150) for seed in (9, 10))
    assert "probability by chance" in refused(replace(field, catalogue=other.catalogue))
    away = make_field(np.random.default_rng(9), 150, centre=(84.5, -5.39))
    assert refused(replace(field, catalogue=away.catalogue)) == (
        "the catalogue has 0 stars in the field, 5 are needed"
    )
    antipode = replace(field.catalogue, ra=field.catalogue.ra + 180.0, dec=-field.catalogue.dec)
    assert "the catalogue has 0 stars" in refused(replace(field, catalogue=antipode))


def test_values_that_are_not_numbers_are_ignored() -> None:
    field = make_field(np.random.default_rng(11), 100)
    known = field.catalogue
    ra, dec, error, brightness = (
        np.array(one) for one in (known.ra, known.dec, known.error, known.brightness)
    )
    ra[3], dec[4], error[5], error[6], error[7], brightness[8:20] = np.nan, np.inf, np.nan, 0.0, -1.0, np.nan
    sources = field.sources.copy()
    sources["x"][30], sources["error"][31] = np.nan, np.nan
    odd = replace(
        field, catalogue=replace(known, ra=ra, dec=dec, error=error, brightness=brightness), sources=sources
    )
    found = fitted(odd)
    assert found.n == 96
    assert field.error(found) < 2 * 50 / math.sqrt(96) * math.sqrt(3)
    empty = np.full_like(ra, np.nan)
    assert "the catalogue has 0 stars" in refused(
        replace(field, catalogue=replace(known, ra=empty, dec=empty))
    )


def test_a_cluster_is_matched() -> None:
    field = make_field(
        np.random.default_rng(12), 400, cluster=250.0, missing=0.3, pointing=(20.0, 10.0), rotation=2.0
    )
    found = fitted(field)
    assert field.error(found) < 40
    assert found.n > 150


def test_three_stars_are_refused_and_five_are_not() -> None:
    assert refused(make_field(np.random.default_rng(13), 3)) == "the stack has 3 stars to match, 5 are needed"
    found = fitted(make_field(np.random.default_rng(13), 6))
    assert found.n == 6
    assert abs(found.header["CD1_1"]) == pytest.approx(abs(found.header["CD2_2"]), rel=1e-6)  # a similarity


def test_sources_without_reliable_positions_are_not_used() -> None:
    field = make_field(np.random.default_rng(14), 80)
    sources = field.sources.copy()
    sources["flags"][:10] = int(Flag.SATURATED)
    sources["x"][:10] += 3.0
    sources["flags"][10:20] = int(Flag.BLENDED)
    sources["snr"][20:30] = 5.0
    found = fitted(replace(field, sources=sources))
    assert found.n == 50
    none = sources[:0]
    assert refused(replace(field, sources=none)) == "the stack has 0 stars to match, 5 are needed"


def test_a_header_without_world_coordinates_is_no_start() -> None:
    field = make_field(np.random.default_rng(15), 50)
    broken = Header(dict(field.header) | {"CD1_1": -3.25e-55, "CD1_2": 0.0})
    assert refused(replace(field, header=broken)).startswith(
        "the header has no valid world coordinates to start from, and RA and DEC of the pointing"
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("angle", "off"), [(0.0, 0.0), (137.0, 40.0), (-91.5, 55.0)])
def test_without_a_header_the_pointing_and_the_scale_are_enough(
    mirrored: bool, angle: float, off: float
) -> None:
    field = _turned(
        make_field(np.random.default_rng(21), 60, missing=0.3, false=0.1), angle, mirrored=mirrored
    )
    centre = (field.true.wcs.crval[0] + off / 3600, field.true.wcs.crval[1] - off / 3600)
    found = fit_world_coordinates(
        field.sources, field.catalogue, Header(), SHAPE, pointing=Pointing(centre, 1.01 * SCALE)
    )
    assert isinstance(found, WorldCoordinates), found
    assert field.error(found) <= 1.15 * max(field.least_error(), field.least_error(1))
    assert found.chance < 1e-5
    assert found.offset == pytest.approx(math.hypot(off, off * math.cos(math.radians(5.39))), abs=1.0)
    matrix = np.array([[found.header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    assert (np.linalg.det(matrix) > 0) == mirrored


def test_without_a_header_another_field_is_refused_and_what_is_missing_is_named() -> None:
    field, other = (make_field(np.random.default_rng(seed), 150) for seed in (9, 10))
    pointing = Pointing(tuple(field.true.wcs.crval), SCALE)
    reason = fit_world_coordinates(field.sources, other.catalogue, Header(), SHAPE, pointing=pointing)
    assert isinstance(reason, str)
    assert "by chance" in reason
    reason = fit_world_coordinates(field.sources, field.catalogue, Header(), SHAPE)
    assert "RA and DEC of the pointing or the pixel scale are unknown" in str(reason)
    reason = fit_world_coordinates(field.sources[:3], field.catalogue, Header(), SHAPE, pointing=pointing)
    assert "the image has 3 stars to match" in str(reason)


def _turned(field: Field, angle: float, *, mirrored: bool) -> Field:
    """Return the field with its image turned about the middle, or seen from the other side."""
    middle = np.array([(n - 1) / 2 for n in SHAPE[::-1]])
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[c, -s], [s, c]]) * ((-1.0, 1.0) if mirrored else (1.0, 1.0))
    sources = field.sources.copy()
    sources["x"], sources["y"] = (
        (np.column_stack([sources["x"], sources["y"]]) - middle) @ turn.T + middle
    ).T
    true = field.true.deepcopy()
    true.wcs.cd = field.true.wcs.cd @ np.linalg.inv(turn)
    true.wcs.set()
    return replace(field, sources=sources, true=true)
