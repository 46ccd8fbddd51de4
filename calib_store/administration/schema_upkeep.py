"""Creating, upgrading and describing a store: for the owner of its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from calib_store import libpq
from calib_store.migrations import HEAD, current_revision, migrate
from calib_store.migrations.roles import PIPELINE, make_roles, missing_roles
from calib_store.model.settings import StoreSettings
from calib_store.rules.rules_toml import shipped_rules
from calib_store.server.places import objects_of, open_database
from calib_store.tables.database import Database
from calib_store.tables.rulebook import active_rules
from imaging.errors import StoreError

_COUNT_PRODUCTS = """
    SELECT kind, status, count(*), count(*) FILTER (WHERE damaged) FROM products GROUP BY 1, 2 ORDER BY 1, 2
"""
#: A database that every server has, for the connection that creates another one.
_MAINTENANCE = "postgres"


@dataclass(frozen=True)
class Made:
    """The result of `initialise` or `bring_up_to_date`."""

    place: str
    objects: str
    database_made: bool
    before: str | None
    revision: str
    rules: str
    missing_roles: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """The state of a store.

    Attributes
    ----------
    place, server_version, size
        Its database: address without password, version of the server, bytes.
    revision, newest
        Version of its tables, and the one that this nirflow needs.
    rules, shipped_rules
        Version of the rules that it uses, and of those that this nirflow ships.
    objects
        Where its files are.
    products
        Number of products by kind and status.
    damaged
        Products whose files were found missing or damaged.
    frames
        Number of raw frames, of those in quarantine, and of those that users rejected.
    account
        Role of the account in the store: owner, pipeline, reader or nobody.
    missing_roles
        Roles that the server does not have.
    """

    place: str
    server_version: str
    size: int
    revision: str | None
    newest: str
    rules: str | None
    shipped_rules: str
    objects: str
    products: Mapping[str, Mapping[str, int]]
    damaged: int
    frames: Mapping[str, int]
    account: str
    missing_roles: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether this nirflow can work with it."""
        return self.revision == self.newest


def initialise(settings: StoreSettings) -> Made:
    """Create the missing parts of a store: database, tables, roles, rules, the place of the files.

    An existing store is only brought up to date. Run it again after an administrator has created the roles: it grants
    them the rights that they need.

    Raises
    ------
    StoreError
        If a part cannot be created, or was created by a newer nirflow.
    """
    made = _make_database(settings)
    database, objects = open_database(settings), objects_of(settings)
    try:
        objects.prepare()
        before = database.persist(lambda: current_revision(database.engine))
        database.persist(lambda: migrate(database.engine))
        return database.run(lambda connection: _made(connection, database, objects.place, before, made))
    finally:
        database.close()


def bring_up_to_date(settings: StoreSettings) -> Made:
    """Upgrade the tables of an existing store to this nirflow, all or nothing.

    Raises
    ------
    StoreError
        If there is no store, or a newer nirflow created it.
    """
    database, objects = open_database(settings), objects_of(settings)
    try:
        before = database.persist(lambda: current_revision(database.engine))
        if before is None:
            raise StoreError(
                f"The database {database.place} has no calibration store yet.",
                remedy="Create it: nirflow cal init",
            )
        database.persist(lambda: migrate(database.engine))
        return database.run(lambda connection: _made(connection, database, objects.place, before, False))
    finally:
        database.close()


def state(settings: StoreSettings) -> State:
    """Return the state of a store without changing anything.

    Raises
    ------
    StoreError
        If the database does not answer.
    """
    database, objects = open_database(settings), objects_of(settings)
    try:
        revision = database.persist(lambda: current_revision(database.engine))
        return database.run(lambda connection: _state(connection, database, objects.place, revision))
    finally:
        database.close()


def _made(connection: Connection, database: Database, objects: str, before: str | None, made: bool) -> Made:
    make_roles(connection)
    return Made(
        database.place, objects, made, before, HEAD, active_rules(connection).version,
        missing_roles(connection),
    )  # fmt: skip


def _make_database(settings: StoreSettings) -> bool:
    """Create the database that a URL names if the server does not have it, and return whether it was created."""
    if settings.database_url is None:
        return False
    url = Database(settings.database_url.get_secret_value()).url
    try:
        connection = _connect(url)
    except psycopg.OperationalError:
        return False  # the next operation on the database reports the problem
    try:
        with connection:
            query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)"
            (there,) = connection.execute(query, (url.database,)).fetchone() or (True,)
            if there:
                return False
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(str(url.database))))
    except psycopg.errors.DuplicateDatabase:
        return False
    except psycopg.Error as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        raise StoreError(
            f"The database {url.database!r} does not exist and cannot be created: {why}.",
            remedy="Have an administrator create it (CREATE DATABASE), or correct NIRFLOW_DATABASE_URL.",
        ) from None
    return True


def _connect(url: URL) -> psycopg.Connection[Any]:
    plain = url.set(drivername="postgresql", database=_MAINTENANCE)
    return libpq.connect(conninfo=plain.render_as_string(hide_password=False), connect_timeout=10)


def _state(connection: Connection, database: Database, objects: str, revision: str | None) -> State:
    there = revision == HEAD
    products: dict[str, dict[str, int]] = {}
    frames = {"all": 0, "quarantined": 0, "rejected": 0}
    damaged = 0
    if there:
        for row in connection.execute(text(_COUNT_PRODUCTS)):
            products.setdefault(row[0], {})[row[1]] = row[2]
            damaged += row[3]
        counted = connection.execute(
            text("""
                SELECT count(*), count(quarantine),
                       (SELECT count(*) FROM (SELECT DISTINCT ON (frame_sha256) status FROM frame_history
                            ORDER BY frame_sha256, changed_at DESC, id DESC) h WHERE status = 'rejected')
                FROM frames
            """)
        ).one()
        frames = dict(zip(frames, counted, strict=True))
    return State(
        place=database.place,
        server_version=str(connection.scalar(text("SHOW server_version"))),
        size=int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0),
        revision=revision,
        newest=HEAD,
        rules=active_rules(connection).version if there else None,
        shipped_rules=shipped_rules().version,
        objects=objects,
        products=products,
        damaged=damaged,
        frames=frames,
        account=_account(connection) if there else "unknown",
        missing_roles=missing_roles(connection),
    )


def _account(connection: Connection) -> str:
    """Return the role of the account by its rights on the tables."""
    owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'products'::regclass"
    if connection.scalar(text(owner)):
        return "owner"
    may = "SELECT has_table_privilege('products', :what)"
    if connection.scalar(text(may), {"what": "INSERT"}):
        return PIPELINE.removeprefix("nirflow_")
    return "reader" if connection.scalar(text(may), {"what": "SELECT"}) else "nobody"
