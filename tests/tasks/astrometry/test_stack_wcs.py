"""The world coordinates of a stack: of the catalogue where it matches, otherwise the telescope's, with the reason."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from catalogue_fields import SCALE, SHAPE, Field, make_field

from imaging.astrometry.figures_of_wcs import AstrometryMetrics
from imaging.astrometry.first_guess import Pointing
from imaging.astrometry.world_coordinates import AstrometryParameters
from imaging.header import Header
from imaging.pixels.wcs import wcs_problem
from imaging.reference_catalogue.reference_stars import Magnitudes, ReferenceCatalogue
from tasks.astrometry.stack_wcs import StackCoordinates, catalogue_stars, fit_stack, pointing_of
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE, FieldCatalogue


@pytest.fixture(scope="module")
def field() -> Field:
    return make_field(np.random.default_rng(1), 80, pointing=(5.0, -3.0))


def reference(field: Field, **changes: Any) -> FieldCatalogue:
    known = field.catalogue
    nothing = np.full(len(known.ra), np.nan)
    magnitudes = {
        "J": Magnitudes(known.brightness, np.full(len(known.ra), 0.02), "2MASS", "Vega"),
        "Ks": Magnitudes(nothing, nothing, "2MASS", "Vega"),
    }
    catalogue = ReferenceCatalogue(
        "2MASS",
        "0" * 64,
        known.ra,
        known.dec,
        known.error,
        2013.9,
        magnitudes,  # type: ignore[arg-type]
    )
    return FieldCatalogue(replace(catalogue, **changes))


def fitted(field: Field, stars: FieldCatalogue, header: Header | None = None) -> StackCoordinates:
    sources: Any = SimpleNamespace(catalogue=field.sources)
    return fit_stack("FIELD-A J", sources, header or field.header, SHAPE, stars, AstrometryParameters())


def test_a_matching_catalogue_replaces_the_telescopes_coordinates(field: Field) -> None:
    header = Header([*field.header.cards, ("EQUINOX", 2000.0), ("PV2_1", 0.5), ("OBSERVER", "somebody")])
    found = fitted(field, reference(field), header)
    assert found.notes == ()
    assert wcs_problem(found.header) == ""
    assert found.header["OBSERVER"] == "somebody"
    assert {"EQUINOX", "PV2_1"}.isdisjoint(found.header)
    assert found.header["CRVAL1"] != field.header["CRVAL1"]
    figures = AstrometryMetrics.model_validate(dict(found.figures))
    assert figures.wcs_from == "2MASS"
    assert figures.astrometry_stars == 80
    assert figures.pointing_error == pytest.approx(np.hypot(5.0, 3.0), abs=0.1)
    assert figures.astrometry_error is not None
    assert figures.astrometry_error < 20


def test_without_a_catalogue_the_telescopes_are_named(field: Field) -> None:
    found = fitted(field, NO_CATALOGUE)
    assert found.header is field.header
    assert (found.figures, found.notes) == ({"wcs_from": "telescope"}, ())
    assert fitted(field, NO_CATALOGUE, Header({"OBJECT": "x"})).figures == {"wcs_from": None}


def test_a_catalogue_that_does_not_match_is_a_note(field: Field) -> None:
    rng = np.random.default_rng(2)
    wrong = reference(field, dec=rng.permutation(field.catalogue.dec), ra=rng.permutation(field.catalogue.ra))
    found = fitted(field, wrong)
    assert found.header is field.header
    assert found.figures == {"wcs_from": "telescope"}
    (note,) = found.notes
    assert note.startswith(
        "no world coordinates from the catalogue 2MASS, the telescope's are kept: no offset is"
    )


def test_a_stack_without_coordinates_has_no_start(field: Field) -> None:
    found = fitted(field, reference(field), Header({"OBJECT": "x"}))
    assert found.figures == {"wcs_from": None}
    assert "the stack has none: the header has no valid world coordinates" in found.notes[0]


def test_a_stack_without_coordinates_starts_from_the_pointing(field: Field) -> None:
    sources: Any = SimpleNamespace(catalogue=field.sources)
    ra, dec = field.true.wcs.crval
    found = fit_stack(
        "FIELD-A J", sources, Header({"OBJECT": "x"}), SHAPE, reference(field), AstrometryParameters(),
        Pointing((ra + 10 / 3600, dec), SCALE),
    )  # fmt: skip
    assert found.notes == ()
    assert wcs_problem(found.header) == ""
    assert found.header["OBJECT"] == "x"
    assert found.figures["wcs_from"] == "2MASS"
    assert found.figures["pointing_rotation"] is None
    assert found.figures["pointing_error"] == pytest.approx(10.0, abs=0.3)


def test_the_pointing_is_the_mean_of_the_frames() -> None:
    readout = SimpleNamespace(pixel_scale=0.18)
    frames: list[Any] = [
        SimpleNamespace(ra=ra, dec=-5.0, pa=0.0, poffset=0.0, qoffset=q, readout=readout)
        for ra, q in ((83.0, 0.0), (83.2, 7.2))
    ]
    found = pointing_of(frames)
    assert found is not None
    assert found.scale == 0.18
    assert found.centre == pytest.approx((83.1, -5.0 + 3.6 / 3600))
    frames[0].ra = frames[1].ra = None
    assert pointing_of(frames) is None


def test_the_brightness_is_the_mean_of_the_bands(field: Field) -> None:
    catalogue = reference(field).catalogue
    assert catalogue is not None
    assert catalogue_stars(catalogue).brightness == pytest.approx(field.catalogue.brightness)
    without = catalogue_stars(replace(catalogue, magnitudes={}))
    assert np.isnan(without.brightness).all()
    assert without.name == "2MASS"
