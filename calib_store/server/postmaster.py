"""Which server process is alive: PostgreSQL's lock files, read with more care than it does itself."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from typing import Final

from imaging.errors import StoreError

logger = logging.getLogger(__name__)

#: Says in the command line of a server which cluster is its working folder.
CLUSTER: Final = "nirflow.cluster="
#: The processes of a server end when they see that it was killed: at the end of a statement.
_ORPHAN_SECONDS: Final = 300.0


def alive(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return told.rpartition(")")[2].split()[0] not in "ZX"


def _recorded_pid(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def running_pid(cluster: Path) -> int | None:
    """Process id of the live server of the cluster, from postmaster.pid; None where that process is no such server.

    After a kill -9 or a power cut the file stays, and its number may be somebody else's by now. A server works in the
    folder of its cluster, also where that was renamed or is mounted at another path since.
    """
    pid = _recorded_pid(cluster / "postmaster.pid")
    if pid is None or not alive(pid):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    path = os.fsencode(cluster)  # by itself in the command line of an earlier nirflow
    if not {path, CLUSTER.encode() + path}.isdisjoint(command) or _works_in(pid, cluster):
        return pid
    return None


def _works_in(pid: int, cluster: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(cluster)
    except OSError:  # it ended, or belongs to another user
        return False


def claim(cluster: Path, note: Path) -> None:
    """Say that this machine's server is the cluster's, unless one of another machine may run on it still.

    On a disk that two machines share neither sees the other's processes, and PostgreSQL does not notice either: two
    servers would write to one cluster.

    Parameters
    ----------
    cluster
        The server's folder.
    note
        File that says where a server was started last.

    Raises
    ------
    StoreError
        Where one was started elsewhere and not shut down in order.
    """
    here = f"{socket.gethostname()} {_process_namespace()}"
    there = note.read_text().strip() if note.is_file() else here
    if there != here and (cluster / "postmaster.pid").exists():
        raise StoreError(
            f"The database in {cluster} was started on {there.split()[0]} and may run there.",
            remedy="Stop it there (nirflow server stop), or, where that machine is gone, delete "
            f"{note}. For several machines name a server of their own in NIRFLOW_DATABASE_URL.",
        )
    note.write_text(f"{here}\n")


def _process_namespace() -> str:
    """Containers of one machine may see one folder and not each other's processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"


def forget_dead_server(cluster: Path, socket_lock: Path) -> None:
    """Remove lock files that PostgreSQL itself would take for a live server's.

    It asks only whether a process of that number exists, and so trips over a zombie and over a number that
    was given out again. Processes that a killed server left are found through shared memory all the same.
    """
    for lock in (cluster / "postmaster.pid", socket_lock):
        pid = _recorded_pid(lock)
        if pid is not None and running_pid(cluster) is None:
            logger.info("Server process %d was not shut down in order: forget %s", pid, lock)
            lock.unlink(missing_ok=True)


def require_no_orphans(cluster: Path) -> None:
    """Wait until no process of a killed server of a cluster is left.

    PostgreSQL looks for them itself, but sees only those of the user id that it runs as.

    Raises
    ------
    StoreError
        Where some stay.
    """
    owner = cluster.stat().st_uid
    began = time.monotonic()
    while found := [int(one.name) for one in Path("/proc").glob("[0-9]*") if _is_orphan(one, cluster, owner)]:
        if time.monotonic() - began > _ORPHAN_SECONDS:
            raise StoreError(
                f"Processes of a server that was killed still work on the database in {cluster}: {found}.",
                remedy="Wait for them, or end them: kill " + " ".join(map(str, found)),
            )
        time.sleep(0.1)


def _is_orphan(process: Path, cluster: Path, owner: int) -> bool:
    """Whether a process is one of a server's, without its server."""
    try:
        title = (process / "cmdline").read_bytes()
        if process.stat().st_uid != owner or not title.startswith(b"postgres: "):
            return False
        parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        if Path(f"/proc/{parent}/comm").read_text().strip() == "postgres":
            return False
        return (process / "cwd").samefile(cluster)
    except PermissionError:  # another account's, without the right to trace it: it may be one
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False
