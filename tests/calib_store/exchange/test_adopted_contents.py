"""Checks of the contents of adopted products."""

from __future__ import annotations

import gzip
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from foreign_products import KEY, LAMP, SCIENCE, labelled

from calib_store.exchange.adopt import adopt
from calib_store.store import Store
from imaging.errors import FrameError

# Contents


def _changed(path: Path, plane: str, value: float, rows: slice = slice(None)) -> Path:
    with fits.open(path) as hdus:
        hdus[plane].data[rows] = value
        hdus.writeto(path.with_name("bad.fits"), checksum=True)
    return path.with_name("bad.fits")


@pytest.mark.parametrize(
    ("mark", "plane", "value", "message"),
    [
        ("PROCDARK", "SCI", np.nan, "plane SCI is not a finite number in 64 of the 64"),
        ("PROCDARK", "VAR", -1.0, "plane VAR is zero, negative or not finite in 64 of the 64"),
        ("PROCDARK", "VAR", 0.0, "plane VAR is zero, negative or not finite in 64 of the 64"),
        ("PROCDARK", "VAR", np.nan, "plane VAR is zero, negative or not finite"),
        (
            "PROCDARK",
            "SCI",
            -200.0,
            "plane SCI: the median of the usable pixels is -200, expected -50 to 20000",
        ),
        ("PROCDARK", "SCI", 9e4, "the median of the usable pixels is 90000, expected"),
        ("PROCDARK", "DQ", 1, r"plane DQ: 0.0% of the pixels are usable, expected at least 50%"),
        ("PROCFLAT", "SCI", 0.0, "the median of the usable pixels is 0, expected 0.5 to 2"),
        ("PROCFLAT", "SCI", -1.0, "the median of the usable pixels is -1, expected 0.5 to 2"),
        ("PROCFLAT", "SCI", 22_000.0, "the median of the usable pixels is 22000, expected 0.5 to 2"),
        ("PROCFLAT", "DQ", 64, "plane DQ: 0.0% of the pixels are usable, expected at least 30%"),
        ("BPMASK", "SCI", 1, "plane SCI: 0.0% of the pixels are usable, expected at least 50%"),
        ("PROCSCI", "SCI", np.inf, "plane SCI is not a finite number in 64"),
        ("PROCSCI", "DQ", 16, "plane DQ: 0.0% of the pixels are usable"),
    ],
)
def test_products_that_cannot_serve_are_refused(
    store: Store, make, mark: str, plane: str, value: float, message: str
) -> None:
    cards = {"PROCDARK": {}, "PROCSCI": SCIENCE}.get(mark, LAMP)
    good = make(mark, planes=("SCI",) if mark == "BPMASK" else ("SCI", "VAR", "DQ"), **cards)
    with pytest.raises(FrameError, match=message) as caught:
        adopt(store, _changed(good, plane, value))
    assert caught.value.name == "bad.fits"
    assert caught.value.remedy
    assert adopt(store, good).status == "candidate"


def test_a_few_unflagged_rows_are_enough(store: Store, make) -> None:
    path = _changed(make(), "SCI", np.nan, slice(1, 2))
    with pytest.raises(FrameError, match="plane SCI is not a finite number in 8 of the 64"):
        adopt(store, path)
    with fits.open(path) as hdus:
        hdus["DQ"].data[1] = 1
        hdus.writeto(path.with_name("flagged.fits"), checksum=True)
    assert adopt(store, path.with_name("flagged.fits")).kind == "dark"


