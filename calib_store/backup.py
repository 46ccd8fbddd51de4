"""A whole store in a folder, and back again: the database as PostgreSQL dumps it, and the files that it names.

The dump and the list of files are of one moment; files are only ever added to a store, so work may go on
meanwhile. A second backup into the same folder adds what is new.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from calib_store import postgres
from calib_store.database import Database
from calib_store.libpq import program_environment, without_variables
from calib_store.local_objects import LocalObjects
from calib_store.migrations import HEAD, current_revision, migrate
from calib_store.models import metadata
from calib_store.object_place import claim, identity, mark, store_named_by
from calib_store.objects import MARKER, ObjectStore, file_sha256
from calib_store.places import objects_of, open_database
from calib_store.products import mark_damaged, software_version
from calib_store.roles import make_roles
from calib_store.settings import StoreSettings
from calib_store.store import Store
from calib_store.upkeep import every_product
from imaging.atomic import take_lock, write_whole
from imaging.errors import StoreError

_MANIFEST = "backup.json"
_OBJECTS = "objects"
_LOCK = ".lock"
_TABLES = (*metadata.tables, "alembic_version")
#: It was unused before the files were copied, which may have taken hours.
_STILL_UNUSED = """
DO $$ BEGIN
    IF to_regclass('frames') IS NOT NULL AND to_regclass('products') IS NOT NULL THEN
        LOCK TABLE frames, products IN ACCESS EXCLUSIVE MODE;
        IF EXISTS (SELECT FROM frames) OR EXISTS (SELECT FROM products) THEN
            RAISE EXCEPTION 'the store came into use meanwhile: it holds frames or products';
        END IF;
    END IF;
