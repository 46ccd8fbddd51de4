"""The recorded origin of adopted products."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from astropy.io import fits
from foreign_products import KEY, LAMP, LINEAGE, SCIENCE, labelled, with_table

from calib_store.exchange.adopt import adopt
from calib_store.model.records import Foreign, InputRef
from calib_store.store import Store

PROVENANCE = ["timestamp", "filename", "md5", "provenance_added_by"]


def test_lineage_of_nirflow_is_linked_to_known_frames_and_products(store: Store, make, record, facts) -> None:
    raws = [record(f"S{n}.fits", facts=facts(kind="dark")) for n in range(3)]
    store.frames.ingest(raws[:2])
    dark = make(name="S9_dark.fits", NFKEY=KEY)
    rows = [(f"S{n}.fits", raw.sha256, "dark", "S9_dark.fits") for n, raw in enumerate(raws)]
    product = adopt(store, with_table(dark, "LINEAGE", rows, LINEAGE))
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
    product = adopt(store, with_table(make(name="S9_dark.fits", NFKEY=KEY), "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == tuple(
        InputRef("dark", Foreign(name, checksum)) for name, checksum, *_ in rows
    )


def test_the_inputs_of_a_missing_calibration_are_recorded(store: Store, make, record) -> None:
    """From a science image every raw dark is reachable, whether or not its dark was added."""
    raws = [record(f"S{n}.fits") for n in range(2)]
    store.frames.ingest(raws)
    image = make("PROCSCI", name="S9_image.fits", NFKEY=KEY, **SCIENCE)
    rows = [
        ("S0.fits", raws[0].sha256, "science", "S9_image.fits"),
        ("S8_dark.fits", "a" * 64, "dark", "S9_image.fits"),
        ("S1.fits", raws[1].sha256, "dark", "S8_dark.fits"),
    ]
    image = with_table(image, "LINEAGE", rows, LINEAGE)
    product = adopt(store, image)
    assert set(store.lineage(product).frames) == {raw.sha256 for raw in raws}
    assert InputRef("dark of S8_dark.fits", raws[1].sha256) in store.inputs_of(product)


def test_the_inputs_of_a_known_calibration_are_not_repeated(store: Store, make, add, record) -> None:
    raw = record("S1.fits")
    store.frames.ingest([raw])
    dark = add(name="S8_dark.fits", inputs=[InputRef("dark", raw.sha256)])
    image = make("PROCSCI", name="S9_image.fits", NFKEY=KEY, **SCIENCE)
    rows = [
        ("S8_dark.fits", dark.sha256, "dark", "S9_image.fits"),
        ("S1.fits", raw.sha256, "dark", "S8_dark.fits"),
    ]
    product = adopt(store, with_table(image, "LINEAGE", rows, LINEAGE))
    assert store.inputs_of(product) == (InputRef("dark", dark.id),)
    assert store.lineage(product).frames == (raw.sha256,)
    assert store.affected(dark) == (product,)


@pytest.mark.parametrize("pack", [None, bz2.compress, gzip.compress])
def test_provenance_of_dragons_is_checked_by_md5(
    store: Store, make, record, facts, add, tmp_path: Path, pack
) -> None:
    """DRAGONS computes the sum of the file that it read; the file is found in any form in which it still exists."""
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
    product = adopt(store, with_table(flat, "PROVENANCE", rows, PROVENANCE))
    assert store.inputs_of(product) == (
        InputRef("input", raw.sha256),
        InputRef("input", Foreign("S20131120S0116.fits", f"md5:{'0' * 32}")),
        InputRef("dark", dark.id),
        InputRef("bpm", Foreign("S9_bpm.fits")),
    )
    if pack is not None:
        again = make("PROCFLAT", name="S8_flat.fits", OBJECT="again", **LAMP)
        packed = [("t", path.name, hashlib.md5(path.read_bytes()).hexdigest(), "prepare")]
        second = adopt(store, with_table(again, "PROVENANCE", packed, PROVENANCE))
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
        stack = labelled(path, rows, **label)
        copied = [("t", f"D{n}.fits", "0" * 32, "nirflow") for n in range(3)]
        return with_table(stack, "PROVENANCE", [*copied, ("t", "S0.fits", "", "prepare")], PROVENANCE)

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


def test_the_frames_of_a_missing_dark_are_still_reachable(store: Store, make, record) -> None:
    raw = record("D0.fits")
    store.frames.ingest([raw])
    path = make("PROCSCI", name="S0_stack.fits", PROCSOFT="DRAGONS", IMCMB001="S0.fits", **SCIENCE)
    rows = [("D0.fits", raw.sha256, "dark", "S8_dark.fits")]
    stack = adopt(store, labelled(path, rows, NFPROD="S8_dark.fits", NFKEY="c" * 64))
    assert store.inputs_of(stack) == (
        InputRef("input, by name", Foreign("S8_dark.fits")),
        InputRef("dark of S8_dark.fits", raw.sha256),
        InputRef("input, by name", Foreign("S0.fits")),
    )


def test_a_table_that_names_another_product_of_nirflow_does_not_count(
    store: Store, make, record, facts
) -> None:
    raw = record("D0.fits", facts=facts(kind="dark"))
    store.frames.ingest([raw])
    rows = [("D0.fits", raw.sha256, "dark", "S8_dark.fits")]
    own = {"PROCSOFT": "nirflow", "PROCSVER": "0.1.0", "NFKEY": KEY, "IMCMB001": "D1.fits"}
    mine = adopt(store, labelled(make(name="S8_dark.fits", **own), rows, NFKEY=KEY))
    assert store.inputs_of(mine) == (InputRef("dark", raw.sha256),)
    other = adopt(store, labelled(make(name="S7_dark.fits", **own), rows, NFKEY="c" * 64))
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
    assert unknown.made_at > datetime(2026, 1, 2, tzinfo=UTC)  # a time in the future is not accepted
