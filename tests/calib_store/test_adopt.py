from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from calib_store.adopt import adopt
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
    assert fits.getdata(store.products()[0].path, "SCI").shape == (8, 8)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(StoreError, match="cannot be unpacked"):
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
    with pytest.raises(FrameError, match="no extension SCI"):
        adopt(store, make(name="raw.fits", planes=("",)))
    with pytest.raises(FrameError, match="wrong shape"):
        adopt(store, make(name="small.fits"), shape=(2048, 2048))
    with pytest.raises(FrameError, match="INSTRUME"):
        adopt(store, make(name="gmos.fits", INSTRUME="GMOS-S"))
    short = make(name="short.fits")
    short.write_bytes(short.read_bytes()[:-4000])
    (tmp_path / "text.fits").write_text("not FITS")
    (tmp_path / "empty.fits").touch()
    for name in ("short.fits", "text.fits", "empty.fits"):
        with pytest.raises(StoreError, match="not a whole FITS file"):
            adopt(store, tmp_path / name)
    with pytest.raises(StoreError, match="There is no file"):
        adopt(store, tmp_path / "none.fits")
    assert store.products() == ()


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
    product.path.chmod(0o644)
    product.path.write_bytes(b"\0" * 2880)
    with pytest.raises(StoreError, match=r"S9_dark.fits .* is missing or damaged"):
        store.file_of(product)
    repaired = adopt(store, copy)
    assert (repaired.id, repaired.metrics, repaired.damaged) == (product.id, product.metrics, False)
    assert store.file_of(repaired).read_bytes() == copy.read_bytes()
    assert len(store.products()) == 1
    assert len(store.inputs_of(repaired)) == 1
