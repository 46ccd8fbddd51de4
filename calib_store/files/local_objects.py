"""Product files in a folder, each named after the sha256 of its bytes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from calib_store.files.objects import (
    MARKER,
    QUARANTINE,
    SHA256,
    Condition,
    Found,
    ObjectStore,
    StoredObject,
    file_sha256,
    object_name,
)
from imaging.errors import NirflowError, StoreError
from imaging.io.atomic import sync_folder, write_complete

logger = logging.getLogger(__name__)


class LocalObjects(ObjectStore):
    """Objects in a folder.

    Parameters
    ----------
    root
        Folder of the files; created by the first `put`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[int, ...]] = {}
        self._seen_lock = threading.Lock()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def path(self, sha256: str) -> Path:
        """Return the path of the object of that name, whether or not it exists."""
        return self.root / object_name(sha256)

    def prepare(self) -> None:
        """Create the folder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder of the objects, {self.root}, cannot be created: {error.strerror or error}.",
                remedy="Make it writable, or name another place in NIRFLOW_OBJECTS_URL.",
            ) from error

    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Add a file: copied, or renamed if it may be moved and is on the same file system."""
        try:
            return self._put(path, move=move)
        except OSError as error:
            where = error.filename or path
            raise StoreError(
                f"{path.name} cannot be put into the store: {where}: {error.strerror or error}.",
                remedy=f"Check that the file exists and that {self.root} can be written and has room.",
            ) from error

    def _put(self, path: Path, *, move: bool) -> StoredObject:
        sha256 = file_sha256(path)
        target = self.path(sha256)
        size = path.stat().st_size
        if self.verify(sha256) and self.touch(sha256):
            if move:
                path.unlink()
            return StoredObject(sha256, size)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Each attempt has its own name: two processes may add the same content at the same time.
        aside = target.with_name(f".{sha256}.{uuid.uuid4().hex[:12]}")
        try:
            if not (move and _renamed(path, aside)):
                shutil.copyfile(path, aside)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            if file_sha256(aside) != sha256:
                raise StoreError(
                    f"{path.name} changed while it was put into the store, or {self.root} stores wrong data.",
                    remedy="Try again; if it fails again, check the disk.",
                )
            aside.chmod(0o444)
            aside.rename(target)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(target.parent)
        sync_folder(self.root)
        with self._seen_lock:
            self._seen[sha256] = _stamp(target)
        return StoredObject(sha256, size)

    def verify(self, sha256: str) -> bool:
        """Return whether the object is intact; an unchanged file is recognized by inode, size and times of change."""
        path = self.path(sha256)
        try:
            before = _stamp(path)
            with self._seen_lock:
                if self._seen.get(sha256) == before:
                    return True
            whole = file_sha256(path) == sha256
        except FileNotFoundError:
            return False
        except OSError as error:
            # No free file handle, a stale mount, no permission: these do not mean that its bytes are damaged.
            raise _unreadable(path, error) from error
        if not whole:
            self._set_aside(path)
            return False
        with self._seen_lock:
            self._seen[sha256] = before
        return True

    def local(self, sha256: str) -> Path:
        """Return the path of a verified object."""
        self.require(sha256)
        return self.path(sha256)

    def examine(self, sha256: str) -> Condition:
        """Return the actual condition of the stored bytes."""
        try:
            return "intact" if file_sha256(self.path(sha256)) == sha256 else "damaged"
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "unreadable"

    def exists(self, sha256: str) -> bool:
        """Return whether a file of that name exists."""
        return self.path(sha256).exists()

    def objects(self) -> Iterator[Found]:
        """Yield every object."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*.fits")):
            if SHA256.fullmatch(path.stem):
                yield from self._found(path, path.stem)

    def read_marker(self) -> bytes | None:
        """Return the marker's content."""
        try:
            return (self.root / MARKER).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.root / MARKER, error) from error

    def write_marker(self, content: bytes) -> None:
        """Write the marker, all or nothing."""
        try:
            write_complete(self.root / MARKER, [content])
        except NirflowError as error:
            raise StoreError(error.message, remedy=error.remedy) from error

    def leftovers(self) -> Iterator[Found]:
        """Yield unfinished files, and those that were found damaged."""
        patterns = ("[0-9a-f][0-9a-f]/.*", f".{MARKER}.*", f"{QUARANTINE}/*")
        for path in sorted(path for pattern in patterns for path in self.root.glob(pattern)):
            yield from self._found(path, None)

    def touch(self, sha256: str) -> bool:
        """Mark a file as just used, so that housekeeping keeps it, and return whether it still exists."""
        path = self.path(sha256)
        with self._seen_lock:
            known = self._seen.get(sha256)
            try:
                same = known == _stamp(path)
                os.utime(path)
                if same:
                    self._seen[sha256] = _stamp(path)
            except FileNotFoundError:
                return False
            except OSError as error:
                logger.debug("%s cannot be touched: %s", path, error)
        return True

    def remove(self, found: Found) -> None:
        """Remove a file."""
        (self.root / found.place).unlink(missing_ok=True)

    def renewed(self, found: Found) -> Found | None:
        """Return the current state of a file."""
        return next(self._found(self.root / found.place, found.sha256), None)

    def _found(self, path: Path, sha256: str | None) -> Iterator[Found]:
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            # The time of the inode's change: a rename or a touch renews it, a copied date does not.
            yield Found(str(path.relative_to(self.root)), stat.st_size, stat.st_ctime, sha256)

    def _set_aside(self, path: Path) -> None:
        quarantine = self.root / QUARANTINE
        target = quarantine / f"{path.name}.{uuid.uuid4().hex[:12]}"
        try:
            quarantine.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            return  # another process was quicker
        except OSError as error:  # read-only: it is still not used
            logger.error(
                "Object %s is damaged: its bytes are not those of its name. It cannot be moved to %s: %s",
                path, quarantine, error.strerror or error,
            )  # fmt: skip
            return
        logger.error("Object %s is damaged: its bytes are not those of its name; moved to %s", path, target)


def _unreadable(path: Path, error: OSError) -> StoreError:
    """Return the error for an object's file that cannot be read."""
    return StoreError(
        f"Object {path} cannot be read: {error.strerror or error}.",
        remedy="Check the disk, and that this account may read the file. Nothing was changed.",
    )


def _stamp(path: Path) -> tuple[int, ...]:
    # The time of the inode's change (ctime) cannot be reset, so a change of the file is always detected.
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _renamed(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except OSError:
        return False  # a different file system: the caller copies
    return True
