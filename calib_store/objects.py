"""Product files by their content: ``objects/ab/abcdef...fits``, where the name is the sha256.

A file comes in aside, is synced, read back against its checksum and renamed, so a name that exists is
whole. It is checked again at every read; one that is damaged is moved to ``quarantine/`` and never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imaging.errors import StoreError

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class StoredObject(NamedTuple):
    """Identity and size of a file in the store."""

    sha256: str
    size: int


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes as they are."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ObjectStore:
    """A local folder of content-addressed files.

    Callers use names (sha256) and never build a path, so that a store at a URL can take its place.

    Parameters
    ----------
    root
        Folder of the files; made at the first `put`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[int, ...]] = {}
        self._seen_lock = threading.Lock()

    def path(self, sha256: str) -> Path:
        """Where the object of that name is kept, whether it is there or not."""
        if not _SHA256.fullmatch(sha256):
            raise StoreError(f"{sha256!r} is not a sha256 (64 hexadecimal digits).")
        return self.root / sha256[:2] / f"{sha256}.fits"

    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Take a file in; the same content twice is one object.

        Parameters
        ----------
        path
            The file.
        move
            Take the file itself instead of a copy, where it is on the same file system.

        Raises
        ------
        StoreError
            Where the file cannot be read, or the store cannot be written (full, read-only); nothing of
            the object is visible then.
        """
        try:
            return self._put(path, move=move)
        except OSError as error:
            where = error.filename or path
            raise StoreError(
                f"{path.name} cannot be put into the store: {where}: {error.strerror or error}.",
                remedy=f"See that the file is there and that {self.root} can be written and has room.",
            ) from error

    def _put(self, path: Path, *, move: bool) -> StoredObject:
        sha256 = file_sha256(path)
        target = self.path(sha256)
        size = path.stat().st_size
        if self.verify(sha256):
            if move:
                path.unlink()
            return StoredObject(sha256, size)
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name for one attempt: two processes may put the same content at the same time.
        aside = target.with_name(f".{sha256}.{uuid.uuid4().hex[:12]}")
        try:
            if not (move and _renamed(path, aside)):
                shutil.copyfile(path, aside)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            if file_sha256(aside) != sha256:
                raise StoreError(
                    f"{path.name} changed while it was put into the store, or {self.root} writes wrongly.",
                    remedy="Try again; if it stays so, check the disk.",
                )
            aside.chmod(0o444)
            aside.rename(target)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(target.parent)
        _sync_folder(self.root)
        with self._seen_lock:
            self._seen[sha256] = _stamp(target)
        return StoredObject(sha256, size)

    def verify(self, sha256: str) -> bool:
        """Whether the object is there and its bytes are those of its name.

        A damaged one is set aside. The bytes are read again unless this very file (inode, size, times of
        change of its content and of its inode) was found whole by this instance before.
        """
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
            logger.error("Object %s cannot be read (%s): it counts as damaged", path, error)
            whole = False
        if not whole:
            self._set_aside(path)
            return False
        with self._seen_lock:
            self._seen[sha256] = before
        return True

    @contextlib.contextmanager
    def open(self, sha256: str) -> Iterator[BinaryIO]:
        """Open a verified object for reading.

        Raises
        ------
        StoreError
            Where it is missing or damaged.
        """
        with self.require(sha256).open("rb") as file:
            yield file

    def require(self, sha256: str) -> Path:
        """Path of a verified object; for reading only.

        Raises
        ------
        StoreError
            Where it is missing or damaged.
        """
        if not self.verify(sha256):
            raise StoreError(
                f"The file of object {sha256[:12]} is missing or damaged.",
                remedy="Reduce again: what was made from frames is then made anew.",
            )
        return self.path(sha256)

    def export(self, sha256: str, destination: Path) -> None:
        """Copy a verified object to ``destination``, all or nothing; a file there is replaced."""
        source = self.require(sha256)
        aside = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:12]}")
        try:
            shutil.copyfile(source, aside)
            if file_sha256(aside) != sha256:
                raise StoreError(f"The copy of {sha256[:12]} to {destination} came out wrong.")
            aside.rename(destination)
        except OSError as error:
            raise StoreError(
                f"{destination} cannot be written: {error.strerror or error}.",
                remedy="See that the folder exists, can be written and has room.",
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    def _set_aside(self, path: Path) -> None:
        quarantine = self.root / "quarantine"
        quarantine.mkdir(exist_ok=True)
        target = quarantine / f"{path.name}.{uuid.uuid4().hex[:12]}"
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            path.rename(target)
            logger.error(
                "Object %s is damaged: its bytes are not those of its name; moved to %s", path, target
            )


def _stamp(path: Path) -> tuple[int, ...]:
    # The time of the inode's change (ctime) cannot be set back, so a changed file always shows.
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _renamed(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except OSError:
        return False  # another file system: the caller copies
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
