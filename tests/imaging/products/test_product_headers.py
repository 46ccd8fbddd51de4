"""Headers and tables of products as other software reads them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from small_products import INPUTS, KEY, STAMP, Write

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image, Reason
from imaging.products.ccd import read_ccd
from imaging.products.header_cards import Record, saturation_electrons
from imaging.products.origin import LineageLabel, Origin
from imaging.products.product_file import (
    ProductFile,
    datasums,
    read_product,
    read_table,
    write_product,
)
from imaging.products.product_tables import Table, stamped


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
    reported = stamped(STAMP)
    assert reported == "2026-11-23T06:02:15.165327"
    assert header["GEM-TLM"] == header["PREPARE"] == header[mark] == reported
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


def test_the_wcs_is_of_two_axes_in_current_keywords(write: Write, extension: fits.Header) -> None:
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
    tables = {"OBJCAT": Table(catalogue, {"x": "pix"}, {"x": "centroid"}), "ALIGNMENT": Table(shifts)}
    path = write(object_mask=objects, tables=tables)
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus["OBJMASK"].data, objects)
        assert (hdus["OBJCAT"].header["EXTVER"], hdus["OBJCAT"].columns["x"].unit) == (1, "pix")
        assert hdus["OBJCAT"].header.comments["TTYPE1"] == "centroid"
        assert hdus["ALIGNMENT"].data["dx"][0] == 0.25
    with ProductFile(path) as product:
        assert product.planes == ("SCI", "VAR", "DQ", "OBJMASK")
        assert product.rows("OBJMASK").dtype == np.uint8


def test_a_table_has_no_unit_that_fits_does_not_have(write: Write) -> None:
    fluxes = np.array([(1.5,)], [("flux", "f8")])
    with pytest.raises(ValueError, match="not supported by the FITS standard"):
        write(tables={"OBJCAT": Table(fluxes, {"flux": "electron"})})


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


@pytest.mark.parametrize(
    ("date", "written"),
    [
        ("2013-11-21", "2013-11-21"), ("2013-11-20", "2013-11-21"), ("2013-11-21T02:52:48.0", "2013-11-21T02:52:48.0"),
        ("2013-11-20T23:52:48-03:00", "2013-11-21T02:52:48"), ("2013-11-20T23:52:48", "2013-11-21T02:52:48"),
        ("2013-11-21T02:52:48Z", "2013-11-21T02:52:48"), ("2013-11-21T00:00:00", "2013-11-21T02:52:48"),
    ],
)  # fmt: skip
def test_the_date_of_a_product_is_the_utc_of_its_first_frame(
    image: Image, record: Record, tmp_path: Path, date: str, written: str
) -> None:
    """Calm dates stay as they are; others are corrected, because other software has only the header."""
    path = tmp_path / "S20131121S0075_image.fits"
    image.primary["DATE-OBS"] = date
    write_product(path, image, record)
    with fits.open(path) as hdus:
        assert str(hdus[0].header["DATE-OBS"]).startswith(written)
        assert len(hdus[0].header["DATE-OBS"]) >= len(date.partition("-03")[0].rstrip("Z"))
