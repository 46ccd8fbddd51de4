"""Standards: the stars of a catalogue at their pixels, in the band and system of the stack, or the reason for none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io.fits import Header as FitsHeader

from imaging.header import Header
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.standards import standards_of
from imaging.reference_catalogue.reference_stars import Magnitudes, ReferenceCatalogue

SCALE = 0.18 / 3600
HEADER = Header(
    (card.keyword, card.value, card.comment)
    for card in FitsHeader(
        [
            ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 63.5), ("CRVAL2", -47.8), ("CRPIX1", 101.0),
            ("CRPIX2", 101.0), ("CD1_1", -SCALE), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", SCALE), ("RADESYS", "ICRS"),
        ]
    ).cards
)  # fmt: skip
SHAPE = (200, 200)


def magnitudes(values: list[float], system: str = "Vega") -> Magnitudes:
    value = np.array(values)
    return Magnitudes(value, np.where(np.isfinite(value), 0.03, np.nan), "2MASS", system)  # type: ignore[arg-type]


CATALOGUE = ReferenceCatalogue(
    "stars", "0" * 64, np.array([63.5, 63.5, 64.5, 63.5]), np.array([-47.8, -47.8 + 50 * SCALE, -47.8, -47.799]),
    np.full(4, 50.0), 2013.9, {"J": magnitudes([15.0, 16.0, 14.0, np.nan]), "Ks": magnitudes([14.5, 15.2, 13.0, 13.0])},
)  # fmt: skip


def test_stars_in_the_field_have_pixels_and_magnitudes() -> None:
    found = standards_of(CATALOGUE, HEADER, SHAPE, ("J",), PhotometryParameters())
    assert (found.band, found.note) == ("J", "")
    assert found.stars is not None
    assert found.stars.x == pytest.approx([100, 100], abs=1e-3)
    assert found.stars.y == pytest.approx([100, 150], abs=1e-3)
    assert list(found.stars.magnitude) == [15.0, 16.0]
    assert found.stars.colour is None


def test_the_best_band_that_the_catalogue_has_is_used() -> None:
    found = standards_of(CATALOGUE, HEADER, SHAPE, ("K", "Ks"), PhotometryParameters())
    assert found.band == "Ks"
    assert found.stars is not None
    assert len(found.stars.x) == 3
    missing = standards_of(CATALOGUE, HEADER, SHAPE, ("Y",), PhotometryParameters())
    assert missing.stars is None
    assert "no usable magnitudes in Y" in missing.note
    assert "J, Ks" in missing.note


def test_magnitudes_are_converted() -> None:
    found = standards_of(CATALOGUE, HEADER, SHAPE, ("J",), PhotometryParameters(system="AB"))
    assert found.stars is not None
    assert found.stars.magnitude == pytest.approx([15.91, 16.91])
    already = replace(CATALOGUE, magnitudes={"J": magnitudes([15.0, 16.0, 14.0, np.nan], "AB")})
    found = standards_of(already, HEADER, SHAPE, ("J",), PhotometryParameters(system="AB"))
    assert found.stars is not None
    assert found.stars.magnitude == pytest.approx([15.0, 16.0])


def test_colours_are_those_of_the_catalogue() -> None:
    found = standards_of(CATALOGUE, HEADER, SHAPE, ("J",), PhotometryParameters(colour="J-Ks"))
    assert found.stars is not None
    assert found.stars.colour == pytest.approx([0.5, 0.8])
    without = standards_of(CATALOGUE, HEADER, SHAPE, ("J",), PhotometryParameters(colour="J-H"))
    assert without.stars is not None
    assert without.stars.colour is None
    assert "no colour term in J-H" in without.note


def test_without_world_coordinates_or_stars_in_the_field_there_are_none() -> None:
    assert (
        "no world coordinates"
        in standards_of(CATALOGUE, Header(()), SHAPE, ("J",), PhotometryParameters()).note
    )
    far = CATALOGUE.of(np.array([2]))
    assert (
        "no stars with magnitudes in J"
        in standards_of(far, HEADER, SHAPE, ("J",), PhotometryParameters()).note
    )
