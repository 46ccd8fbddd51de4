"""Whose the folder of a database's socket is: asked before anything is sent to who listens there."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from imaging.errors import StoreError


def require_own_socket(folder: Path, cluster: Path) -> None:
    """Refuse a socket's folder that somebody else may have put there; one that is not there listens to nobody.

    It has to belong to this account or, where that is root, to the account that owns the cluster, and nobody else may
    have any right to it.

    Parameters
    ----------
    folder
        The folder of the socket.
    cluster
        The folder of the server's data.

    Raises
    ------
    StoreError
        Where it is a link, belongs to another account or is open to others.
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
            f"{folder}, the folder for the database's socket, belongs to somebody else or is open to others: account "
            f"{found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}.",
            remedy="Remove it, or set NIRFLOW_DATA_DIR to a folder with a shorter path.",
        )


def required_peer() -> dict[str, str]:
    """Parameters by which libpq itself refuses a server of another account; none where the server's has no name.

    That is so for root, whose server runs as another account.
    """
    try:
        return {} if os.geteuid() == 0 else {"requirepeer": pwd.getpwuid(os.geteuid()).pw_name}
    except KeyError:
        return {}
