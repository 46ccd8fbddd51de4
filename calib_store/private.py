"""Folders and files that only this account may read: those with passwords, their digests, addresses or logs."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from imaging.errors import NirflowError
from imaging.io.atomic import write_complete

#: Permissions that group and others must not have.
OTHERS: Final = 0o077
#: Folders in the data folder that are private: logs, journals, passwords and intermediate pixels.
PRIVATE_PARTS: Final = ("prefect", "logs", "service", "watcher", "scratch", "staging", "unpacked", "previews")
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class NotPrivateError(NirflowError):
    """A folder that should belong to this account belongs to another one."""


def private_folder(path: Path) -> Path:
    """Create a folder that only this account may enter, or tighten the mode of an existing one.

    Missing parent folders are created in the same way, as the XDG base directory specification requires; existing
    ones are left unchanged.

    Parameters
    ----------
    path
        The folder. It may be a link to one if the link belongs to this account or root.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    NotPrivateError
        If another account owns the folder or the link. A folder of root that others may not write to is accepted.
    OSError
        If it cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    account = os.geteuid()
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if path.lstat().st_uid not in (account, 0) or (
        found.st_uid != account and (found.st_uid != 0 or mode & stat.S_IWOTH)
    ):
        owner = found.st_uid if found.st_uid != account else path.lstat().st_uid
        raise NotPrivateError(
            f"{path} belongs to account {owner} (mode {mode:04o}), not to the account {account} that runs nirflow.",
            remedy="Run nirflow as its owner, change the owner (chown), or set NIRFLOW_DATA_DIR to a folder of "
            "your own.",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "Not a directory", str(path))
    if found.st_uid == account and mode & OTHERS:
        path.chmod(mode & ~OTHERS)
    return path


def tighten_data_folder(data_dir: Path) -> None:
    """Tighten the folders of this account that an earlier nirflow left open in a data folder.

    The mode of the data folder itself is unchanged: nights and objects in it may be shared with others.

    Parameters
    ----------
    data_dir
        The data folder, which need not exist.
    """
    for name in PRIVATE_PARTS:
        path = data_dir / name
        if path.is_dir() and path.stat().st_uid == os.geteuid():
            private_folder(path)


def write_private(path: Path, text: str, *, replace: bool = True, sync: bool = True) -> None:
    """Write a text file that only this account may read; a reader sees the previous content or the new one.

    Parameters
    ----------
    path
        The file.
    text
        The content, written as UTF-8.
    replace, sync
        As for `imaging.io.atomic.write_complete`: by default an existing file is replaced, whatever its mode, and the
        new one is synced to disk.

    Raises
    ------
    NirflowError
        If it cannot be written; nothing is left behind.
    """
    write_complete(path, [text.encode()], replace=replace, sync=sync, mode=_FILE_MODE)
