"""Stacks with the world coordinates of a catalogue: accurate, recorded, reused; the telescope's without a match."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from night_lab import Lab, Run

from imaging.products.product_file import read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score_astrometry import score_astrometry
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import locate, read_stack
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE = 512
ERROR = 30.0


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a night of a field with many stars, whose telescope is off by an arcsecond or two."""
    few = {"n_science": 4, "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
    return simulate_night(
        tmp_path_factory.mktemp("field"),
        NightParameters(size=SIZE, n_stars=120, wcs_rms=1.0, catalogue_position_error=ERROR, seed=3, **few),
    )


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab(SIZE)


def reduced(lab: Lab, night: NightTruth, catalogue: Path | None, out: str) -> Run:
    steps = {"catalogue": {"source": str(catalogue)}} if catalogue is not None else {}
    without = {"allow_missing": ["dark", "flat", "bpm"]}
    return lab.reduce(*night.raw_paths(), out=out, steps=steps, choice=without)


@pytest.fixture(scope="module")
def plain(lab: Lab, field: NightTruth) -> Run:
    return reduced(lab, field, None, "plain")


@pytest.fixture(scope="module")
def fitted(lab: Lab, field: NightTruth, plain: Run) -> Run:
    return reduced(lab, field, field.catalogue, "fitted")


def cards(run: Run) -> fits.Header:
    return fits.getheader(run.product("image").output, 0)


def scored(run: Run, night: NightTruth) -> ScoreRow:
    stack = read_stack(run.product("image").output)
    frames = [night.frame(name) for name in stack.mappings]
    return score_astrometry(stack, night, locate(stack, night, frames))


def test_the_stack_has_the_coordinates_of_the_catalogue(fitted: Run, field: NightTruth) -> None:
    image = fitted.product("image")
    header = cards(fitted)
    assert header["WCSFROM"] == "simulated"
    assert header["ASTSTARS"] >= 30
    assert header["ASTCHNCE"] < 1e-5
    assert 0 < header["ASTERR"] < ERROR
    assert 0 < header["ASTOFF"] < 5
    assert all(
        header.comments[name] for name in ("WCSFROM", "ASTRMS", "ASTERR", "ASTSTARS", "ASTCHNCE", "ASTOFF")
    )
    assert image.metrics["wcs_from"] == "simulated"
    assert not [one for one in image.warnings if "world coordinates" in one]
    score = scored(fitted, field)
    assert score.ok
    assert score.value < 2 * header["ASTERR"] + 3
    science = fits.getheader(image.output, "SCI")
    assert (science["RADESYS"], science["CTYPE1"]) == ("ICRS", "RA---TAN")
    assert science["CRPIX1"] == (science["NAXIS1"] + 1) / 2
    assert [fits.getheader(image.output, plane)["CRVAL1"] for plane in ("VAR", "DQ")] == [
        science["CRVAL1"]
    ] * 2


def test_positions_in_the_table_are_those_of_the_header(fitted: Run, field: NightTruth) -> None:
    output = fitted.product("image").output
    table = Table(read_table(output, "OBJCAT"))
    wcs = read_stack(output).wcs
    ra, dec = wcs.all_pix2world(table["x"], table["y"], 0)
    assert np.asarray(table["X_WORLD"]) == pytest.approx(ra, abs=1e-9)
    assert np.asarray(table["dec"]) == pytest.approx(dec, abs=1e-9)


def test_only_the_world_coordinates_differ(plain: Run, fitted: Run, field: NightTruth) -> None:
    before, after = (run.product("image").output for run in (plain, fitted))
    assert cards(plain)["WCSFROM"] == "telescope"
    assert "ASTRMS" not in cards(plain)
    assert cards(plain)["NFKEY"] != cards(fitted)["NFKEY"]
    for plane in ("SCI", "VAR", "DQ"):
        first, second = (fits.getdata(path, plane) for path in (before, after))
        assert first.tobytes() == second.tobytes()
    first, second = (fits.getdata(path, "ALIGNMENT") for path in (before, after))
    for column in first.names:
        if not column.startswith("zero_point"):  # those of the catalogue
            assert first[column].tobytes() == second[column].tobytes()
    telescope, catalogue = scored(plain, field), scored(fitted, field)
    assert (telescope.ok, catalogue.ok) == (None, True)
    assert telescope.value > 5 * catalogue.value


def test_a_catalogue_is_known_by_its_content(
    lab: Lab, field: NightTruth, fitted: Run, tmp_path: Path
) -> None:
    again = reduced(lab, field, field.catalogue, "again")
    assert again.product("image").reused
    moved = tmp_path / "catalogue.fits"
    shutil.copy(field.catalogue, moved)
    same = reduced(lab, field, moved, "moved")
    assert same.product("image").reused
    rows = Table.read(moved)
    rows[:-1].write(moved, overwrite=True)
    other = reduced(lab, field, moved, "other")
    assert not other.product("image").reused
    assert other.product("image").recipe_key != fitted.product("image").recipe_key


def test_a_catalogue_that_does_not_match_leaves_the_telescopes_coordinates(
    lab: Lab, field: NightTruth, tmp_path: Path
) -> None:
    rows = Table.read(field.catalogue)
    rng = np.random.default_rng(1)
    for name in ("ra", "dec"):
        (column,) = (one for one in rows.colnames if one.lower() == name)
        rows[column] = rng.permutation(np.asarray(rows[column]))
    scrambled = tmp_path / "scrambled.fits"
    rows.write(scrambled)
    image = reduced(lab, field, scrambled, "scrambled").product("image")
    assert fits.getheader(image.output)["WCSFROM"] == "telescope"
    (note,) = [one for one in image.warnings if "no world coordinates from the catalogue" in one]
    assert "probability by chance" in note
    assert "the telescope's are kept" in note


def test_a_catalogue_of_another_field_is_reported(lab: Lab, field: NightTruth, tmp_path: Path) -> None:
    rows = Table.read(field.catalogue)
    (column,) = (one for one in rows.colnames if one.lower() == "dec")
    rows[column] = np.asarray(rows[column]) + 3.0
    away = tmp_path / "away.fits"
    rows.write(away)
    image = reduced(lab, field, away, "away").product("image")
    assert fits.getheader(image.output)["WCSFROM"] == "telescope"
    assert [one for one in image.warnings if "the catalogue is not used" in one]