END $$;
"""
#: A dump's settings that an older server does not know.
_NEWER_SETTINGS = (b"SET transaction_timeout",)


class Backup(BaseModel):
    """What a backup says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["nirflow-backup"] = "nirflow-backup"
    version: Literal[1] = 1
    made_at: datetime
    software: str
    revision: str = Field(description="of the tables")
    products: int
    frames: int
    dump_sha256: str
    store: str = Field(default="", description="identity of the store; earlier backups have none")
    lost: tuple[str, ...] = Field(description="products whose files were missing or damaged")

    @property
    def dump(self) -> str:
        """File name of the database's dump. Its own, so that an earlier backup is whole until this one is."""
        return f"database-{self.dump_sha256[:16]}.dump"


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
    """Write the whole store into a folder, or bring an earlier backup in it up to date.

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
        Where the folder holds something else or cannot be written, another backup is being written into it, or the
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
            remedy="See that the folder can be written and has room.",
        ) from error
    finally:
        database.close()


def restore(
    settings: StoreSettings, source: Path, *, progress: Callable[[str], None] = lambda name: None
) -> Backup:
    """Bring a backup back into an empty store: files first, then the database, then newer tables.

    Parameters
    ----------
    settings
        The store: its database is empty, or was made and never used; as the owner of the database.
    source
        A folder that `backup` wrote.
    progress
        Called with the sha256 of each file when it is there.

    Returns
    -------
    Backup
        With all products that have no file: none was in the backup, or a damaged one. They are noted as damaged.

    Raises
    ------
    StoreError
        Where the store holds frames or products already, the backup is damaged or newer than this nirflow, or
        the database refuses. The database is as before then.
    """
    told = read_backup(source)
    if told.revision > HEAD:
        raise StoreError(
            f"The backup's tables are of version {told.revision}; this nirflow knows {HEAD}.",
            remedy="Update nirflow first.",
        )
    database, objects = open_database(settings), objects_of(settings)
    try:
        _require_unused(database)
        _take_place(database, objects, told)
        kept = LocalObjects(source / _OBJECTS)
        for found in kept.objects():
            assert found.sha256 is not None
            # The backup may be on a disk that is read only, and is not this command's to change: looked at, not moved.
            if not objects.verify(found.sha256) and kept.examine(found.sha256) == "whole":
                objects.put(kept.path(found.sha256))
            progress(found.sha256)
        _load(database, source / told.dump)
        migrate(database.engine)
        with database.begin() as connection:
            make_roles(connection)
        claim(database, objects)  # the store is that of the backup now
        return told.model_copy(update={"lost": _without_file(Store(database, objects))})
    finally:
        database.close()


def read_backup(folder: Path) -> Backup:
    """What a backup says of itself, after its dump was compared with its checksum.

    Raises
    ------
    StoreError
        Where it is no backup, or damaged.
    """
    try:
        told = Backup.model_validate_json((folder / _MANIFEST).read_bytes())
        whole = file_sha256(folder / told.dump) == told.dump_sha256
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{folder} is no backup: {_first(error)}.",
            remedy="Name a folder that `nirflow cal backup` wrote.",
        ) from None
    if not whole:
        raise StoreError(
            f"The dump in {folder} is damaged: its sha256 is not that of {_MANIFEST}.",
            remedy="Take another backup.",
        )
    return told


def _written(
    database: Database, objects: ObjectStore, moment: _Moment, target: Path, progress: Callable[[str], None]
) -> Backup:
    """Dump and files first, then what tells of them; what only an earlier backup needed goes last."""
    dump = target / f".database.{uuid.uuid4().hex[:12]}"
    try:
        _dump(database.url, moment.snapshot, dump)
        lost = _copy_files(moment.files, objects, LocalObjects(target / _OBJECTS), progress)
        made = Backup(
            made_at=datetime.now(UTC), software=software_version(), revision=moment.revision,
            products=moment.products, frames=moment.frames, dump_sha256=file_sha256(dump), store=moment.store,
            lost=lost,
        )  # fmt: skip
        _sync(dump)
        dump.rename(target / made.dump)
    finally:
        dump.unlink(missing_ok=True)
    write_whole(target / _MANIFEST, [made.model_dump_json(indent=1).encode()])
    for old in (*target.glob("database-*.dump"), *target.glob(".database.*")):
        if old.name != made.dump:
            old.unlink(missing_ok=True)
    return made


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """No other backup into the folder: each deletes the dumps that are not its own."""
    held = take_lock(target / _LOCK)
    if held is None:
        raise StoreError(
            f"Another backup is being written to {target}.", remedy="Wait for it, or name another folder."
        )
    with held:
        yield


def _check_target(target: Path) -> None:
    if not target.exists() or (target / _MANIFEST).is_file():
        return
    if not target.is_dir() or any(path.name != _LOCK for path in target.iterdir()):
        raise StoreError(
            f"{target} holds something that is no backup.", remedy="Name a new folder, or one with a backup."
        )


@contextmanager
def _moment(database: Database) -> Iterator[_Moment]:
    """One moment of the database; it stays to be read from for as long as the context lasts."""
    with database.begin() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        rows = connection.execute(text("SELECT sha256, name FROM products ORDER BY made_at, id")).all()
        yield _Moment(
            snapshot=str(connection.scalar(text("SELECT pg_export_snapshot()"))),
            files={row.sha256: row.name for row in rows},
            products=len(rows),
            frames=int(connection.scalar(text("SELECT count(*) FROM frames")) or 0),
            revision=str(connection.scalar(text("SELECT version_num FROM alembic_version"))),
            store=_identity(connection),
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


def _without_file(store: Store) -> tuple[str, ...]:
    """Note the products that have no whole file; which those are."""
    lost = []
    for product in every_product(store):
        there = store.objects.verify(product.sha256)
        if there == product.damaged:
            note = partial(mark_damaged, product=product, damaged=not there)
            store.database.run(note)
        if not there:
            lost.append(f"{product.name} ({product.sha256[:12]})")
    return tuple(lost)


def _require_unused(database: Database) -> None:
    if current_revision(database.engine) is None:
        return
    with database.begin() as connection:
        numbers = {
            table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)
            for table in ("frames", "products")
        }
    if any(numbers.values()):
        held = " and ".join(f"{number} {table}" for table, number in numbers.items())
        raise StoreError(
            f"The store holds {held}; a backup is restored into an empty one only.",
            remedy="Name another database (NIRFLOW_DATABASE_URL) or data folder (NIRFLOW_DATA_DIR). To add "
            "products to a store, use `nirflow cal export` and `import`.",
        )


def _identity(connection: Connection) -> str:
    """Identity of the store; empty for tables of a version that has no rules yet, or none."""
    there = connection.scalar(text("SELECT to_regclass('rule_changes')")) is not None
    return identity(connection) if there else ""


def _take_place(database: Database, objects: ObjectStore, told: Backup) -> None:
    """Mark the place of the files; refuse that of a store that is neither the unused one nor that of the backup."""
    there = store_named_by(objects)
    with database.begin() as connection:
        unused = _identity(connection)
    if there is None and (unused or told.store):
        mark(objects, unused or told.store)
    elif there not in (None, unused, told.store):
        raise StoreError(
            f"The files at {objects.place} belong to another store ({MARKER} there has store = {there!r}).",
            remedy="Name another place in NIRFLOW_OBJECTS_URL. Where that store is gone for good, or is the one that "
            f"the backup was taken of, delete {objects.place}/{MARKER}.",
        )


def _dump(url: URL, snapshot: str, target: Path) -> None:
    tables = [f"--table={table}" for table in _TABLES]
    command = [
        str(postgres.program("pg_dump")), "--format=custom", "--no-owner", "--no-privileges",
        f"--snapshot={snapshot}", f"--file={target}", *tables,
    ]  # fmt: skip
    done = subprocess.run(command, env=program_environment(url), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _refused("dumped", done.stderr)


def _load(database: Database, dump: Path) -> None:
    """Run a dump's statements in one transaction; the tables of a store that was never used make room."""
    with tempfile.TemporaryDirectory(prefix="nirflow-restore-") as folder:
        script = Path(folder) / "restore.sql"
        _write_script(dump, script)
        run = subprocess.run(
            [str(postgres.program("psql")), "--no-psqlrc", "--quiet", "--single-transaction",
             "--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--file={script}"],
            env=program_environment(database.url), capture_output=True, text=True, check=False,
        )  # fmt: skip
    if run.returncode != 0:
        raise _refused("restored", run.stderr)


