"""A folder of tiles: the tiles of the region count, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from catalogue_files import CENTRE, plain, region, twomass, written

from imaging.errors import CatalogueError
from imaging.reference_catalogue import read_catalogue as module
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.read_catalogue import read_catalogue


def shifted(degrees: float, n: int = 20) -> object:
    stars = twomass(n)
    stars["ra"] += degrees
    return stars


def test_the_tiles_of_the_region_are_joined(tmp_path: Path) -> None:
    written(twomass(), tmp_path / "a.fits")
    written(shifted(0.01), tmp_path / "b.csv")
    far = written(shifted(5.0), tmp_path / "c.fits")
    (tmp_path / "notes.txt").write_text("not a tile")
    parameters = CatalogueParameters(source=str(tmp_path))
    found = read_catalogue(parameters, region())
    assert (len(found), found.name, found.origin) == (40, "2MASS", str(tmp_path))
    written(shifted(6.0), far)
    assert read_catalogue(parameters, region()).identity == found.identity
    written(shifted(0.02), tmp_path / "b.csv")
    assert read_catalogue(parameters, region()).identity != found.identity


def test_a_row_in_two_tiles_counts_once(tmp_path: Path) -> None:
    stars = twomass(20)
    written(stars[:12], tmp_path / "a.csv")
    written(stars[8:], tmp_path / "b.csv")
    found = read_catalogue(CatalogueParameters(source=str(tmp_path)), region())
    assert (len(found), found.dropped) == (20, {"in two tiles": 4})


def test_a_tile_far_away_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(twomass(), tmp_path / "a.fits")
    written(shifted(5.0), tmp_path / "b.fits")
    parameters = CatalogueParameters(source=str(tmp_path))
    read_catalogue(parameters, region())
    read: list[str] = []
    real = module.read_table_file
    monkeypatch.setattr(module, "read_table_file", lambda path: (read.append(path.name), real(path))[1])
    read_catalogue(parameters, region())
    assert read == ["a.fits"]


def test_tiles_across_the_origin_of_right_ascension(tmp_path: Path) -> None:
    stars = twomass()
    stars["ra"] = (stars["ra"] - CENTRE[0]) % 360.0
    written(stars, tmp_path / "a.csv")
    here = region()
    found = read_catalogue(
        CatalogueParameters(source=str(tmp_path)), type(here)(0.0, here.dec, 0.1, here.epoch)
    )
    assert len(found) == 20


def test_a_folder_that_does_not_cover_the_field_is_refused(tmp_path: Path) -> None:
    written(shifted(5.0), tmp_path / "a.fits")
    with pytest.raises(CatalogueError, match=r"none of its 1 file has a star within 6\.0 arcmin"):
        read_catalogue(CatalogueParameters(source=str(tmp_path)), region())


def test_a_folder_without_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no file of a catalogue"):
        read_catalogue(CatalogueParameters(source=str(tmp_path)), region())


def test_tiles_of_different_systems_are_refused(tmp_path: Path) -> None:
    written(twomass(), tmp_path / "a.csv")
    stars = plain()
    stars["pos_err"] = 50.0
    stars["pos_err"].unit = "mas"
    stars["ra"] += 0.001
    written(stars, tmp_path / "b.ecsv")
    with pytest.raises(CatalogueError, match="different systems"):
        read_catalogue(CatalogueParameters(source=str(tmp_path)), region())


def test_one_star_of_a_tile_is_enough(tmp_path: Path) -> None:
    written(shifted(0.0, 1), tmp_path / "a.csv")
    np.testing.assert_equal(len(read_catalogue(CatalogueParameters(source=str(tmp_path)), region())), 1)


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    written(twomass(), tmp_path / "a.csv")
    (tmp_path / "b.fits").write_bytes(b"SIMPLE  = damaged")
    with pytest.raises(CatalogueError, match=r"b\.fits: is not a table"):
        read_catalogue(CatalogueParameters(source=str(tmp_path)), region())
