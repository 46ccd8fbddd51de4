"""Product files by their content: ``objects/ab/abcdef...fits``, where the name is the sha256.

A file comes in aside, is synced, read back against its checksum and renamed, so a name that exists is
whole. It is checked again at every read; one that is damaged is moved to ``quarantine/`` and never used.
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
#: Folder of the files whose bytes were not those of their names.
QUARANTINE = "quarantine"
#: File next to the objects that names their store.
MARKER = "store.json"


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


#: An unreadable one says nothing about its bytes: no permission, a failing disk, a mount that went stale.
Condition = Literal["whole", "missing", "damaged", "unreadable"]


class ObjectStore(ABC):
    """Product files by their content, in a folder (`LocalObjects`) or at a URL (`calib_store.files.remote`).

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
    def read_marker(self) -> bytes | None:
        """What the place says about its store (`calib_store.tables.object_place`); None where it says nothing."""

    @abstractmethod
    def write_marker(self, content: bytes) -> None:
        """Write what the place says about its store."""

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
