"""From store to store: with lineage and words, as often as wanted, and nothing of a manifest becomes a path."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import tarfile
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from astropy.io import fits
from pydantic import SecretStr

from calib_store.curation.certify import certify, reinstate, reject
from calib_store.curation.verify import verify
from calib_store.exchange import proposals
from calib_store.exchange.decision_log import decisions_on_frames, decisions_on_products
from calib_store.exchange.manifest import new_product, product_entry
from calib_store.exchange.recipe_check import ADOPTED, adopted_key, adopted_parameters, expected_key
from calib_store.exchange.transfer import Imported, export, import_products
from calib_store.files.objects import file_sha256, object_name
from calib_store.model.records import IMPORTED, Foreign, InputRef, Product
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables import status
from calib_store.tables.products import with_ids
from imaging.errors import StoreError

HEADER = {
    "INSTRUME": "F2", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "FIELD", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "Y_G0811", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-21", "UTSTART": "03:00:00.0",
}  # fmt: skip
#: Kinds of the raw frames of a product.
OF = {"dark": "dark", "flat": "flat", "bpm": "flat", "image": "object"}
WHO = {"author": "Ana", "reason": "good"}


@pytest.fixture
def other(postgres_address, tmp_path: Path) -> Iterator[Store]:
    """Another store, empty."""
    name = f"other_{tmp_path.name[-12:].replace('-', '_')}"
    with postgres_address.administer() as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE nirflow_template OWNER nirflow')
    url = postgres_address.url(name).set(username="test_pipeline").render_as_string(hide_password=False)
    with Store.open(StoreSettings(data_dir=tmp_path / "other", database_url=SecretStr(url))) as opened:
        yield opened
    with postgres_address.administer() as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def add(add, store: Store, record, facts):
    """Add a product whose file and inputs a store takes in."""
    serial = itertools.count()

    def make(kind: str = "dark", **changes):
        number = next(serial)
        raw = record(f"in{number}.fits", facts=facts(kind=OF[kind]))
        store.frames.ingest([raw])
        given = {"content": product_bytes(kind, number=number), "inputs": [InputRef(OF[kind], raw.sha256)]}
        given |= changes
        keys = {
            ref.source: store.get(ref.source).recipe_key
            for ref in given["inputs"]
            if isinstance(ref.source, UUID)
        }
        key = expected_key(kind, "", given["inputs"], keys, {"low": 3.0}, "1", metrics={}, provisional=None)
        return add(kind, **({"recipe_key": key} if key is not None else {}) | given)

    return make


def product_bytes(kind: str, *, level: float = 1.0, number: int = 0, **cards) -> bytes:
    """A product's file that agrees with the facts of the fixtures."""
    marks = {"dark": "PROCDARK", "flat": "PROCFLAT", "bpm": "BPMASK", "image": "PROCSCI"}
    primary = fits.PrimaryHDU()
    primary.header.update(HEADER | {marks[kind]: "2026-01-01T00:00:00", "SERIAL": number} | cards)
    planes = [fits.ImageHDU(np.zeros((8, 8), np.uint8), name="SCI")]
    if kind != "bpm":
        values = {"SCI": np.full((8, 8), level, np.float32), "VAR": np.ones((8, 8), np.float32)}
        values["DQ"] = np.zeros((8, 8), np.uint16)
        planes = [fits.ImageHDU(plane, name=name) for name, plane in values.items()]
    file = io.BytesIO()
    fits.HDUList([primary, *planes]).writeto(file)
    return file.getvalue()


