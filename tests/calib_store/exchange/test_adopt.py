from __future__ import annotations

import bz2
import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from foreign_products import KEY, LAMP
from sqlalchemy import text

from calib_store.exchange.adopt import adopt
from calib_store.store import Store
from imaging.errors import FrameError, StoreError


def test_a_dark_of_dragons_serves(store: Store, make, facts) -> None:
    product = adopt(store, make())
    assert (product.kind, product.name, product.status) == ("dark", "S1_dark.fits", "candidate")
    assert store.match(facts(), "dark").product == product
    assert store.match(facts(exposure_time=60.0), "dark").product is None


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_compressed_file_is_the_same_product(store: Store, make, suffix: str, pack) -> None:
    plain = make()
    packed = plain.with_name(plain.name + suffix)
    packed.write_bytes(pack(plain.read_bytes()))
    assert adopt(store, packed) == adopt(store, plain)
    assert len(store.products()) == 1
    assert fits.getdata(store.file_of(store.products()[0]), "SCI").shape == (8, 8)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(FrameError, match="compressed data are damaged"):
        adopt(store, packed)


def test_masks_published_and_made(store: Store, make, facts) -> None:
    static = adopt(
        store,
        make(
            "BPMASK",
            name="bpm.fits",
            planes=("DQ",),
            OBSTYPE="BPM",
            UTSTART=None,
            **{"DATE-OBS": "2010-01-01"},
        ),
    )
    assert static.rule == "static bpm"
    assert store.match(facts(), "bpm").product == static
    made = adopt(store, make("BPMASK", name="S1_bpm.fits", planes=("SCI",), OBSTYPE="FLAT"))
    assert made.rule == "bpm"
    assert store.match(facts(), "bpm").product == made


def test_kind_must_agree_or_be_given(store: Store, make) -> None:
    with pytest.raises(StoreError, match="is a dark, not a flat"):
        adopt(store, make(), kind="flat")
    raw = make(None, name="raw.fits")
    with pytest.raises(StoreError, match="does not name its kind of product"):
        adopt(store, raw)
    assert adopt(store, raw, kind="dark").kind == "dark"


def test_files_that_are_not_products(store: Store, make, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="neither a SCI nor a DQ plane"):
        adopt(store, make(name="raw.fits", planes=("",)))
    with pytest.raises(FrameError, match="wrong shape for a calibration") as caught:
        adopt(store, make(name="small.fits"), shape=(2048, 2048))
    assert "--any-shape" in caught.value.remedy
    with pytest.raises(FrameError, match="INSTRUME"):
        adopt(store, make(name="gmos.fits", INSTRUME="GMOS-S"))
    short = make(name="short.fits")
    short.write_bytes(short.read_bytes()[:-4000])
    (tmp_path / "text.fits").write_text("not FITS")
    (tmp_path / "empty.fits").touch()
    for name, message in (
        ("short.fits", "not a complete FITS file"),
        ("text.fits", "not a FITS file"),
        ("empty.fits", "is empty"),
    ):
        with pytest.raises(FrameError, match=message):
            adopt(store, tmp_path / name)
    with pytest.raises(StoreError, match="There is no file"):
        adopt(store, tmp_path / "none.fits")
    assert store.products() == ()


def test_a_stack_is_as_large_as_its_dithers_make_it(store: Store, make) -> None:
    """A real stack of nine frames has 2273 x 2274 pixels."""
    stack = make("PROCSCI", name="S1_image.fits", OBSTYPE="OBJECT", OBSCLASS="science", FILTER1="Y_G0811")
    assert adopt(store, stack, shape=(2048, 2048)).kind == "image"
    unmarked = make(
        None, name="other.fits", OBSTYPE="OBJECT", OBSCLASS="science", FILTER1="Y_G0811", OBJECT="X"
    )
    assert adopt(store, unmarked, kind="image", shape=(2048, 2048)).kind == "image"


def test_planes_of_different_shapes(store: Store, make) -> None:
    path = make()
    with fits.open(path, mode="append") as hdus:
        del hdus["DQ"]
    with fits.open(path) as hdus:
        wrong = fits.HDUList([hdus[0].copy(), hdus["SCI"].copy(), fits.ImageHDU(np.zeros((4, 4)), name="DQ")])
        wrong.writeto(path.with_name("wrong.fits"))
    with pytest.raises(FrameError, match="plane DQ has the wrong shape"):
        adopt(store, path.with_name("wrong.fits"))


def test_a_copy_of_the_stores_own_product_is_that_product(store: Store, own) -> None:
    product, copy = own
    packed = copy.with_name("renamed.fits.gz")
    packed.write_bytes(gzip.compress(copy.read_bytes()))
    assert adopt(store, copy) == adopt(store, packed) == product
    assert store.products() == (product,)


