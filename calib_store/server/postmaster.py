"""Which server process is alive, from PostgreSQL's lock files, read more carefully than by PostgreSQL itself."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imaging.errors import StoreError
from imaging.network_disks import network_disk

logger = logging.getLogger(__name__)

#: Setting in the command line of a server that names its cluster, which is its working folder.
CLUSTER: Final = "nirflow.cluster="
#: Time for the processes of a killed server to end, which they do at the end of a statement.
_ORPHAN_SECONDS: Final = 300.0
#: The end of a note whose server holds the lock on it, and the most bytes of a note.
_LOCKED: Final = "locked"
#: Time that the processes of a killed server take to end, at most, s.
_LINGER: Final = 3.0
_NOTE_BYTES: Final = 1000


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _recorded_pid(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def running_pid(cluster: Path) -> int | None:
    """Return the process id of the cluster's live server, from postmaster.pid, or None if it is not such a server.

    After a kill -9 or a power cut the file remains, and its number may belong to another process by now. A server's
    working folder is its cluster, even if that has been renamed or mounted at another path since.
    """
    pid = _recorded_pid(cluster / "postmaster.pid")
    if pid is None or not alive(pid):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    path = os.fsencode(cluster)  # a separate argument in the command line of an earlier nirflow
    if not {path, CLUSTER.encode() + path}.isdisjoint(command) or _works_in(pid, cluster):
        return pid
    return None


def _works_in(pid: int, cluster: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(cluster)
    except OSError:  # it has ended, or belongs to another user
        return False


@contextmanager
def claimed(cluster: Path, note: Path) -> Iterator[int]:
    """Hold the lock of the cluster's server in the block, and yield its descriptor, which the server inherits.

    Two machines, or two containers, that share a disk do not see each other's processes, and PostgreSQL does not notice
    either: two servers would write to one cluster. So each server holds a lock of the kernel on a file in the data
    folder. It is free as soon as the last process of the server has ended, whatever happened to it, and also shows the
    server of a container that no longer exists for what it is.

    On a network file system such a lock may be known to this machine only, as with the mount options nolock and
    localflock. There a server that another machine started counts as running until it has been shut down properly.

    Parameters
    ----------
    cluster
        The server's folder.
    note
        The file with the lock. It records where the server was started, for messages.

    Raises
    ------
    StoreError
        If a server holds the lock, here or elsewhere; or if one that was started elsewhere and not shut down properly
        may hold one that is not visible here: on a network file system, or of an earlier nirflow, which held none.
    """
    descriptor = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        there = os.pread(descriptor, _NOTE_BYTES, 0).decode(errors="replace").split()
        if not _locked(descriptor):
            raise StoreError(
                f"The database in {cluster} runs on {there[0] if there else 'another machine'}, in a container or on a "
                "machine whose processes are not visible here.",
                remedy="Use it there, or stop it there (nirflow server stop). For several machines, name a separate "
                "server in NIRFLOW_DATABASE_URL.",
            )
        here = [socket.gethostname(), _process_namespace()]
        if there and (cluster / "postmaster.pid").exists() and (why := _may_run_unseen(there, here, note)):
            raise StoreError(
                f"The database in {cluster} was started on {there[0]} {why} and may run there.",
                remedy="Stop it there (nirflow server stop) or, if that machine no longer exists, delete "
                f"{note}. For several machines, name a separate server in NIRFLOW_DATABASE_URL.",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{' '.join(here)} {_LOCKED}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; of a server that was killed, wait for the last processes to end."""
    give_up = time.monotonic() + _LINGER
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
        time.sleep(0.05)


def _may_run_unseen(there: list[str], here: list[str], note: Path) -> str:
    """Return why the lock of a server, whose note is given, may not be visible here; empty if it would be."""
    if there[2:] != [_LOCKED]:
        return "by an earlier nirflow" if there[:2] != here else ""
    if there[0] == here[0]:  # containers of one machine share its locks
        return ""
    disk = network_disk(note.parent.resolve())
    return f"on a disk of type {disk}, which may hide its lock," if disk else ""


def held_elsewhere(note: Path) -> bool:
    """Return whether a server holds the lock on its note."""
    try:
        with note.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _process_namespace() -> str:
    """Return the process namespace: containers of one machine may share a folder but not see each other's processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"


def forget_dead_server(cluster: Path, socket_lock: Path) -> None:
    """Remove lock files that PostgreSQL itself would mistake for a live server's.

    It only checks whether a process with that number exists, and so is misled by a zombie or a reused number. Processes
    that a killed server left are still found through shared memory.
    """
    for lock in (cluster / "postmaster.pid", socket_lock):
        pid = _recorded_pid(lock)
        if pid is not None and running_pid(cluster) is None:
            logger.info("Server process %d was not shut down properly: removing %s", pid, lock)
            lock.unlink(missing_ok=True)


def require_no_orphans(cluster: Path) -> None:
    """Wait until no process of a cluster's killed server is left.

    PostgreSQL looks for them itself, but only sees those of its own user id.

    Raises
    ------
    StoreError
        If any remain.
    """
    owner = cluster.stat().st_uid
    began = time.monotonic()
    while found := [int(one.name) for one in Path("/proc").glob("[0-9]*") if _is_orphan(one, cluster, owner)]:
        if time.monotonic() - began > _ORPHAN_SECONDS:
            raise StoreError(
                f"Processes of a killed server still use the database in {cluster}: {found}.",
                remedy="Wait for them, or end them: kill " + " ".join(map(str, found)),
            )
        time.sleep(0.1)


def _is_orphan(process: Path, cluster: Path, owner: int) -> bool:
    """Return whether a process belongs to a server that no longer exists."""
    try:
        title = (process / "cmdline").read_bytes()
        if process.stat().st_uid != owner or not title.startswith(b"postgres: "):
            return False
        parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        if Path(f"/proc/{parent}/comm").read_text().strip() == "postgres":
            return False
        return (process / "cwd").samefile(cluster)
    except PermissionError:  # another account's, without permission to trace it: it may be an orphan
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False
