"""Errors of the machine as messages with a remedy: a full disk, a missing permission, no memory, no connection.

Such an error may be raised anywhere, by any package. It is no defect, so a user gets a message and no traceback. Which
errors of the system are the machine's is listed here; any other, such as a file that is missing, may be a defect: paths
that a user names are checked where they are read.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imaging.errors import NirflowError

_FILE: Final = "Check that file or folder, then run the command again."
_DISK: Final = "Check the disk and its connection, then run the command again."
_MOUNT: Final = "Mount the file system again, then run the command again."
_NETWORK: Final = (
    "Check the address, the network, and that the program at the other end runs; then run the command again."
)
#: Errors of a disk without room.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REMEDIES: Final = {
    errno.ENOSPC: "Free space there, or name a folder on another disk (--out, NIRFLOW_DATA_DIR, TMPDIR).",
    errno.EDQUOT: "Free space there, or name a folder on another disk (--out, NIRFLOW_DATA_DIR, TMPDIR).",
    errno.EFBIG: "Raise the limit (ulimit -f unlimited), or use a disk that takes larger files.",
    errno.EROFS: "Mount it for writing, or name another folder (--out, NIRFLOW_DATA_DIR, TMPDIR).",
    errno.EACCES: "Change its permissions, or name another folder (--out, NIRFLOW_DATA_DIR, TMPDIR).",
    errno.EPERM: "Change its permissions, or name another folder (--out, NIRFLOW_DATA_DIR, TMPDIR).",
    errno.EMFILE: "Raise the limit of open files (ulimit -n 1024).",
    errno.ENFILE: "The machine has too many open files: end other programs, or raise fs.file-max.",
    errno.ENOMEM: "Use fewer threads (--threads), a lower --memory, or a machine with more memory.",
    errno.EAGAIN: "Raise the limits of this account (ulimit -u, ulimit -v), or end other programs.",
    errno.EIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ENXIO: _DISK,
    errno.EREMOTEIO: _DISK,
    errno.EUCLEAN: _DISK,
    errno.ESTALE: _MOUNT,
    errno.ENOTCONN: _MOUNT,
    errno.ENOLCK: "Use a file system with locks for the data folder (NIRFLOW_DATA_DIR), such as a local disk.",
    errno.EOPNOTSUPP: "Use a local disk for this folder: its file system lacks an operation that nirflow needs.",
    errno.ENOSYS: "Use a local disk for this folder: its file system lacks an operation that nirflow needs.",
    errno.ENAMETOOLONG: "Use shorter names.",
    errno.ELOOP: "Remove the link that leads back to itself, or correct where it points to.",
    errno.EADDRINUSE: "Choose another port, or end the program that uses it.",
    errno.EADDRNOTAVAIL: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.EHOSTDOWN: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
}  # fmt: skip
#: Errors of a path that has a file for a folder, or the reverse; without a path they are not the machine's.
_OF_A_PATH: Final = frozenset({errno.ENOTDIR, errno.EISDIR})
#: Free entries of files from which they are not worth mentioning.
_FEW_FILES: Final = 1000
#: Text of numpy's error for an array that was written in part.
_PART_WRITTEN: Final = "requested and"
#: Code of PostgreSQL's error for a full disk (appendix A of its manual: disk_full).
_DATABASE_FULL: Final = "53100"
#: Texts of errors that Python raises if the system cannot start another thread, or knows no home folder.
_NO_THREAD: Final = "can't start new thread"
_NO_HOME: Final = "Could not determine home directory"


class MachineError(NirflowError):
    """A failure of the machine or of its limits, not of the data."""


class FullDiskError(MachineError):
    """A disk without room, or a quota that is used up: it passes when something is removed.

    Parameters
    ----------
    message, remedy
        As for every error.
    folder
        The file or folder that was written; None if unknown.
    needed
        Bytes for which there was no room; None if unknown.
    """

    def __init__(
        self, message: str, *, remedy: str, folder: Path | None = None, needed: int | None = None
    ) -> None:
        self.folder, self.needed = folder, needed
        super().__init__(message, remedy=remedy)


def machine_error(error: BaseException) -> NirflowError | None:
    """Return an error of the machine as a message with a remedy; None for a defect.

    Parameters
    ----------
    error
        Any exception. One that was raised from an error of the machine counts as that error, and so does a group
        of nothing else.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NirflowError):
            return seen
        if isinstance(seen, OSError) and (known := _described(seen)) is not None:
            return known
        if isinstance(seen, BaseExceptionGroup):
            of_group = [machine_error(one) for one in seen.exceptions]
            return None if None in of_group else of_group[0]
        if isinstance(seen, MemoryError):
            return MachineError("The machine does not have enough memory.", remedy=_REMEDIES[errno.ENOMEM])
        if isinstance(seen, RuntimeError) and _NO_THREAD in str(seen):
            return MachineError("The system cannot start another thread.", remedy=_REMEDIES[errno.EAGAIN])
        if isinstance(seen, RuntimeError) and _NO_HOME in str(seen):
            return MachineError(
                "The home folder that ~ stands for is unknown.", remedy="Write the path in full."
            )
        seen = seen.__cause__
    return None


