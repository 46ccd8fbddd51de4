"""A backup brought back: its rows into tables that this nirflow makes, its files where their bytes are those named.

A backup may come from elsewhere, so it is data and no program. The tables, with their constraints, are made by the
migrations of this nirflow, of the revision that the backup names; the rows of the dump go into them and nothing else of
it does; then the tables are brought up to date, and every row is read as the commands read it. All of it is one
transaction of the account that owns the database, which needs no other right. What the rows state of frames and
products is believed.
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
#: Tables whose number of rows the backup says.
_COUNTED: Final = ("frames", "products")
#: Bytes that are sent at once.
_BLOCK: Final = 1024**2
#: What a column of numbers may reach, so that what is added later still has numbers.
_LARGEST_ID: Final = 2**62
#: Columns of moments, and what no calendar of Python's has: years before 1 and after 9999, infinity.
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
    """Bring a backup back into an empty store: files first, then the database, then newer tables.

    Parameters
    ----------
    settings
        The store: its database is empty, or was made and never used; as the owner of the database.
    source
        A folder that `backup` wrote.
    progress
        Called with the sha256 of each product when its file is there, or found missing.

    Returns
    -------
    Backup
        With all products that have no file: none was in the backup, or a damaged one. They are noted as damaged.

    Raises
    ------
    StoreError
        Where the store holds frames or products already, the backup is damaged, is newer than this nirflow or holds
        anything but a store's rows, or the database refuses. The database is as before then.
    """
    told = read_backup(source)
    _require_known(told)
    database, objects = open_database(settings), objects_of(settings)
    try:
        _require_unused(database)
        with opened(source, told.dump) as descriptor:
            dump = Dump(descriptor, _TABLES)
            files = dict(_files(dump, told))
            _take_place(database, objects, told)
            for sha256, size in files.items():
                _bring_file(source, objects, sha256, size)
                progress(sha256)
            _load(database, dump, told)
        claim(database, objects)  # the store is that of the backup now
        return told.model_copy(update={"lost": _without_file(Store(database, objects))})
    finally:
        database.close()


def _require_known(told: Backup) -> None:
    if told.revision not in revisions():
        raise StoreError(
            f"The backup's tables are of version {told.revision}; this nirflow knows {', '.join(revisions())}.",
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
            f"The store holds {held}; a backup is restored into an empty one only.",
            remedy="Name another database (NIRFLOW_DATABASE_URL) or data folder (NIRFLOW_DATA_DIR). To add "
            "products to a store, use `nirflow cal export` and `import`.",
        )


def _numbers(connection: Connection) -> dict[str, int]:
    return {table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0) for table in _COUNTED}


def _files(dump: Dump, told: Backup) -> Iterator[tuple[str, int]]:
    """Sha256 and size of the products' files, from the rows of the dump."""
    with dump.rows("products") as rows:
        try:
            places = [rows.columns.index(name) for name in ("sha256", "size", "name")]
        except ValueError:
            raise WrongDumpError("has no products as this nirflow knows them") from None
        for number, row in enumerate(rows, 1):
            values = row.rstrip(b"\n").decode(errors="replace").split("\t")
            if number > told.products or len(values) != len(rows.columns):
                raise WrongDumpError(f"has other products than the {told.products} that the backup tells of")
            sha256, size, name = (values[place] for place in places)
            if not (SHA256.fullmatch(sha256) and size.isdecimal() and is_plain_name(name)):
                raise WrongDumpError(f"has a product that cannot be one: {name[:100]!r} ({sha256[:64]!r})")
            yield sha256, int(size)


def _take_place(database: Database, objects: ObjectStore, told: Backup) -> None:
    """Mark the place of the files; refuse that of a store that is neither the unused one nor that of the backup."""
    there = store_named_by(objects)
    with database.begin() as connection:
        unused = known_identity(connection)
    if there is None and (unused or told.store):
        mark(objects, unused or told.store)
    elif there not in (None, unused, told.store):
        raise StoreError(
            f"The files at {objects.place} belong to another store ({MARKER} there has store = {there!r}).",
            remedy="Name another place in NIRFLOW_OBJECTS_URL. Where that store is gone for good, or is the one that "
            f"the backup was taken of, delete {objects.place}/{MARKER}.",
        )


def _bring_file(source: Path, objects: ObjectStore, sha256: str, size: int) -> None:
    # The backup may be on a disk that is read only, and is not this command's to change: looked at, not moved.
    if not objects.verify(sha256):
        with opened_object(source, sha256, size) as path:
            if path is not None:
                objects.put(path)


def _load(database: Database, dump: Dump, told: Backup) -> None:
    """Make the tables and fill them, all or nothing."""
    try:
        with database.begin() as connection:
            keep_others_out(connection)
            _make_room(connection)
            upgrade(connection, told.revision)
            tables = [name for name, _ in inspect(connection).get_sorted_table_and_fkc_names() if name]
            if missing := {*tables} - dump.tables:
                raise WrongDumpError(f"has no rows of {min(missing)}")
            for table in tables:
                if table == _REVISION:
                    _compare_revision(dump, told)
                else:
                    _fill(connection, dump, table)
            if (numbers := _numbers(connection)) != {"frames": told.frames, "products": told.products}:
                raise WrongDumpError(f"has {numbers}, and the backup tells of {told.products} products")
            _require_moments(connection)
            upgrade(connection)
            if (problem := unreadable(connection)) is not None:
                raise WrongDumpError(f"has {problem}")
            complete(connection)
            for change in rule_history(connection):
                rules_of(connection, change.version)
            if told.store not in ("", identity(connection)):
                raise WrongDumpError(f"is not that of the store {told.store}, which the backup tells of")
            connection.execute(text(f"ANALYZE {', '.join(metadata.tables)}"))
    # The last ones come of JSON that a migration or a rule cannot work with.
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
            remedy="Nothing was changed. See that the account owns the database, and that the backup is one that "
            "`nirflow cal backup` wrote.",
        ) from error


def _make_room(connection: Connection) -> None:
    """Take away the tables of a store that was never used; it may have come into use while files were copied."""
    if connection.scalar(text("SELECT to_regclass('frames')")) is not None:
        connection.execute(text("LOCK TABLE frames, products IN ACCESS EXCLUSIVE MODE"))
        if any(_numbers(connection).values()):
            raise StoreError(
                "The database could not be restored: the store came into use meanwhile and holds frames or products.",
                remedy="Name another database (NIRFLOW_DATABASE_URL) or data folder (NIRFLOW_DATA_DIR).",
            )
    connection.execute(text(f"DROP TABLE IF EXISTS {', '.join(_TABLES)}"))


def _compare_revision(dump: Dump, told: Backup) -> None:
    with dump.rows(_REVISION) as rows:
        found = [row.strip().decode(errors="replace") for row in rows]
    if found != [told.revision]:
        raise WrongDumpError(f"has tables of version {found}, and the backup tells of {told.revision}")


def _fill(connection: Connection, dump: Dump, table: str) -> None:
    """Send the rows of one table; its constraints hold for each of them."""
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
    """Refuse moments that could be stored and never read."""
    for table, column, kind in connection.execute(text(_MOMENTS)).all():
        beyond = _BEYOND[kind].format(column)
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table} WHERE {beyond})")):
            raise WrongDumpError(f"has a row of {table} whose {column} is in no year from 2 to 9998")


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
