"""The owner of the folder of a database's socket, checked before anything is sent to a server that listens there."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from imaging.errors import StoreError


def require_own_socket(folder: Path, cluster: Path) -> None:
    """Refuse a socket's folder that another account may have created; a missing folder is harmless.

    It must belong to this account or, for root, to the account that owns the cluster, and nobody else may have any
    permission on it.

    Parameters
    ----------
    folder
        The folder of the socket.
    cluster
        The folder of the server's data.

    Raises
    ------
    StoreError
        If it is a link, belongs to another account or is open to others.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    owners = {os.geteuid()}
    if os.geteuid() == 0 and cluster.is_dir():
        owners.add(cluster.stat().st_uid)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(
            f"{folder}, the folder for the database's socket, belongs to another account or is open to others: account "
            f"{found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}.",
            remedy="Remove it, or set NIRFLOW_DATA_DIR to a folder with a shorter path.",
        )


def required_peer() -> dict[str, str]:
    """Return the parameters that make libpq refuse a server of another account; empty if the account has no name.

    This is the case for root, whose server runs as a different account.
    """
    try:
        return {} if os.geteuid() == 0 else {"requirepeer": pwd.getpwuid(os.geteuid()).pw_name}
    except KeyError:
        return {}
