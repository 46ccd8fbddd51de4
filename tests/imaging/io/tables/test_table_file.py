"""Tables of other origin: every format gives the same numbers, and what is no table is refused."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from catalogue_files import csv_of, plain, votable, written

from imaging.errors import CatalogueError
from imaging.io.tables import table_file
from imaging.io.tables.table_file import read_table_file, table_of


@pytest.mark.parametrize("suffix", ["fits", "vot", "ecsv", "csv"])
def test_every_format_gives_the_same_numbers(tmp_path: Path, suffix: str) -> None:
    stars = plain()
    file = read_table_file(written(stars, tmp_path / f"stars.{suffix}"))
    assert len(file) == 20
    np.testing.assert_allclose(file.numbers("ra"), stars["ra"], rtol=1e-14)
    np.testing.assert_allclose(file.numbers("j_err"), 0.02)


def test_the_content_determines_the_format(tmp_path: Path) -> None:
    path = tmp_path / "stars.fits"
    path.write_bytes(gzip.compress(csv_of(plain())))
    file = read_table_file(path)
    assert "j_err" in file.columns
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing_values_are_nan(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("# a comment\nra,dec,j,name\n1.0,2.0,,a\n1.1,null,15.0,\n")
    file = read_table_file(path)
    np.testing.assert_array_equal(np.isnan(file.numbers("j")), [True, False])
    np.testing.assert_array_equal(np.isnan(file.numbers("dec")), [False, True])
    assert file.texts("name") == ["a", ""]


def test_a_votable_declares_frame_epoch_units_and_ucds() -> None:
    columns = {"a": ("pos.eq.ra;meta.main", "deg", [1.0]), "b": ("pos.eq.dec;meta.main", "deg", [2.0])}
    file = table_of(votable(columns, system="eq_FK4", equinox="B1950", epoch="B1975.5"), "answer")
    assert (file.frame, file.equinox, file.epoch) == ("fk4", 1950.0, 1975.5)
    assert file.ucds == {"a": "pos.eq.ra;meta.main", "b": "pos.eq.dec;meta.main"}
    assert file.unit("a") == "deg"
    assert file.title == "stars"


def test_fits_declares_frame_and_ucds(tmp_path: Path) -> None:
    path = written(plain(), tmp_path / "stars.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["RADESYS"], hdus[1].header["EQUINOX"] = "FK5", 1975.0
        hdus[1].header["TUCD1"] = "pos.eq.ra"
    file = read_table_file(path)
    assert (file.frame, file.equinox, file.ucds["ra"]) == ("fk5", 1975.0, "pos.eq.ra")


def test_an_equinox_alone_implies_the_frame(tmp_path: Path) -> None:
    path = written(plain(), tmp_path / "stars.fits")
    fits.setval(path, "EQUINOX", value=1950.0, ext=1)
    assert read_table_file(path).frame == "fk4"


def test_ecsv_declares_frame_and_epoch(tmp_path: Path) -> None:
    stars = plain()
    stars.meta |= {"frame": "galactic", "epoch": "J2010.5"}
    file = read_table_file(written(stars, tmp_path / "stars.ecsv"))
    assert (file.frame, file.epoch) == ("galactic", 2010.5)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "first line"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"<?xml version='1.0'?><html><body>503</body></html>", "VOTable"),
        (b"\x1f\x8b damaged", "cannot be unpacked"),
        (b"a,b\n", "has no rows"),
        (b"ra,dec\n\x00\x00,1\n", "binary"),
        (b"ra dec\n1 2\n", "commas"),
        (b"# %ECSV 1.0\n# ---\n# garbage\nra\n", "ECSV"),
        (votable({"a": ("pos.eq.ra", "deg", [])}), "has no rows"),
        (
            votable(
                {"a": ("pos.eq.ra", "deg", [1.0])},
                infos='<INFO name="QUERY_STATUS" value="ERROR">too busy</INFO>',
            ),
            "too busy",
        ),
        (
            b'<?xml version="1.0"?><VOTABLE version="1.1"><INFO name="Error" value="no such place"/></VOTABLE>',
            "such place",
        ),
        (
            b'<?xml version="1.0"?><VOTABLE version="1.1"><DEFINITIONS><PARAM name="Error" datatype="char" '
            b'arraysize="*" value="bad type"/></DEFINITIONS></VOTABLE>',
            "bad type",
        ),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(content: bytes, expected: str) -> None:
    with pytest.raises(CatalogueError, match=expected) as caught:
        table_of(content, "stars.fits")
    assert caught.value.message.startswith("stars.fits: ")
    assert caught.value.remedy


def test_an_image_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.writeto(path, np.zeros((2, 2)))
    with pytest.raises(CatalogueError, match="only images"):
        read_table_file(path)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = written(plain(2000), tmp_path / "stars.vot")
    with pytest.raises(CatalogueError):
        table_of(path.read_bytes()[:-3000], "stars.vot")


def test_a_large_table_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "LARGEST", 100)
    with pytest.raises(CatalogueError, match="limit"):
        read_table_file(written(plain(), tmp_path / "stars.csv"))
    with pytest.raises(CatalogueError, match="limit"):
        table_of(gzip.compress(csv_of(plain(200))), "stars.csv.gz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"stars\.fits: cannot be read"):
        read_table_file(tmp_path / "stars.fits")


def test_columns_with_several_values_in_a_row_are_not_listed(tmp_path: Path) -> None:
    stars = Table({"ra": [1.0, 2.0], "spectrum": np.zeros((2, 3))})
    assert read_table_file(written(stars, tmp_path / "stars.fits")).columns == ("ra",)
