"""Limits of a manifest and a tar."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from transfers import careful, exported, member, take, with_manifest

from calib_store.exchange import proposals
from calib_store.exchange.decision_log import decisions_on_frames, decisions_on_products
from calib_store.exchange.transfer import import_products
from calib_store.files.objects import object_name
from calib_store.store import Store
from calib_store.tables.products import with_ids
from imaging.errors import StoreError

# Limits of a manifest


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("products", 0, "metrics", "noise"), float("nan"), "NaN is not a finite number"),
        (("products", 0, "metrics", "noise"), float("-inf"), "-Infinity is not a finite number"),
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
            "comes before one of its inputs",
        ),
        (("products", 0, "inputs", 0), {"role": "x", "foreign": ["a", "sha1:00"]}, "should match pattern"),
    ],
)
@pytest.mark.parametrize("trust", [True, False])
def test_values_that_no_product_has(
    store: Store, other: Store, family, tmp_path: Path, place, value, message: str, trust: bool
) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    path = source / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=message):
        import_products(other, source, author="me", trust=trust)
    assert other.products() == ()


def test_decisions_about_more_than_a_statement_has_parameters(store: Store) -> None:
    sha256s = [f"{number:064x}" for number in range(66_000)]
    assert store.database.run(lambda connection: decisions_on_frames(connection, sha256s)) == {}
    ids = [UUID(int=number) for number in range(66_000)]
    assert store.database.run(lambda connection: decisions_on_products(connection, ids)) == {}
    assert store.database.run(lambda connection: with_ids(connection, ids)) == ()
    assert store.database.run(lambda connection: proposals.on_products(connection, ids)) == {}


def test_one_file_under_two_names(store: Store, other: Store, add_complete, tmp_path: Path) -> None:
    one, two = add_complete(), add_complete(hours=1)
    source = exported(store, [one, two], tmp_path / "x")
    with_manifest(source, lambda entry: entry.update(sha256=one.sha256, size=one.size))
    with pytest.raises(StoreError, match=rf"{one.name} and {two.name} are the same file"):
        careful(other, source)
    with_manifest(source, lambda entry: entry.update(sha256=two.sha256, recipe_key=one.recipe_key))
    with pytest.raises(StoreError, match=f"two products have the recipe key of {two.name}"):
        careful(other, source)


def test_a_number_too_long_and_lists_too_deep(store: Store, other: Store, family, tmp_path: Path) -> None:
    source = exported(store, [family["dark"]], tmp_path / "x")
    path = source / "manifest.json"
    text = path.read_text()
    for value, message in (
        ("1e999", "1e999 is not a finite number"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "digits"),
    ):
        path.write_text(text.replace('"metrics": {', f'"metrics": {{"x": {value},', 1))
        with pytest.raises(StoreError, match=message):
            careful(other, source)
    path.write_text("[" + "0," * 3_000_001 + "0]")
    with pytest.raises(StoreError, match="more than 3000000 values"):
        careful(other, source)


# Limits of a tar


def packed(source: Path, target: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Pack a folder as a tar, with members between the manifest and the files."""
    with tarfile.open(target, f"w:{'gz' if target.suffix == '.gz' else ''}") as tar:
        tar.add(source / "manifest.json", "manifest.json")
        for member, content in more:
            tar.addfile(member, io.BytesIO(content))
        tar.add(source / "objects", "objects")
    return target


def test_a_tar_that_holds_more_than_its_manifest_names(
    store: Store, other: Store, family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calib_store.exchange.bundle.LARGEST_MANIFEST", 1 << 18)
    source = exported(store, [family["dark"]], tmp_path / "x")
    assert len(careful(other, packed(source, tmp_path / "good.tar.gz")).added) == 1
    for number, (extra, message) in enumerate(
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
            with pytest.raises(StoreError, match=message):
                take(other, bad)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
    assert len(other.products()) == 1


@pytest.mark.parametrize("name", ["folder", "all.tar.gz", "all.tar"])
def test_a_manifest_that_is_too_long_is_not_read_completely(
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
