from __future__ import annotations

import bz2
import gzip
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from calib_store.adopt import adopt
from calib_store.records import Foreign, InputRef
from calib_store.store import Store
from imaging.errors import FrameError, StoreError

PRIMARY = {
    "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "UTSTART": "04:48:00.0",
}  # fmt: skip


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
        images = [fits.ImageHDU(np.full((8, 8), i, np.float32), name=plane) for i, plane in enumerate(planes)]
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
    for name in ("other.fits", "edited.fits"):
        changed = adopt(store, copy.with_name(name))
        assert (changed.name, changed.algorithm_version) == (name, "adopted")


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


def test_lineage_of_nirflow_is_tied_to_what_there_is(store: Store, make, record) -> None:
    raws = [record(f"S{n}.fits") for n in range(3)]
    store.frames.ingest(raws[:2])
    dark = make(name="S9_dark.fits")
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
    product = adopt(store, _with_table(make(name="S9_dark.fits"), "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == tuple(
        InputRef("dark", Foreign(name, checksum)) for name, checksum, *_ in rows
    )


def test_of_a_calibration_that_is_not_here_its_own_inputs_are_told(store: Store, make, record) -> None:
    """From a science image every raw dark is reachable, whether its dark came along or not."""
    raws = [record(f"S{n}.fits") for n in range(2)]
    store.frames.ingest(raws)
    image = make("PROCSCI", name="S9_image.fits", OBSTYPE="OBJECT")
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
    image = make("PROCSCI", name="S9_image.fits", OBSTYPE="OBJECT")
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
    store: Store, make, record, add, tmp_path: Path, pack
) -> None:
    """DRAGONS sums the file as it read it; whichever form is still there, it is found."""
    plain = b"raw frame" * 1000
    suffix = {None: "", bz2.compress: ".bz2", gzip.compress: ".gz"}[pack]
    path = tmp_path / f"S20131120S0115.fits{suffix}"
    path.write_bytes(plain if pack is None else pack(plain))
    raw = record("S20131120S0115.fits", path=path)
    other = record("S20131120S0116.fits")
    dark = add(name="S20131120S0200_dark.fits", content=b"a dark" * 100)
    store.frames.ingest([raw, other])
    flat = make("PROCFLAT", name="S9_flat.fits", OBSTYPE="FLAT", IMCMB001="S20131120S0115.fits")
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
        again = make("PROCFLAT", name="S8_flat.fits", OBSTYPE="FLAT", EXPTIME=21.0)
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


# What it holds is looked at


@pytest.mark.parametrize(
    ("plane", "value", "told"),
    [
        ("SCI", np.nan, "most pixels of SCI are no numbers"),
        ("VAR", -1.0, "VAR is negative or no number in 16 of the 16"),
        ("VAR", np.nan, "VAR is negative or no number"),
    ],
)
def test_planes_that_hold_nothing_are_refused(
    store: Store, make, plane: str, value: float, told: str
) -> None:
    path = make()
    with fits.open(path) as hdus:
        hdus[plane].data[:] = value
        hdus["DQ"].data = np.zeros((8, 8), np.uint16)
        hdus.writeto(path.with_name("bad.fits"))
    with pytest.raises(FrameError, match=told):
        adopt(store, path.with_name("bad.fits"))


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
