"""Transfers between stores: with lineage and decisions, repeatable, and no name in a manifest becomes a path."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transfers import WHO, take

from calib_store.curation.certify import certify, reinstate, reject
from calib_store.curation.verify import verify
from calib_store.exchange.manifest import new_product, product_entry
from calib_store.exchange.transfer import Imported, export, import_products
from calib_store.files.objects import object_name
from calib_store.model.records import Product
from calib_store.store import Store
from calib_store.tables import status
from imaging.errors import StoreError


def same(one, two) -> bool:
    ignored = {"made_at", "variant"}
    return one.model_dump(exclude=ignored) == two.model_dump(exclude=ignored) and one.made_at == two.made_at


@pytest.mark.parametrize("name", ["folder", "all.tar", "all.tar.gz", "all.tgz"])
def test_a_product_is_imported_with_all_its_ancestors(
    store: Store, other: Store, family, tmp_path: Path, name: str
) -> None:
    manifest = export(store, [family["image"]], tmp_path / name)
    assert [p.kind for p in manifest.products][-1] == "image"
    assert len(manifest.products) == 4
    done = take(other, tmp_path / name)
    assert (len(done.added), done.known, done.frames, done.remarks) == (4, [], 3, [])
    for product in family.values():
        arrived = other.get(product.id)
        assert same(arrived, store.get(product.id)), product.kind
        assert other.file_of(arrived).read_bytes() == store.file_of(product).read_bytes()
        assert other.inputs_of(arrived) == store.inputs_of(product)
    assert {e.name for e in other.lineage(family["image"]).edges} == {
        e.name for e in store.lineage(family["image"]).edges
    }
    assert other.history(family["bpm"])[-1].reason == "good"
    assert other.frames.get("R1").rejected == "satellite"
    assert other.frames.header_of(other.frames.get("R0").sha256) == {"OBJECT": "FIELD"}
    assert verify(other).well
    again = take(other, tmp_path / name)
    assert (again.added, len(again.known), again.frames) == ([], 4, 0)
    assert [len(other.history(product)) for product in family.values()] == [2, 2, 1, 1]


def test_decisions_of_users_here_are_kept(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["dark"]], tmp_path / "x.tar")
    take(other, tmp_path / "x.tar")
    reject(other, other.get(family["dark"].id), author="Cy", reason="not here")
    again = take(other, tmp_path / "x.tar")
    assert other.get(family["dark"].id).status == "rejected"
    (remark,) = again.remarks
    assert "stays rejected, by Cy on " in remark
    assert "in the other store it is certified for " in remark
    assert other.get(family["dark"].id).status == "rejected"


def transferred(store: Store, other: Store, product: Product, folder: Path) -> Imported:
    """Export and import products and return the result; a second import changes and reports nothing new."""
    export(store, [store.get(product.id)], folder)
    done = take(other, folder)
    logs = [other.history(one) for one in other.products()]
    again = take(other, folder)
    assert (again.added, again.changed, again.remarks) == ([], [], done.remarks)
    assert [other.history(one) for one in other.products()] == logs
    return done


def test_later_decisions_of_the_other_store_are_adopted(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    """A certification, its withdrawal, a rejection and a reinstatement, each in a separate transfer."""
    dark = family["dark"]
    reinstate(store, store.frames.get("R1"), author="Bo", reason="outside the detector")
    assert transferred(store, other, dark, tmp_path / "0").changed == []
    assert other.get(dark.id).status == "certified"
    store.set_status(dark, "candidate", author="Ana", reason="too early")
    done = transferred(store, other, dark, tmp_path / "1")
    assert re.fullmatch(
        r"S1_dark.fits .* was certified for .* and is a candidate now, by Ana on [\d-]+: too early",
        done.changed[0],
    )
    assert (len(done.changed), done.remarks) == (1, [])
    assert (other.get(dark.id).status, other.get(dark.id).validity) == ("candidate", None)
    reject(store, dark, author="Ana", reason="light leak")
    assert transferred(store, other, dark, tmp_path / "2").remarks == []
    assert other.get(dark.id).status == "rejected"
    reinstate(store, store.get(dark.id), author="Ana", reason="it was the flat")
    certify(store, store.get(dark.id), **WHO)
    (changed,) = transferred(store, other, dark, tmp_path / "3").changed
    assert re.search(r"was rejected and is certified for .* now, by Ana", changed)
    assert other.get(dark.id).validity == store.get(dark.id).validity
    here, there = (
        [(line.status, line.author, line.reason) for line in one.history(dark)[1:]] for one in (other, store)
    )
    assert here == [(status, f"{author} (elsewhere)", reason) for status, author, reason in there]


def test_a_raw_frame_that_was_reinstated_elsewhere(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    frame = store.frames.get("R1")
    transferred(store, other, family["dark"], tmp_path / "0")
    assert other.frames.get("R1").rejected == "satellite"
    reinstate(store, frame, author="Bo", reason="outside the detector")
    done = transferred(store, other, family["dark"], tmp_path / "1")
    (changed,) = done.changed
    assert re.fullmatch(
        r"raw frame R1\.fits \(\w{8}\) was rejected and is usable now, by Bo on [\d-]+: outside the detector",
        changed,
    )
    assert other.frames.get("R1").rejected is None
    reject(other, other.frames.get("R1"), author="Cy", reason="it is inside")
    reject(store, store.frames.get("R1"), author="Bo", reason="cosmic")
    reinstate(store, store.frames.get("R1"), author="Bo", reason="small")
    done = transferred(store, other, family["dark"], tmp_path / "2")
    assert done.changed == []
    assert re.fullmatch(
        r"raw frame R1\.fits .* stays rejected, by Cy on .*: it is inside; "
        r"in the other store it is usable, by Bo on .*: small",
        done.remarks[0],
    )
    assert other.frames.get("R1").rejected == "it is inside"


def test_if_both_stores_decided_neither_is_overruled(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    dark = family["dark"]
    transferred(store, other, dark, tmp_path / "0")
    reject(other, other.get(dark.id), author="Cy", reason="hot")
    store.set_status(dark, "candidate", author="Ana", reason="too early")
    (remark,) = transferred(store, other, dark, tmp_path / "1").remarks
    assert re.search(
        r"stays rejected, by Cy on .*: hot; in the other store it is a candidate, by Ana", remark
    )
    reject(store, dark, author="Ana", reason="indeed")
    assert transferred(store, other, dark, tmp_path / "2").remarks == []  # they agree now
    assert other.history(dark)[-1].author == "Cy"


def test_an_older_transfer_does_not_undo_what_a_newer_one_brought(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    bpm = family["bpm"]
    export(store, [bpm], tmp_path / "rejected")
    reinstate(store, bpm, author="Ana", reason="good after all")
    transferred(store, other, bpm, tmp_path / "reinstated")
    assert [line.status for line in other.history(bpm)] == ["candidate", "rejected", "candidate"]
    (remark,) = take(other, tmp_path / "rejected").remarks
    assert "stays a candidate, by Ana" in remark
    assert other.get(bpm.id).status == "candidate"


def test_decisions_that_an_earlier_version_adopted_without_their_ids(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    dark = family["dark"]
    export(store, [dark], tmp_path / "0")
    path = tmp_path / "0" / "manifest.json"
    contents = json.loads(path.read_text())
    decisions = contents["products"][0].pop("decisions")
    word = {name: value for name, value in decisions[-1].items() if name != "change"}
    contents["products"][0]["word"] = word
    for frame in contents["frames"]:
        (decision,) = frame.pop("decisions")
        empty = {"validity": None, "by": None, "because": None}
        frame["word"] = {n: v for n, v in decision.items() if n != "change"} | empty
    path.write_text(json.dumps(contents | {"version": 2}))
    take(other, tmp_path / "0")
    assert (other.get(dark.id).status, other.frames.get("R1").rejected) == ("certified", "satellite")
    reject(store, dark, author="Ana", reason="light leak")
    reinstate(store, store.frames.get("R1"), author="Bo", reason="fine")
    assert len(transferred(store, other, dark, tmp_path / "1").changed) == 2
    assert (other.get(dark.id).status, other.frames.get("R1").rejected) == ("rejected", None)


def test_a_product_repaired_by_an_import_is_also_rejected_by_it(
    store: Store, other: Store, add_complete, tmp_path: Path
) -> None:
    dark = add_complete()
    export(store, [dark], tmp_path / "before")
    reject(store, dark, **WHO)
    export(store, [store.get(dark.id)], tmp_path / "x")
    take(other, tmp_path / "before")
    here = other.get(dark.id)
    path = other.file_of(here)
    path.chmod(0o644)
    path.write_bytes(b"rot")
    assert other.find(here.recipe_key) is None
    done = take(other, tmp_path / "x")
    assert (done.remarks, other.get(dark.id).status, other.get(dark.id).damaged) == ([], "rejected", False)


def test_the_author_of_a_certification_is_transferred_although_the_file_was_repaired(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    dark = family["dark"]
    content = store.file_of(dark).read_bytes()
    store.objects.path(dark.sha256).unlink()  # type: ignore[attr-defined]
    assert store.find(dark.recipe_key) is None
    (tmp_path / "copy.fits").write_bytes(content)
    store.add(new_product(product_entry(store, dark), "pipeline"), tmp_path / "copy.fits")
    export(store, [store.get(dark.id)], tmp_path / "x")
    take(other, tmp_path / "x")
    last = other.history(other.get(dark.id))[-1]
    assert (last.status, last.author, last.reason) == ("certified", "Ana (elsewhere)", "good")


def test_unprintable_characters_in_a_manifest(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["bpm"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["products"][-1]["decisions"][-1]["reason"] = "a\0b\x1b[2J\u202ec\n"
    path.write_text(json.dumps(manifest))
    take(other, tmp_path / "x")
    assert other.history(other.get(family["bpm"].id))[-1].reason == r"a\x00b\x1b[2J\u202ec\n"


@pytest.mark.parametrize("both", [True, False])
def test_the_superseding_product_is_known_here_if_it_is_transferred(
    store: Store, other: Store, add_complete, tmp_path: Path, both: bool
) -> None:
    old, new = add_complete(), add_complete(hours=1)
    store.set_status(old, "superseded", by=new.id, because="0" * 64, **WHO)
    export(store, [old, new] if both else [old], tmp_path / "x")
    take(other, tmp_path / "x")
    last = other.history(other.get(old.id))[-1]
    assert (last.status, last.author, last.because) == ("superseded", "Ana (elsewhere)", "0" * 64)
    assert last.by == (new.id if both else None)


@pytest.mark.parametrize("trust", [True, False])
def test_an_import_that_fails_leaves_nothing(
    store: Store, other: Store, add_complete, tmp_path: Path, trust: bool
) -> None:
    bad, good = add_complete(), add_complete(hours=1)
    reject(store, bad, author="Ana", reason="light")
    manifest = export(store, [bad, good], tmp_path / "x")
    assert manifest.version == 3
    (tmp_path / "x" / "objects" / object_name(good.sha256)).unlink()
    with pytest.raises(StoreError, match="lacks the file"):
        import_products(other, tmp_path / "x", author="me", trust=trust)
    assert other.products() == ()
    assert other.frames.with_sha256s(frame.sha256 for frame in manifest.frames) == {}
    assert list(other.objects.objects()) == []


def test_a_transfer_of_an_earlier_version_is_accepted(
    store: Store, other: Store, add_complete, tmp_path: Path
) -> None:
    dark = add_complete()
    reject(store, dark, author="Ana", reason="light")
    export(store, [dark], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    contents = json.loads(path.read_text())
    contents["version"] = 1
    (decision,) = contents["products"][0].pop("decisions")
    contents["products"][0]["word"] = {
        n: v for n, v in decision.items() if n not in ("change", "by", "because")
    }
    del contents["frames"][0]["decisions"]
    contents["frames"][0]["word"] = None
    path.write_text(json.dumps(contents))
    take(other, tmp_path / "x")
    assert other.get(dark.id).status == "rejected"


def test_a_time_already_taken_here_is_reported(
    store: Store, other: Store, family, add_complete, tmp_path: Path, facts
) -> None:
    export(store, [family["dark"]], tmp_path / "one")
    second = certify(store, add_complete(hours=24 * 200), **WHO)
    export(store, [second], tmp_path / "two")
    take(other, tmp_path / "two")
    other.set_status(other.get(second.id), "certified", author="Cy", reason="", validity=(None, None))
    done = take(other, tmp_path / "one")
    (remark,) = done.remarks
    assert "stays a candidate: " in remark
    assert other.get(family["dark"].id).status == "candidate"


def test_an_interrupted_import_is_completed_by_the_next(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, [family["image"]], tmp_path / "x")
    original = status.set_status

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "set_status", die)  # after the mask was added and before its decision
    with pytest.raises(KeyboardInterrupt):
        take(other, tmp_path / "x")
    monkeypatch.setattr(status, "set_status", original)
    done = take(other, tmp_path / "x")
    assert len(done.added) + len(done.known) == 4
    assert other.get(family["bpm"].id).status == "rejected"


def test_invalid_targets_and_sources(store: Store, other: Store, family, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="already exists"):
        export(store, [family["dark"]], tmp_path / "there")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        export(store, [family["dark"]], tmp_path / "file" / "x.tar")
    store.file_of(family["flat"]).unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        export(store, [family["image"]], tmp_path / "new.tar")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    assert not (tmp_path / "new.tar").exists()
    for source, message in (
        (tmp_path / "there", "has no manifest.json"),
        (tmp_path / "file", "not a readable tar"),
        (tmp_path / "nothing", "There is no file or folder"),
    ):
        with pytest.raises(StoreError, match=message):
            take(other, source)
    assert other.products() == ()
