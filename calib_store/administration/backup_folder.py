"""The folder of a backup: its manifest, and its files, read with the care due to files that others may have written.

A backup may come from elsewhere. No name in it leads out of the folder, no link is followed, and the size of files that
are read into memory is limited.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib_store.files.objects import object_name
from imaging.errors import StoreError

MANIFEST: Final = "backup.json"
OBJECTS: Final = "objects"
#: Largest manifest, bytes: it names every product whose file was lost.
_LONGEST_MANIFEST: Final = 64 * 1024**2


class Backup(BaseModel):
    """The manifest of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["nirflow-backup"] = "nirflow-backup"
    version: Literal[1] = 1
    made_at: datetime
    software: str = Field(max_length=1000)
    revision: str = Field(pattern=r"^[0-9]{4}$", description="of the tables")
    products: int = Field(ge=0)
    frames: int = Field(ge=0)
    dump_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    store: str = Field(
        default="",
        pattern=r"^([0-9a-f]{32})?$",
        description="identity of the store; earlier backups have none",
    )
    lost: tuple[str, ...] = Field(description="products whose files were missing or damaged")

    @property
    def dump(self) -> str:
        """File name of the database's dump. It is unique, so an earlier backup stays complete until this one is."""
        return f"database-{self.dump_sha256[:16]}.dump"


def read_backup(folder: Path) -> Backup:
    """Return the manifest of a backup, after verifying the checksum of its dump.

    Raises
    ------
    StoreError
        If it is not a backup, or is damaged.
    """
    try:
        with opened(folder, MANIFEST) as manifest:
            if os.fstat(manifest).st_size > _LONGEST_MANIFEST:
                raise StoreError(
                    f"{folder} is not a backup: {MANIFEST} is larger than {_LONGEST_MANIFEST // 1024**2} MB.",
                    remedy="Name a folder that `nirflow cal backup` wrote.",
                )
            backup = Backup.model_validate_json(again(manifest).read_bytes())
        with opened(folder, backup.dump) as dump:
            intact = _sha256(dump) == backup.dump_sha256
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{folder} is not a backup: {_first(error)}.",
            remedy="Name a folder that `nirflow cal backup` wrote.",
        ) from None
    if not intact:
        raise StoreError(
            f"The dump in {folder} is damaged: its sha256 is not that of {MANIFEST}.",
            remedy="Take another backup.",
        )
    return backup


@contextmanager
def opened(folder: Path, name: str) -> Iterator[int]:
    """Open a regular file below a folder; refuse a link anywhere below it.

    Parameters
    ----------
    folder
        The folder, which may itself be a link.
    name
        Plain names with ``/`` between them.

    Yields
    ------
    int
        A descriptor to read from.

    Raises
    ------
    OSError
        If the file does not exist, or is a link or something else.
    """
    *folders, file = name.split("/")
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for one in folders:
            inner = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        # A pipe would wait for a writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(22, "It is not a regular file", str(folder / name))
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_object(folder: Path, sha256: str, size: int) -> Iterator[Path | None]:
    """Open the file of a product in a backup, if it exists and is complete.

    Yields
    ------
    Path or None
        A path by which this process reads the same file, even if its name is changed in the meantime.
    """
    try:
        with opened(folder, f"{OBJECTS}/{object_name(sha256)}") as descriptor:
            intact = os.fstat(descriptor).st_size == size and _sha256(descriptor) == sha256
            yield again(descriptor) if intact else None
    except OSError:
        yield None


def again(descriptor: int) -> Path:
    """Return a path by which this process can reopen an open file from its beginning."""
    return Path(f"/proc/self/fd/{descriptor}")


def _sha256(descriptor: int) -> str:
    with again(descriptor).open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