def _write_script(dump: Path, script: Path) -> None:
    """A dump as statements, without the settings that an older server does not know."""
    command = [
        str(postgres.program("pg_restore")), "--no-owner", "--no-privileges", "--file=-", str(dump),
    ]  # fmt: skip
    environment = {**without_variables(os.environ), "LC_ALL": "C"}
    with (
        script.open("wb") as out,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as remake,
    ):
        assert remake.stdout is not None
        assert remake.stderr is not None
        out.write(_STILL_UNUSED.encode())
        # What a store that was never used has; of a newer version perhaps, which a dump's own cleaning misses.
        out.write(f"DROP TABLE IF EXISTS {', '.join(_TABLES)};\n".encode())
        out.writelines(line for line in remake.stdout if not line.startswith(_NEWER_SETTINGS))
        complaint = remake.stderr.read().decode(errors="replace")
    if remake.returncode != 0:
        raise _refused("restored", complaint)


def _refused(doing: str, told: str) -> StoreError:
    lines = [
        line.strip() for line in told.splitlines() if "error" in line.lower()
    ] or told.strip().splitlines()
    return StoreError(
        f"The database could not be {doing}: {(lines or ['no reason given'])[0].rstrip('.')}.",
        remedy="See that the account owns the tables, and that the server is not newer than the programs.",
    )


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{_MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