def test_a_calibration_needs_all_its_planes_in_the_right_unit(store: Store, make) -> None:
    with pytest.raises(FrameError, match="no plane DQ: a dark is applied with SCI, VAR, DQ"):
        adopt(store, make(name="two.fits", planes=("SCI", "VAR")))
    path = make()
    fits.setval(path, "BUNIT", value="adu", extname="SCI")
    with pytest.raises(FrameError, match=r"BUNIT = 'adu', expected 'electron'"):
        adopt(store, path)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"EXPTIME": 60.0}, r"EXPTIME = 60.0, expected 120.0 as in D0.fits, D1.fits, D2.fits and 7 more"),
        ({"LNRS": 1, "NREADS": 1}, "LNRS = 1, expected 8 as in D0.fits"),
        ({"COADDS": 2}, "COADDS = 2, expected 1 as in D0.fits"),
        ({"DETID": "110"}, "DETID = '110', expected '109' as in D0.fits"),
    ],
)
def test_an_edited_configuration_is_not_that_of_the_inputs(
    store: Store, make, record, facts, cards: dict[str, object], message: str
) -> None:
    raws = [record(f"D{n}.fits", facts=facts(kind="dark")) for n in range(10)]
    store.frames.ingest(raws)
    rows = [(f"D{n}.fits", raw.sha256, "dark", "S8_dark.fits") for n, raw in enumerate(raws)]
    edited = labelled(make(name="S8_dark.fits", NFKEY=KEY, **cards), rows, NFKEY=KEY)
    with pytest.raises(FrameError, match=message) as caught:
        adopt(store, edited)
    assert "Correct the header" in caught.value.remedy
    right = labelled(make(name="S9_dark.fits", NFKEY=KEY), rows, NFKEY=KEY)
    assert len(store.inputs_of(adopt(store, right))) == 10


def test_a_flat_of_another_filter_and_a_dark_of_flats(store: Store, make, record, facts) -> None:
    lamp = facts(kind="flat", exposure_time=20.0, read_pairs=1)
    store.frames.ingest([record("F0.fits", facts=lamp), record("F1.fits", facts=lamp)])
    named = {"IMCMB001": "F0.fits", "IMCMB002": "F1.fits"}
    with pytest.raises(FrameError, match=r"FILTERn = 'J_G0802', expected 'Y_G0811' as in F0.fits, F1.fits"):
        adopt(store, make("PROCFLAT", name="J_flat.fits", **(LAMP | {"FILTER1": "J_G0802"}), **named))
    assert adopt(store, make("PROCFLAT", name="Y_flat.fits", **LAMP, **named)).kind == "flat"
    rows = [("F0.fits", record("F0.fits").sha256, "dark", "S8_dark.fits")]
    with pytest.raises(FrameError, match=r"a dark made from F0.fits, of the kind flat, expected dark"):
        adopt(store, labelled(make(name="S8_dark.fits", NFKEY=KEY), rows, NFKEY=KEY))


def test_pixels_that_do_not_match_their_checksum_are_refused(store: Store, make) -> None:
    path = make()
    with fits.open(path) as hdus:
        hdus.writeto(path.with_name("summed.fits"), checksum=True)
    assert adopt(store, path.with_name("summed.fits")).kind == "dark"
    content = bytearray(path.with_name("summed.fits").read_bytes())
    content[-2880 * 3] ^= 1
    path.with_name("flipped.fits").write_bytes(content)
    with pytest.raises(FrameError, match="do not add up to the DATASUM"):
        adopt(store, path.with_name("flipped.fits"))


def test_the_shape_is_checked_before_any_pixel_is_read(store: Store, make) -> None:
    path = make(planes=("SCI",))
    with fits.open(path) as hdus:
        headers = [hdus[0].header, hdus["SCI"].header]
    headers[1]["NAXIS1"] = headers[1]["NAXIS2"] = 6000
    headers[1]["DATASUM"] = "1"
    path.write_bytes("".join(header.tostring() for header in headers).encode("ascii"))
    os.truncate(path, path.stat().st_size + 4 * 6000**2)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=r"NAXISn = \(6000, 6000\), expected \(2048, 2048\)"):
            adopt(store, path, shape=(2048, 2048))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_files_that_would_unpack_to_more_than_any_product(
    store: Store, make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("imaging.io.announced.product_bytes", lambda: 10_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = make()
    packed = path.with_name("S1_dark.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(
        FrameError, match=r"S1_dark\.fits\.gz: it would unpack to \d+ bytes, .* than 10000 bytes"
    ):
        adopt(store, packed)
    assert list((tmp_path / "temporary").iterdir()) == []
