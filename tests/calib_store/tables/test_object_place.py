"""Nothing is recorded as lost or removed if the place of the files is not the store's own."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clean_databases import CleanDatabases
from sqlalchemy import text

from calib_store.curation.verify import gc, verify
from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import MARKER, ObjectStore
from calib_store.model.records import Product
from calib_store.model.settings import StoreSettings
from calib_store.server.places import objects_of
from calib_store.store import Store
from calib_store.tables.database import Database
from calib_store.tables.object_place import is_own_place, require_own_place
from imaging.errors import NirflowError, StoreError

NONE = timedelta(0)
Add = Callable[..., Product]


@pytest.fixture
def root(store: Store) -> Path:
    """The folder of the store's files."""
    assert isinstance(store.objects, LocalObjects)
    return store.objects.root


@pytest.fixture
def other(postgres_address, clean_databases: CleanDatabases, tmp_path: Path) -> Iterator[Store]:
    """Another store, empty; created at a different time than the template of the tests' databases."""
    with clean_databases.one() as name:
        database = Database(postgres_address.url(name))
        with database.begin() as connection:
            connection.execute(text("UPDATE rule_changes SET changed_at = changed_at + interval '1 ms'"))
        objects = objects_of(StoreSettings(data_dir=tmp_path / "other"))
        yield Store(database, objects)
        database.close()


def looking_at(store: Store, objects: ObjectStore) -> Store:
    """Return the store as seen by a process with another place of the files."""
    return Store(store.database, objects)


def damaged(store: Store) -> int:
    return sum(product.damaged for product in store.products())


def unmount(root: Path, tmp_path: Path) -> Path:
    """Leave only the empty mount point of the disk, and return where the disk is."""
    disk = tmp_path / "disk"
    root.rename(disk)
    root.mkdir()
    return disk


def mount(disk: Path, root: Path) -> None:
    shutil.rmtree(root)
    disk.rename(root)


def test_the_first_file_marks_the_place(store: Store, add: Add, root: Path) -> None:
    assert not is_own_place(store.database, store.objects)
    add()
    recorded = json.loads((root / MARKER).read_text())
    assert recorded["format"] == "nirflow-objects"
    assert is_own_place(store.database, store.objects)
    assert verify(store).well
    assert gc(store, grace=NONE) == ()


def test_an_account_that_may_not_write_the_marker_continues(
    store: Store, add: Add, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = add(), add(hours=1)
    (root / MARKER).unlink()

    def refuse(path: Path, parts: object) -> str:
        raise NirflowError(f"{path} cannot be written: Read-only file system.")

    with monkeypatch.context() as patch:
        patch.setattr("calib_store.files.local_objects.write_complete", refuse)
        store.objects.path(first.sha256).unlink()  # type: ignore[attr-defined]
        assert store.find(first.recipe_key) is None
    assert store.get(first.id).damaged
    assert not (root / MARKER).exists()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_disk_that_is_not_mounted_loses_nothing(
    store: Store, add: Add, root: Path, tmp_path: Path, number: int
) -> None:
    products = [add(hours=n) for n in range(number)]
    disk = unmount(root, tmp_path)
    seen = looking_at(store, LocalObjects(root))
    found = verify(seen)
    assert (found.missing, bool(found.doubt), found.well) == (number, True, False)
    for lost in (None, number + 1):
        with pytest.raises(StoreError, match="no file of any product") as caught:
            verify(seen, repair=True, lost=lost)
        assert f"--note-lost {number}" in caught.value.remedy
        assert products[0].name in caught.value.remedy
    with pytest.raises(StoreError, match="holds no file of any product: this store's files"):
        seen.find(products[0].recipe_key)
    with pytest.raises(StoreError, match="holds no file of any product: this store's files"):
        gc(seen, grace=NONE)
    assert damaged(store) == 0
    assert list(root.iterdir()) == []
    mount(disk, root)
    assert verify(store).well
    assert store.find(products[0].recipe_key) == products[0]


def test_nothing_is_added_if_the_disk_is_not_mounted(
    store: Store, add: Add, root: Path, tmp_path: Path
) -> None:
    add()
    disk = unmount(root, tmp_path)
    with pytest.raises(StoreError, match="holds no file of any product: this store's files"):
        add(hours=1)
    assert list(root.iterdir()) == []
    mount(disk, root)
    add(hours=2)


def test_lost_files_are_recorded_when_their_number_is_confirmed(
    store: Store, add: Add, root: Path, tmp_path: Path
) -> None:
    products = [add(hours=n) for n in range(5)]
    unmount(root, tmp_path)
    done = verify(store, repair=True, lost=5)
    assert [finding.done for finding in done.findings] == ["noted"] * 5
    assert damaged(store) == 5
    again = add(
        hours=9, recipe_key=products[0].recipe_key, content=b"again"
    )  # the place now belongs to the store
    assert (again.id, again.damaged) == (products[0].id, False)
    assert verify(store).doubt == ""


def test_copies_need_no_confirmation(store: Store, add: Add, root: Path, tmp_path: Path) -> None:
    for n in range(5):
        add(hours=n)
    disk = unmount(root, tmp_path)
    done = verify(store, repair=True, copies=[disk])
    assert ([finding.done for finding in done.findings], done.well) == (["replaced"] * 5, True)
    assert is_own_place(store.database, store.objects)


@pytest.mark.parametrize("shared", [False, True])
def test_the_place_of_another_store(
    store: Store, other: Store, add: Add, root: Path, tmp_path: Path, shared: bool
) -> None:
    """Even if that store has a file of this one, from an import."""
    products = [add(hours=n) for n in range(3)]
    theirs = other.objects
    require_own_place(other.database, theirs)
    (tmp_path / "x.fits").write_bytes(b"theirs")
    theirs.put(tmp_path / "x.fits")
    if shared:
        theirs.put(store.file_of(products[0]))
    lost = looking_at(store, theirs)
    for act in (
        lambda: verify(lost),
        lambda: verify(lost, repair=True, lost=3),
        lambda: verify(lost, repair=True, copies=[root]),
        lambda: gc(lost, grace=NONE),
        lambda: lost.find(products[1].recipe_key),
    ):
        with pytest.raises(StoreError, match="belong to another store") as caught:
            act()
        assert str(theirs.place) in caught.value.remedy
    assert damaged(store) == 0
    assert len(list(theirs.objects())) == 1 + shared


def test_a_new_store_does_not_claim_unmarked_files_of_an_earlier_nirflow(
    store: Store, other: Store, add: Add, root: Path
) -> None:
    add()
    (root / MARKER).unlink()
    new = looking_at(other, LocalObjects(root))
    with pytest.raises(StoreError, match="belong to another store"):
        gc(new, grace=NONE)
    assert store.objects.read_marker() is None


def test_a_place_without_a_marker_that_holds_the_stores_files_is_marked(
    store: Store, add: Add, root: Path
) -> None:
    """As left by an earlier nirflow."""
    first, second = add(), add(hours=1)
    (root / MARKER).unlink()
    store.objects.path(second.sha256).unlink()  # type: ignore[attr-defined]
    assert verify(store, repair=True).findings[0].done == "noted"
    assert is_own_place(store.database, store.objects)
    (root / MARKER).unlink()
    assert gc(store, grace=NONE) == ()
    assert is_own_place(store.database, store.objects)
    # Even if its only file was found damaged and set aside.
    (root / MARKER).unlink()
    path = store.objects.path(first.sha256)  # type: ignore[attr-defined]
    path.chmod(0o644)
    path.write_bytes(b"rot")
    assert store.find(first.recipe_key) is None
    assert store.get(first.id).damaged


def test_a_disk_that_is_mounted_in_part(store: Store, add: Add, root: Path, tmp_path: Path) -> None:
    """The marker exists, but most of the files are missing: neither a repair nor a reading records them as lost."""
    products = [add(hours=n) for n in range(8)]
    away = tmp_path / "away"
    away.mkdir()
    for product in products[:5]:
        store.objects.path(product.sha256).rename(away / product.name)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="5 of 8 files are missing"):
        verify(store, repair=True)
    with pytest.raises(StoreError, match="5 of the 8 newest files are missing"):
        store.find(products[0].recipe_key)
    assert damaged(store) == 0
    for product in products[:5]:
        (away / product.name).rename(store.objects.path(product.sha256))  # type: ignore[attr-defined]
    assert verify(store).well


