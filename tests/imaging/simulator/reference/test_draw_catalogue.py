"""The catalogue of a simulated night: the stars of the truth with the errors, gaps and motions that it states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imaging.io.tables.table_file import table_of
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.interpret import Region
from imaging.reference_catalogue.read_catalogue import answered_catalogue, read_catalogue
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.field import FIELD
from imaging.simulator.reference.draw_catalogue import (
    catalogue_bytes,
    draw_catalogue,
    observed_epoch,
    true_stars,
    true_zero_point,
)
from imaging.simulator.simulate import simulate_night
from imaging.simulator.star_field import make_sources

MANY = NightParameters(size=1024, n_stars=3000, n_galaxies=30, zero_point=26.0, catalogue_spurious=0.0)


def read(parameters: NightParameters, **changed: float) -> ReferenceCatalogue:
    content = catalogue_bytes(draw_catalogue(parameters, make_sources(parameters)))
    region = Region(*FIELD, 0.1, observed_epoch(parameters))
    return answered_catalogue(content, CatalogueParameters(**changed), region, origin="catalogue.fits")


def matched(parameters: NightParameters) -> tuple[ReferenceCatalogue, np.ndarray]:
    """Return the stars as read, and the rows of the true stars that they are."""
    found = read(parameters)
    rows = draw_catalogue(parameters, make_sources(parameters))
    assert len(found) == len(rows)
    stars = true_stars(parameters, make_sources(parameters))
    return found, np.searchsorted(np.asarray(stars["id"]), np.asarray(rows["id"]))


@pytest.mark.parametrize("motions", [True, False])
def test_positions_at_the_epoch_of_the_night_are_off_by_the_stated_errors(motions: bool) -> None:
    parameters = MANY.model_copy(update={"catalogue_motions": motions})
    found, rows = matched(parameters)
    stars = true_stars(parameters, make_sources(parameters))[rows]
    dx = (found.ra - stars["ra"]) * np.cos(np.radians(stars["dec"])) * 3.6e6
    dy = (found.dec - stars["dec"]) * 3.6e6
    for offset in (dx, dy):
        pull = np.asarray(offset) / found.position_error
        assert np.std(pull) == pytest.approx(1.0, abs=4 / np.sqrt(2 * len(pull)))
        assert np.mean(pull) == pytest.approx(0.0, abs=4 / np.sqrt(len(pull)))
    bright = found.in_band("Y").error < 0.03
    # 14 years of 7 mas/yr without proper motions, of 1 mas/yr with them
    assert np.median(found.position_error[bright]) == pytest.approx(52.5 if motions else 110.0, rel=0.05)


def test_magnitudes_are_off_by_the_stated_errors() -> None:
    found, rows = matched(MANY)
    stars = true_stars(MANY, make_sources(MANY))[rows]
    for band in ("Y", "J", "H", "Ks"):
        magnitudes = found.in_band(band)
        pull = ((magnitudes.value - np.asarray(stars[band])) / magnitudes.error)[magnitudes.valid]
        assert np.std(pull) == pytest.approx(1.0, abs=4 / np.sqrt(2 * len(pull)))
    assert np.nanmin(found.in_band("Y").error) == pytest.approx(0.02, abs=0.002)


def test_true_magnitudes_follow_from_zero_point_and_colour_term() -> None:
    parameters = MANY.model_copy(update={"colour_term": 0.1})
    sources = make_sources(parameters)
    stars = true_stars(parameters, sources)
    flux = np.asarray(sources["flux"])[np.asarray(sources["kind"]) != "galaxy"]
    np.testing.assert_allclose(stars["magnitude"], 26.0 - 2.5 * np.log10(flux))
    difference = np.asarray(stars["magnitude"] - stars["Y"])
    np.testing.assert_allclose(difference, 0.1 * np.asarray(stars["J"] - stars["Ks"]), atol=1e-12)


def test_the_zero_point_is_that_of_the_instrument() -> None:
    assert true_zero_point(NightParameters(band="Y")) == 26.73
    assert true_zero_point(NightParameters(instrument="NIRI", band="J")) > 20


def test_stars_are_missing_at_random_and_in_the_gap() -> None:
    sources = make_sources(MANY)
    complete = draw_catalogue(MANY.model_copy(update={"catalogue_missing": 0.0}), sources)
    half = draw_catalogue(MANY.model_copy(update={"catalogue_missing": 0.5}), sources)
    assert len(half) / len(complete) == pytest.approx(0.5, abs=0.08)
    gap = draw_catalogue(MANY.model_copy(update={"catalogue_gap": 60.0}), sources)
    xi = np.asarray(sources["xi"])[np.asarray(gap["id"])]
    assert 30.0 < np.abs(xi).min() < 33.0
    nothing = draw_catalogue(MANY.model_copy(update={"catalogue_missing": 1.0}), sources)
    assert len(nothing) == 0


def test_entries_that_are_no_stars_are_marked_in_the_truth() -> None:
    parameters = MANY.model_copy(update={"catalogue_spurious": 0.2})
    rows = draw_catalogue(parameters, make_sources(parameters))
    false = int((np.asarray(rows["id"]) == -1).sum())
    assert false == round(0.2 * (len(rows) - false))


def test_nights_of_one_field_have_one_catalogue() -> None:
    one = NightParameters(size=512, seed=1, field_seed=5)
    two = one.model_copy(update={"seed": 2, "days": 100})
    first, second = (draw_catalogue(night, make_sources(night)) for night in (one, two))
    np.testing.assert_array_equal(first["id"], second["id"])
    np.testing.assert_array_equal(first["y"], second["y"])


def test_a_simulated_night_comes_with_its_catalogue(tmp_path: Path) -> None:
    parameters = NightParameters(size=128, n_darks=1, n_science=1, n_short_darks=0, n_lamp_on=0, n_lamp_off=0)
    truth = simulate_night(tmp_path, parameters)
    content = truth.catalogue.read_bytes()
    assert content == catalogue_bytes(draw_catalogue(parameters, make_sources(parameters)))
    assert table_of(content, "catalogue").frame == "icrs"
    region = Region(*FIELD, 0.1, observed_epoch(parameters))
    assert read_catalogue(CatalogueParameters(source=str(truth.catalogue)), region).bands == (
        "Y",
        "J",
        "H",
        "Ks",
    )
