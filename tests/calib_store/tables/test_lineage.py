"""Ancestors and descendants of products, foreign files included."""

from __future__ import annotations

import hashlib

import pytest

from calib_store.model.records import Foreign, InputRef
from calib_store.store import Store
from imaging.errors import StoreError


def test_affected_is_everything_downstream_in_the_order_to_redo_it(store: Store, add, record) -> None:
    raw, lamp, science = record("D.fits"), record("L.fits"), record("S.fits")
    store.frames.ingest([raw, lamp, science])
    bpm = add("bpm", inputs=[InputRef("short_dark", raw.sha256), InputRef("lamp_on", lamp.sha256)])
    flat = add("flat", inputs=[InputRef("lamp_on", lamp.sha256), InputRef("bpm", bpm.id)])
    dark = add("dark", inputs=[InputRef("dark", raw.sha256)])
    image = add(
        "image",
        inputs=[InputRef("science", science.sha256), *[InputRef(p.kind, p.id) for p in (dark, bpm, flat)]],
    )
    frame = store.frames.get("L.fits")
    assert store.affected(bpm) == (flat, image)
    assert store.affected(frame) == (bpm, flat, image)
    hit = store.affected(store.frames.get("D.fits"))
    assert {p.id for p in hit} == {bpm.id, flat.id, dark.id, image.id}
    assert hit[-1] == image
    assert hit.index(bpm) < hit.index(flat)
    assert store.affected(image) == ()
    assert store.affected(store.frames.get("S.fits")) == (image,)


def test_foreign_inputs_are_names_until_they_are_added(store: Store, add, record) -> None:
    raw = record("D.fits")
    dark = add(
        "dark",
        inputs=[
            InputRef("dark", Foreign("D.fits", f"sha256:{raw.sha256}")),
            InputRef("dark", Foreign("E.fits", "md5:abc")),
            InputRef("dark", Foreign("F.fits")),
        ],
    )
    edges = store.lineage(dark).edges
    assert [(e.name, e.frame_sha256, e.checksum) for e in edges] == [
        ("D.fits", None, f"sha256:{raw.sha256}"), ("E.fits", None, "md5:abc"), ("F.fits", None, ""),
    ]  # fmt: skip
    assert store.inputs_of(dark)[1].source == Foreign("E.fits", "md5:abc")
    store.frames.ingest([raw])
    assert store.lineage(dark).frames == (raw.sha256,)
    assert store.affected(store.frames.get("D.fits")) == (dark,)


def test_an_added_foreign_product_is_linked_with_all_its_ancestors(store: Store, add, record) -> None:
    raw = record("D.fits")
    store.frames.ingest([raw])
    content = b"the dark" * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    image = add("image", inputs=[InputRef("dark", Foreign("S1_dark.fits", f"sha256:{sha256}"))])
    assert store.lineage(image).products == ()
    dark = add("dark", content=content, inputs=[InputRef("dark", raw.sha256)])
    lineage = store.lineage(image)
    assert lineage.products == (dark.id,)
    assert lineage.frames == (raw.sha256,)
    assert store.affected(dark) == (image,)
    assert store.affected(store.frames.get("D.fits")) == (dark, image)


def test_products_that_were_made_from_each_other_are_refused(store: Store, add) -> None:
    """A circular lineage is endless."""
    contents = {name: name.encode() * 1000 for name in ("first", "second", "third")}
    by_sum = {
        name: InputRef("dark", Foreign(f"{name}.fits", f"sha256:{hashlib.sha256(content).hexdigest()}"))
        for name, content in contents.items()
    }
    first = add("dark", content=contents["first"], inputs=[by_sum["second"]])
    second = add("dark", content=contents["second"], inputs=[by_sum["third"]])
    with pytest.raises(StoreError, match="named as its own ancestor"):
        add("dark", content=contents["third"], inputs=[InputRef("dark", first.id)])
    assert {p.id for p in store.products()} == {first.id, second.id}
    third = add("dark", content=contents["third"])
    assert store.affected(third) == (second, first)
    assert store.lineage(first).products == (second.id, third.id)
