"""The owner's credential for the Prefect server: USER:PASSWORD from the settings, or one that nirflow creates.

nirflow keeps it in ``prefect/password`` of the data folder, readable only by the account that owns the folder. Anyone
who can read that file can run commands as that account, through a deployment.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from calib_store.private import OTHERS, private_folder, write_private
from deployments.settings.server_settings import ServerSettings
from imaging.errors import NirflowError
from imaging.io.atomic import NameTakenError

#: User name in a credential that nirflow creates.
USER: Final = "nirflow"
_BYTES: Final = 24
_LONGEST: Final = 4096
_FORM: Final = "it must be a name, a colon and a password, on one line of printable characters"


class PasswordFileError(NirflowError):
    """A password file that cannot be trusted, or contains no password."""


def file_of(data_dir: Path) -> Path:
    """Return the path of the password file that nirflow creates."""
    return data_dir.expanduser().resolve() / "prefect" / "password"


def is_usable(auth: str) -> bool:
    """Return whether a text is a USER:PASSWORD that browsers and headers can represent."""
    user, _, secret = auth.partition(":")
    return bool(user and secret) and auth.isprintable()


def same_user(one: str, other: str) -> bool:
    """Return whether two USER:PASSWORD have the same user name, apart from upper and lower case."""
    return one.partition(":")[0].casefold() == other.partition(":")[0].casefold()


def known(data_dir: Path, settings: ServerSettings) -> str | None:
    """Return USER:PASSWORD of this data folder's server, from the settings or the file; None if neither has one.

    Raises
    ------
    PasswordFileError
        If the file belongs to another account, others may read it, or it contains no USER:PASSWORD.
    """
    if given := settings.auth_string:
        return given
    try:
        return read(file_of(data_dir))
    except FileNotFoundError:
        return None


def ensure(data_dir: Path, settings: ServerSettings) -> str:
    """Return USER:PASSWORD of this data folder's server; create it if missing.

    Raises
    ------
    PasswordFileError
        As for `known`.
    """
    if found := known(data_dir, settings):
        return found
    return make(file_of(data_dir), USER)


def make(path: Path, user: str) -> str:
    """Create a password for a user in a file; if the file exists, keep the password in it.

    Raises
    ------
    PasswordFileError
        As for `known`.
    """
    private_folder(path.parent)
    made = f"{user}:{secrets.token_urlsafe(_BYTES)}"
    try:
        write_private(path, f"{made}\n", replace=False)
    except NameTakenError:  # another process was quicker
        return read(path)
    return made


def read(path: Path) -> str:
    """Return the USER:PASSWORD in a file.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    PasswordFileError
        As for `known`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PasswordFileError(
            f"The password of the Prefect server cannot be read from {path}: {error.strerror}.",
            remedy="Run nirflow as the account that owns the data folder, or set NIRFLOW_SERVER_AUTH.",
        ) from error
    try:
        _trust(path, os.fstat(descriptor))
        content = os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)
    try:
        text = content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        text = ""
    if len(content) > _LONGEST or not is_usable(text):
        raise PasswordFileError(f"{path} contains no USER:PASSWORD: {_FORM}.", remedy=_remedy(path))
    return text


def _trust(path: Path, about: os.stat_result) -> None:
    """Refuse a file that another account may have written or read."""
    mode = stat.S_IMODE(about.st_mode)
    if not stat.S_ISREG(about.st_mode):
        problem = f"{path} is not a regular file"
    elif about.st_uid != os.geteuid():
        problem = f"{path} belongs to another account (uid {about.st_uid}), which may know the password in it"
    elif mode & OTHERS:
        problem = f"Other accounts may use {path} (mode {mode:04o}, not 0600) and may know the password in it"
    else:
        return
    raise PasswordFileError(f"{problem}.", remedy=_remedy(path))


def _remedy(path: Path) -> str:
    return f"Remove {path}: the next nirflow up creates a new password."
