from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from calib_store.exchange.adopt import adopt
from calib_store.model.records import Foreign, InputRef
from calib_store.store import Store
from imaging.errors import FrameError, StoreError

PRIMARY = {
    "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "UTSTART": "04:48:00.0",
}  # fmt: skip


LAMP = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "FILTER1": "Y_G0811"}
SCIENCE = {"OBSTYPE": "OBJECT", "OBSCLASS": "science", "FILTER1": "Y_G0811"}


@pytest.fixture
def make(tmp_path: Path):
    def write(
        mark: str | None = "PROCDARK", *, name: str = "S1_dark.fits", planes=("SCI", "VAR", "DQ"), **cards
    ) -> Path:
        primary = fits.PrimaryHDU()
        for keyword, value in {**PRIMARY, **cards}.items():
            if value is not None:
                primary.header[keyword] = value
        if mark:
            primary.header[mark] = "2026-01-01T00:00:00"
        level = 0 if mark == "BPMASK" else 1
        pixels = {"SCI": np.full((8, 8), level, np.float32), "VAR": np.ones((8, 8), np.float32)}
        good = np.zeros((8, 8), np.uint16)
        images = [fits.ImageHDU(pixels.get(plane, good).copy(), name=plane) for plane in planes]
        path = tmp_path / name
        fits.HDUList([primary, *images]).writeto(path)
        return path

    return write


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
    with pytest.raises(StoreError, match="does not say which product"):
        adopt(store, raw)
    assert adopt(store, raw, kind="dark").kind == "dark"


def test_files_that_are_no_products(store: Store, make, tmp_path: Path) -> None:
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
    for name, told in (
        ("short.fits", "not a whole FITS file"),
        ("text.fits", "no FITS file"),
        ("empty.fits", "is empty"),
    ):
        with pytest.raises(FrameError, match=told):
            adopt(store, tmp_path / name)
    with pytest.raises(StoreError, match="There is no file"):
        adopt(store, tmp_path / "none.fits")
    assert store.products() == ()


def test_a_stack_is_as_large_as_its_dithers_make_it(store: Store, make) -> None:
    """Ours of nine frames has 2273 x 2274 pixels."""
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


KEY = "ab" * 32


@pytest.fixture
def own(store: Store, make, add, facts):
    """A dark of the store's own, and where its copy in the output folder is."""
    copy = make(name="S9_dark.fits", NFKEY=KEY)
    return add(content=copy.read_bytes(), name="S9_dark.fits", recipe_key=KEY), copy


def test_a_copy_of_the_stores_own_product_is_that_product(store: Store, own) -> None:
    product, copy = own
    packed = copy.with_name("renamed.fits.gz")
    packed.write_bytes(gzip.compress(copy.read_bytes()))
    assert adopt(store, copy) == adopt(store, packed) == product
    assert store.products() == (product,)


def test_a_product_of_nirflow_keeps_the_time_of_its_inputs(store: Store, make) -> None:
    """Which of two is nearer to a frame is the same in every store."""
    told = {"DATE-BEG": "2013-11-20T23:00:00.000000", "DATE-END": "2013-11-22T01:30:00.250000"}
    there = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in told.values()]
    mine = adopt(store, make(name="mine.fits", NFKEY=KEY, **told))
    assert list(mine.span) == there
    assert mine.middle == there[0] + (there[1] - there[0]) / 2
    other = adopt(store, make(name="other.fits", EXPTIME=60.0, **told))  # whose words these are is not known
    assert other.span[0] == datetime(2013, 11, 20, 4, 48, tzinfo=UTC)
    with pytest.raises(FrameError, match="DATE-END = 'soon'"):
        adopt(store, make(name="edited.fits", NFKEY=KEY, **(told | {"DATE-END": "soon"})))


def test_the_same_recipe_made_elsewhere_is_that_product_where_the_planes_are(store: Store, own) -> None:
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


def test_a_copy_takes_the_place_of_a_file_that_was_damaged(store: Store, own) -> None:
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


# What a product says of its making


def _with_table(path: Path, name: str, rows: list[tuple[str, ...]], columns: list[str]) -> Path:
    with fits.open(path) as hdus:
        table = np.array(rows, [(column, "U128") for column in columns])
        hdus.append(fits.BinTableHDU(table, name=name))
        hdus.writeto(path.with_name(f"with_{path.name}"))
    return path.with_name(f"with_{path.name}")