@pytest.fixture
def family(store: Store, add, record, facts):
    """A dark, a flat with a mask, and an image with all of them and a foreign input."""
    raws = [record(f"R{n}.fits", facts=facts(kind=kind)) for n, kind in enumerate(["flat", "dark", "object"])]
    store.frames.ingest([*raws, record("Q.fits", facts=None, quarantine="cut short")])
    bpm = add("bpm", inputs=[InputRef("lamp_on", raws[0].sha256)], gate={"passed": True, "reasons": []})
    dark = add("dark", inputs=[InputRef("dark", raws[1].sha256)], metrics={"level": 104.5})
    flat = add("flat", inputs=[InputRef("lamp_on", raws[0].sha256), InputRef("bpm", bpm.id)])
    pixels = product_bytes("image", number=99)
    image = add(
        "image", content=pixels, algorithm_version=ADOPTED, parameters=adopted_parameters("image"),
        recipe_key=adopted_key("image", hashlib.sha256(pixels).hexdigest()),
        inputs=[
            InputRef("science", raws[2].sha256), InputRef("dark", dark.id), InputRef("bpm", bpm.id),
            InputRef("flat", flat.id), InputRef("input", Foreign("elsewhere.fits", "md5:abc")),
        ],
    )  # fmt: skip
    certify(store, dark, **WHO)
    reject(store, bpm, **WHO)
    reject(store, store.frames.get("R1"), author="Bo", reason="satellite")
    return {kind: store.get(one.id) for kind, one in
            (("bpm", bpm), ("dark", dark), ("flat", flat), ("image", image))}  # fmt: skip


def take(other: Store, source: Path) -> Imported:
    """What becomes of an import from a store that is trusted."""
    return import_products(other, source, author="me", trust=True)


def same(one, two) -> bool:
    ignored = {"made_at", "variant"}
    return one.model_dump(exclude=ignored) == two.model_dump(exclude=ignored) and one.made_at == two.made_at


