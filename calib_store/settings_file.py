"""The settings file: which one is read, and whether it is one that this account may trust."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from functools import cache
from pathlib import Path
from typing import Final

from imaging.errors import NirflowError

logger = logging.getLogger(__name__)

#: Names the settings file.
CONFIG: Final = "NIRFLOW_CONFIG"
FILE_NAME: Final = "nirflow.toml"
_READABLE: Final = stat.S_IRGRP | stat.S_IROTH


class WrongSettingsError(NirflowError):
    """A setting that makes no sense; names it, its value where that is no secret, and where it came from."""


class ForeignSettingsError(WrongSettingsError):
    """A settings file that others own or may change: it could have any program run as this account."""


def settings_file() -> Path | None:
    """The settings file: the one that NIRFLOW_CONFIG names, else ``nirflow.toml`` here, else the user's own.

    The one here has to belong to this account or to root, and nobody else may have the right to write to it: nirflow is
    run in folders of raw frames that may be anybody's. Whose the folder is does not matter, as nobody else can make a
    file of this account there.

    Raises
    ------
    WrongSettingsError
        Where NIRFLOW_CONFIG names none.
    ForeignSettingsError
        Where another account owns the file or may write to it.
    """
    if named := os.environ.get(CONFIG):
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise WrongSettingsError(
                f"{CONFIG} = {named}: there is no such file.", remedy="Correct it or unset it."
            )
        _require_writable_by(path, stat.S_IWOTH)
        return path
    here = Path(FILE_NAME).absolute()
    if here.is_file():
        _require_owner(here)
        _require_writable_by(here, stat.S_IWGRP | stat.S_IWOTH)
        return here
    own = xdg("XDG_CONFIG_HOME", ".config") / "nirflow" / FILE_NAME
    if own.is_file():
        _require_writable_by(own, stat.S_IWOTH)
        return own
    return None


def warn_of_readers(path: Path, secrets: tuple[str, ...]) -> None:
    """Log once in a process that others can read a settings file that holds these secrets."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if secrets and mode & _READABLE:
        _warn(path, mode, secrets)


@cache
def _warn(path: Path, mode: int, secrets: tuple[str, ...]) -> None:
    logger.warning(
        "%s holds %s and has mode %04o: other accounts of this machine can read it. Correct that: chmod 600 %s",
        path, ", ".join(secrets), mode, path,
    )  # fmt: skip


def xdg(variable: str, default: str) -> Path:
    """A folder of the XDG base directory specification."""
    base = os.environ.get(variable, "")
    # The specification says that a relative path there is to be ignored.
    return Path(base) if base and Path(base).is_absolute() else Path.home() / default


def _require_owner(path: Path) -> None:
    for found in (path.lstat(), path.stat()):
        if found.st_uid not in (os.geteuid(), 0):
            raise ForeignSettingsError(
                f"{path} belongs to the account {_name(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o}), and "
                f"nirflow runs as {_name(os.geteuid())}: its settings are not taken.",
                remedy=f"Read it, then name it in {CONFIG} or make it yours (chown); or work in another folder.",
            )


def _require_writable_by(path: Path, others: int) -> None:
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & others:
        raise ForeignSettingsError(
            f"{path} (of the account {_name(found.st_uid)}) has mode {stat.S_IMODE(found.st_mode):04o}: other accounts "
            "may write to it, so its settings are not taken.",
            remedy=f"Read it, then: chmod go-w {path}",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
