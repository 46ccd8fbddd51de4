"""Products: what other software has to find in them, and that none is ever half there or lost."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_products import Write

from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image
from imaging.printable import ascii_text
from imaging.products.astropy_hdus import datasum_of, image_hdu, primary_hdu, table_hdu, write_hdus
from imaging.products.ccd import read_ccd
from imaging.products.checksums import data_sum, plane_sum
from imaging.products.product_file import (
    ProductFile,
    product_name,
    read_product,
)
from imaging.products.product_tables import Table


def test_names_come_from_the_first_input() -> None:
    assert product_name("S20131120S0115.fits.bz2", "dark") == "S20131120S0115_dark.fits"
    assert product_name("/data/S20131129S0320.fits", "bpm") == "S20131129S0320_bpm.fits"
    assert product_name("night 1 \x1b[31m\nm\u00fcd (copy).fits", "dark") == "night_1_31m_m_d_copy__dark.fits"
    assert product_name("-\udcff.fits", "flat") == "frame_flat.fits"
    assert len(product_name("S" * 250 + ".fits", "image")) < 200


@pytest.mark.parametrize("kind", ["dark", "flat", "image"])
def test_planes_come_back(write: Write, image: Image, kind: str) -> None:
    path = write(kind)
    read = read_product(path)
    np.testing.assert_array_equal(read.sci, image.sci)
    np.testing.assert_array_equal(read.var, image.var)
    np.testing.assert_array_equal(read.dq, image.dq)
    part = read_product(path, rows=slice(10, 14))
    np.testing.assert_array_equal(part.sci, image.sci[10:14])
    np.testing.assert_array_equal(part.dq, image.dq[10:14])


def test_other_software_finds_only_the_bits_that_it_knows_and_glow_in_a_plane_of_its_own(
    write: Write, image: Image
) -> None:
    dq = image.dq.copy()
    dq[3:6, 4:9] |= np.uint16(DQ.GLOW)
    dq[5, 5] |= np.uint16(DQ.UNILLUMINATED)
    path = write("image", replace(image, dq=dq))
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus["DQ"].data, dq & ~np.uint16(DQ.GLOW))
        np.testing.assert_array_equal(hdus["GLOW"].data, (dq & DQ.GLOW) > 0)
        assert hdus["GLOW"].data.dtype == np.uint8
    with ProductFile(write("image")) as product:
        assert "GLOW" not in product


@pytest.mark.parametrize("kind", ["dark", "flat", "image", "bpm"])
def test_astropy_finds_nothing_wrong(write: Write, mask: BadPixelMask, image: Image, kind: str) -> None:
    catalogue = np.array([(1.5, 2, True, "ä"), (2.5, 3, False, "b")], "f8,i4,?,U3")
    tables = {"OBJCAT": Table(catalogue, {"f0": "pix"})} if kind == "image" else {}
    path = write(kind, mask if kind == "bpm" else image, tables=tables)
    with warnings.catch_warnings(), fits.open(path, checksum=True) as hdus:
        warnings.simplefilter("error")
        for hdu in hdus:
            assert hdu.verify_checksum() == 1
            assert hdu.verify_datasum() == 1
        hdus.verify("exception")
        assert hdus[0].header["NEXTEND"] == len(hdus) - 1
        assert path.stat().st_size % 2880 == 0


@pytest.mark.parametrize("extname", ["PRIMARY", "SCI", "DQ", "LINEAGE"])
def test_a_flipped_bit_breaks_the_checksum(write: Write, extname: str) -> None:
    path = write()
    with fits.open(path) as hdus:
        info = hdus.fileinfo(extname)
    raw = bytearray(path.read_bytes())
    raw[(info["hdrLoc"] if extname == "PRIMARY" else info["datLoc"]) + 130] ^= 1
    path.write_bytes(raw)
    with fits.open(path, ignore_missing_end=True) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hdus[extname].verify_checksum() == 0
    with ProductFile(path) as product:
        assert product.damaged_planes() == ((extname,) if extname in ("SCI", "DQ") else ())


@given(hnp.arrays(np.uint8, st.integers(0, 41)), st.integers(0, 2**32 - 1))
def test_data_sum_is_astropys(data: np.ndarray, start: int) -> None:
    hdu = fits.PrimaryHDU()
    padded = np.concatenate([data, np.zeros(-data.size % 4, np.uint8)])
    assert data_sum(data, start) == int(hdu._compute_checksum(padded, np.uint32(start)))


def _written(hdu: Any) -> Any:
    """The HDU as astropy reads it from the file that was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        write_hdus(path, [primary_hdu([]), hdu])
        with fits.open(path) as hdus:
            return type(hdu).fromstring(path.read_bytes()[hdus[1].fileinfo()["hdrLoc"] :])


