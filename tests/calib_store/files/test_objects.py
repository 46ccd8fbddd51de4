from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import PATIENCE

from calib_store.files.local_objects import LocalObjects
from imaging.errors import StoreError


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "objects")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "S1_dark.fits"
    path.write_bytes(b"pixels" * 10000)
    return path


def _visible(objects: LocalObjects) -> list[Path]:
    return [p for p in objects.root.rglob("*") if p.is_file() and p.parent.name != "quarantine"]


def test_put_names_by_content_and_keeps_the_source(objects: LocalObjects, file: Path) -> None:
    stored = objects.put(file)
    assert stored == (hashlib.sha256(file.read_bytes()).hexdigest(), 60000)
    kept = objects.path(stored.sha256)
    assert kept.relative_to(objects.root).as_posix() == f"{stored.sha256[:2]}/{stored.sha256}.fits"
    assert kept.read_bytes() == file.read_bytes()
    assert kept.stat().st_ino != file.stat().st_ino
    assert kept.stat().st_mode & 0o222 == 0
    assert objects.put(file) == stored
    assert _visible(objects) == [kept]


def test_put_may_move_the_file_itself(objects: LocalObjects, file: Path) -> None:
    inode, content = file.stat().st_ino, file.read_bytes()
    kept = objects.path(objects.put(file, move=True).sha256)
    assert not file.exists()
    assert kept.stat().st_ino == inode
    file.write_bytes(content)
    objects.put(file, move=True)
    assert not file.exists()


@pytest.mark.parametrize(
    "name", ["", "ab", "../" * 10 + "etc/passwd", "A" * 64, "g" * 64, "a" * 63 + "\n", "a" * 65]
)
def test_only_a_sha256_names_an_object(objects: LocalObjects, name: str) -> None:
    for call in (
        objects.path,
        objects.verify,
        objects.require,
        objects.local,
        objects.examine,
        objects.exists,
    ):
        with pytest.raises(StoreError, match="not a sha256"):
            call(name)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(bit=st.integers(0, 60000 * 8 - 1), fresh=st.booleans())
def test_one_flipped_bit_is_found_even_with_the_old_date(
    tmp_path: Path, file: Path, bit: int, fresh: bool
) -> None:
    root = tmp_path / f"objects-{bit}-{fresh}"
    objects = LocalObjects(root)
    sha256 = objects.put(file).sha256
    assert objects.verify(sha256)
    kept = objects.path(sha256)
    before = kept.stat()
    kept.chmod(0o644)
    with kept.open("rb+") as stream:
        stream.seek(bit // 8)
        byte = stream.read(1)[0]
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ (1 << bit % 8)]))
    kept.chmod(0o444)
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Neither an instance that knows the file nor a new one accepts it.
    reader = LocalObjects(root) if fresh else objects
    assert not reader.verify(sha256)
    assert not kept.exists()
    assert len(list((root / "quarantine").iterdir())) == 1
    with pytest.raises(StoreError, match="missing or damaged"):
        reader.local(sha256)
    assert objects.put(file).sha256 == sha256
    assert reader.verify(sha256)


def test_a_truncated_file_and_a_replaced_one_are_found(objects: LocalObjects, file: Path) -> None:
    sha256 = objects.put(file).sha256
    kept = objects.path(sha256)
    kept.chmod(0o644)
    os.truncate(kept, 100)
    assert not objects.verify(sha256)
    objects.put(file)
    kept.unlink()
    kept.write_bytes(b"other")
    assert not objects.verify(sha256)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.EACCES, errno.EIO])
def test_a_temporarily_unreadable_file_is_not_reported_as_damaged(
    objects: LocalObjects, file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If it were set aside, it would be lost: housekeeping removes damaged files."""
    sha256 = objects.put(file).sha256
    fresh = LocalObjects(objects.root)

    def fail(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("calib_store.files.local_objects.file_sha256", fail)
        with pytest.raises(StoreError, match="cannot be read") as caught:
            fresh.verify(sha256)
        assert "Nothing was changed" in caught.value.remedy
    assert fresh.verify(sha256)
    assert list(objects.leftovers()) == []


def test_a_damaged_file_that_cannot_be_moved_is_not_used(
    objects: LocalObjects, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = objects.put(file).sha256
    objects.path(sha256).chmod(0o644)
    objects.path(sha256).write_bytes(b"rot")

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    assert not objects.verify(sha256)
    assert "cannot be moved" in caplog.text
    assert "Read-only file system" in caplog.text
    assert objects.exists(sha256)


def test_the_marker_is_neither_an_object_nor_a_leftover(objects: LocalObjects, file: Path) -> None:
    assert objects.read_marker() is None
    objects.write_marker(b"{}")
    assert objects.read_marker() == b"{}"
    assert list(objects.objects()) == list(objects.leftovers()) == []
    (objects.root / ".store.json.0123").write_text("")  # of a process that was killed
    assert [found.place for found in objects.leftovers()] == [".store.json.0123"]


def test_a_file_that_cannot_be_read_is_not_damaged(
    objects: LocalObjects, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = objects.put(file).sha256

    def fail(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("calib_store.files.local_objects.file_sha256", fail)
    assert objects.examine(sha256) == "unreadable"


def test_full_disk_leaves_nothing(objects: LocalObjects, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        objects.put(file)
    assert "has room" in caught.value.remedy
    assert _visible(objects) == []


def test_copy_that_differs_is_refused(
    objects: LocalObjects, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: Path(target).write_bytes(b"other"))
    with pytest.raises(StoreError, match="changed while it was put"):
        objects.put(file)
    assert _visible(objects) == []


def test_missing_source(objects: LocalObjects, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing\.fits cannot be put into the store"):
        objects.put(tmp_path / "nothing.fits")


def test_kill_during_put_leaves_at_most_a_temporary_file(objects: LocalObjects, file: Path, python) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from calib_store.files import local_objects
        real = os.fsync
        def die(descriptor):
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = die
        local_objects.LocalObjects(Path(sys.argv[1])).put(Path(sys.argv[2]))
    """
    process = python(script, objects.root, file)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    left = _visible(objects)
    assert len(left) == 1
    assert left[0].name.startswith(".")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert not objects.verify(sha256)
    assert objects.put(file).sha256 == sha256
    assert objects.verify(sha256)


def test_threads_that_put_the_same_content(objects: LocalObjects, file: Path) -> None:
    stored = []
    threads = [threading.Thread(target=lambda: stored.append(objects.put(file))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 8
    assert len(set(stored)) == 1
    assert _visible(objects) == [objects.path(stored[0].sha256)]


def test_an_export_is_verified_and_complete_or_missing(
    objects: LocalObjects, file: Path, tmp_path: Path
) -> None:
    sha256 = objects.put(file).sha256
    objects.export(sha256, tmp_path / "out.fits")
    assert (tmp_path / "out.fits").read_bytes() == file.read_bytes()
    with pytest.raises(StoreError, match="cannot be written"):
        objects.export(sha256, tmp_path / "no folder" / "out.fits")
    kept = objects.path(sha256)
    kept.chmod(0o644)
    kept.write_bytes(b"rotten")
    with pytest.raises(StoreError, match="missing or damaged"):
        objects.export(sha256, tmp_path / "again.fits")
    assert not (tmp_path / "again.fits").exists()
