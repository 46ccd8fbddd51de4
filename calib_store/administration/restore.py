"""Restoring a backup: its rows into tables that this nirflow creates, and its files if their bytes match their names.

A backup may come from elsewhere, so it is treated as data, not as a program. The migrations of this nirflow create
the tables, with their constraints, at the backup's revision; only the rows of the dump are loaded into them; then the
tables are brought up to date, and every row is read as the commands read it. All of this is one transaction of the
account that owns the database, which needs no other right. The content of the rows about frames and products is
trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from calib_store.administration.backup_folder import Backup, opened, opened_object, read_backup
from calib_store.administration.dump import Dump, Rows, WrongDumpError
from calib_store.administration.readable import unreadable
from calib_store.curation.verify import every_product
from calib_store.files.objects import MARKER, SHA256, ObjectStore
from calib_store.migrations import complete, current_revision, keep_others_out, revisions, upgrade
from calib_store.model.settings import StoreSettings
from calib_store.server.places import objects_of, open_database
from calib_store.store import Store
from calib_store.tables.database import Database
from calib_store.tables.object_place import claim, identity, known_identity, mark, store_named_by
from calib_store.tables.products import mark_damaged
from calib_store.tables.rulebook import rule_history, rules_of
from calib_store.tables.schema import metadata
from imaging.errors import StoreError
from imaging.frames.find_files import is_plain_name

_REVISION: Final = "alembic_version"
_TABLES: Final = (*metadata.tables, _REVISION)
#: Tables whose number of rows the backup records.
_COUNTED: Final = ("frames", "products")
#: Number of bytes sent at once.
_BLOCK: Final = 1024**2
#: Largest number in a column of serial numbers, so that later rows still get numbers.
_LARGEST_ID: Final = 2**62
#: Columns of times, and values that Python's calendar lacks: years before 1 and after 9999, infinity.
_MOMENTS: Final = """
    SELECT table_name, column_name, udt_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND udt_name IN ('timestamptz', 'tstzrange', '_date')
    ORDER BY table_name, ordinal_position
"""
_YEARS: Final = "BETWEEN '0002-01-01' AND '9998-12-31'"
_BEYOND: Final = {
    "timestamptz": f"{{0}} NOT {_YEARS}",
    "tstzrange": f"lower({{0}}) NOT {_YEARS} OR upper({{0}}) NOT {_YEARS}",
    "_date": f"EXISTS (SELECT FROM unnest({{0}}) one WHERE one NOT {_YEARS})",
}


def restore(
    settings: StoreSettings, source: Path, *, progress: Callable[[str], None] = lambda name: None
) -> Backup:
    """Restore a backup to an empty store: files first, then the database, then newer tables.

    Parameters
    ----------
    settings
        The store, opened as the owner of its database, which is empty or was never used.
    source
        A folder that `backup` wrote.
    progress
        Called with the sha256 of each product when its file has been restored or found missing.

    Returns
    -------
    Backup
        With all products that have no file, because it was missing or damaged in the backup. They are recorded as
        damaged.

    Raises
    ------
    StoreError
        If the store already holds frames or products, the backup is damaged, is newer than this nirflow or holds
        anything but a store's rows, or the database refuses it. The database is unchanged then.
    """
    recorded = read_backup(source)
    _require_known(recorded)
    database, objects = open_database(settings), objects_of(settings)
    try:
        _require_unused(database)
        with opened(source, recorded.dump) as descriptor:
            dump = Dump(descriptor, _TABLES)
            files = dict(_files(dump, recorded))
            _take_place(database, objects, recorded)
            for sha256, size in files.items():
                _bring_file(source, objects, sha256, size)
                progress(sha256)
            _load(database, dump, recorded)
        claim(database, objects)  # the store now has the backup's identity
        return recorded.model_copy(update={"lost": _without_file(Store(database, objects))})
    finally:
        database.close()


def _require_known(recorded: Backup) -> None:
    if recorded.revision not in revisions():
        raise StoreError(
            f"The backup's tables are of version {recorded.revision}; this nirflow knows {', '.join(revisions())}.",
            remedy="Update nirflow first.",
        )


def _require_unused(database: Database) -> None:
    if current_revision(database.engine) is None:
        return
    with database.begin() as connection:
        numbers = _numbers(connection)
    if any(numbers.values()):
        held = " and ".join(f"{number} {table}" for table, number in numbers.items())
        raise StoreError(
            f"The store holds {held}; a backup can only be restored to an empty one.",
            remedy="Name another database (NIRFLOW_DATABASE_URL) or data folder (NIRFLOW_DATA_DIR). To add "
            "products to a store, use `nirflow cal export` and `import`.",
        )


def _numbers(connection: Connection) -> dict[str, int]:
    return {table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0) for table in _COUNTED}


def _files(dump: Dump, recorded: Backup) -> Iterator[tuple[str, int]]:
    """Yield the sha256 and size of the products' files, from the rows of the dump."""
    with dump.rows("products") as rows:
        try:
            places = [rows.columns.index(name) for name in ("sha256", "size", "name")]
        except ValueError:
            raise WrongDumpError("has no products in a form that this nirflow knows") from None
        for number, row in enumerate(rows, 1):
            values = row.rstrip(b"\n").decode(errors="replace").split("\t")
            if number > recorded.products or len(values) != len(rows.columns):
                raise WrongDumpError(
                    f"has other products than the {recorded.products} that the backup records"
                )
            sha256, size, name = (values[place] for place in places)
            if not (SHA256.fullmatch(sha256) and size.isdecimal() and is_plain_name(name)):
                raise WrongDumpError(f"has an invalid product: {name[:100]!r} ({sha256[:64]!r})")
            yield sha256, int(size)


