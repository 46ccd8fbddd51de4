"""Transfers that contradict their own files: nothing in a manifest is trusted."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from transfers import WHO, product_bytes, take, with_manifest

from calib_store.curation.certify import reject
from calib_store.exchange.recipe_check import expected_key
from calib_store.exchange.transfer import export
from calib_store.files.objects import file_sha256
from calib_store.model.records import InputRef
from calib_store.store import Store
from imaging.errors import StoreError

HOSTILE = "../../../../tmp/escaped"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("products", 0, "name"), HOSTILE, "not a plain file name"),
        (("products", 0, "sha256"), HOSTILE, "products.0.sha256: String should match"),
        (("products", 0, "recipe_key"), "a" * 63, "products.0.recipe_key: String should match"),
        (("products", 0, "kind"), "bias", "products.0.kind: Input should be"),
        (("products", 0, "size"), -1, "products.0.size"),
        (("products", 0, "surprise"), 1, "products.0.surprise: Extra inputs"),
        (
            ("products", 0, "inputs", 0, "product"),
            "0" * 32,
            "is not exactly one frame, product or foreign file",
        ),
        (("products", 0, "sha256"), "0" * 64, "lacks the file of"),
        (("frames", 0, "sha256"), HOSTILE, "frames.0.sha256"),
        (("format",), "else", "format: Input should be 'nirflow-products'"),
        (("version",), 4, "version: Input should be 1, 2 or 3"),
        (("products", 0, "decisions", 0, "status"), "usable", "products.0.decisions.0.status: Input should"),
        (("products", 0, "decisions", 0, "validity"), None, "a certified product must have a validity"),
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
def test_nothing_in_a_manifest_is_trusted(
    store: Store, other: Store, family, tmp_path: Path, place, value, message: str
) -> None:
    export(store, [family["dark"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=message):
        take(other, tmp_path / "x")
    assert other.products() == ()
    assert not Path("/tmp/escaped").exists()


def test_a_different_file_is_refused(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["dark"]], tmp_path / "x")
    (file,) = (tmp_path / "x" / "objects").rglob("*.fits")
    file.chmod(0o644)
    file.write_bytes(b"other")
    with pytest.raises(StoreError, match="does not match the manifest"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_a_file_longer_than_declared_is_not_read_to_its_end(
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
    with pytest.raises(StoreError, match="does not match the manifest"):
        take(other, tmp_path / "x")
    assert all(size <= len(whole) + 1 for size in sizes)
    assert other.products() == ()


def test_a_product_that_names_itself_is_refused(store: Store, other: Store, family, tmp_path: Path) -> None:
    """Its lineage would be endless."""
    export(store, [family["dark"]], tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    own = next(one for one in manifest["products"] if one["recipe_key"] == family["dark"].recipe_key)
    own["inputs"].append({"role": "dark", "product": str(family["dark"].id)})
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="named among its own inputs"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_members_of_a_tar_that_are_not_files(store: Store, other: Store, family, tmp_path: Path) -> None:
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


def test_a_truncated_tar(store: Store, other: Store, family, tmp_path: Path) -> None:
    export(store, [family["dark"]], tmp_path / "x.tar.gz")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="Fetch it again"):
        take(other, tmp_path / "x.tar.gz")
    assert other.products() == ()


def test_a_product_that_cannot_serve_is_not_imported(
    store: Store, other: Store, add_complete, tmp_path: Path
) -> None:
    flat = add_complete("flat", content=product_bytes("flat", level=0.0))
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
    """Make a product of the manifest a flat, with the recipe key that it would have."""
    inputs = [InputRef(one["role"], one["frame"]) for one in entry["inputs"]]
    key = expected_key("flat", "", inputs, {}, entry["parameters"], "1", metrics={}, provisional=None)
    entry.update(kind="flat", recipe_key=key)


def test_a_manifest_that_contradicts_the_file_is_refused(
    store: Store, other: Store, add_complete, tmp_path: Path
) -> None:
    dark = add_complete("dark")
    export(store, [dark], tmp_path / "x")
    with_manifest(tmp_path / "x", lambda entry: entry["facts"].update(exposure_time=60.0))
    with pytest.raises(StoreError, match=rf"x: {dark.name}: .*EXPTIME = 60.0, expected 120.0 as in its file"):
        take(other, tmp_path / "x")
    with_manifest(tmp_path / "x", as_a_flat)
    with pytest.raises(StoreError, match="it is a flat in the manifest, but its file is a dark"):
        take(other, tmp_path / "x")
    assert other.products() == ()


def test_a_product_whose_frames_have_another_configuration_is_refused(
    store: Store, other: Store, add_complete, record, facts, tmp_path: Path
) -> None:
    raw = record("D0.fits", facts=facts(kind="dark", exposure_time=60.0))
    store.frames.ingest([raw])
    dark = add_complete("dark", inputs=[InputRef("dark", raw.sha256)])
    export(store, [dark], tmp_path / "x")
    with pytest.raises(StoreError, match=r"EXPTIME = 120.0, expected 60.0 as in D0.fits"):
        take(other, tmp_path / "x")
