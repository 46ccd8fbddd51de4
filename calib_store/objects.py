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
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from imaging.atomic import sync_folder
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")
#: Folder of the files whose bytes were not those of their names.
_QUARANTINE = "quarantine"


class StoredObject(NamedTuple):
    """Identity and size of a file in the store."""

    sha256: str
    size: int


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes as they are."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def object_name(sha256: str) -> str:
    """Path of an object below the root of the objects.

    Raises
    ------
    StoreError
        For anything that is no sha256: nothing else becomes a path.
    """
    if not SHA256.fullmatch(sha256):
        raise StoreError(f"{sha256!r} is not a sha256 (64 hexadecimal digits).")
    return f"{sha256[:2]}/{sha256}.fits"


class Found(NamedTuple):
    """A file among the objects, for housekeeping: its place there, size, and when it came (s since 1970).

    ``sha256`` is the object that it is; None for what a killed process left aside.
    """

    place: str
    size: int
    since: float
    sha256: str | None = None


Condition = Literal["whole", "missing", "damaged"]


class ObjectStore(ABC):
    """Product files by their content, in a folder (`LocalObjects`) or at a URL (`calib_store.remote`).

    Callers use names (sha256) and never build a path. What `local` gives is whole at that moment.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the objects are, for a person; without any password."""

    @abstractmethod
    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Take a file in; the same content twice is one object.

        Parameters
        ----------
        path
            The file.
        move
            The file itself may be taken instead of a copy; it is gone afterwards.

        Raises
        ------
        StoreError
            Where the file cannot be read, or the store cannot be written (full, read-only); nothing of
            the object is visible then.
        """

    @abstractmethod
    def verify(self, sha256: str) -> bool:
        """Whether the object is there and its bytes are those of its name; a damaged one is set aside.

        The bytes are not read again where this instance has found this very file whole before.
        """

    @abstractmethod
    def local(self, sha256: str) -> Path:
        """Path of a verified object on this machine; for reading only.

        Raises
        ------
        StoreError
            Where it is missing or damaged.
        """

    @abstractmethod
    def examine(self, sha256: str) -> Condition:
        """What the stored bytes are really, read whole; changes nothing."""

    @abstractmethod
    def exists(self, sha256: str) -> bool:
        """Whether there is an object of that name, whatever its bytes are."""

    @abstractmethod
    def objects(self) -> Iterator[Found]:
        """Every object."""

    @abstractmethod
    def empty(self) -> bool:
        """Whether there is nothing at all: no object, none that was set aside."""

    @abstractmethod
    def leftovers(self) -> Iterator[Found]:
        """What is no object: files that a killed process left aside, and damaged ones that were set aside."""

    @abstractmethod
    def renewed(self, found: Found) -> Found | None:
        """One of `objects` or `leftovers` as it is now; None where it is gone."""

    @abstractmethod
    def remove(self, found: Found) -> None:
        """Remove one of `objects` or `leftovers`; for housekeeping only."""

    def heal(self, sha256: str) -> bool:
        """Put a whole copy in the place of a missing or damaged object, where there is one at hand."""
        return False

    @abstractmethod
    def prepare(self) -> None:
        """Make what has to be there before the first object.

        Raises
        ------
        StoreError
            Where the place cannot be made or reached.
        """

    def require(self, sha256: str) -> None:
        """Refuse an object that is missing or damaged.

        Raises
        ------
        StoreError
            Where it is.
        """
        if not self.verify(sha256):
            raise StoreError(
                f"The file of object {sha256[:12]} is missing or damaged.",
                remedy="Reduce again: what was made from frames is then made anew.",
            )

    def require_any(self) -> None:
        """Refuse a place without any object: an option that was forgotten, a disk that is not mounted.

        Raises
        ------
        StoreError
            Where it is one.
        """
        if self.empty():
            raise StoreError(
                f"There is no file of any product at {self.place}: it is not where this store's files are.",
                remedy="Correct NIRFLOW_OBJECTS_URL, or mount the disk. Where all files are lost indeed, "
                "nirflow cal verify --repair notes it, and they are made anew.",
            )

    def export(self, sha256: str, destination: Path) -> None:
        """Copy a verified object to ``destination``, all or nothing; a file there is replaced."""
        source = self.local(sha256)
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


class LocalObjects(ObjectStore):
    """Objects in a folder.

    Parameters
    ----------
    root
        Folder of the files; made at the first `put`.
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
        """Where the object of that name is kept, whether it is there or not."""
        return self.root / object_name(sha256)

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder of the objects, {self.root}, cannot be made: {error.strerror or error}.",
                remedy="Make it writable, or name another place in NIRFLOW_OBJECTS_URL.",
            ) from error

    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Take a file in: copied, or renamed where it may be taken and is on the same file system."""
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
        if self.verify(sha256) and self.touch(sha256):
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
        sync_folder(target.parent)
        sync_folder(self.root)
        with self._seen_lock:
            self._seen[sha256] = _stamp(target)
        return StoredObject(sha256, size)

    def verify(self, sha256: str) -> bool:
        """Whether the object is whole; a file is the same by inode, size and times of change."""
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
            # No file handle left, a mount that went stale, no permission: that says nothing about its bytes.
            raise StoreError(
                f"Object {path} cannot be read: {error.strerror or error}.",
                remedy="See that the disk is well and that this account may read it. Nothing was changed.",
            ) from error
        if not whole:
            self._set_aside(path)
            return False
        with self._seen_lock:
            self._seen[sha256] = before
        return True

    def local(self, sha256: str) -> Path:
        """Path of a verified object."""
        self.require(sha256)
        return self.path(sha256)

    def examine(self, sha256: str) -> Condition:
        """What the stored bytes are really."""
        try:
            return "whole" if file_sha256(self.path(sha256)) == sha256 else "damaged"
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "damaged"

    def exists(self, sha256: str) -> bool:
        """Whether there is a file of that name."""
        return self.path(sha256).exists()

    def objects(self) -> Iterator[Found]:
        """Every object."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*.fits")):
            if SHA256.fullmatch(path.stem):
                yield from self._found(path, path.stem)

    def empty(self) -> bool:
        """Whether there is neither an object nor one that was set aside."""
        patterns = ("[0-9a-f][0-9a-f]/*.fits", f"{_QUARANTINE}/*")
        return all(next(self.root.glob(pattern), None) is None for pattern in patterns)

    def leftovers(self) -> Iterator[Found]:
        """Files aside, and those that were found damaged."""
        for path in sorted([*self.root.glob("[0-9a-f][0-9a-f]/.*"), *self.root.glob(f"{_QUARANTINE}/*")]):
            yield from self._found(path, None)

    def touch(self, sha256: str) -> bool:
        """Mark a file as used now, so that housekeeping leaves it; False where it is gone."""
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
        """A file as it is now."""
        return next(self._found(self.root / found.place, found.sha256), None)

    def _found(self, path: Path, sha256: str | None) -> Iterator[Found]:
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            # The time of the inode's change: a rename or a touch renews it, a copied date does not.
            yield Found(str(path.relative_to(self.root)), stat.st_size, stat.st_ctime, sha256)

    def _set_aside(self, path: Path) -> None:
        quarantine = self.root / _QUARANTINE
        target = quarantine / f"{path.name}.{uuid.uuid4().hex[:12]}"
        try:
            quarantine.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            return  # another process was quicker
        except OSError as error:  # read-only: not used all the same
            logger.error(
                "Object %s is damaged: its bytes are not those of its name. It cannot be moved to %s: %s",
                path, quarantine, error.strerror or error,
            )  # fmt: skip
            return
        logger.error("Object %s is damaged: its bytes are not those of its name; moved to %s", path, target)


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
