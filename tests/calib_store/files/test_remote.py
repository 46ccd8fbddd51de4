"""Objects at a URL: in memory, and on a real S3 server over HTTP."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest

from calib_store.curation.verify import gc, remove, verify
from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import ObjectStore, file_sha256, object_name
from calib_store.files.remote import RemoteObjects
from calib_store.model.settings import StoreSettings
from calib_store.server.places import objects_of
from calib_store.store import Store
from imaging.errors import StoreError


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    """A new place at a URL."""
    if request.param == "s3":
        request.getfixturevalue("s3_endpoint")
        return f"s3://observatory/{uuid.uuid4().hex}/objects"
    return f"memory://{uuid.uuid4().hex}/objects"


@pytest.fixture
def objects(url: str, tmp_path: Path) -> RemoteObjects:
    made = RemoteObjects(url, tmp_path / "cache", cache_limit=10**9)
    made.prepare()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "S1_dark.fits"
    path.write_bytes(b"pixels" * 10000)
    return path


def other(objects: RemoteObjects, tmp_path: Path) -> RemoteObjects:
    """The same objects as seen by another machine."""
    return RemoteObjects(objects.url, tmp_path / uuid.uuid4().hex, cache_limit=10**9)


def damage(objects: RemoteObjects, sha256: str) -> str:
    """Change the stored bytes and return the path of the object there."""
    path = f"{objects._root}/{object_name(sha256)}"
    objects._fs.pipe_file(path, b"rotten" * 10000)
    return path


def test_put_and_local_on_another_machine(objects: RemoteObjects, file: Path, tmp_path: Path) -> None:
    began = time.time()
    sha256, size = objects.put(file)
    assert (sha256, size) == (file_sha256(file), 60000)
    assert objects.put(file).sha256 == sha256
    assert [found.sha256 for found in objects.objects()] == [sha256]
    (found,) = objects.objects()
    assert found.size == size
    assert began - 1 <= found.since <= time.time() + 1  # S3 has whole seconds
    assert list(objects.leftovers()) == []
    elsewhere = other(objects, tmp_path)
    assert elsewhere.local(sha256).read_bytes() == file.read_bytes()
    assert elsewhere.local(sha256).is_relative_to(elsewhere.cache.root)
    assert elsewhere.examine(sha256) == "intact"
    assert not elsewhere.verify("0" * 64)
    assert elsewhere.examine("0" * 64) == "missing"
    assert (elsewhere.exists(sha256), elsewhere.exists("0" * 64)) == (True, False)


def test_the_file_itself_may_be_moved(objects: RemoteObjects, file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    sha256, _ = objects.put(file, move=True)
    assert not file.exists()
    assert objects.local(sha256).read_bytes() == content


def test_damage_is_found_at_the_read_and_set_aside(
    objects: RemoteObjects, file: Path, tmp_path: Path
) -> None:
    sha256, _ = objects.put(file)
    damage(objects, sha256)
    assert objects.examine(sha256) == "damaged"
    reader = other(objects, tmp_path)
    assert not reader.verify(sha256)
    with pytest.raises(StoreError, match="missing or damaged"):
        reader.local(sha256)
    assert [found.place.startswith("quarantine/") for found in reader.leftovers()] == [True]
    assert list(reader.objects()) == []
    # The machine that made it has an intact copy: nothing is lost.
    assert objects.heal(sha256)
    assert other(objects, tmp_path).local(sha256).read_bytes() == file.read_bytes()
    assert not reader.heal("0" * 64)


def test_damage_that_cannot_be_set_aside_is_not_used(
    objects: RemoteObjects,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sha256, _ = objects.put(file)
    damage(objects, sha256)
    reader = other(objects, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(reader._fs, "mv", refuse)
    assert not reader.verify(sha256)
    assert "cannot be moved" in caplog.text
    assert "Access Denied" in caplog.text


def test_the_marker_is_neither_an_object_nor_a_leftover(
    objects: RemoteObjects, file: Path, tmp_path: Path
) -> None:
    assert objects.read_marker() is None
    objects.write_marker(b"{}")
    assert other(objects, tmp_path).read_marker() == b"{}"
    assert list(objects.objects()) == list(objects.leftovers()) == []


def test_a_damaged_copy_is_fetched_again(objects: RemoteObjects, file: Path) -> None:
    sha256, _ = objects.put(file)
    copy = objects.cache.path(sha256)
    copy.chmod(0o644)
    copy.write_bytes(b"rotten")
    assert objects.local(sha256).read_bytes() == file.read_bytes()


def test_a_killed_process_leaves_only_a_temporary_file(objects: RemoteObjects, file: Path) -> None:
    sha256 = file_sha256(file)
    objects._fs.pipe_file(f"{objects._root}/{sha256[:2]}/.{sha256}.abc", b"half")
    assert list(objects.objects()) == []
    assert not objects.exists(sha256)
    (left,) = objects.leftovers()
    assert objects.renewed(left) is not None
    objects.remove(left)
    assert objects.renewed(left) is None
    assert list(objects.leftovers()) == []


def test_a_failed_copy_leaves_nothing(
    objects: RemoteObjects, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects._fs, "put_file", lambda source, to, **_: objects._fs.pipe_file(to, b"x"))
    with pytest.raises(StoreError, match="stores wrong data"):
        objects.put(file)
    assert list(objects.objects()) == list(objects.leftovers()) == []


def test_a_full_place_is_reported_and_leaves_nothing(
    objects: RemoteObjects, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(objects._fs, "put_file", full)
    with pytest.raises(StoreError, match=r"cannot be written: .*No space left on device") as caught:
        objects.put(file)
    assert "has room" in caught.value.remedy
    assert list(objects.objects()) == list(objects.leftovers()) == []


def test_the_cache_stays_within_its_limit(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calib_store.files.remote._GRACE", 0.0)
    objects = RemoteObjects(url, tmp_path / "cache", cache_limit=25_000)
    names = []
    for number in range(4):
        file = tmp_path / f"{number}.fits"
        file.write_bytes(bytes([number]) * 10_000)
        names.append(objects.put(file).sha256)
        os.utime(objects.cache.path(names[-1]), (1e9 + number, 1e9 + number))
    kept = {found.sha256 for found in objects.cache.objects()}
    assert kept == set(names[2:])
    assert objects.local(names[0]).read_bytes() == bytes(10_000)


def test_a_place_that_does_not_answer(tmp_path: Path, s3_endpoint: str, file: Path) -> None:
    objects = RemoteObjects("s3://no-such-bucket/x", tmp_path / "cache", cache_limit=1)
    with pytest.raises(StoreError, match=r"objects at s3://no-such-bucket/x cannot be written: .*bucket"):
        objects.put(file)
    with pytest.raises(StoreError, match=r"The bucket 'no-such-bucket'.*does not exist"):
        objects.prepare()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://me:hush@bucket/x", "holds a user name or password"),
        ("nonsense://bucket", "cannot be kept at nonsense://bucket"),
    ],
)
def test_urls_that_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        RemoteObjects(url, tmp_path, cache_limit=1)
    assert "NIRFLOW_OBJECTS_URL" in caught.value.remedy
    assert "hush" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("name", ["", "../" * 10 + "etc/passwd", "A" * 64])
def test_only_a_sha256_names_an_object(objects: RemoteObjects, name: str) -> None:
    for call in (objects.verify, objects.local, objects.examine, objects.exists):
        with pytest.raises(StoreError, match="not a sha256"):
            call(name)


def test_the_settings_name_the_place(tmp_path: Path) -> None:
    def place(url: str | None) -> ObjectStore:
        return objects_of(StoreSettings(data_dir=tmp_path, objects_url=url))

    for url, root in (
        (None, tmp_path / "objects"),
        (str(tmp_path / "shared"), tmp_path / "shared"),
        (f"file://{tmp_path}/shared", tmp_path / "shared"),
        (f"file://{tmp_path}/my%20objects", tmp_path / "my objects"),
    ):
        local = place(url)
        assert isinstance(local, LocalObjects)
        assert local.root == root
    remote = place("memory://here")
    assert isinstance(remote, RemoteObjects)
    assert remote.place == "memory://here"
    assert remote.cache.root == tmp_path / "cache"


def test_a_store_at_a_url(store: Store, url: str, tmp_path: Path, add, facts) -> None:
    """The life of a product there: added, matched on another machine, damaged, repaired, tidied."""
    here = RemoteObjects(url, tmp_path / "here", cache_limit=10**9)
    there = RemoteObjects(url, tmp_path / "there", cache_limit=10**9)
    store.objects = here
    dark, next_best = add(content=b"dark" * 5000), add(hours=4)
    away = Store(store.database, there)
    assert away.match(facts(), "dark").product == dark
    assert away.file_of(dark).read_bytes() == b"dark" * 5000
    damage(here, dark.sha256)
    fresh = Store(store.database, RemoteObjects(url, tmp_path / "fresh", cache_limit=10**9))
    assert fresh.match(facts(), "dark").product == next_best
    assert not verify(fresh).well
    done = verify(store, repair=True)
    assert [(finding.condition, finding.done) for finding in done.findings] == [("missing", "healed")]
    assert verify(fresh).well
    assert fresh.match(facts(), "dark").product == store.get(dark.id)
    from datetime import timedelta

    none = timedelta(0)
    time.sleep(1.1)  # S3 has whole seconds
    waste = gc(store, grace=none)
    assert [one.what for one in waste] == ["damaged"]
    assert remove(store, waste, grace=none) == waste
    assert gc(store, grace=none) == ()