@given(st.data())
@settings(max_examples=60)
def test_any_plane_is_read_by_astropy_as_it_was(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.uint8, np.uint16, np.int32]))
    plane = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
    before = plane.copy()
    built = image_hdu("SCI", plane, [])
    hdu = _written(built)
    assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    np.testing.assert_array_equal(hdu.data, plane)
    np.testing.assert_array_equal(plane, before)
    assert plane.flags.writeable
    assert str(hdu._calculate_datasum()) == datasum_of(built) == str(plane_sum(plane))


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(-(2**31), 2**31 - 1), st.booleans()), max_size=4))
@example([("0 ", 0, False)])
@settings(max_examples=60)
def test_any_table_is_read_by_astropy_as_it_was(rows: list[tuple[str, int, bool]]) -> None:
    table = np.array(rows, [("name", "U5"), ("number", "i4"), ("ok", "?")])
    hdu = _written(table_hdu("T", table))
    assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    assert list(hdu.data["number"]) == [number for _, number, _ in rows]
    assert list(hdu.data["ok"]) == [ok for _, _, ok in rows]
    # numpy drops trailing NULs of a text, FITS trailing blanks.
    expected = [ascii_text(name.rstrip("\0")).rstrip() for name, _, _ in rows]
    assert [str(n) for n in hdu.data["name"]] == expected


def test_small_and_unsigned_numbers_have_the_next_wider_column() -> None:
    table = np.array([(200, -3, 2**32 - 1, 255)], [("a", "u2"), ("b", "i1"), ("c", "u4"), ("d", "u1")])
    hdu = _written(table_hdu("T", table))
    assert [hdu.header[f"TFORM{i}"] for i in (1, 2, 3, 4)] == ["J", "J", "K", "B"]
    assert tuple(hdu.data[0]) == (200, -3, 2**32 - 1, 255)
    assert not any(keyword.startswith(("TZERO", "TSCAL")) for keyword in hdu.header)


def test_a_table_has_no_column_for_everything() -> None:
    with pytest.raises(TypeError, match="complex128"):
        table_hdu("T", np.zeros(2, [("z", complex)]))


def test_the_order_of_cards_is_that_of_earlier_products(write: Write) -> None:
    catalogue = Table(np.array([(1.5, "b")], "f8,U3"), {"f0": "pix"})
    with fits.open(write(tables={"OBJCAT": catalogue})) as hdus:
        assert [hdu.name for hdu in hdus] == [
            "PRIMARY", "SCI", "VAR", "DQ", "OBJCAT", "HISTORY", "PROVENANCE", "LINEAGE",
        ]  # fmt: skip
        assert list(hdus[0].header)[:4] == ["SIMPLE", "BITPIX", "NAXIS", "EXTEND"]
        axes = ["XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"]
        assert list(hdus["SCI"].header)[:9] == [*axes, "EXTNAME", "EXTVER"]
        assert list(hdus["DQ"].header)[:11] == [*axes, "BSCALE", "BZERO", "EXTNAME", "EXTVER"]
        assert list(hdus["OBJCAT"].header)[:15] == [
            *axes, "TFIELDS", "TTYPE1", "TFORM1", "TUNIT1", "TTYPE2", "TFORM2", "EXTNAME", "EXTVER",
        ]  # fmt: skip
        assert all(list(hdu.header)[-2:] == ["CHECKSUM", "DATASUM"] for hdu in hdus)


def test_units_of_the_planes(write: Write) -> None:
    for kind, unit, squared in (("image", "electron", "electron2"), ("flat", "", "")):
        with fits.open(write(kind)) as hdus:
            assert hdus["SCI"].header["BUNIT"] == unit
            assert hdus["VAR"].header["BUNIT"] == squared
            assert hdus["VAR"].header["UTYPE"] == "VarianceUncertainty"
            assert hdus["DQ"].header["BUNIT"] == ""
            assert hdus["DQ"].header["BZERO"] == 32768
            assert all(hdus[name].header["EXTVER"] == 1 for name in ("SCI", "VAR", "DQ"))


@pytest.mark.parametrize(("kind", "unit"), [("dark", units.electron), ("flat", units.dimensionless_unscaled)])
def test_astropy_opens_it_as_ccddata(write: Write, image: Image, kind: str, unit: Any) -> None:
    path = write(kind)
    theirs = CCDData.read(path, hdu="SCI", hdu_uncertainty="VAR", hdu_mask="DQ")
    ours = read_ccd(path)
    for ccd in (theirs, ours):
        assert ccd.unit == unit
        assert isinstance(ccd.uncertainty, VarianceUncertainty)
        assert ccd.uncertainty.unit == unit**2
        np.testing.assert_array_equal(ccd.data, image.sci)
        np.testing.assert_array_equal(ccd.uncertainty.array, image.var)
        assert ccd.wcs.pixel_to_world(23.5, 19.5).ra.deg == pytest.approx(63.48)
    np.testing.assert_array_equal(theirs.mask, image.dq != 0)
    np.testing.assert_array_equal(ours.mask, image.mask)
    np.testing.assert_array_equal(ours.flags, image.dq)


def test_our_ccddata_written_by_astropy_reads_the_same(write: Write, image: Image, tmp_path: Path) -> None:
    read_ccd(write()).write(tmp_path / "ccd.fits")
    again = CCDData.read(tmp_path / "ccd.fits")
    np.testing.assert_array_equal(again.data, image.sci)
    np.testing.assert_array_equal(again.uncertainty.array, image.var)
    np.testing.assert_array_equal(again.mask, image.mask)
