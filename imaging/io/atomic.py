"""Files that are complete or missing: written under a temporary name, synced, renamed; and a lock on a file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imaging.errors import NirflowError
from imaging.machine import reason, remedy_of

#: Error numbers of file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
#: Permissions to write, of anyone.
_WRITABLE = 0o222


class NameTakenError(Exception):
    """A file of that name exists and must not be replaced."""


class AsideFile:
    """A file that is being written under a temporary name; yielded by `complete_file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Return the sha256 of the bytes written so far."""
        return self._sha256.hexdigest()

    def write(self, part: bytes | memoryview) -> int:
        """Write bytes."""
        self._sha256.update(part)
        return self._file.write(part)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._file.tell()


@contextmanager
def complete_file(
    path: Path, *, sync: bool = True, replace: bool = True, mode: int = 0o666
) -> Iterator[AsideFile]:
    """Write ``path`` under a temporary name in the block; it is renamed at the end and removed on an error.

    Parameters
    ----------
    path
        The file; its folder is created if it is missing.
    sync
        Whether the file and its folder are synced to the disk before this returns. Files that are cheap to
        make again (previews) do not need it.
    replace
        Whether an existing file, also one created in the meantime, is replaced.
    mode
        Permissions of the file from its creation, before the umask is applied.

    Raises
    ------
    NirflowError
        If it cannot be written (no space, no permission); nothing is left behind.
    NameTakenError
        If a file exists that must not be replaced.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                yield AsideFile(file)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            if replace:
                aside.replace(path)
            else:
                _rename_to_free_name(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise NirflowError(
            f"{path.name} could not be written to {path.parent}: {reason(path.parent, error)}.",
            remedy=remedy_of(error, "Make the folder writable, or choose another with --out."),
        ) from error


def write_complete(
    path: Path,
    parts: Iterable[bytes | memoryview],
    *,
    sync: bool = True,
    replace: bool = True,
    mode: int = 0o666,
) -> str:
    """Write ``parts`` one after the other as ``path``; otherwise like `complete_file`.

    Returns
    -------
    str
        sha256 of the content.
    """
    with complete_file(path, sync=sync, replace=replace, mode=mode) as file:
        for part in parts:
            file.write(part)
    return file.sha256


def link_read_only(source: Path, path: Path) -> bool:
    """Give a file that nobody may write another name, and return whether it has it.

    A file that may be written has none, because a change under one name would change the other; neither has one on
    another disk, or on a disk without links.

    Raises
    ------
    NirflowError
        If the folder of ``path`` cannot be written.
    NameTakenError
        If a file of that name exists.
    """
    try:
        if source.stat().st_mode & _WRITABLE:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise NameTakenError(path) from None
    except OSError as error:
        if error.errno in (*_NO_LINKS, errno.EXDEV):
            return False
        raise NirflowError(
            f"{path.name} could not be linked in {path.parent}: {reason(path.parent, error)}.",
            remedy=remedy_of(error, "Make the folder writable, or choose another with --out."),
        ) from error
    return True


def _rename_to_free_name(aside: Path, path: Path) -> None:
    """Rename to an unused name: a link fails if another process was faster, a rename does not."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise NameTakenError(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise NameTakenError(path) from None
        aside.replace(path)  # a file system without hard links: the check above must suffice
        return
    aside.unlink()


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to the disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> IO[str] | None:
    """Take the advisory lock on a file, which is created if it is missing.

    Returns
    -------
    file or None
        Closing it releases the lock, and so does the kernel when its holder dies. None if another process has
        the lock.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
