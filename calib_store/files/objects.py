"""Product files by their content: ``objects/ab/abcdef...fits``, where the name is the sha256.

A file is written under a temporary name, synced, verified against its checksum and renamed, so an existing object is
complete. It is verified again at every read; a damaged one is moved to ``quarantine/`` and never used.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from imaging.errors import StoreError

SHA256 = re.compile(r"[0-9a-f]{64}")
#: Folder of files whose bytes did not match their names.
QUARANTINE = "quarantine"
#: File next to the objects that names their store.
MARKER = "store.json"


class StoredObject(NamedTuple):
    """Identity and size of a file in the store."""

    sha256: str
    size: int


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def object_name(sha256: str) -> str:
    """Return the path of an object below the root of the objects.

    Raises
    ------
    StoreError
        For anything other than a sha256: nothing else becomes a path.
    """
    if not SHA256.fullmatch(sha256):
        raise StoreError(f"{sha256!r} is not a sha256 (64 hexadecimal digits).")
    return f"{sha256[:2]}/{sha256}.fits"


class Found(NamedTuple):
    """A file among the objects, for housekeeping: its place there, size, and time of arrival (s since 1970).

    ``sha256`` identifies the object; it is None for a file that a killed process left unfinished.
    """

    place: str
    size: int
    since: float
    sha256: str | None = None


#: "unreadable" does not mean that the bytes are damaged: no permission, a failing disk, a stale mount.
Condition = Literal["intact", "missing", "damaged", "unreadable"]


class ObjectStore(ABC):
    """Product files by their content, in a folder (`LocalObjects`) or at a URL (`calib_store.files.remote`).

    Callers use names (sha256) and never build a path. A file returned by `local` is intact at that time.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the objects are, for display; without any password."""

    @abstractmethod
    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Add a file; the same content added twice is one object.

        Parameters
        ----------
        path
            The file.
        move
            Move the file instead of copying it.

        Raises
        ------
        StoreError
            If the file cannot be read, or the store cannot be written (full, read-only); no part of
            the object is visible then.
        """

    @abstractmethod
    def verify(self, sha256: str) -> bool:
        """Return whether the object exists and its bytes match its name; a damaged one is set aside.

        The bytes are not read again if this instance has already found the same file intact.
        """

    @abstractmethod
    def local(self, sha256: str) -> Path:
        """Return the path of a verified object on this machine, for reading only.

        Raises
        ------
        StoreError
            If it is missing or damaged.
        """

    @abstractmethod
    def examine(self, sha256: str) -> Condition:
        """Return the actual condition of the stored bytes, which are read completely; nothing is changed."""

    @abstractmethod
    def exists(self, sha256: str) -> bool:
        """Return whether an object of that name exists, whatever its bytes."""

    @abstractmethod
    def objects(self) -> Iterator[Found]:
        """Yield every object."""

    @abstractmethod
    def read_marker(self) -> bytes | None:
        """Return the marker that names the store of the place (`calib_store.tables.object_place`), or None."""

    @abstractmethod
    def write_marker(self, content: bytes) -> None:
        """Write the marker that names the store of the place."""

    @abstractmethod
    def leftovers(self) -> Iterator[Found]:
        """Yield files that are not objects: unfinished ones of killed processes, and damaged ones set aside."""

    @abstractmethod
    def renewed(self, found: Found) -> Found | None:
        """Return the current state of one of `objects` or `leftovers`, or None if it no longer exists."""

    @abstractmethod
    def remove(self, found: Found) -> None:
        """Remove one of `objects` or `leftovers`; for housekeeping only."""

    def heal(self, sha256: str) -> bool:
        """Replace a missing or damaged object by an intact copy if one is available, and return whether it was."""
        return False

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the place for the first object.

        Raises
        ------
        StoreError
            If the place cannot be created or reached.
        """

    def require(self, sha256: str) -> None:
        """Refuse a missing or damaged object.

        Raises
        ------
        StoreError
            If it is.
        """
        if not self.verify(sha256):
            raise StoreError(
                f"The file of object {sha256[:12]} is missing or damaged.",
                remedy="Reduce again: products made from frames are then rebuilt.",
            )

    def export(self, sha256: str, destination: Path) -> None:
        """Copy a verified object to ``destination``, all or nothing; an existing file is replaced."""
        source = self.local(sha256)
        aside = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:12]}")
        try:
            shutil.copyfile(source, aside)
            if file_sha256(aside) != sha256:
                raise StoreError(
                    f"The copy of {sha256[:12]} to {destination} is damaged.",
                    remedy="Check that disk, or copy to another one; the store's own file is intact.",
                )
            aside.rename(destination)
        except OSError as error:
            raise StoreError(
                f"{destination} cannot be written: {error.strerror or error}.",
                remedy="Check that the folder exists, can be written and has room.",
            ) from error
        finally:
            aside.unlink(missing_ok=True)
