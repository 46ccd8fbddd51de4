"""What the Prefect server asks for: USER:PASSWORD from the settings, else one that nirflow makes and keeps.

The one that it makes is in ``prefect/password`` of the data folder, for the account that owns the folder and no
other. Whoever can read that file can run commands as that account, by a deployment.
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

#: Name of the user in a password that nirflow makes.
USER: Final = "nirflow"
_BYTES: Final = 24
_LONGEST: Final = 4096
_FORM: Final = "it needs a name, a colon and a password, on one line of ordinary characters"


class PasswordFileError(NirflowError):
    """The file of the password cannot be trusted, or holds none."""


def file_of(data_dir: Path) -> Path:
    """Where a password that nirflow made is kept."""
    return data_dir.expanduser().resolve() / "prefect" / "password"


def is_usable(auth: str) -> bool:
    """Whether a text is USER:PASSWORD that a browser and a header can hold."""
    user, _, word = auth.partition(":")
    return bool(user and word) and auth.isprintable()


def same_user(one: str, other: str) -> bool:
    """Whether two USER:PASSWORD name one user, as a reader of a log would take them."""
    return one.partition(":")[0].casefold() == other.partition(":")[0].casefold()


def known(data_dir: Path, settings: ServerSettings) -> str | None:
    """USER:PASSWORD of this data folder's server: of the settings, else the one that was made; None before that.

    Raises
    ------
    PasswordFileError
        Where the file belongs to another account, others may read it, or it holds no USER:PASSWORD.
    """
    if given := settings.auth_string:
        return given
    try:
        return read(file_of(data_dir))
    except FileNotFoundError:
        return None


def ensure(data_dir: Path, settings: ServerSettings) -> str:
    """USER:PASSWORD of this data folder's server; one is made where there is none.

    Raises
    ------
    PasswordFileError
        As for `known`.
    """
    if found := known(data_dir, settings):
        return found
    return make(file_of(data_dir), USER)


def make(path: Path, user: str) -> str:
    """Make a password for a user and keep it in a file; where that is there already, its own stays.

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
    """USER:PASSWORD in a file.

    Raises
    ------
    FileNotFoundError
        Where there is none.
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
        raise PasswordFileError(f"{path} holds no USER:PASSWORD: {_FORM}.", remedy=_anew(path))
    return text


def _trust(path: Path, about: os.stat_result) -> None:
    """Refuse a file that another account may have written or read."""
    mode = stat.S_IMODE(about.st_mode)
    if not stat.S_ISREG(about.st_mode):
        problem = f"{path} is no ordinary file"
    elif about.st_uid != os.geteuid():
        problem = f"{path} belongs to another account (uid {about.st_uid}), which may know the password in it"
    elif mode & OTHERS:
        problem = f"Other accounts may use {path} (mode {mode:04o}, not 0600) and may know the password in it"
    else:
        return
    raise PasswordFileError(f"{problem}.", remedy=_anew(path))


def _anew(path: Path) -> str:
    return f"Remove {path}: the next nirflow up makes another password."
