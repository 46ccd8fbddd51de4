"""Products: what other software has to find in them, and that none is ever half there or lost."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.errors import FrameError, NirflowError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image, Reason
from imaging.printable import ascii_text
from imaging.products.hdus import data_sum, encode_image, encode_table
from imaging.products.header_cards import Record, saturation_electrons
from imaging.products.origin import LineageLabel, Origin
from imaging.products.product_file import (
    ProductFile,
    datasums,
    product_name,
    read_ccd,
    read_product,
    read_table,
    write_product,
)
from imaging.products.product_tables import HistoryRow, LineageRow, ProvenanceRow, Table, stamped

STAMP = datetime(2026, 11, 23, 6, 2, 15, 165327, tzinfo=UTC)
KEY = "0123456789abcdef" * 4
INPUTS = [f"S20131121S{n:04d}.fits" for n in (75, 76, 77)]


@pytest.fixture
def image(extension: fits.Header, primary: fits.Header) -> Image:
    rng = np.random.default_rng(5)
    sci = rng.normal(100, 5, (40, 48)).astype(np.float32)
    dq = rng.choice(np.array([0, 0, 0, 1, 2, 4, 64, 32768], np.uint16), (40, 48))
    return Image(sci, np.abs(sci) + 25, dq, extension, primary)


@pytest.fixture
def mask(extension: fits.Header, primary: fits.Header) -> BadPixelMask:
    reasons = np.zeros((40, 48), np.uint8)
    reasons[3, 7], reasons[39, 47], reasons[0, 1] = Reason.HOT, Reason.LOW_RESPONSE, 3
    return BadPixelMask.from_reasons(reasons, header=extension, primary=primary)


@pytest.fixture
def record(facts: FrameFacts) -> Record:
    return Record(
        kind="image", facts=facts, inputs=INPUTS, stamp=STAMP, version="0.1.0", key=KEY,
        calibrations={"dark": "S1_dark.fits", "flat": "S2_flat.fits", "bpm": "S3_bpm.fits"},
        calibration_keys={"dark": "d" * 64, "flat": "f" * 64, "bpm": "b" * 64},
        cards={"TEXPTIME": (360.0, "[s] total exposure"), "airmass": 1.25},
        extension_cards={"NOISCORR": (1.4, "Noise correlation")},
        history=[HistoryRow("dark", '{"low": 3.0}', stamped(STAMP), stamped(STAMP))],
        provenance=[ProvenanceRow(stamped(STAMP), name, "d" * 32, "nirflow") for name in INPUTS],
        lineage=[LineageRow(name, "a" * 64, "science", "S20131121S0075_image.fits") for name in INPUTS],
    )  # fmt: skip


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, image: Image, record: Record) -> Write:
    """Write the image as a product of a kind: ``write("dark", what=..., stamp=...)``."""

    def product(
        kind: str = "image", what: Image | BadPixelMask = image, name: str = "", **changed: Any
    ) -> Path:
        path = tmp_path / (name or product_name(INPUTS[0], kind))  # type: ignore[arg-type]
        extra = {k: changed.pop(k) for k in ("object_mask", "tables") if k in changed}
        write_product(path, what, dataclasses.replace(record, kind=kind, **changed), **extra)
        return path

    return product


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


@given(st.data())
@settings(max_examples=60)
def test_any_plane_is_read_by_astropy_as_it_was(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.uint8, np.uint16, np.int32]))
    plane = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
    encoded = encode_image("SCI", plane, [])
    raw = b"".join(bytes(part) for part in encoded.parts())
    hdu = fits.ImageHDU.fromstring(raw)
    assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    np.testing.assert_array_equal(hdu.data, plane)
    assert str(hdu._calculate_datasum()) == encoded.datasum


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(-(2**31), 2**31 - 1), st.booleans()), max_size=4))
@settings(max_examples=60)
def test_any_table_is_read_by_astropy_as_it_was(rows: list[tuple[str, int, bool]]) -> None:
    table = np.array(rows, [("name", "U5"), ("number", "i4"), ("ok", "?")])
    hdu = fits.BinTableHDU.fromstring(b"".join(bytes(p) for p in encode_table("T", table).parts()))
    assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    assert list(hdu.data["number"]) == [number for _, number, _ in rows]
    assert list(hdu.data["ok"]) == [ok for _, _, ok in rows]
    # numpy drops trailing NULs of a text, FITS trailing blanks.
    expected = [ascii_text(name.rstrip("\0")).rstrip() for name, _, _ in rows]
    assert [str(n) for n in hdu.data["name"]] == expected


def test_a_table_has_no_column_for_everything() -> None:
    with pytest.raises(TypeError, match="complex128"):
        encode_table("T", np.zeros(2, [("z", complex)]))


def test_units_of_the_planes(write: Write) -> None:
    for kind, unit, squared in (("image", "electron", "electron2"), ("flat", "", "")):
        with fits.open(write(kind)) as hdus:
            assert hdus["SCI"].header["BUNIT"] == unit
            assert hdus["VAR"].header["BUNIT"] == squared
            assert hdus["VAR"].header["UTYPE"] == "VarianceUncertainty"
            assert "BUNIT" not in hdus["DQ"].header
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


@pytest.mark.parametrize(
    ("kind", "mark", "obstype"),
    [
        ("dark", "PROCDARK", "DARK"),
        ("flat", "PROCFLAT", "FLAT"),
        ("image", "PROCSCI", "OBJECT"),
        ("bpm", "BPMASK", "BPM"),
    ],
)
def test_geminis_marks(
    write: Write, mask: BadPixelMask, image: Image, kind: str, mark: str, obstype: str
) -> None:
    header = fits.getheader(write(kind, mask if kind == "bpm" else image))
    told = stamped(STAMP)
    assert told == "2026-11-23T06:02:15.165327"
    assert header["GEM-TLM"] == header["PREPARE"] == header[mark] == told
    assert [m for m in ("PROCDARK", "PROCFLAT", "PROCSCI", "BPMASK", "PROCBPM") if m in header] == [mark]
    assert header["OBSTYPE"] == obstype
    assert header["OBJECT"] == ("BPM" if kind == "bpm" else "FIELD-A")
    assert header["NCOMBINE"] == 3
    assert [header[f"IMCMB{n:03d}"] for n in (1, 2, 3)] == INPUTS
    assert "IMCMB004" not in header
    assert (header["DARKIM"], header["FLATIM"]) == ("S1_dark.fits", "S2_flat.fits")
    assert (header["DARKKEY"], header["FLATKEY"], header["BPMKEY"]) == ("d" * 64, "f" * 64, "b" * 64)
    assert header["ORIGNAME"] == INPUTS[0]
    assert header["NFKEY"] == KEY
    assert (header["PROCSOFT"], header["PROCSVER"]) == ("nirflow", "0.1.0")
    assert header["DATALAB"] == f"GS-2013B-Q-15-39-001-{kind.upper()}"
    assert (header["TEXPTIME"], header["AIRMASS"]) == (360.0, 1.25)
    assert "GAIN" not in header
    assert "RDNOISE" not in header


def test_no_mark_of_a_calibration_that_was_not_applied(write: Write) -> None:
    header = fits.getheader(write(calibrations={}, calibration_keys={}))
    assert not {"DARKIM", "FLATIM", "BPMIM", "DARKKEY", "FLATKEY", "BPMKEY"} & set(header)


def test_cards_of_every_plane(write: Write) -> None:
    with fits.open(write()) as hdus:
        for name in ("SCI", "VAR", "DQ"):
            header = hdus[name].header
            assert (header["GAIN"], header["RDNOISE"]) == (1.0, 5.0)
            # DRAGONS 4.2.2 gives these two for the same detector.
            assert header["NONLINEA"] == pytest.approx(112755.758, abs=1e-3)
            assert header["SATLEVEL"] == pytest.approx(158140.24, abs=1e-2)
            assert header["ARRAYSEC"] == header["DETSEC"] == "[1:2048,1:2048]"
            assert header["DATASEC"] == "[1:48,1:40]"
            assert header["NOISCORR"] == 1.4


def test_limits_of_pixels_that_were_not_linearised(facts: FrameFacts) -> None:
    assert saturation_electrons(facts, corrected=False) == pytest.approx(155400)
    assert saturation_electrons(facts, corrected=False, fraction=0.72) == pytest.approx(111888)
    two = facts.model_copy(update={"coadds": 2})
    both = saturation_electrons(two, corrected=True) / saturation_electrons(facts, corrected=True)
    assert both == pytest.approx(2)


def test_the_wcs_is_of_two_axes_in_todays_words(write: Write, extension: fits.Header) -> None:
    header = fits.getheader(write(), "SCI")
    for keyword in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2", "CTYPE1"):
        assert header[keyword] == extension[keyword]
    assert (header["RADESYS"], header["EQUINOX"], header["CUNIT1"], header["WCSAXES"]) == (
        "FK5",
        2000,
        "deg",
        2,
    )
    assert not {"CD3_3", "RADECSYS", "NAXIS3", "INHERIT"} & set(header)


def test_a_product_without_a_wcs(write: Write, image: Image) -> None:
    path = write("dark", dataclasses.replace(image, header=fits.Header()))
    assert "CTYPE1" not in fits.getheader(path, "SCI")
    assert read_ccd(path).wcs is None


def test_tables_as_astrodata_reads_them(write: Write) -> None:
    path = write()
    with fits.open(path) as hdus:
        assert hdus["HISTORY"].columns.names == ["primitive", "args", "timestamp_start", "timestamp_stop"]
        assert hdus["PROVENANCE"].columns.names == ["timestamp", "filename", "md5", "provenance_added_by"]
        assert hdus["LINEAGE"].columns.names == ["file", "sha256", "role", "step"]
        assert list(hdus["PROVENANCE"].data["filename"]) == INPUTS
        assert not any("EXTVER" in hdus[n].header for n in ("HISTORY", "PROVENANCE", "LINEAGE"))
    history = read_table(path, "HISTORY")
    assert history is not None
    assert history["args"][0] == '{"low": 3.0}'
    assert read_table(path, "ALIGNMENT") is None


def test_empty_tables_are_there(write: Write) -> None:
    with fits.open(write(history=(), provenance=(), lineage=())) as hdus:
        assert [len(hdus[n].data) for n in ("HISTORY", "PROVENANCE", "LINEAGE")] == [0, 0, 0]


def test_science_carries_its_objects(write: Write, image: Image) -> None:
    catalogue = np.array([(1.5, 2.5)], [("x", "f8"), ("y", "f4")])
    shifts = np.array([("a.fits", 0.25)], [("file", "U6"), ("dx", "f8")])
    objects = (image.sci > 105).astype(np.uint8)
    tables = {"OBJCAT": Table(catalogue, {"x": "pix"}), "ALIGNMENT": Table(shifts)}
    path = write(object_mask=objects, tables=tables)
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus["OBJMASK"].data, objects)
        assert (hdus["OBJCAT"].header["EXTVER"], hdus["OBJCAT"].columns["x"].unit) == (1, "pix")
        assert hdus["ALIGNMENT"].data["dx"][0] == 0.25
    with ProductFile(path) as product:
        assert product.planes == ("SCI", "VAR", "DQ", "OBJMASK")
        assert product.rows("OBJMASK").dtype == np.uint8


def test_a_mask_is_one_plane_of_zeros_and_ones(write: Write, mask: BadPixelMask) -> None:
    path = write("bpm", mask)
    with fits.open(path) as hdus:
        assert [h.name for h in hdus if isinstance(h, fits.ImageHDU)] == ["SCI"]
        assert hdus["SCI"].header["BITPIX"] == 8
        np.testing.assert_array_equal(hdus["SCI"].data, mask.bad)
        rows = sorted(zip(*(hdus["REASONS"].data[c].tolist() for c in ("x", "y", "reason")), strict=True))
    assert rows == [(1, 0, 3), (7, 3, Reason.HOT), (47, 39, Reason.LOW_RESPONSE)]
    with ProductFile(path) as product:
        assert product.facts.product_kind == "bpm"
        np.testing.assert_array_equal(product.bad_pixels(), mask.bad)
        np.testing.assert_array_equal(product.bad_pixels(slice(1, 5)), mask.bad[1:5])
    read = read_product(path)
    np.testing.assert_array_equal(read.dq, mask.bad * np.uint16(DQ.BAD_PIXEL))
    assert read.mask.sum() == 3


def dragons(path: Path, planes: dict[str, np.ndarray], science: dict[str, Any], mark: str) -> Path:
    """A product as DRAGONS lays it out: no checksums, planes by EXTNAME."""
    header = fits.Header(
        [*science.items(), (mark, "2026-11-23T06:02:15"), ("PREPARE", "2026-11-23T06:02:09")]
    )
    images = [fits.ImageHDU(plane, name=name, ver=1) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(header=header), *images]).writeto(path)
    return path


def test_dragons_dark(tmp_path: Path, science: dict[str, Any], image: Image) -> None:
    planes = {"SCI": image.sci, "VAR": image.var, "DQ": image.dq}
    path = dragons(tmp_path / "a_dark.fits", planes, science | {"OBSTYPE": "DARK"}, "PROCDARK")
    packed = path.with_name("a_dark.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for each in (path, packed):
        read = read_product(each)
        np.testing.assert_array_equal(read.sci, image.sci)
        np.testing.assert_array_equal(read.dq, image.dq)
    sums = datasums(path)
    assert sums == datasums(packed)
    with fits.open(path) as hdus:
        assert sums["VAR"] == str(hdus["VAR"]._calculate_datasum())


@pytest.mark.parametrize("plane", ["SCI", "DQ"])
def test_dragons_mask(tmp_path: Path, science: dict[str, Any], mask: BadPixelMask, plane: str) -> None:
    bad = mask.bad if plane == "SCI" else mask.bad.astype(np.uint16)
    path = dragons(tmp_path / "a_bpm.fits", {plane: bad}, science | {"OBSTYPE": "FLAT"}, "BPMASK")
    with ProductFile(path) as product:
        assert (product.facts.kind, product.facts.product_kind) == ("bpm", "bpm")
        np.testing.assert_array_equal(product.bad_pixels(), mask.bad)


def test_what_is_no_product(write_raw: Callable[..., Path]) -> None:
    with pytest.raises(FrameError, match="neither a SCI nor a DQ plane, but an unnamed image"):
        ProductFile(write_raw())


def test_a_plane_that_is_not_there(tmp_path: Path, science: dict[str, Any], image: Image) -> None:
    path = dragons(tmp_path / "a_dark.fits", {"SCI": image.sci, "DQ": image.dq}, science, "PROCDARK")
    with pytest.raises(FrameError, match=r"no VAR plane \(found SCI, DQ\)"):
        read_product(path)


def test_the_same_pixels_have_the_same_datasums(tmp_path: Path, image: Image, record: Record) -> None:
    first = write_product(tmp_path / "a.fits", image, record)
    later = dataclasses.replace(record, stamp=STAMP + timedelta(days=1))
    second = write_product(tmp_path / "b.fits", image, later)
    assert first.datasums == second.datasums == datasums(tmp_path / "a.fits")
    assert set(first.datasums) == {"SCI", "VAR", "DQ"}
    assert first.sha256 != second.sha256
    assert first.sha256 == hashlib.sha256((tmp_path / "a.fits").read_bytes()).hexdigest()
    assert write_product(tmp_path / "c.fits", image, record).sha256 == first.sha256


def _as_astrodata_writes(path: Path, *, labelled: bool = True) -> Path:
    """A copy with the cards of SCI in every plane and masks as uint16, as astrodata has it."""
    copy = path.with_name(f"copy_{path.name}")
    with fits.open(path) as hdus:
        cards = {keyword: hdus["SCI"].header[keyword] for keyword in ("CHECKSUM", "DATASUM")}
        if hdus["SCI"].data.dtype == np.uint8:
            hdus["SCI"].data = hdus["SCI"].data.astype(np.uint16)
        for hdu in hdus[1:]:
            if hdu.is_image:
                hdu.header.update(cards)
        if not labelled:
            for keyword in [one for one in hdus["LINEAGE"].header if one.startswith("NF")]:
                del hdus["LINEAGE"].header[keyword]
        hdus.writeto(copy)
    return copy


def _with_a_flipped_bit(path: Path, plane: str) -> Path:
    with fits.open(path) as hdus:
        at = hdus[plane].fileinfo()["datLoc"]
    content = bytearray(path.read_bytes())
    content[at + 1] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", ["dark", "image", "bpm"])
def test_a_copy_by_astrodata_is_intact(
    write: Write, image: Image, mask: BadPixelMask, kind: str, labelled: bool
) -> None:
    objects = {"object_mask": (image.sci > 105).astype(np.uint8)} if kind == "image" else {}
    original = write(kind, mask if kind == "bpm" else image, **objects)
    with (
        ProductFile(original) as one,
        ProductFile(_as_astrodata_writes(original, labelled=labelled)) as copy,
    ):
        assert copy.damaged_planes() == ()
        assert copy.pixel_sums() == one.pixel_sums() == one.datasums()


@pytest.mark.parametrize(
    ("plane", "labelled", "damaged"),
    [
        ("SCI", True, ("SCI",)), ("VAR", True, ("VAR",)), ("DQ", True, ("DQ",)),
        ("SCI", False, ("SCI",)), ("VAR", False, ()),
    ],
)  # fmt: skip
def test_a_damaged_copy_by_astrodata_is_found(
    write: Write, plane: str, labelled: bool, damaged: tuple[str, ...]
) -> None:
    """Only SCI keeps its sum in the copy; the others have theirs in the label of LINEAGE."""
    copy = _with_a_flipped_bit(_as_astrodata_writes(write("dark"), labelled=labelled), plane)
    with ProductFile(copy) as product:
        assert product.damaged_planes() == damaged


def test_a_plane_equal_to_sci_has_a_sum_of_its_own(write: Write, image: Image) -> None:
    path = write("dark", dataclasses.replace(image, var=image.sci.copy()))
    with ProductFile(_with_a_flipped_bit(path, "VAR")) as product:
        assert product.damaged_planes() == ("VAR",)


def test_a_lineage_table_names_its_product(write: Write) -> None:
    path = write("image", name="renamed.fits")
    with ProductFile(path) as product:
        header = product.table_header("LINEAGE")
        assert header is not None
        label = LineageLabel.of(header)
        assert label == LineageLabel("S20131121S0075_image.fits", KEY, product.datasums())
        assert label.belongs_to(Origin.of(product.primary))
        assert product.table_header("SCI") is None
        assert product.table_header("OBJCAT") is None
        product.primary["PROCSOFT"] = "DRAGONS"
        assert not label.belongs_to(Origin.of(product.primary))


def test_a_product_is_read_as_what_it_is(write: Write, facts: FrameFacts) -> None:
    path = write("flat")
    with ProductFile(path) as product:
        assert (product.facts.processed, product.facts.product_kind, product.facts.kind) == (
            True,
            "flat",
            "flat",
        )
        assert product.facts.filter_id == facts.filter_id
        assert product.facts.started == facts.started


def test_headers_of_a_product_can_be_used_again(
    write: Write, image: Image, tmp_path: Path, record: Record
) -> None:
    first = read_product(write())
    again = tmp_path / "again.fits"
    write_product(again, first, record)
    with fits.open(again) as hdus:
        hdus.verify("exception")
        for hdu in hdus:
            keywords = [k for k in hdu.header if k not in ("", "COMMENT", "HISTORY")]
            assert len(keywords) == len(set(keywords)), f"{hdu.name} has a card twice"


def test_long_and_foreign_words_in_cards(write: Write) -> None:
    cards = {
        "NFWARN1": ("x" * 150, "a comment that does not fit"),
        "OBSERVER": "Žofie\nB",
        "N": (1, "c" * 90),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = fits.getheader(write(cards=cards))
    assert header["NFWARN1"] == "x" * 150
    assert header["OBSERVER"] == "\\u017dofie\\nB"


def test_more_inputs_than_keywords(write: Write) -> None:
    header = fits.getheader(write(inputs=[f"S{n}.fits" for n in range(1100)]))
    assert header["NCOMBINE"] == 1100
    assert header["IMCMB999"] == "S998.fits"


def test_stamps_are_utc(record: Record) -> None:
    chile = timezone(timedelta(hours=-3))
    assert stamped(datetime(2026, 1, 1, 22, tzinfo=chile)) == "2026-01-02T01:00:00.000000"
    with pytest.raises(ValueError, match="no time zone"):
        stamped(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="at least one input"):
        dataclasses.replace(record, inputs=[])


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_left_of_a_full_disk(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write().read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("imaging.io.atomic.os.fsync", full)
    with pytest.raises(NirflowError, match=re.escape(f"to {tmp_path}: No space left on device")) as caught:
        write(stamp=STAMP + timedelta(days=1))
    assert caught.value.remedy
    assert listing(tmp_path) == ["S20131121S0075_image.fits"]
    assert (tmp_path / "S20131121S0075_image.fits").read_bytes() == before


def test_nothing_is_left_when_the_kernel_stops_the_write(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from imaging.io.atomic import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_whole(Path({str(tmp_path / "a.fits")!r}), [bytes(60_000)] * 3)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NirflowError: a.fits could not be written" in told.stderr
    assert "File too large" in told.stderr
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NirflowError, match="could not be written"):
        write(name="file/out/a.fits")


def test_folder_and_file_are_synced_before_the_name_is_there(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path
        seen.append((is_folder, [n for n in listing(tmp_path) if not n.startswith(".")]))
        real(descriptor)

    monkeypatch.setattr("imaging.io.atomic.os.fsync", fsync)
    write()
    assert seen == [(False, []), (True, ["S20131121S0075_image.fits"])]


def test_rows_in_bands_make_the_whole(write: Write, image: Image) -> None:
    with ProductFile(write()) as product:
        assert product.shape == (40, 48)
        assert "VAR" in product
        assert "OBJMASK" not in product
        edges = [0, 7, 8, 33, 40]
        rows = [product.rows("VAR", slice(a, b)) for a, b in itertools.pairwise(edges)]
        np.testing.assert_array_equal(np.vstack(rows), image.var)
        assert product.rows("SCI", slice(0, 3)).dtype.isnative


def test_a_product_moves_without_losing_its_identity(write: Write, tmp_path: Path) -> None:
    path = write()
    shutil.copy(path, tmp_path / "copy.fits")
    assert datasums(path) == datasums(tmp_path / "copy.fits")


def test_facts_of_our_headers_need_nothing_else(write: Write, facts: FrameFacts) -> None:
    with fits.open(write("dark")) as hdus:
        read = facts_from_headers(hdus[0].header, hdus["SCI"].header, name="a_dark.fits")
    assert read.exposure_time == facts.exposure_time
    assert read.section == facts.section
