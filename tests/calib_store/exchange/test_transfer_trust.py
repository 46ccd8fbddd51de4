"""Transfers from an untrusted store."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from transfers import WHO, careful, exported, product_bytes, take, with_manifest

from calib_store.curation.certify import certify, reinstate, reject
from calib_store.exchange import proposals
from calib_store.exchange.manifest import new_product, product_entry
from calib_store.exchange.transfer import export, import_products
from calib_store.files.objects import object_name
from calib_store.model.records import IMPORTED, InputRef, Product
from calib_store.store import Store
from imaging.errors import StoreError


def forged(store: Store, folder: Path, product: Product, content: bytes, **changes: Any) -> Path:
    """An export of a product with other pixels under its recipe key, certified for ever by an impressive author."""
    export(store, [product], folder)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "objects" / digest[:2]).mkdir(exist_ok=True)
    (folder / "objects" / object_name(digest)).write_bytes(content)
    word = {
        "change": str(uuid4()), "status": "certified", "author": "Gemini", "reason": "official",
        "changed_at": "2026-01-01T00:00:00Z", "validity": ["2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"],
    }  # fmt: skip

    def forge(entry: dict[str, Any]) -> None:
        entry.update({"sha256": digest, "size": len(content), "decisions": [word]} | changes)

    with_manifest(folder, forge)
    return folder


def test_pixels_under_a_recipe_key_are_never_used_as_its_result(
    store: Store, other: Store, add_complete, record, facts, epoch, tmp_path: Path
) -> None:
    dark = add_complete("dark")
    source = forged(store, tmp_path / "x", dark, product_bytes("dark", level=500.0, number=7))
    done = careful(other, source)
    (here,) = done.added
    assert other.known(dark.recipe_key) is None  # a run that needs that dark makes it
    assert (here.status, here.validity, here.tier.name) == ("candidate", None, "PROVISIONAL")
    assert here.provisional == IMPORTED
    assert other.match(facts(), "dark").product == here, "better than nothing"
    raw = record("in0.fits", facts=facts(kind="dark"))
    other.frames.ingest([raw])
    (tmp_path / "own.fits").write_bytes(product_bytes("dark", number=1))
    own = other.add(new_product(product_entry(store, dark), "pipeline"), tmp_path / "own.fits")
    assert (own.id, own.provisional) == (dark.id, None)
    far = facts(started=epoch + timedelta(days=20))
    assert other.match(far, "dark").product == own
    again = careful(other, source)
    assert ([one.id for one in again.known], again.added, again.proposed) == ([own.id], [], [])


def test_decisions_elsewhere_are_shown_and_have_no_effect(
    store: Store, other: Store, family, tmp_path: Path, facts
) -> None:
    export(store, [family["dark"]], tmp_path / "x.tar")
    done = careful(other, tmp_path / "x.tar")
    (here,) = done.added
    assert (here.status, other.history(here)[-1].author, done.frames, done.changed) == (
        "candidate",
        "me",
        0,
        [],
    )
    (message, frame) = done.proposed
    assert re.fullmatch(r"S1_dark\.fits \(\w{8}\): certified for .* to .*, by Ana on [\d-]+: good", message)
    assert re.fullmatch(r"raw frame R1\.fits \(\w{8}\): rejected, by Bo on [\d-]+: satellite", frame)
    (proposal,) = proposed(other, here)
    assert (proposal.status, proposal.author, proposal.reason) == ("certified", "Ana", "good")
    assert (proposal.source, proposal.imported_by) == ("x.tar", "me")
    assert careful(other, tmp_path / "x.tar").proposed == []
    sure = certify(other, here, author="Cy", reason="looked at")
    assert (sure.status, sure.provisional, sure.tier.name) == ("certified", None, "SOUND")
    assert proposed(other, here) == (), "it was decided about"
    assert careful(other, tmp_path / "x.tar").proposed == []


def proposed(store: Store, product: Product) -> tuple[proposals.Proposal, ...]:
    found = store.database.read(lambda connection: proposals.on_products(connection, [product.id]))
    return found.get(product.id, ())


def test_no_other_store_can_reject_products_here(store: Store, other: Store, family, tmp_path: Path) -> None:
    take(other, exported(store, [family["dark"]], tmp_path / "first"))
    mine, frame = other.get(family["dark"].id), other.frames.get("R1")
    reinstate(other, frame, author="Cy", reason="fine")
    reject(store, family["dark"], author="Mallory", reason="gone")
    reinstate(store, store.frames.get("R1"), author="Bo", reason="x")
    reject(store, store.frames.get("R1"), author="Mallory", reason="gone too")
    source = exported(store, [store.get(family["dark"].id)], tmp_path / "second")
    done = careful(other, source)
    assert (done.added, done.changed) == ([], [])
    assert other.get(mine.id).status == "certified"
    assert other.frames.get("R1").rejected is None
    frames = other.database.read(lambda connection: proposals.on_frame(connection, frame.sha256))
    assert [one.author for one in (*proposed(other, mine), *frames)] == ["Mallory", "Mallory"]
    assert sorted(one.split(":")[0] for one in done.proposed) == [
        mine.name_and_id, f"raw frame R1.fits ({frame.sha256[:8]})",
    ]  # fmt: skip
    take(other, source)
    assert other.get(mine.id).status == "rejected"
    assert proposed(other, mine) == ()


def test_products_that_do_not_count_where_they_were_made_are_left_out(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    done = careful(other, exported(store, [family["image"]], tmp_path / "x.tar.gz"))
    assert sorted(one.kind for one in done.added) == ["dark", "flat", "image"]
    (remark,) = done.remarks
    assert re.fullmatch(
        r"S0_bpm\.fits was not imported: it is rejected there, by Ana on [\d-]+: good", remark
    ), remark


def test_a_careful_import_can_be_followed_by_a_trusting_one(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    (first,) = careful(other, source).added
    done = take(other, source)
    (own,) = done.added
    assert (own.id, other.get(own.id).status) == (family["dark"].id, "certified")
    left = other.history(other.get(first.id))[-1]
    assert (left.status, left.by, left.author) == ("superseded", own.id, "me")
    again = careful(other, source)
    assert ([one.id for one in again.known], again.added, again.proposed) == ([own.id], [], [])


def test_there_and_back_changes_nothing(store: Store, other: Store, family, tmp_path: Path) -> None:
    take(other, exported(store, [family["image"]], tmp_path / "there"))
    logs = [store.history(one) for one in store.products()]
    done = take(store, exported(other, [other.get(family["image"].id)], tmp_path / "back"))
    assert (done.added, done.changed, done.remarks, done.frames) == ([], [], [], 0)
    assert [store.history(one) for one in store.products()] == logs
    twice = exported(store, [family["dark"]], tmp_path / "again")
    assert take(other, twice).remarks == []


@pytest.mark.parametrize("key", ["c" * 64, None])
def test_a_recipe_key_is_computed_again(
    store: Store, other: Store, add_complete, tmp_path: Path, key: str | None
) -> None:
    dark = add_complete("dark")
    source = exported(store, [dark], tmp_path / "x")
    changes = {"recipe_key": key} if key else {"parameters": {"low": 4.0}}
    with_manifest(source, lambda entry: entry.update(changes))
    with pytest.raises(
        StoreError, match=rf"the recipe key of {dark.name} does not match its inputs"
    ) as caught:
        take(other, source)
    assert "without --trust" in caught.value.remedy
    assert other.products() == ()
    (here,) = careful(other, source).added
    assert here.recipe_key not in (dark.recipe_key, key)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"unused": ["x"]}},
        {"metrics": {"given_as": {"0" * 64: "dark"}}},
        {"provisional": "made without a bpm"},
        {"inputs": [{"role": "dark", "foreign": ["x.fits", ""]}]},
    ],
)
def test_a_recipe_key_that_cannot_be_computed_is_not_adopted(
    store: Store, other: Store, add_complete, tmp_path: Path, changes: dict[str, Any]
) -> None:
    dark = add_complete("dark")
    image = add_complete("image", inputs=[InputRef("dark", dark.id)])
    certify(store, dark, **WHO)
    source = exported(store, [image], tmp_path / "x")
    path = source / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["products"][0] |= changes
    path.write_text(json.dumps(manifest))
    done = take(other, source)
    assert {one.recipe_key for one in done.added}.isdisjoint({dark.recipe_key, image.recipe_key})
    assert {one.provisional for one in done.added} == {IMPORTED}
    assert [one.status for one in other.products(status="certified")] == []
    assert any("was imported as without --trust" in remark for remark in done.remarks)
    (here,) = (one for one in done.added if one.kind == "dark")
    assert [one.status for one in proposed(other, here)] == ["certified"]
    # Where it was made, the same file is known.
    assert import_products(store, source, author="me", trust=True).added == []


def test_a_file_of_the_wrong_shape(store: Store, other: Store, add_complete, tmp_path: Path) -> None:
    dark = add_complete("dark")
    source = exported(store, [dark], tmp_path / "x")
    with pytest.raises(StoreError, match=rf"x: {dark.name}: the wrong shape .*, expected \(2048, 2048\)"):
        import_products(other, source, author="me", shape=(2048, 2048))
    assert other.products() == ()


@pytest.mark.parametrize("level", [np.nan, -200.0, 9e4])
def test_pixels_are_checked_whatever_their_source(
    store: Store, other: Store, add_complete, tmp_path: Path, level: float
) -> None:
    source = forged(store, tmp_path / "x", add_complete("dark"), product_bytes("dark", level=level))
    for trust in (False, True):
        with pytest.raises(StoreError, match=r"plane SCI"):
            import_products(other, source, author="me", trust=trust)
    assert other.products() == ()
