"""The comparison made whenever a master is added: its reference, and its record."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from calib_store.curation.certify import certify, reinstate, supersede
from calib_store.curation.compare import compare_products, reference_for
from calib_store.exchange.adopt import adopt
from calib_store.store import Store
from imaging.calibrations.compare import GateParameters
from imaging.errors import StoreError
from tasks.building.product_status import certified
from tasks.support.parameters import ReductionParameters
from tasks.support.workspace import Workspace

PRIMARY = {
    "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "UTSTART": "04:48:00.0",
}  # fmt: skip
#: Section of the darks here.
SECTION = "[1:40,1:40]"
WHO = {"author": "Ana", "reason": "good"}
LIMITS = GateParameters()


@pytest.fixture
def dark(store: Store, tmp_path: Path):
    """Add a dark of 40 x 40 pixels about a level; other cards by keyword."""
    count = 0

    def make(level: float = 100.0, *, shape=(40, 40), **cards):
        nonlocal count
        count += 1
        primary = fits.PrimaryHDU()
        for keyword, value in {**PRIMARY, "PROCDARK": "2026-01-01", "NCOMBINE": 10, **cards}.items():
            primary.header[keyword] = value
        rng = np.random.default_rng(count)
        sci = rng.normal(level, 2.0, shape).astype(np.float32)
        planes = {"SCI": sci, "VAR": np.full(shape, 4.0, np.float32), "DQ": np.zeros(shape, np.uint16)}
        path = tmp_path / f"S{count}_dark.fits"
        fits.HDUList([primary, *(fits.ImageHDU(data, name=name) for name, data in planes.items())]).writeto(
            path
        )
        return adopt(store, path)

    return make


def test_without_a_certified_one_there_is_nothing_to_compare_with(dark) -> None:
    first = dark()
    assert first.gate["passed"] is None
    assert "no dark of this configuration is certified" in first.gate["reasons"][0]
    assert not first.doubtful


def test_a_similar_product_passes_and_a_bad_one_stays_candidate_with_the_reason(store: Store, dark) -> None:
    reference = certify(store, dark(), **WHO)
    like = dark()
    assert like.gate["passed"] is True
    assert like.gate["reference"] == {"id": str(reference.id), "name": reference.name}
    assert like.gate["figures"]["level"] == pytest.approx(0.0, abs=0.5)
    bad = dark(level=180.0)
    assert (bad.gate["passed"], bad.doubtful, bad.status) == (False, True, "candidate")
    assert "the level is +80" in bad.gate["reasons"][0]
    with pytest.raises(StoreError, match="failed the comparison"):
        certify(store, bad, **WHO)


def test_the_reference_is_the_nearest_certified_of_the_configuration(store: Store, dark, facts) -> None:
    early = dark(**{"DATE-OBS": "2013-08-01"})
    late = dark(**{"DATE-OBS": "2013-11-30"})
    short = dark(EXPTIME=60.0)
    dark(**{"DATE-OBS": "2013-11-21"})
    for product in (early, late, short):
        certify(store, product, start=product.span[0], end=product.span[1], **WHO)
    assert reference_for(store, "dark", facts(section=SECTION)).id == late.id
    assert reference_for(store, "dark", facts(section=SECTION), but=late).id == early.id
    assert reference_for(store, "dark", facts(section=SECTION, read_pairs=4)) is None
    assert reference_for(store, "image", facts(section=SECTION)) is None
    assert reference_for(store, "dark", facts(section=SECTION, exposure_time=60.001)).id == short.id


def test_the_comparison_with_a_damaged_reference_is_inconclusive(store: Store, dark) -> None:
    reference = certify(store, dark(), **WHO)
    dark(EXPTIME=60.0)
    store.file_of(reference).unlink()
    new = dark()
    assert new.gate["passed"] is None
    assert "missing or damaged" in new.gate["reasons"][0]
    assert not new.doubtful


def test_a_product_of_another_shape_is_no_reference(store: Store, dark) -> None:
    certify(store, dark(shape=(20, 20)), **WHO)
    new = dark()
    assert new.gate["passed"] is None
    assert "no dark of this configuration is certified" in new.gate["reasons"][0]


def test_compare_on_request(store: Store, dark, add) -> None:
    one, two = dark(), dark(level=180.0)
    with pytest.raises(StoreError, match="No other dark of the configuration"):
        compare_products(store, one, None, LIMITS)
    other, done = compare_products(store, one, two, LIMITS)
    assert (other.id, done.passed) == (two.id, False)
    certify(store, two, **WHO)
    assert compare_products(store, one, None, LIMITS)[0].id == two.id
    loose = compare_products(store, one, two, GateParameters(dark_level=200.0))[1]
    assert loose.passed
    with pytest.raises(StoreError, match="only darks, bad pixel masks"):
        compare_products(store, add("image"), None, LIMITS)
    with pytest.raises(StoreError, match=r"is a dark and .* a flat"):
        compare_products(store, one, add("flat"), LIMITS)


def test_automatic_certification_never_overrides_users(
    store: Store, dark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It completes the work of a killed run, and does not restore what a user has ended."""
    monkeypatch.setattr(Workspace, "store", lambda _: store)
    workspace = Workspace(
        data_dir=tmp_path, out=tmp_path, parameters=ReductionParameters(gate=GateParameters(certify=True))
    )
    mine = certify(store, dark(), **WHO)
    inside = dark(UTSTART="05:00:00.0")
    assert certified(inside, workspace).status == "candidate"  # its time belongs to Ana's dark
    like = dark(**{"DATE-OBS": "2014-03-01"})
    assert (like.status, like.gate["passed"]) == ("candidate", True)
    assert (
        certified(like, workspace.model_copy(update={"parameters": ReductionParameters(gate=LIMITS)})) == like
    )
    done = certified(like, workspace)
    assert (done.status, done.validity) == ("certified", (mine.validity[1], like.middle + timedelta(days=90)))
    assert store.get(mine.id).validity == mine.validity
    ended, _ = supersede(store, store.get(like.id), **WHO)
    assert certified(ended, workspace).status == "superseded"
    again = reinstate(store, ended, author="Ana", reason="to look at it")
    assert certified(again, workspace).status == "candidate"