@pytest.mark.parametrize("name", ["folder", "all.tar", "all.tar.gz", "all.tgz"])
def test_a_product_arrives_with_all_that_it_was_made_from(
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


def test_what_people_said_here_stays(store: Store, other: Store, family, tmp_path: Path) -> None:
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
    """What becomes of an export and an import; a second import changes and reports the same as none."""
    export(store, [store.get(product.id)], folder)
    done = take(other, folder)
    logs = [other.history(one) for one in other.products()]
    again = take(other, folder)
    assert (again.added, again.changed, again.remarks) == ([], [], done.remarks)
    assert [other.history(one) for one in other.products()] == logs
    return done


def test_what_was_decided_elsewhere_since_is_taken_over(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    """A certification, its withdrawal, a rejection and a reinstatement, each with a transfer of its own."""
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


def test_where_both_stores_decided_neither_is_overruled(
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


def test_decisions_that_an_earlier_version_took_over_without_their_ids(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    dark = family["dark"]
    export(store, [dark], tmp_path / "0")
    path = tmp_path / "0" / "manifest.json"
    told = json.loads(path.read_text())
    decisions = told["products"][0].pop("decisions")
    word = {name: value for name, value in decisions[-1].items() if name != "change"}
    told["products"][0]["word"] = word
    for frame in told["frames"]:
        (decision,) = frame.pop("decisions")
        empty = {"validity": None, "by": None, "because": None}
        frame["word"] = {n: v for n, v in decision.items() if n != "change"} | empty
    path.write_text(json.dumps(told | {"version": 2}))
    take(other, tmp_path / "0")
    assert (other.get(dark.id).status, other.frames.get("R1").rejected) == ("certified", "satellite")
    reject(store, dark, author="Ana", reason="light leak")
    reinstate(store, store.frames.get("R1"), author="Bo", reason="fine")
    assert len(transferred(store, other, dark, tmp_path / "1").changed) == 2
    assert (other.get(dark.id).status, other.frames.get("R1").rejected) == ("rejected", None)


def test_what_was_repaired_by_an_import_is_rejected_by_it_too(
    store: Store, other: Store, add, tmp_path: Path
) -> None:
    dark = add()
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


def test_the_word_of_who_certified_goes_along_although_the_file_was_repaired(
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


def test_characters_of_a_manifest_that_nobody_should_print(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    export(store, [family["bpm"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["products"][-1]["decisions"][-1]["reason"] = "a\0b\x1b[2J\u202ec\n"
    path.write_text(json.dumps(manifest))
    take(other, tmp_path / "x")
    assert other.history(other.get(family["bpm"].id))[-1].reason == r"a\x00b\x1b[2J\u202ec\n"


@pytest.mark.parametrize("both", [True, False])
def test_what_took_a_place_is_known_here_where_it_comes_along(
    store: Store, other: Store, add, tmp_path: Path, both: bool
) -> None:
    old, new = add(), add(hours=1)
    store.set_status(old, "superseded", by=new.id, because="0" * 64, **WHO)
    export(store, [old, new] if both else [old], tmp_path / "x")
    take(other, tmp_path / "x")
    last = other.history(other.get(old.id))[-1]
    assert (last.status, last.author, last.because) == ("superseded", "Ana (elsewhere)", "0" * 64)
    assert last.by == (new.id if both else None)


@pytest.mark.parametrize("trust", [True, False])
def test_an_import_that_fails_leaves_nothing(
    store: Store, other: Store, add, tmp_path: Path, trust: bool
) -> None:
    bad, good = add(), add(hours=1)
    reject(store, bad, author="Ana", reason="light")
    manifest = export(store, [bad, good], tmp_path / "x")
    assert manifest.version == 3
    (tmp_path / "x" / "objects" / object_name(good.sha256)).unlink()
    with pytest.raises(StoreError, match="lacks the file"):
        import_products(other, tmp_path / "x", author="me", trust=trust)
    assert other.products() == ()
    assert other.frames.with_sha256s(frame.sha256 for frame in manifest.frames) == {}
    assert list(other.objects.objects()) == []


def test_what_an_earlier_version_wrote_is_taken(store: Store, other: Store, add, tmp_path: Path) -> None:
    dark = add()
    reject(store, dark, author="Ana", reason="light")
    export(store, [dark], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    told = json.loads(path.read_text())
    told["version"] = 1
    (decision,) = told["products"][0].pop("decisions")
    told["products"][0]["word"] = {n: v for n, v in decision.items() if n not in ("change", "by", "because")}
    del told["frames"][0]["decisions"]
    told["frames"][0]["word"] = None
    path.write_text(json.dumps(told))
    take(other, tmp_path / "x")
    assert other.get(dark.id).status == "rejected"


def test_a_time_that_is_taken_here_is_told(
    store: Store, other: Store, family, add, tmp_path: Path, facts
) -> None:
    export(store, [family["dark"]], tmp_path / "one")
    second = certify(store, add(hours=24 * 200), **WHO)
    export(store, [second], tmp_path / "two")
    take(other, tmp_path / "two")
    other.set_status(other.get(second.id), "certified", author="Cy", reason="", validity=(None, None))
    done = take(other, tmp_path / "one")
    (remark,) = done.remarks
    assert "stays a candidate: " in remark
    assert other.get(family["dark"].id).status == "candidate"


def test_an_import_that_was_cut_off_is_completed_by_the_next(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, [family["image"]], tmp_path / "x")
    original = status.set_status

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "set_status", die)  # after the mask came and before its word
    with pytest.raises(KeyboardInterrupt):
        take(other, tmp_path / "x")
    monkeypatch.setattr(status, "set_status", original)
    done = take(other, tmp_path / "x")
    assert len(done.added) + len(done.known) == 4
    assert other.get(family["bpm"].id).status == "rejected"


def test_targets_and_sources_that_are_no_good(store: Store, other: Store, family, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="is there already"):
        export(store, [family["dark"]], tmp_path / "there")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        export(store, [family["dark"]], tmp_path / "file" / "x.tar")
    store.file_of(family["flat"]).unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        export(store, [family["image"]], tmp_path / "new.tar")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    assert not (tmp_path / "new.tar").exists()
    for source, told in (
        (tmp_path / "there", "has no manifest.json"),
        (tmp_path / "file", "is no tar"),
        (tmp_path / "nothing", "There is no file or folder"),
    ):
        with pytest.raises(StoreError, match=told):
            take(other, source)
    assert other.products() == ()


HOSTILE = "../../../../tmp/escaped"


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("products", 0, "name"), HOSTILE, "not a plain file name"),
        (("products", 0, "sha256"), HOSTILE, "products.0.sha256: String should match"),
        (("products", 0, "recipe_key"), "a" * 63, "products.0.recipe_key: String should match"),
        (("products", 0, "kind"), "bias", "products.0.kind: Input should be"),
        (("products", 0, "size"), -1, "products.0.size"),
        (("products", 0, "surprise"), 1, "products.0.surprise: Extra inputs"),
        (("products", 0, "inputs", 0, "product"), "0" * 32, "is not one thing"),
        (("products", 0, "sha256"), "0" * 64, "lacks the file of"),
        (("frames", 0, "sha256"), HOSTILE, "frames.0.sha256"),
        (("format",), "else", "format: Input should be 'nirflow-products'"),
        (("version",), 4, "version: Input should be 1, 2 or 3"),
        (("products", 0, "decisions", 0, "status"), "usable", "products.0.decisions.0.status: Input should"),
        (("products", 0, "decisions", 0, "validity"), None, "a certified product has a validity"),
        (
            ("products", 0, "decisions", 0, "validity"),
            ["2014-01-01T00:00:00Z", "2013-01-01T00:00:00Z"],
            "ends before it begins",
        ),
        (("products", 0, "decisions"), "x", "products.0.decisions: Input should be a valid tuple"),
        (("products", 0, "word"), 1, "products.0.word: Extra inputs"),
        (("frames", 0, "decisions", 0, "status"), "certified", "frames.0.decisions.0.status: Input should"),
    ],
)
def test_a_manifest_is_believed_in_nothing(
    store: Store, other: Store, family, tmp_path: Path, place, value, told: str
) -> None:
    export(store, [family["dark"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=told):
        take(other, tmp_path / "x")
    assert other.products() == ()
    assert not Path("/tmp/escaped").exists()


def test_a_file_that_is_another_is_refused(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["dark"]], tmp_path / "x")
    (file,) = (tmp_path / "x" / "objects").rglob("*.fits")
    file.chmod(0o644)
    file.write_bytes(b"other")
    with pytest.raises(StoreError, match="not the one that the manifest names"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_a_file_that_is_longer_than_was_said_is_not_read_to_its_end(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, [family["dark"]], tmp_path / "x")
    (file,) = (tmp_path / "x" / "objects").rglob("*.fits")
    file.chmod(0o644)
    whole = file.read_bytes()
    file.write_bytes(whole + b"0" * 5_000_000)
    sizes: list[int] = []

    def measured(path: Path) -> str:
        sizes.append(path.stat().st_size)
        return file_sha256(path)

    monkeypatch.setattr("calib_store.exchange.bundle.file_sha256", measured)
    with pytest.raises(StoreError, match="not the one that the manifest names"):
        take(other, tmp_path / "x")
    assert all(size <= len(whole) + 1 for size in sizes)
    assert other.products() == ()


def test_a_product_that_names_itself_is_refused(store: Store, other: Store, family, tmp_path: Path) -> None:
    """Its lineage would have no end."""
    export(store, [family["dark"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    own = next(one for one in manifest["products"] if one["recipe_key"] == family["dark"].recipe_key)
    own["inputs"].append({"role": "dark", "product": str(family["dark"].id)})
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="named among what it was made from"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_members_of_a_tar_that_are_no_files(store: Store, other: Store, family, tmp_path: Path) -> None:
    """A link in the place of a product's file leads nowhere."""
    export(store, [family["dark"]], tmp_path / "x")
    text = (tmp_path / "x" / "manifest.json").read_bytes()
    sha256 = json.loads(text)["products"][0]["sha256"]
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo(f"objects/{sha256[:2]}/{sha256}.fits")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(StoreError, match="lacks the file of"):
        take(other, tmp_path / "bad.tar")


def test_a_tar_that_was_cut_short(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["dark"]], tmp_path / "x.tar.gz")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="Fetch it again"):
        take(other, tmp_path / "x.tar.gz")
    assert other.products() == ()


# What arrives is checked like what is added


def _with_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["products"][-1])
    path.write_text(json.dumps(manifest))


def test_a_product_that_cannot_serve_does_not_come_in(
    store: Store, other: Store, add, tmp_path: Path
) -> None:
    flat = add("flat", content=product_bytes("flat", level=0.0))
    export(store, [flat], tmp_path / "x.tar")
    with pytest.raises(
        StoreError, match=rf"x.tar: {flat.name}: plane SCI: the median .* is 0, expected"
    ) as caught:
        take(other, tmp_path / "x.tar")
    assert caught.value.remedy
    assert other.products() == ()
    reject(store, flat, **WHO)
    export(store, [flat], tmp_path / "rejected.tar")
    take(other, tmp_path / "rejected.tar")
    assert other.get(flat.id).status == "rejected"


def as_a_flat(entry: dict[str, Any]) -> None:
    """Have a product of the manifest be a flat, with the recipe key that it would have."""
    inputs = [InputRef(one["role"], one["frame"]) for one in entry["inputs"]]
    key = expected_key("flat", "", inputs, {}, entry["parameters"], "1", metrics={}, provisional=None)
    entry.update(kind="flat", recipe_key=key)


def test_a_manifest_that_contradicts_the_file_is_refused(
    store: Store, other: Store, add, tmp_path: Path
) -> None:
    dark = add("dark")
    export(store, [dark], tmp_path / "x")
    _with_manifest(tmp_path / "x", lambda entry: entry["facts"].update(exposure_time=60.0))
    with pytest.raises(StoreError, match=rf"x: {dark.name}: .*EXPTIME = 60.0, expected 120.0 as in its file"):
        take(other, tmp_path / "x")
    _with_manifest(tmp_path / "x", as_a_flat)
    with pytest.raises(StoreError, match="the manifest has it as a flat, its file is a dark"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_a_product_whose_frames_have_another_configuration_is_refused(
    store: Store, other: Store, add, record, facts, tmp_path: Path
) -> None:
    raw = record("D0.fits", facts=facts(kind="dark", exposure_time=60.0))
    store.frames.ingest([raw])
    dark = add("dark", inputs=[InputRef("dark", raw.sha256)])
    export(store, [dark], tmp_path / "x")
    with pytest.raises(StoreError, match=r"EXPTIME = 120.0, expected 60.0 as in D0.fits"):
        take(other, tmp_path / "x")


# A store that nobody has vouched for


def careful(other: Store, source: Path) -> Imported:
    return import_products(other, source, author="me")


def forged(store: Store, folder: Path, product: Product, content: bytes, **changes: Any) -> Path:
    """An export of a product with other pixels under its recipe key, certified for ever by somebody great."""
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

    _with_manifest(folder, forge)
    return folder


def test_pixels_under_a_recipe_key_are_never_used_as_its_result(
    store: Store, other: Store, add, record, facts, epoch, tmp_path: Path
) -> None:
    dark = add("dark")
    source = forged(store, tmp_path / "x", dark, product_bytes("dark", level=500.0, number=7))
    done = careful(other, source)
    (here,) = done.added
    assert other.known(dark.recipe_key) is None  # whoever wants that dark makes it
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


def test_what_was_decided_elsewhere_is_shown_and_has_no_effect(
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
    (told, frame) = done.proposed
    assert re.fullmatch(r"S1_dark\.fits \(\w{8}\): certified for .* to .*, by Ana on [\d-]+: good", told)
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


def test_nobody_elsewhere_can_reject_what_is_here(store: Store, other: Store, family, tmp_path: Path) -> None:
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
        mine.told, f"raw frame R1.fits ({frame.sha256[:8]})",
    ]  # fmt: skip
    take(other, source)
    assert other.get(mine.id).status == "rejected"
    assert proposed(other, mine) == ()


def exported(store: Store, wanted: list[Product], target: Path) -> Path:
    export(store, wanted, target)
    return target


def test_what_does_not_count_where_it_was_made_stays_away(
    store: Store, other: Store, family, tmp_path: Path
) -> None:
    done = careful(other, exported(store, [family["image"]], tmp_path / "x.tar.gz"))
    assert sorted(one.kind for one in done.added) == ["dark", "flat", "image"]
    (remark,) = done.remarks
    assert re.fullmatch(
        r"S0_bpm\.fits was not taken: it is rejected there, by Ana on [\d-]+: good", remark
    ), remark


def test_what_was_taken_with_care_can_be_taken_over(
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
    store: Store, other: Store, add, tmp_path: Path, key: str | None
) -> None:
    dark = add("dark")
    source = exported(store, [dark], tmp_path / "x")
    changes = {"recipe_key": key} if key else {"parameters": {"low": 4.0}}
    _with_manifest(source, lambda entry: entry.update(changes))
    with pytest.raises(
        StoreError, match=rf"the recipe key of {dark.name} is not that of its inputs"
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
def test_a_recipe_key_that_cannot_be_computed_is_not_taken_over(
    store: Store, other: Store, add, tmp_path: Path, changes: dict[str, Any]
) -> None:
    dark = add("dark")
    image = add("image", inputs=[InputRef("dark", dark.id)])
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
    assert any("was taken as without --trust" in remark for remark in done.remarks)
    (here,) = (one for one in done.added if one.kind == "dark")
    assert [one.status for one in proposed(other, here)] == ["certified"]
    # Where it was made, the same file is known.
    assert import_products(store, source, author="me", trust=True).added == []


def test_a_file_of_the_wrong_shape(store: Store, other: Store, add, tmp_path: Path) -> None:
    dark = add("dark")
    source = exported(store, [dark], tmp_path / "x")
    with pytest.raises(StoreError, match=rf"x: {dark.name}: the wrong shape .*, expected \(2048, 2048\)"):
        import_products(other, source, author="me", shape=(2048, 2048))
    assert other.products() == ()


@pytest.mark.parametrize("level", [np.nan, -200.0, 9e4])
def test_pixels_are_checked_whoever_sends_them(
    store: Store, other: Store, add, tmp_path: Path, level: float
) -> None:
    source = forged(store, tmp_path / "x", add("dark"), product_bytes("dark", level=level))
    for trust in (False, True):
        with pytest.raises(StoreError, match=r"plane SCI"):
            import_products(other, source, author="me", trust=trust)
    assert other.products() == ()


# What a manifest may say


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("products", 0, "metrics", "noise"), float("nan"), "NaN is no finite number"),
        (("products", 0, "metrics", "noise"), float("-inf"), "-Infinity is no finite number"),
        (("products", 0, "metrics", "noise"), 10**400, "metrics have a number that is too large"),
        (("products", 0, "metrics", "unused"), 7, "metrics have a wrong unused"),
        (("products", 0, "gate"), {"passed": True, "reference": "x"}, "gate have a wrong reference"),
        (("frames", 0, "header", "LOW"), 10**400, "a number that is too large"),
        (("frames", 0, "facts", "exposure_time"), 1e300, "an exposure of"),
        (("products", 0, "name"), "a\x1b[31m.fits", "not a plain file name"),
        (("products", 0, "name"), "x" * 300, "not a plain file name"),
        (("products", 0, "size"), 10**12, "products.0.size: Input should be less than or equal"),
        (("products", 0, "software_version"), "x" * 301, "should have at most 300 characters"),
        (("products", 0, "parameters", "low"), "x" * 20_001, "a text of 20001 characters"),
        (("products", 0, "made_at"), "2200-01-01T00:00:00Z", "taken or made at 2200-01-01"),
        (("products", 0, "made_at"), "2020-01-01T00:00:00", "made_at: Input should have timezone info"),
        (("products", 0, "span", 0), "1900-01-01T00:00:00Z", "taken or made at 1900-01-01"),
        (("products", 0, "span", 0), "2020-01-01T00:00:00Z", "its exposures end before they begin"),
        (("products", 0, "decisions", 0, "changed_at"), "2200-01-01T00:00:00Z", "decided at 2200-01-01"),
        (("products", 0, "decisions", 0, "author"), "x" * 301, "an author of 301 characters"),
        (("products", 0, "inputs", 0, "frame"), "0" * 64, "a raw frame that the manifest does not describe"),
        (
            ("products", 0, "inputs", 0),
            {"role": "x", "product": "0" * 32},
            "comes before a product that it was",
        ),
        (("products", 0, "inputs", 0), {"role": "x", "foreign": ["a", "sha1:00"]}, "should match pattern"),
    ],
)
@pytest.mark.parametrize("trust", [True, False])
def test_values_that_no_product_has(
    store: Store, other: Store, family, tmp_path: Path, place, value, told: str, trust: bool
) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    path = source / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=told):
        import_products(other, source, author="me", trust=trust)
    assert other.products() == ()


def test_decisions_about_more_than_a_statement_has_parameters(store: Store) -> None:
    sha256s = [f"{number:064x}" for number in range(66_000)]
    assert store.database.run(lambda connection: decisions_on_frames(connection, sha256s)) == {}
    ids = [UUID(int=number) for number in range(66_000)]
    assert store.database.run(lambda connection: decisions_on_products(connection, ids)) == {}
    assert store.database.run(lambda connection: with_ids(connection, ids)) == ()
    assert store.database.run(lambda connection: proposals.on_products(connection, ids)) == {}


def test_one_file_under_two_names(store: Store, other: Store, add, tmp_path: Path) -> None:
    one, two = add(), add(hours=1)
    source = exported(store, [one, two], tmp_path / "x")
    _with_manifest(source, lambda entry: entry.update(sha256=one.sha256, size=one.size))
    with pytest.raises(StoreError, match=rf"{one.name} and {two.name} are one file"):
        careful(other, source)
    _with_manifest(source, lambda entry: entry.update(sha256=two.sha256, recipe_key=one.recipe_key))
    with pytest.raises(StoreError, match=f"two products have the recipe key of {two.name}"):
        careful(other, source)


def test_a_number_too_long_and_lists_too_deep(store: Store, other: Store, family, tmp_path: Path) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    path = source / "manifest.json"
    text = path.read_text()
    for value, told in (
        ("1e999", "1e999 is no finite number"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "digits"),
    ):
        path.write_text(text.replace('"metrics": {', f'"metrics": {{"x": {value},', 1))
        with pytest.raises(StoreError, match=told):
            careful(other, source)
    path.write_text("[" + "0," * 3_000_001 + "0]")
    with pytest.raises(StoreError, match="more than 3000000 values"):
        careful(other, source)


# What a tar may hold


def packed(source: Path, target: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A folder as a tar, with members between the manifest and the files."""
    with tarfile.open(target, f"w:{'gz' if target.suffix == '.gz' else ''}") as tar:
        tar.add(source / "manifest.json", "manifest.json")
        for member, content in more:
            tar.addfile(member, io.BytesIO(content))
        tar.add(source / "objects", "objects")
    return target


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


def test_a_tar_that_holds_more_than_its_manifest_names(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib_store.exchange.bundle.LARGEST_MANIFEST", 1 << 18)
    source = exported(store, [family["dark"]], tmp_path / "x")
    assert len(careful(other, packed(source, tmp_path / "good.tar.gz")).added) == 1
    for number, (extra, told) in enumerate(
        (
            ([(member("x", 30 << 20), bytes(30 << 20))], "more than its manifest names"),
            ([(member(f"x{n}", 0), b"") for n in range(20)], "more files than its manifest names"),
            ([(member("x", 1 << 20, tarfile.XHDTYPE), bytes(1 << 20))], r"a header of 1\.0 MB"),
            ([(member("x", 1 << 20, tarfile.GNUTYPE_LONGNAME), bytes(1 << 20))], r"a header of 1\.0 MB"),
        )
    ):
        bad = packed(source, tmp_path / f"{number}.tar.gz", *extra)
        tracemalloc.start()
        try:
            with pytest.raises(StoreError, match=told):
                take(other, bad)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
    assert len(other.products()) == 1


@pytest.mark.parametrize("name", ["folder", "all.tar.gz", "all.tar"])
def test_a_manifest_of_any_length_is_not_read_whole(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("calib_store.exchange.bundle.LARGEST_MANIFEST", 1 << 18)
    source = exported(store, [family["dark"]], tmp_path / "x")
    with (source / "manifest.json").open("ab") as file:
        file.write(b" " * (40 << 20))
    source = source if name == "folder" else packed(source, tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"is larger than 262144 bytes|more than its manifest names"):
            careful(other, source)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_pipes_in_a_transfer(store: Store, other: Store, family, tmp_path: Path) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    file = source / "objects" / object_name(family["dark"].sha256)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(StoreError, match="is a named pipe"):
        careful(other, source)
    (source / "manifest.json").unlink()
    os.mkfifo(source / "manifest.json")
    os.mkfifo(tmp_path / "x.tar")
    for path in (source, tmp_path / "x.tar"):
        with pytest.raises(StoreError, match="is a named pipe"):
            careful(other, path)
