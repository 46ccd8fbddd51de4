"""The files of a run: readable by other software, marked, and with their complete history."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from night_lab import Lab, Run

from imaging.pixels.dq import DQ
from imaging.products.product_file import read_table
from imaging.simulator.truth import NightTruth

KINDS = ("dark", "bpm", "flat", "image")


def _names(night: NightTruth, *roles: str) -> set[str]:
    return {f"{frame.root}.fits" for role in roles for frame in night.of_role(role)}  # type: ignore[arg-type]


def _lineage(run: Run, kind: str) -> np.ndarray:
    table = read_table(run.product(kind).output, "LINEAGE")
    assert table is not None
    return table


@pytest.mark.parametrize("kind", ["dark", "flat", "image"])
def test_opens_as_ccddata(reduced: Run, kind: str) -> None:
    path = reduced.product(kind).output
    assert path is not None
    ccd = CCDData.read(path, hdu="SCI", hdu_uncertainty="VAR", hdu_mask="DQ")
    assert ccd.unit.to_string() == ("electron" if kind != "flat" else "")
    assert ccd.uncertainty is not None
    assert ccd.uncertainty.uncertainty_type == "var"
    assert ccd.uncertainty.array.shape == ccd.data.shape
    assert ccd.mask is not None
    assert ccd.data.dtype.kind == "f"
    if kind == "image":
        assert ccd.wcs is not None
        assert ccd.wcs.celestial.naxis == 2


@pytest.mark.parametrize(
    ("kind", "mark"), [("dark", "PROCDARK"), ("flat", "PROCFLAT"), ("bpm", "BPMASK"), ("image", "PROCSCI")]
)
def test_marked_as_gemini_marks_them(reduced: Run, kind: str, mark: str) -> None:
    header = fits.getheader(reduced.product(kind).output)
    assert mark in header
    assert "PREPARE" in header
    assert "GEM-TLM" in header


def test_names_follow_the_first_frame(reduced: Run) -> None:
    names = {p.kind: p.name for p in reduced.report.products}
    assert names == {
        "dark": "S20131120S0115_dark.fits",
        "bpm": "S20131129S0320_bpm.fits",
        "flat": "S20131129S0320_flat.fits",
        "image": "S20131121S0075_image.fits",
    }
    out = {p.name for p in reduced.report.out.iterdir()}
    assert out == {n for name in names.values() for n in (name, name.replace(".fits", ".png"))}


def test_calibrations_are_in_the_header(reduced: Run) -> None:
    header = fits.getheader(reduced.product("image").output)
    assert header["DARKIM"] == "S20131120S0115_dark.fits"
    assert header["FLATIM"] == "S20131129S0320_flat.fits"
    assert header["NCOMBINE"] == 5
    assert [header[f"IMCMB{n:03d}"] for n in range(1, 6)] == sorted(reduced.product("image").inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_history_holds_every_parameter(reduced: Run, kind: str) -> None:
    from tasks.support.parameters import ReductionParameters

    table = read_table(reduced.product(kind).output, "HISTORY")
    assert table is not None
    defaults = ReductionParameters().model_dump(mode="json")
    assert defaults["prepare"]["linear_fraction"] is None  # that of the instrument, which the table names
    defaults["prepare"]["linear_fraction"] = 0.72
    defaults["detrend"]["cosmic_rays"] = "never"  # what auto means for a group of this size
    for row in table:
        assert json.loads(str(row[1])) == defaults[str(row[0])]
    steps = [str(row[0]) for row in table]
    if kind == "image":
        assert steps == ["prepare", "detrend", "sky", "detect", "align", "resample", "stack", "photometry"]
    else:
        assert steps == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_provenance_names_what_went_in(reduced: Run, kind: str) -> None:
    table = read_table(reduced.product(kind).output, "PROVENANCE")
    assert table is not None
    product = reduced.product(kind)
    assert [str(name) for name in table["filename"]] == [*product.inputs, *product.calibrations]
    assert all(len(str(md5)) == 32 for md5 in table["md5"])


def test_from_the_image_every_raw_frame_is_reachable(
    reduced_lab: Lab, reduced: Run, night: NightTruth
) -> None:
    everything = {f"{frame.root}.fits" for frame in night.frames}
    rows = _lineage(reduced, "image")
    products = {reduced.product(kind).name for kind in ("dark", "bpm", "flat")}
    assert {str(name) for name in rows["file"]} == everything | products
    # Through the flat's mask to its short darks, step by step.
    parents = {(str(r["file"]), str(r["step"])) for r in rows}
    bpm, flat, image = (reduced.product(kind).name for kind in ("bpm", "flat", "image"))
    assert (bpm, flat) in parents
    assert (flat, image) in parents
    assert {(short, bpm) for short in _names(night, "short_dark")} <= parents

    store = reduced_lab.store()
    lineage = store.lineage(store.get(reduced.product("image").uuid))
    shas = {str(r["file"]): str(r["sha256"]) for r in rows}
    assert set(lineage.frames) == {shas[name] for name in everything}
    assert set(lineage.products) == {reduced.product(kind).uuid for kind in ("dark", "bpm", "flat")}
    assert {e.name for e in lineage.edges if e.role == "short_dark"} == _names(night, "short_dark")


def test_planes_carry_variance_and_quality_honestly(reduced: Run, night: NightTruth) -> None:
    lit = night.plane("ILLUMINATED")
    with fits.open(reduced.product("flat").output) as hdus:
        dq = hdus["DQ"].data
        dim = (dq & int(DQ.UNILLUMINATED)) != 0
        assert dim[lit].mean() < 0.01
        assert dim[~lit].mean() > 0.8  # the measured circle has a margin of a few pixels
        good = (dq == 0) & lit
        assert abs(np.median(hdus["SCI"].data[good]) - 1) < 0.01
    with fits.open(reduced.product("image").output) as hdus:
        var, dq = hdus["VAR"].data, hdus["DQ"].data
        assert (var[dq == 0] > 0).all()
        assert {"SCI", "VAR", "DQ", "OBJMASK", "OBJCAT", "ALIGNMENT"} <= {hdu.name for hdu in hdus}


def test_decisions_are_recorded_for_every_frame(reduced_lab: Lab, reduced: Run, night: NightTruth) -> None:
    from sqlalchemy import text

    with reduced_lab.store().database.begin() as connection:
        rows = connection.execute(text("SELECT DISTINCT frame_sha256, kind, product_id FROM decisions")).all()
    shas = {str(r["file"]): str(r["sha256"]) for r in _lineage(reduced, "image")}
    science = {shas[name] for name in _names(night, "science")}
    for kind in ("dark", "bpm", "flat"):
        taken = {str(sha).strip() for sha, k, product in rows if k == kind and product is not None}
        assert science <= taken


def test_the_stale_frame_is_aligned_by_its_stars(reduced: Run, night: NightTruth) -> None:
    table = read_table(reduced.product("image").output, "ALIGNMENT")
    assert table is not None
    assert table["used"].all()
    reference = night.frame(str(reduced.product("image").metrics["reference"])).field_centre
    for row in table:
        own = night.frame(str(row["name"])).field_centre
        assert own is not None
        assert reference is not None
        assert np.allclose([row["dx"], row["dy"]], np.subtract(reference, own), atol=0.1)


def test_seeing_and_sky_of_each_frame_are_those_of_the_night(reduced: Run, night: NightTruth) -> None:
    table = read_table(reduced.product("image").output, "ALIGNMENT")
    assert table is not None
    for row in table:
        truth = night.frame(str(row["name"]))
        assert truth.fwhm is not None
        assert float(row["seeing"]) == pytest.approx(truth.fwhm, rel=0.08)
        assert float(row["sky"]) == pytest.approx(truth.level * truth.exposure, rel=0.03)


def test_the_alignment_table_has_the_factor_and_the_weight_of_each_frame(reduced: Run) -> None:
    image = reduced.product("image")
    table = read_table(image.output, "ALIGNMENT")
    assert table is not None
    assert table["weight"].sum() == pytest.approx(1.0)
    for row in table:
        assert row["factor"] == image.metrics[f"scales_{row['name']}"]
        assert row["weight"] == image.metrics[f"weights_{row['name']}"]
    assert np.allclose(table["factor"] * table["flux_scale"], 1.0)
