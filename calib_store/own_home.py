"""A home folder for an account without one, as in a container with an arbitrary user id.

Prefect, numba, astropy and matplotlib keep settings and caches in the home folder, and some of them fail at the import
without one. In that case, and where nothing can be written there, these go to the data folder.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Folder in the data folder, and those in it that replace the folders of a home that cannot be written to.
HOME = "home"
_CACHES = {"XDG_CACHE_HOME": ".cache", "MPLCONFIGDIR": ".config/matplotlib"}


def ensure_home() -> None:
    """Give this process, and so its children, places for the files of libraries, before these are imported.

    A home folder that is missing is replaced by one in the data folder. One that cannot be written to remains, as it
    has the user's settings; only caches go to the data folder. Nothing changes if there is no data folder either: the
    command that needs it reports that.
    """
    if os.environ.get("HOME") == "":  # would be the root folder
        del os.environ["HOME"]
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home raises an error without one
    exists = home.is_absolute() and _is_folder(home)
    if exists and os.access(home, os.W_OK | os.X_OK):
        return
    own = _own_home()
    if own is None:
        if not home.is_absolute():
            from calib_store.model.settings_file import NO_HOME

            os.environ["HOME"] = NO_HOME
        return
    if not exists:
        os.environ["HOME"] = str(own)
        return
    for variable, folder in _CACHES.items():
        if variable not in os.environ and (place := _made(own / folder)) is not None:
            os.environ[variable] = str(place)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # below a folder that this account may not enter
        return False


def _own_home() -> Path | None:
    from calib_store.model.settings import StoreSettings  # slow, and rarely needed
    from imaging.errors import NirflowError

    try:
        data_dir = StoreSettings().data_dir.expanduser().absolute()
    except (NirflowError, RuntimeError):
        return None
    return _made(data_dir / HOME)


def _made(folder: Path) -> Path | None:
    from calib_store.private import private_folder
    from imaging.errors import NirflowError

    try:
        return private_folder(folder)
    except (NirflowError, OSError):
        return None