def test_unreadable_files_are_named_and_never_recorded_as_lost(
    store: Store, add: Add, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [add(hours=n) for n in range(3)]
    bad = root / products[1].sha256[:2] / f"{products[1].sha256}.fits"
    bad.unlink()
    bad.mkdir()  # reading a folder fails for every account
    done = verify(store, repair=True)
    assert [(f.condition, f.done) for f in done.findings] == [("unreadable", "")]
    assert (damaged(store), done.well) == (0, False)
    bad.rmdir()
    marker = root / MARKER
    marker.unlink()
    marker.mkdir()
    for act in (lambda: verify(store), lambda: gc(store), lambda: store.find(products[1].recipe_key)):
        with pytest.raises(StoreError, match=r"store\.json cannot be read"):
            act()
    assert damaged(store) == 0


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "else", "store": "x"}'])
def test_a_marker_that_names_no_store(store: Store, add: Add, root: Path, content: str) -> None:
    add()
    (root / MARKER).write_text(content)
    with pytest.raises(StoreError, match="does not name the store") as caught:
        verify(store, repair=True)
    assert str(root / MARKER) in caught.value.message
    assert "delete that file" in caught.value.remedy


def test_the_marker_at_a_url(store: Store, other: Store, add: Add, tmp_path: Path) -> None:
    product = add()
    url = f"memory://{uuid.uuid4().hex}/objects"
    settings = StoreSettings(data_dir=tmp_path / "remote", objects_url=url)
    remote = looking_at(store, objects_of(settings))
    with pytest.raises(StoreError, match="no file of any product") as caught:
        verify(remote, repair=True)
    assert "--note-lost 1" in caught.value.remedy
    remote.objects.put(store.file_of(product))
    assert verify(remote, repair=True).well
    assert is_own_place(remote.database, remote.objects)
    with pytest.raises(StoreError, match="belong to another store"):
        gc(looking_at(other, remote.objects), grace=NONE)


def test_a_first_product_that_another_process_is_adding_is_no_other_stores_file(
    store: Store, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its file there, and no row yet; and it has marked the place after this process looked."""

    class Late(LocalObjects):
        looked = False

        def read_marker(self) -> bytes | None:
            found = super().read_marker() if self.looked else None
            self.looked = True
            return found

    assert isinstance(store.objects, LocalObjects)
    require_own_place(store.database, store.objects)
    file = store.objects.root.parent / "first.fits"
    file.write_bytes(b"pixels")
    store.objects.put(file)
    require_own_place(store.database, Late(store.objects.root))
