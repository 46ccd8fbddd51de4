"""Housekeeping: damage is found and repaired, and no file is removed that is referred to or being written."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from calib_store.curation import verify as upkeep
from calib_store.curation.verify import every_product, gc, number_of_products, remove, verify
from calib_store.files.local_objects import LocalObjects
from calib_store.store import Store
from calib_store.tables.locks import KEEPING
from calib_store.tables.object_place import require_own_place

NONE = timedelta(0)


def objects_of(store: Store) -> LocalObjects:
    assert isinstance(store.objects, LocalObjects)
    return store.objects


def flip(store: Store, product) -> Path:
    path = objects_of(store).path(product.sha256)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


def orphan(store: Store, tmp_path: Path, content: bytes = b"nobody's") -> str:
    require_own_place(store.database, store.objects)
    file = tmp_path / "orphan.fits"
    file.write_bytes(content)
    return store.objects.put(file).sha256


def test_an_intact_store(store: Store, add) -> None:
    products = [add(hours=n) for n in range(5)]
    seen: list[str] = []
    done = verify(store, progress=lambda product: seen.append(product.name))
    assert (done.checked, done.size, done.findings, done.well) == (
        5, sum(p.size for p in products), (), True,
    )  # fmt: skip
    assert sorted(seen) == sorted(p.name for p in products)
    assert done.orphans == done.leftovers == ()
    assert number_of_products(store) == 5


def test_all_pages_are_read(store: Store, add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_PAGE", 2)
    products = [add(hours=n) for n in range(5)]
    assert {p.id for p in every_product(store)} == {p.id for p in products}
    assert len(list(every_product(store))) == 5


def test_problems_are_found_and_left_alone_without_repair(store: Store, add, facts) -> None:
    whole, flipped, gone, noted = (add(hours=n) for n in range(4))
    flip(store, flipped)
    objects_of(store).path(gone.sha256).unlink()
    kept = objects_of(store).path(noted.sha256)
    kept.rename(kept.with_suffix(".away"))
    assert store.find(noted.recipe_key) is None
    kept.with_suffix(".away").rename(kept)
    done = verify(store)
    assert {(f.product.id, f.condition, f.done) for f in done.findings} == {
        (flipped.id, "damaged", ""), (gone.id, "missing", ""), (noted.id, "intact", ""),
    }  # fmt: skip
    assert not done.well
    assert objects_of(store).path(flipped.sha256).exists()
    assert not store.get(flipped.id).damaged
    assert verify(store) == done
    assert whole.id not in {f.product.id for f in done.findings}


def test_repair_fixes_what_it_can_and_records_the_rest(store: Store, add, facts, tmp_path: Path) -> None:
    flipped, gone, noted, copied = (add(hours=n) for n in range(4))
    backup = tmp_path / "backup" / "deep"
    backup.mkdir(parents=True)
    content = store.file_of(copied).read_bytes()
    (backup / "any name.fits").write_bytes(content)
    (backup / "other.fits").write_bytes(bytes(len(content)))
    for product in (flipped, copied):
        flip(store, product)
    objects_of(store).path(gone.sha256).unlink()
    store.database.run(
        lambda c: c.execute(text("UPDATE products SET damaged = true WHERE id = :id"), {"id": noted.id})
    )
    done = verify(store, repair=True, copies=[tmp_path / "backup"])
    assert {(f.product.id, f.done) for f in done.findings} == {
        (flipped.id, "noted"), (gone.id, "noted"), (noted.id, "intact again"), (copied.id, "replaced"),
    }  # fmt: skip
    assert not done.well
    assert store.find(noted.recipe_key) == store.get(noted.id)
    assert store.file_of(copied).read_bytes() == content
    assert [store.get(p.id).damaged for p in (flipped, gone)] == [True, True]
    assert len(done.leftovers) == 2
    second = verify(store, repair=True)
    assert {(f.product.id, f.condition, f.done) for f in second.findings} == {
        (flipped.id, "missing", "noted"), (gone.id, "missing", "noted"),
    }  # fmt: skip
    # A product recorded as damaged is made again under the same id.
    again = add(recipe_key=flipped.recipe_key, content=b"again")
    assert (again.id, again.damaged) == (flipped.id, False)


def test_gc_lists_before_it_removes_and_keeps_recent_files(store: Store, add, tmp_path: Path) -> None:
    """Promise 4."""
    kept = add()
    store.set_status(kept, "rejected", author="me", reason="x")
    sha256 = orphan(store, tmp_path)
    aside = objects_of(store).root / "ab" / f".{'ab' * 32}.0123"
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(b"half")
    flip(store, add(hours=1))
    assert store.match is not None
    for product in store.products():
        store.find(product.recipe_key)  # the damaged one is set aside
    staging = tmp_path / "staging"
    (staging / "tmpabc").mkdir(parents=True)
    (staging / "tmpabc" / "S1_dark.fits").write_bytes(b"x" * 10)
    assert gc(store, staging=staging) == ()
    waste = gc(store, grace=NONE, staging=staging)
    assert sorted(one.what for one in waste) == [
        "damaged", "left aside", "orphan", "unfinished product", "unfinished product",
    ]  # fmt: skip
    assert store.objects.exists(sha256)
    assert remove(store, waste) == tuple(one for one in waste if one.what == "unfinished product")
    gone = remove(store, gc(store, grace=NONE, staging=staging), grace=NONE)
    assert len(gone) == 3
    assert not store.objects.exists(sha256)
    assert store.file_of(kept).is_file()
    assert gc(store, grace=NONE, staging=staging) == ()
    assert verify(store).leftovers == ()


def test_a_file_that_gets_a_row_between_listing_and_removal_is_kept(
    store: Store, add, tmp_path: Path
) -> None:
    sha256 = orphan(store, tmp_path, b"late")
    waste = gc(store, grace=NONE)
    assert [one.found.sha256 for one in waste] == [sha256]
    late = add(content=b"late")
    assert late.sha256 == sha256
    assert remove(store, waste, grace=NONE) == ()
    assert store.file_of(late).read_bytes() == b"late"


def test_an_old_orphan_that_is_needed_again_counts_as_recent(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256, hour = orphan(store, tmp_path), timedelta(hours=1)
    (first,) = store.objects.objects()
    # An hour after the file was added, however long the test takes.
    monkeypatch.setattr(upkeep.time, "time", lambda: first.since + hour.total_seconds())
    (waste,) = gc(store, grace=hour)
    time.sleep(0.05)
    orphan(store, tmp_path)
    assert remove(store, [waste], grace=hour) == ()
    assert store.objects.exists(sha256)


def test_removal_waits_for_a_row_that_is_being_written(store: Store, tmp_path: Path, owner) -> None:
    """The file of a product is written, but not its row: housekeeping waits, checks again, and keeps the file."""
    sha256 = orphan(store, tmp_path)
    waste = gc(store, grace=NONE)
    gone: list[tuple] = []
    with store.database.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": KEEPING})
        thread = threading.Thread(target=lambda: gone.append(remove(store, waste, grace=NONE)))
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()
        assert store.objects.exists(sha256)
        connection.execute(
            text("""
                WITH variant AS (INSERT INTO variants (kind, parameters) VALUES ('image', '{}') RETURNING id)
                INSERT INTO products (id, recipe_key, kind, name, sha256, size, span_start, span_end, middle,
                    facts, metrics, parameters, algorithm_version, software_version, variant_id)
                SELECT gen_random_uuid(), repeat('a', 64), 'image', 'x', :sha256, 1, now(), now(), now(),
                    '{}', '{}', '{}', '1', '1', id FROM variant
            """),
            {"sha256": sha256},
        )
    thread.join()
    assert gone == [()]
    assert store.objects.exists(sha256)


def test_staging_that_is_written_to_again_is_kept(store: Store, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    (staging / "work").mkdir(parents=True)
    waste = gc(store, grace=NONE, staging=staging)
    (staging / "work" / "S1_dark.fits").write_bytes(b"new")
    assert remove(store, waste, grace=NONE) == ()
    assert (staging / "work" / "S1_dark.fits").exists()
    os.utime(staging / "work")
