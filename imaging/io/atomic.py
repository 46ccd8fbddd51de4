"""A file that is there whole or not at all: written aside in its folder, synced, renamed; and a lock on one."""

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

#: What a file system that has no hard links says.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NameTakenError(Exception):
    """A file of that name is there and must not be replaced."""


class AsideFile:
    """A file that is being written under another name: what `complete_file` gives to write to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """sha256 of what has been written so far."""
        return self._sha256.hexdigest()

    def write(self, part: bytes | memoryview) -> int:
        """Write bytes."""
        self._sha256.update(part)
        return self._file.write(part)

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._file.tell()


@contextmanager
def complete_file(
    path: Path, *, sync: bool = True, replace: bool = True, mode: int = 0o666
) -> Iterator[AsideFile]:
    """Write ``path`` inside the block, aside; it has its name when the block ends, and is not there where it raises.

    Parameters
    ----------
    path
        The file; its folder is made where it is not there.
    sync
        Whether the file and its folder are on the disk before this returns. What can be made again
        cheaply (a preview) does without.
    replace
        Whether a file that is there, or came to be there meanwhile, is replaced.
    mode
        Permissions of the file, from its first moment on, less what the umask takes.

    Raises
    ------
    NirflowError
        Where it cannot be written (no space, no permission); nothing is left behind.
    NameTakenError
        Where something is there that must not be replaced.
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
                _name_anew(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise NirflowError(
            f"{path.name} could not be written to {path.parent}: {error.strerror or error}.",
            remedy="Free space there, make the folder writable, or choose another with --out.",
        ) from error


def write_whole(
    path: Path,
    parts: Iterable[bytes | memoryview],
    *,
    sync: bool = True,
    replace: bool = True,
    mode: int = 0o666,
) -> str:
    """Write ``parts`` one after the other as ``path``; everything else is as with `complete_file`.

    Returns
    -------
    str
        sha256 of the content.
    """
    with complete_file(path, sync=sync, replace=replace, mode=mode) as file:
        for part in parts:
            file.write(part)
    return file.sha256


def _name_anew(aside: Path, path: Path) -> None:
    """Rename to a name that nobody has: a link fails where another process was quicker, a rename does not."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise NameTakenError(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise NameTakenError(path) from None
        aside.replace(path)  # a file system without hard links: the check just made has to do
        return
    aside.unlink()


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk, so that a rename in it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> IO[str] | None:
    """Take the advisory lock on a file, which is made where there is none.

    Returns
    -------
    file or None
        Whoever closes it lets the lock go, and so does the kernel when its holder dies. None where another has it.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
