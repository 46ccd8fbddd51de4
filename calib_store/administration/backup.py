"""A complete store written to a folder: a PostgreSQL dump of the database, and the files that it names.

The dump and the list of files are from the same moment; files are only ever added to a store, so work may continue
during a backup. A second backup into the same folder adds what is new.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import URL

from calib_store.administration.backup_folder import MANIFEST, OBJECTS, Backup
from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import ObjectStore, file_sha256
from calib_store.libpq import program_environment
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.server.places import objects_of, open_database
from calib_store.tables.database import Database
from calib_store.tables.object_place import known_identity
from calib_store.tables.products import software_version
from calib_store.tables.schema import metadata
from imaging.errors import StoreError
from imaging.io.atomic import take_lock, write_complete

_LOCK = ".lock"
_TABLES = (*metadata.tables, "alembic_version")


@dataclass(frozen=True)
class _Moment:
    """The database at one moment, held open."""

    snapshot: str
    files: dict[str, str]
    frames: int
    products: int
    revision: str
    store: str


def backup(
    settings: StoreSettings, target: Path, *, progress: Callable[[str], None] = lambda name: None
) -> Backup:
    """Write the complete store to a folder, or bring an earlier backup there up to date.

    Parameters
    ----------
    settings
        The store.
    target
        A new or empty folder, or one with an earlier backup.
    progress
        Called with the name of each product when its file has been written.

    Raises
    ------
    StoreError
        If the folder holds something else or cannot be written, another backup is being written to it, or the
        database cannot be read.
    """
    _check_target(target)
    database, objects = open_database(settings), objects_of(settings)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target), _moment(database) as moment:
            return _written(database, objects, moment, target, progress)
    except OSError as error:
        raise StoreError(
            f"The backup cannot be written to {target}: {error.strerror or error}.",
            remedy="Check that the folder can be written and has room.",
        ) from error
    finally:
        database.close()


def _written(
    database: Database, objects: ObjectStore, moment: _Moment, target: Path, progress: Callable[[str], None]
) -> Backup:
    """Write the dump and the files, then the manifest; then remove what only an earlier backup needed."""
    dump = target / f".database.{uuid.uuid4().hex[:12]}"
    try:
        _dump(database.url, moment.snapshot, dump)
        lost = _copy_files(moment.files, objects, LocalObjects(target / OBJECTS), progress)
        made = Backup(
            made_at=datetime.now(UTC), software=software_version(), revision=moment.revision,
            products=moment.products, frames=moment.frames, dump_sha256=file_sha256(dump), store=moment.store,
            lost=lost,
        )  # fmt: skip
        _sync(dump)
        dump.rename(target / made.dump)
    finally:
        dump.unlink(missing_ok=True)
    write_complete(target / MANIFEST, [made.model_dump_json(indent=1).encode()])
    for old in (*target.glob("database-*.dump"), *target.glob(".database.*")):
        if old.name != made.dump:
            old.unlink(missing_ok=True)
    return made


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Exclude other backups to the folder: each deletes the dumps of others."""
    held = take_lock(target / _LOCK)
    if held is None:
        raise StoreError(
            f"Another backup is being written to {target}.", remedy="Wait for it, or name another folder."
        )
    with held:
        yield


def _check_target(target: Path) -> None:
    if not target.exists() or (target / MANIFEST).is_file():
        return
    if not target.is_dir() or any(path.name != _LOCK for path in target.iterdir()):
        raise StoreError(
            f"{target} holds something other than a backup.",
            remedy="Name a new folder, or one with a backup.",
        )


@contextmanager
def _moment(database: Database) -> Iterator[_Moment]:
    """Hold a snapshot of the database, which can be read for as long as the context lasts."""
    with database.begin() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        rows = connection.execute(text("SELECT sha256, name FROM products ORDER BY made_at, id")).all()
        yield _Moment(
            snapshot=str(connection.scalar(text("SELECT pg_export_snapshot()"))),
            files={row.sha256: row.name for row in rows},
            products=len(rows),
            frames=int(connection.scalar(text("SELECT count(*) FROM frames")) or 0),
            revision=str(connection.scalar(text("SELECT version_num FROM alembic_version"))),
            store=known_identity(connection),
        )


def _copy_files(
    files: dict[str, str], objects: ObjectStore, target: LocalObjects, progress: Callable[[str], None]
) -> tuple[str, ...]:
    lost = []
    for sha256, name in files.items():
        if not target.verify(sha256):
            if not objects.verify(sha256):
                lost.append(f"{name} ({sha256[:12]})")
                continue
            target.put(objects.local(sha256))
        progress(name)
    return tuple(lost)


def _dump(url: URL, snapshot: str, target: Path) -> None:
    tables = [f"--table={table}" for table in _TABLES]
    command = [
        str(postgres.program("pg_dump")), "--format=custom", "--no-owner", "--no-privileges",
        f"--snapshot={snapshot}", f"--file={target}", *tables,
    ]  # fmt: skip
    done = subprocess.run(command, env=program_environment(url), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [one.strip() for one in done.stderr.splitlines() if "error" in one.lower()]
        raise StoreError(
            f"The database could not be dumped: {(lines or [done.stderr.strip()])[0].rstrip('.')}.",
            remedy="Check that the account owns the tables, and that the server is not newer than the programs.",
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