def test_a_product_of_nirflow_keeps_the_time_of_its_inputs(store: Store, make) -> None:
    """Which of two is nearer to a frame is the same in every store."""
    recorded = {"DATE-BEG": "2013-11-20T23:00:00.000000", "DATE-END": "2013-11-22T01:30:00.250000"}
    there = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in recorded.values()]
    mine = adopt(store, make(name="mine.fits", NFKEY=KEY, **recorded))
    assert list(mine.span) == there
    assert mine.middle == there[0] + (there[1] - there[0]) / 2
    other = adopt(store, make(name="other.fits", EXPTIME=60.0, **recorded))  # who wrote these is not known
    assert other.span[0] == datetime(2013, 11, 20, 4, 48, tzinfo=UTC)
    with pytest.raises(FrameError, match="DATE-END = 'soon'"):
        adopt(store, make(name="edited.fits", NFKEY=KEY, **(recorded | {"DATE-END": "soon"})))


def test_the_same_recipe_made_elsewhere_is_that_product_if_the_planes_agree(store: Store, own) -> None:
    product, copy = own
    with fits.open(copy) as hdus:
        hdus[0].header["PROCDARK"] = "2026-02-02T00:00:00"
        hdus.writeto(copy.with_name("later.fits"))
        hdus[0].header["EXPTIME"] = 60.0
        hdus.writeto(copy.with_name("other.fits"))
        hdus[0].header["EXPTIME"] = 120.0
        hdus["SCI"].data[3, 4] += 1
        hdus.writeto(copy.with_name("edited.fits"))
    assert adopt(store, copy.with_name("later.fits")) == product
    changed = adopt(store, copy.with_name("edited.fits"))
    assert (changed.name, changed.algorithm_version) == ("edited.fits", "adopted")
    with pytest.raises(FrameError, match=r"EXPTIME = 60.0, expected 120.0 as in S9_dark.fits .*same recipe"):
        adopt(store, copy.with_name("other.fits"))


def test_a_copy_replaces_a_damaged_file(store: Store, own) -> None:
    product, copy = own
    path = store.file_of(product)
    path.chmod(0o644)
    path.write_bytes(b"\0" * 2880)
    with pytest.raises(StoreError, match=r"S9_dark.fits .* is missing or damaged"):
        store.file_of(product)
    older = "nirflow 0.0.1"
    with store.database.begin() as connection:
        connection.execute(text("UPDATE products SET software_version = :older"), {"older": older})
    repaired = adopt(store, copy)
    assert (repaired.id, repaired.metrics, repaired.damaged) == (product.id, product.metrics, False)
    assert repaired.software_version == older  # the same bytes
    assert store.file_of(repaired).read_bytes() == copy.read_bytes()
    assert len(store.products()) == 1
    assert len(store.inputs_of(repaired)) == 1


@pytest.mark.parametrize(
    ("mark", "kind", "cards"), [("PROCDARK", "dark", {}), ("PROCFLAT", "flat", LAMP), ("BPMASK", "bpm", LAMP)]
)
@pytest.mark.parametrize("stated", ["[1:2048,1:2048]", None])
def test_a_product_that_was_cut_out_does_not_serve_full_frames(
    store: Store, make, facts, mark: str, kind: str, cards: dict[str, object], stated: str | None
) -> None:
    """It has 8 x 8 pixels; software that cuts leaves the section of the original in the header."""
    planes = ("SCI",) if kind == "bpm" else ("SCI", "VAR", "DQ")
    path = make(mark, name=f"S1_{kind}.fits", planes=planes, **cards)
    if stated is not None:
        fits.setval(path, "DETSEC", value=stated, ext=1)
    product = adopt(store, path)
    assert store.match(facts(section="[1:2048,1:2048]"), kind).product is None
    assert store.match(facts(section="[1:8,1:8]"), kind).product == product


def test_a_part_is_accepted_next_to_the_frames_of_the_original(store: Store, make, record, facts) -> None:
    raw = record("D0.fits", facts=facts(kind="dark", section="[1:2048,1:2048]"))
    store.frames.ingest([raw])
    path = make(IMCMB001="D0.fits")
    for axis in (1, 2):
        fits.setval(path, f"LTV{axis}", value=-768.0, ext=1)
    product = adopt(store, path)
    assert product.keys["section"] == "[769:776,769:776]"
    other = make(name="S2_dark.fits", IMCMB001="D1.fits")
    store.frames.ingest([record("D1.fits", facts=facts(kind="dark", section="[5:9,1:8]"))])
    with pytest.raises(FrameError, match=r"DETSEC = '\[1:8,1:8\]', expected '\[5:9,1:8\]' as in D1.fits"):
        adopt(store, other)
