"""The settings file: which one is read, and whether this account can trust it."""

from __future__ import annotations

import logging
import os
import pwd
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import NirflowError
from imaging.machine import size_text

logger = logging.getLogger(__name__)

#: The home folder of an account that has none.
NO_HOME: Final = "/nonexistent"

#: Variable that names the settings file.
CONFIG: Final = "NIRFLOW_CONFIG"
FILE_NAME: Final = "nirflow.toml"
#: Largest settings file that is read, bytes.
_LARGEST: Final = 1 << 20
_READABLE: Final = stat.S_IRGRP | stat.S_IROTH


class WrongSettingsError(NirflowError):
    """An invalid setting; the message has its name, its value unless that is a secret, and its source."""


class ForeignSettingsError(WrongSettingsError):
    """A settings file that others own or may change: it could make this account run any program."""


@dataclass(frozen=True)
class SettingsFile:
    """The settings file as it was read; its permissions were checked on the same open file."""

    path: Path
    mode: int
    table: Mapping[str, Any]


def settings_file() -> Path | None:
    """Return the settings file: the one that NIRFLOW_CONFIG names, else ``nirflow.toml`` here, else the user's own.

    A file in the working folder must belong to this account or to root, and nobody else may have permission to write to
    it, because nirflow is run in folders of raw frames that may belong to anybody. The owner of the folder does not
    matter, as nobody else can create a file of this account there. (What this account unpacks there is its own.)

    Raises
    ------
    WrongSettingsError
        If NIRFLOW_CONFIG names no existing file.
    ForeignSettingsError
        If another account owns the file or may write to it.
    """
    with _opened() as found:
        return None if found is None else found[0]


def read_settings_file() -> SettingsFile | None:
    """Read the settings file, if there is one; see `settings_file`.

    Raises
    ------
    WrongSettingsError, ForeignSettingsError
        As there, and for a file that is not valid TOML.
    """
    with _opened() as found:
        if found is None:
            return None
        path, descriptor = found
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_LARGEST + 1)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    try:
        if len(content) > _LARGEST:
            raise ValueError(f"it is larger than {size_text(_LARGEST)}")
        return SettingsFile(path, mode, tomllib.loads(content.decode()))
    except (ValueError, RecursionError) as error:  # no TOML or text; endless numbers or lists
        raise WrongSettingsError(f"{path}: {error}.", remedy="Correct that line.") from error


#: Files and the names of secrets in them that the user was warned of.
_warned: Final[set[tuple[Path, str]]] = set()


@contextmanager
def _opened() -> Iterator[tuple[Path, int] | None]:
    """Open the settings file and yield its path and descriptor, whose owner and permissions were checked."""
    descriptor = None
    try:
        if named := os.environ.get(CONFIG):
            path = _absolute(Path(named).expanduser())
            if path is None or (descriptor := _descriptor(path)) is None:
                raise WrongSettingsError(
                    f"{CONFIG} = {named}: there is no such file.", remedy="Correct it or unset it."
                )
            _require_writable_by(path, descriptor, stat.S_IWOTH)
            yield path, descriptor
            return
        here = _absolute(Path(FILE_NAME))
        if here is not None and (descriptor := _descriptor(here, ours=True)) is not None:
            _require_owner(here, os.fstat(descriptor))
            _require_writable_by(here, descriptor, stat.S_IWGRP | stat.S_IWOTH)
            yield here, descriptor
            return
        own = xdg("XDG_CONFIG_HOME", ".config") / "nirflow" / FILE_NAME
        if (descriptor := _descriptor(own)) is not None:
            _require_writable_by(own, descriptor, stat.S_IWOTH)
            yield own, descriptor
            return
        yield None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _absolute(path: Path) -> Path | None:
    """Return the absolute path; None for a relative one if the working folder was removed."""
    try:
        return path.absolute()
    except FileNotFoundError:
        return None


def _descriptor(path: Path, *, ours: bool = False) -> int | None:
    """Open a regular file, or return None if it is missing. With ``ours``, a link to it must be this account's too."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if not path.is_file():  # opening some devices already has an effect on them
            return None
        descriptor = _open_ours(path, flags) if ours else os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WrongSettingsError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Let this account read it, or remove it.",
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor


def _open_ours(path: Path, flags: int) -> int:
    name = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(name)
        _require_owner(path, found)
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink("", dir_fd=name)  # of the same link that was checked
            return os.open(path.parent / target, flags)
        return os.open(f"/proc/self/fd/{name}", flags)
    finally:
        os.close(name)


def warn_of_readers(file: SettingsFile, secrets: tuple[str, ...]) -> None:
    """Log, once per process for each secret, that others can read the settings file that holds it."""
    new = [name for name in secrets if (file.path, name) not in _warned]
    if not new or not file.mode & _READABLE:
        return
    _warned.update((file.path, name) for name in new)
    logger.warning(
        "%s holds %s and has mode %04o: other accounts of this machine can read it. Correct that: chmod 600 %s",
        file.path, ", ".join(new), file.mode, file.path,
    )  # fmt: skip


def xdg(variable: str, default: str) -> Path:
    """Return a folder of the XDG base directory specification."""
    base = os.environ.get(variable, "")
    # The specification requires a relative path there to be ignored.
    if base and Path(base).is_absolute():
        return Path(base)
    return _home() / default


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # an account without a name, as in a container with an arbitrary user id
        return Path(NO_HOME)


def _require_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise ForeignSettingsError(
            f"{path} belongs to the account {_name(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o}), and "
            f"nirflow runs as {_name(os.geteuid())}: its settings are not used.",
            remedy=f"Review it, then name it in {CONFIG} or change its owner (chown); or work in another folder.",
        )


def _require_writable_by(path: Path, descriptor: int, others: int) -> None:
    found = os.fstat(descriptor)
    if stat.S_IMODE(found.st_mode) & others:
        raise ForeignSettingsError(
            f"{path} (of the account {_name(found.st_uid)}) has mode {stat.S_IMODE(found.st_mode):04o}: other accounts "
            "may write to it, so its settings are not used.",
            remedy=f"Review it, then: chmod go-w {path}",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