LINEAGE = ["file", "sha256", "role", "step"]
PROVENANCE = ["timestamp", "filename", "md5", "provenance_added_by"]


def test_lineage_of_nirflow_is_tied_to_what_there_is(store: Store, make, record, facts) -> None:
    raws = [record(f"S{n}.fits", facts=facts(kind="dark")) for n in range(3)]
    store.frames.ingest(raws[:2])
    dark = make(name="S9_dark.fits", NFKEY=KEY)
    rows = [(f"S{n}.fits", raw.sha256, "dark", "S9_dark.fits") for n, raw in enumerate(raws)]
    product = adopt(store, _with_table(dark, "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == (
        InputRef("dark", raws[0].sha256),
        InputRef("dark", raws[1].sha256),
        InputRef("dark", Foreign("S2.fits", f"sha256:{raws[2].sha256}")),
    )
    store.frames.ingest(raws)
    assert set(store.lineage(product).frames) == {raw.sha256 for raw in raws}


def test_ancestors_without_a_checksum_stay_apart(store: Store, make) -> None:
    rows = [
        ("a.fits", "", "dark", "S9_dark.fits"),
        ("b.fits", "", "dark", "S9_dark.fits"),
        ("c.fits", "md5:" + "0" * 32, "dark", "S9_dark.fits"),
    ]
    product = adopt(store, _with_table(make(name="S9_dark.fits", NFKEY=KEY), "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == tuple(
        InputRef("dark", Foreign(name, checksum)) for name, checksum, *_ in rows
    )


def test_of_a_calibration_that_is_not_here_its_own_inputs_are_told(store: Store, make, record) -> None:
    """From a science image every raw dark is reachable, whether its dark came along or not."""
    raws = [record(f"S{n}.fits") for n in range(2)]
    store.frames.ingest(raws)
    image = make("PROCSCI", name="S9_image.fits", NFKEY=KEY, **SCIENCE)
    rows = [
        ("S0.fits", raws[0].sha256, "science", "S9_image.fits"),
        ("S8_dark.fits", "a" * 64, "dark", "S9_image.fits"),
        ("S1.fits", raws[1].sha256, "dark", "S8_dark.fits"),
    ]
    image = _with_table(image, "LINEAGE", rows, LINEAGE)
    product = adopt(store, image)
    assert set(store.lineage(product).frames) == {raw.sha256 for raw in raws}
    assert InputRef("dark of S8_dark.fits", raws[1].sha256) in store.inputs_of(product)


def test_of_a_calibration_that_is_here_they_are_its_own_affair(store: Store, make, add, record) -> None:
    raw = record("S1.fits")
    store.frames.ingest([raw])
    dark = add(name="S8_dark.fits", inputs=[InputRef("dark", raw.sha256)])
    image = make("PROCSCI", name="S9_image.fits", NFKEY=KEY, **SCIENCE)
    rows = [
        ("S8_dark.fits", dark.sha256, "dark", "S9_image.fits"),
        ("S1.fits", raw.sha256, "dark", "S8_dark.fits"),
    ]
    product = adopt(store, _with_table(image, "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == (InputRef("dark", dark.id),)
    assert store.lineage(product).frames == (raw.sha256,)
    assert store.affected(dark) == (product,)


@pytest.mark.parametrize("pack", [None, bz2.compress, gzip.compress])
def test_provenance_of_dragons_is_checked_by_md5(
    store: Store, make, record, facts, add, tmp_path: Path, pack
) -> None:
    """DRAGONS sums the file as it read it; whichever form is still there, it is found."""
    plain = b"raw frame" * 1000
    suffix = {None: "", bz2.compress: ".bz2", gzip.compress: ".gz"}[pack]
    path = tmp_path / f"S20131120S0115.fits{suffix}"
    path.write_bytes(plain if pack is None else pack(plain))
    lamp = facts(kind="flat", exposure_time=20.0, read_pairs=1)
    raw = record("S20131120S0115.fits", path=path, facts=lamp)
    other = record("S20131120S0116.fits")
    dark = add(name="S20131120S0200_dark.fits", content=b"a dark" * 100)
    store.frames.ingest([raw, other])
    flat = make("PROCFLAT", name="S9_flat.fits", IMCMB001="S20131120S0115.fits", **LAMP)
    rows = [
        ("t", "S20131120S0115.fits", hashlib.md5(plain).hexdigest(), "prepare"),
        ("t", "S20131120S0115.fits", hashlib.md5(plain).hexdigest(), "stackFrames"),
        ("t", "S20131120S0116.fits", "0" * 32, "prepare"),
        ("t", dark.name, hashlib.md5(b"a dark" * 100).hexdigest(), "darkCorrect"),
        ("t", "S9_bpm.fits", "", "addDQ"),
    ]
    product = adopt(store, _with_table(flat, "PROVENANCE", rows, PROVENANCE))
    assert store.inputs_of(product) == (
        InputRef("input", raw.sha256),
        InputRef("input", Foreign("S20131120S0116.fits", f"md5:{'0' * 32}")),
        InputRef("dark", dark.id),
        InputRef("bpm", Foreign("S9_bpm.fits")),
    )
    if pack is not None:
        again = make("PROCFLAT", name="S8_flat.fits", OBJECT="again", **LAMP)
        packed = [("t", path.name, hashlib.md5(path.read_bytes()).hexdigest(), "prepare")]
        second = adopt(store, _with_table(again, "PROVENANCE", packed, PROVENANCE))
        assert store.inputs_of(second) == (InputRef("input", raw.sha256),)


def test_names_alone_are_better_than_nothing(store: Store, make, record) -> None:
    raw = record("S1.fits")
    store.frames.ingest([raw, record("S2.fits", "one"), record("S2.fits", "two")])
    product = adopt(store, make(IMCMB001="S1.fits", IMCMB002="S2.fits", IMCMB003="S3.fits"))
    assert store.inputs_of(product) == (
        InputRef("input, by name", raw.sha256),
        InputRef("input, by name", Foreign("S2.fits")),
        InputRef("input, by name", Foreign("S3.fits")),
    )


# A table of another product


def _labelled(path: Path, rows: list[tuple[str, ...]], **cards: str) -> Path:
    """A product with a LINEAGE table, the header of which has cards."""
    labelled = _with_table(path, "LINEAGE", rows, LINEAGE)
    with fits.open(labelled, mode="update") as hdus:
        hdus["LINEAGE"].header.update(cards)
    return labelled


@pytest.fixture
def stack_with_the_lineage_of_a_dark(store: Store, make, add, record):
    """A stack of DRAGONS to which astrodata copied the tables of the dark; and the dark."""
    raws = [record(f"D{n}.fits") for n in range(3)]
    science = [record(f"S{n}.fits") for n in range(2)]
    store.frames.ingest([*raws, *science])
    dark = add(name="S8_dark.fits", recipe_key=KEY, inputs=[InputRef("dark", raw.sha256) for raw in raws])

    def write(**label: str) -> Path:
        rows = [(f"D{n}.fits", raw.sha256, "dark", "S8_dark.fits") for n, raw in enumerate(raws)]
        path = make(
            "PROCSCI", name="S0_stack.fits", PROCSOFT="DRAGONS", PROCSVER="4.2.2", NCOMBINE=2,
            IMCMB001="S0.fits", IMCMB002="S1.fits", DARKIM="S8_dark.fits", **SCIENCE,
        )  # fmt: skip
        stack = _labelled(path, rows, **label)
        copied = [("t", f"D{n}.fits", "0" * 32, "nirflow") for n in range(3)]
        return _with_table(stack, "PROVENANCE", [*copied, ("t", "S0.fits", "", "prepare")], PROVENANCE)

    return write, dark, science


@pytest.mark.parametrize("label", [{}, {"NFPROD": "S8_dark.fits", "NFKEY": KEY}])
def test_the_lineage_of_a_dark_in_a_stack_is_not_the_stacks(
    store: Store, stack_with_the_lineage_of_a_dark, label: dict[str, str]
) -> None:
    write, dark, science = stack_with_the_lineage_of_a_dark
    stack = adopt(store, write(**label))
    assert store.inputs_of(stack) == (
        InputRef("dark", dark.id),
        InputRef("input", science[0].sha256),
        InputRef("input, by name", science[1].sha256),
    )
    assert store.affected(dark) == (stack,)


def test_where_the_dark_is_not_here_its_frames_are_reachable_all_the_same(store: Store, make, record) -> None:
    raw = record("D0.fits")
    store.frames.ingest([raw])
    path = make("PROCSCI", name="S0_stack.fits", PROCSOFT="DRAGONS", IMCMB001="S0.fits", **SCIENCE)
    rows = [("D0.fits", raw.sha256, "dark", "S8_dark.fits")]
    stack = adopt(store, _labelled(path, rows, NFPROD="S8_dark.fits", NFKEY="c" * 64))
    assert store.inputs_of(stack) == (
        InputRef("input, by name", Foreign("S8_dark.fits")),
        InputRef("dark of S8_dark.fits", raw.sha256),
        InputRef("input, by name", Foreign("S0.fits")),
    )


def test_a_table_that_names_another_product_of_ours_does_not_count(store: Store, make, record, facts) -> None:
    raw = record("D0.fits", facts=facts(kind="dark"))
    store.frames.ingest([raw])
    rows = [("D0.fits", raw.sha256, "dark", "S8_dark.fits")]
    own = {"PROCSOFT": "nirflow", "PROCSVER": "0.1.0", "NFKEY": KEY, "IMCMB001": "D1.fits"}
    mine = adopt(store, _labelled(make(name="S8_dark.fits", **own), rows, NFKEY=KEY))
    assert store.inputs_of(mine) == (InputRef("dark", raw.sha256),)
    other = adopt(store, _labelled(make(name="S7_dark.fits", **own), rows, NFKEY="c" * 64))
    assert store.inputs_of(other) == (InputRef("input, by name", Foreign("D1.fits")),)


def test_other_software_keeps_its_name_and_time(store: Store, make, record, facts) -> None:
    later = facts(kind="dark", started=datetime(2013, 11, 22, 1, 0, tzinfo=UTC))
    store.frames.ingest([record("D2.fits", facts=later)])
    made = adopt(store, make(PROCSOFT="DRAGONS", PROCSVER="4.2.2", IMCMB001="D1.fits", IMCMB002="D2.fits"))
    assert (made.software_version, made.made_at) == ("DRAGONS 4.2.2", datetime(2026, 1, 1, tzinfo=UTC))
    assert made.span == (datetime(2013, 11, 20, 4, 48, tzinfo=UTC), later.ended)
    old = make(name="old.fits", OBJECT="old")
    fits.setval(old, "PROCDARK", value="2200-01-01T00:00:00")
    unknown = adopt(store, old)
    assert unknown.software_version == "unknown software"
    assert unknown.made_at > datetime(2026, 1, 2, tzinfo=UTC)  # a time in the future is not believed


# What it holds


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
def test_what_cannot_serve_is_refused(
    store: Store, make, mark: str, plane: str, value: float, message: str
) -> None:
    cards = {"PROCDARK": {}, "PROCSCI": SCIENCE}.get(mark, LAMP)
    good = make(mark, planes=("SCI",) if mark == "BPMASK" else ("SCI", "VAR", "DQ"), **cards)
    with pytest.raises(FrameError, match=message) as caught:
        adopt(store, _changed(good, plane, value))
    assert caught.value.name == "bad.fits"
    assert caught.value.remedy
    assert adopt(store, good).status == "candidate"


def test_some_rows_are_enough_where_they_are_not_flagged(store: Store, make) -> None:
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
    edited = _labelled(make(name="S8_dark.fits", NFKEY=KEY, **cards), rows, NFKEY=KEY)
    with pytest.raises(FrameError, match=message) as caught:
        adopt(store, edited)
    assert "Correct the header" in caught.value.remedy
    right = _labelled(make(name="S9_dark.fits", NFKEY=KEY), rows, NFKEY=KEY)
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
        adopt(store, _labelled(make(name="S8_dark.fits", NFKEY=KEY), rows, NFKEY=KEY))


def test_pixels_that_do_not_add_up_are_refused(store: Store, make) -> None:
    path = make()
    with fits.open(path) as hdus:
        hdus.writeto(path.with_name("summed.fits"), checksum=True)
    assert adopt(store, path.with_name("summed.fits")).kind == "dark"
    content = bytearray(path.with_name("summed.fits").read_bytes())
    content[-2880 * 3] ^= 1
    path.with_name("spoilt.fits").write_bytes(content)
    with pytest.raises(FrameError, match="do not add up to the DATASUM"):
        adopt(store, path.with_name("spoilt.fits"))


def test_the_shape_is_asked_for_before_any_pixel_is_read(store: Store, make) -> None:
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


def test_what_would_unpack_to_more_than_any_product(
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