def _take_place(database: Database, objects: ObjectStore, recorded: Backup) -> None:
    """Mark the place of the files; refuse that of a store other than the unused one and that of the backup."""
    there = store_named_by(objects)
    with database.begin() as connection:
        unused = known_identity(connection)
    if there is None and (unused or recorded.store):
        mark(objects, unused or recorded.store)
    elif there not in (None, unused, recorded.store):
        raise StoreError(
            f"The files at {objects.place} belong to another store ({MARKER} there has store = {there!r}).",
            remedy="Name another place in NIRFLOW_OBJECTS_URL. If that store no longer exists, or is the one that "
            f"the backup was taken from, delete {objects.place}/{MARKER}.",
        )


def _bring_file(source: Path, objects: ObjectStore, sha256: str, size: int) -> None:
    # The backup may be on a read-only disk, and this command must not change it: files are copied, not moved.
    if not objects.verify(sha256):
        with opened_object(source, sha256, size) as path:
            if path is not None:
                objects.put(path)


def _load(database: Database, dump: Dump, recorded: Backup) -> None:
    """Create the tables and fill them, all or nothing."""
    try:
        with database.begin() as connection:
            keep_others_out(connection)
            _make_room(connection)
            upgrade(connection, recorded.revision)
            tables = [name for name, _ in inspect(connection).get_sorted_table_and_fkc_names() if name]
            if missing := {*tables} - dump.tables:
                raise WrongDumpError(f"has no rows of {min(missing)}")
            for table in tables:
                if table == _REVISION:
                    _compare_revision(dump, recorded)
                else:
                    _fill(connection, dump, table)
            if (numbers := _numbers(connection)) != {
                "frames": recorded.frames,
                "products": recorded.products,
            }:
                raise WrongDumpError(f"has {numbers}, but the backup records {recorded.products} products")
            _require_moments(connection)
            upgrade(connection)
            if (problem := unreadable(connection)) is not None:
                raise WrongDumpError(f"has {problem}")
            complete(connection)
            for change in rule_history(connection):
                rules_of(connection, change.version)
            if recorded.store not in ("", identity(connection)):
                raise WrongDumpError(f"is not that of the store {recorded.store}, which the backup names")
            connection.execute(text(f"ANALYZE {', '.join(metadata.tables)}"))
    # The last ones result from JSON that a migration or a rule cannot process.
    except (
        psycopg.Error,
        DBAPIError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        AttributeError,
    ) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        why = (str(cause).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        raise StoreError(
            f"The database could not be restored: {why[:300]}.",
            remedy="Nothing was changed. Check that the account owns the database, and that `nirflow cal backup` "
            "wrote the backup.",
        ) from error


def _make_room(connection: Connection) -> None:
    """Remove the tables of an unused store, unless it has come into use while files were copied."""
    if connection.scalar(text("SELECT to_regclass('frames')")) is not None:
        connection.execute(text("LOCK TABLE frames, products IN ACCESS EXCLUSIVE MODE"))
        if any(_numbers(connection).values()):
            raise StoreError(
                "The database could not be restored: meanwhile the store came into use and holds frames or products.",
                remedy="Name another database (NIRFLOW_DATABASE_URL) or data folder (NIRFLOW_DATA_DIR).",
            )
    connection.execute(text(f"DROP TABLE IF EXISTS {', '.join(_TABLES)}"))


def _compare_revision(dump: Dump, recorded: Backup) -> None:
    with dump.rows(_REVISION) as rows:
        found = [row.strip().decode(errors="replace") for row in rows]
    if found != [recorded.revision]:
        raise WrongDumpError(f"has tables of version {found}, but the backup records {recorded.revision}")


def _fill(connection: Connection, dump: Dump, table: str) -> None:
    """Load the rows of one table, checked by its constraints."""
    columns = {
        str(column["name"]): column
        for column in inspect(connection).get_columns(table)
        if "computed" not in column
    }
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with dump.rows(table) as rows:
        if unknown := sorted({*rows.columns} ^ {*columns}) or len(rows.columns) != len(columns):
            raise WrongDumpError(f"has {table} with other columns than the tables of its version: {unknown}")
        statement = sql.SQL("COPY {} ({}) FROM STDIN (ENCODING {})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, rows.columns)),
            sql.Literal(rows.encoding),
        )
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for block in _blocks(rows):
                copy.write(block)
    for name, column in columns.items():
        if "identity" in column:
            last = connection.scalar(text(f"SELECT max({name}) FROM {table}"))
            if last is not None and not 0 < last < _LARGEST_ID:
                raise WrongDumpError(f"has a row of {table} with the number {last}")
            setval = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
            if last is not None:
                connection.execute(setval, {"table": table, "column": name, "last": last})


def _require_moments(connection: Connection) -> None:
    """Refuse times that could be stored but not read."""
    for table, column, kind in connection.execute(text(_MOMENTS)).all():
        beyond = _BEYOND[kind].format(column)
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table} WHERE {beyond})")):
            raise WrongDumpError(f"has a row of {table} whose {column} is not between the years 2 and 9998")


def _blocks(rows: Rows) -> Iterator[bytes]:
    block: list[bytes] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row)
        if size > _BLOCK:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)


def _without_file(store: Store) -> tuple[str, ...]:
    """Record the products without an intact file as damaged, and return them."""
    lost = []
    for product in every_product(store):
        there = store.objects.verify(product.sha256)
        if there == product.damaged:
            note = partial(mark_damaged, product=product, damaged=not there)
            store.database.run(note)
        if not there:
            lost.append(f"{product.name} ({product.sha256[:12]})")
    return tuple(lost)