def described(error: BaseException) -> str:
    """Return any exception in one line: of the machine with its remedy, of a defect with its type."""
    known = machine_error(error)
    return str(known) if known is not None else f"{type(error).__name__}: {error}"


def full_disk(error: BaseException | None) -> FullDiskError | None:
    """Return the full disk that is behind an error, also behind one of the database; None if none is."""
    while error is not None:
        if isinstance(error, FullDiskError):
            return error
        if isinstance(error, OSError) and isinstance(known := _described(error), FullDiskError):
            return known
        if isinstance(error, BaseExceptionGroup):
            return next(filter(None, map(full_disk, error.exceptions)), None)
        if getattr(error, "sqlstate", None) == _DATABASE_FULL:
            return FullDiskError("The disk of the database has no room.", remedy=_REMEDIES[errno.ENOSPC])
        error = error.__cause__
    return None


@contextmanager
def writing_to(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raise an `OSError` of the block as an error with the path, the space there and a remedy.

    Parameters
    ----------
    path
        The file or folder that is written.
    needed
        Bytes to be written, if known.

    Raises
    ------
    MachineError
        If it could not be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error, needed) from error


def unwritable(path: Path, error: OSError, needed: int | None = None) -> MachineError:
    """Return the error for a file or folder that could not be written."""
    remedy = _REMEDIES.get(error.errno or 0, _FILE)
    why = reason(path, error, needed)
    if error.errno in _FULL:
        return FullDiskError(
            f"{path} could not be written: {why}.", folder=path, needed=needed, remedy=remedy
        )
    return MachineError(f"{path} could not be written: {why}.", remedy=remedy)


def reason(path: Path, error: OSError, needed: int | None = None) -> str:
    """Return why a file or folder could not be written: on a full disk, with what is needed and what is free."""
    why = (error.strerror or str(error)).rstrip(".")
    return f"{why} ({_room(path, needed)})" if error.errno in _FULL else why


def remedy_of(error: OSError, otherwise: str) -> str:
    """Return the remedy for an error of a disk or of a limit, or ``otherwise`` for a missing permission and others."""
    if error.errno in (None, errno.EACCES, errno.EPERM):
        return otherwise
    return _REMEDIES.get(error.errno, otherwise)


def free_bytes(path: Path) -> int | None:
    """Return the bytes that this account may still write on the disk of a path; None if that is unknown."""
    for place in (path, *path.parents):
        with suppress(OSError):
            found = os.statvfs(place)
            return found.f_bavail * found.f_frsize
    return None


def _described(error: OSError) -> MachineError | None:
    """Return an error of the system as the machine's; None if it may be a defect."""
    given = error.filename2 or error.filename
    place = None if given is None or isinstance(given, int) else Path(os.fsdecode(given))
    why = (error.strerror or str(error) or "timed out").rstrip(".")
    if error.errno == errno.ENOENT and not (place and place.is_absolute()) and not _has_working_folder():
        return MachineError("The working folder no longer exists.", remedy="Change to another folder: cd")
    if place is None and error.errno is None and _PART_WRITTEN in str(error):  # numpy, on a full disk
        return FullDiskError(
            f"A file could not be written completely: {error}.", remedy=_REMEDIES[errno.ENOSPC]
        )
    if error.errno in _FULL:
        return unwritable(place, error) if place else FullDiskError(f"{why}.", remedy=_REMEDIES[error.errno])
    if _is_of_network(error):
        remedy = _NETWORK
    elif place is not None and error.errno in _OF_A_PATH:
        remedy = _FILE
    elif error.errno in _REMEDIES:
        remedy = _REMEDIES[error.errno]
    else:
        return None
    named = f"{place}: " if place else "A connection failed: " if remedy == _NETWORK else ""
    return MachineError(f"{named}{why}.", remedy=remedy)


def _is_of_network(error: OSError) -> bool:
    """Return whether a connection failed. The number of an error of TLS or of a name server is not one of errno."""
    import ssl

    return isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError))


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _room(path: Path, needed: int | None) -> str:
    """Return what is needed and what is free on a disk, which may only lack room for the entries of files."""
    wanted = "" if needed is None else f"{size_text(needed)} needed, "
    for place in (path, *path.parents):
        with suppress(OSError):
            found = os.statvfs(place)
            entries = f" and entries of {found.f_favail} files" if found.f_favail < _FEW_FILES else ""
            return f"{wanted}{size_text(found.f_bavail * found.f_frsize)}{entries} free"
    return f"{wanted}unknown free space"


def size_text(size: int) -> str:
    """Return a number of bytes in a readable unit."""
    if size < 10**6:
        return f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size < 10**9 else f"{size / 1e9:.1f} GB"
