"""Databases of the session's server for tests: copies of a template, emptied after each test and used again.

Copying the template takes a third of a second of processor time, emptying a copy a few milliseconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from calib_store.server.postgres import PostgresAddress

#: Rows that may be deleted from a database before it is replaced: their space remains until a vacuum.
_MOST_DELETED: Final = 1000
#: PostgreSQL's tables that change with every change of tables, columns, keys, functions, permissions and statistics.
_CATALOGUES: Final = (
    "pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_proc", "pg_trigger", "pg_type",
    "pg_namespace", "pg_policy", "pg_rewrite", "pg_extension", "pg_default_acl", "pg_statistic",
)  # fmt: skip
#: What else belongs to a database: its row, and settings of its own.
_DATABASE: Final[LiteralString] = """
    SELECT xmin::text, (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d
    WHERE datname = current_database()
"""
_TABLES: Final[LiteralString] = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = '{}' ORDER BY 1
"""
_OTHERS: Final[LiteralString] = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@contextmanager
def copied_database(address: PostgresAddress, template: str) -> Iterator[str]:
    """Yield the name of a copy of a database that nobody is connected to."""
    name = _copy(address, template)
    yield name
    _drop(address, name)


def _copy(address: PostgresAddress, template: str) -> str:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with address.administer() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER nirflow")
    return name


def _drop(address: PostgresAddress, name: str) -> None:
    with address.administer() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class CleanDatabases:
    """Databases with the tables, rows and numbers of a template.

    Parameters
    ----------
    address
        The server.
    template
        Name of the database to copy. It must not change any more.
    """

    def __init__(self, address: PostgresAddress, template: str) -> None:
        self._address, self._template = address, template
        self._free: list[str] = []
        self._made: dict[str, Any] = {}
        self._deleted: dict[str, int] = {}
        with address.administer(template) as connection:
            tables = [_name(row) for row in connection.execute(_TABLES.format("r"))]
            numbers = [_name(row) for row in connection.execute(_TABLES.format("S"))]
            self._rows = {
                table: content
                for table in tables
                if (
                    content := connection.execute(_query("SELECT t::text FROM public.{} t", table)).fetchall()
                )
            }
            self._deletions = [_query("DELETE FROM public.{}", table) for table in tables]
            self._numbers = [
                (f"public.{name}", *row)
                for name in numbers
                for row in connection.execute(_query("SELECT last_value, is_called FROM public.{}", name))
            ]
            self._catalogues = _catalogues(connection)

    @contextmanager
    def one(self) -> Iterator[str]:
        """Yield the name of a database that nobody else uses."""
        name = self._free.pop() if self._free else self._make()
        yield name
        if self._emptied(name):
            self._free.append(name)
        else:
            _drop(self._address, name)

    def _make(self) -> str:
        name = _copy(self._address, self._template)
        with self._address.administer(name) as connection:
            self._made[name] = connection.execute(_DATABASE).fetchone()
        self._deleted[name] = 0
        return name

    def _emptied(self, name: str) -> bool:
        """Make a database like the template, and return whether it is."""
        try:
            with self._address.administer(name) as connection:
                connection.execute(_OTHERS)
                if connection.execute(_DATABASE).fetchone() != self._made[name]:
                    return False
                if _catalogues(connection) != self._catalogues:
                    return False
                with connection.transaction():
                    # Without triggers and checks of foreign keys, so in any order.
                    connection.execute("SET LOCAL session_replication_role = replica")
                    for deletion in self._deletions:
                        self._deleted[name] += connection.execute(deletion).rowcount
                    for table, rows in self._rows.items():
                        insertion = "INSERT INTO public.{0} OVERRIDING SYSTEM VALUE SELECT (%s::public.{0}).*"
                        with connection.cursor() as cursor:
                            cursor.executemany(_query(insertion, table), rows)
                    with connection.cursor() as cursor:
                        cursor.executemany("SELECT setval(%s, %s, %s)", self._numbers)
        except psycopg.OperationalError:  # it does not exist any more, or accepts no connections
            return False
        return self._deleted[name] <= _MOST_DELETED


def _name(row: tuple[object, ...]) -> str:
    return str(row[0])


def _query(text: LiteralString, name: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(name))


def _catalogues(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    """Return a summary of the catalogues, which changes whenever a row is added, changed or removed."""
    sums = ", ".join(
        f"(SELECT (count(*), sum(xmin::text::bigint))::text FROM {name})" for name in _CATALOGUES
    )
    # A vacuum and an analysis change this number alone, in place.
    counted = "(SELECT sum(reltuples) FROM pg_class)"
    found = connection.execute(f"SELECT {sums}, {counted}").fetchone()  # type: ignore[arg-type]
    assert found is not None
    return tuple(found)
