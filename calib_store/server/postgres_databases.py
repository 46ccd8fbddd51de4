"""The databases of an embedded server, and their owners: roles that may do nothing outside their own database."""

from __future__ import annotations

import logging
from typing import Final

import psycopg
from psycopg import sql

from calib_store.migrations.roles import MAKE_ROLES, PIPELINE, READER
from calib_store.server.postgres_address import DATABASES, MAINTENANCE, PostgresAddress

logger = logging.getLogger(__name__)

#: The superuser's objects in a database of an earlier nirflow: schemas, tables, types and functions, except those that
#: are part of PostgreSQL (below FIRST_NORMAL_OBJECT_ID), of an extension or of a table.
_OF_THE_SUPERUSER: Final = """
    WITH members AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    ), found AS (
        SELECT 'pg_namespace'::regclass AS class, oid, 'SCHEMA' AS kind, oid::regnamespace::text AS name,
               nspowner AS owner
        FROM pg_namespace
      UNION ALL
        SELECT 'pg_class'::regclass, c.oid,
               CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                            ELSE 'TABLE' END,
               c.oid::regclass::text, relowner
        FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
      UNION ALL
        SELECT 'pg_type'::regclass, oid, 'TYPE', oid::regtype::text, typowner
        FROM pg_type WHERE typtype IN ('d', 'e', 'r')
      UNION ALL
        SELECT 'pg_proc'::regclass, oid, 'ROUTINE', oid::regprocedure::text, proowner FROM pg_proc
    )
    SELECT kind, name FROM found
    WHERE oid >= 16384 AND owner = 'postgres'::regrole
    AND NOT EXISTS (SELECT FROM members WHERE classid = class AND objid = found.oid)
"""


def make_databases(address: PostgresAddress) -> None:
    """Create missing databases and roles: a previous caller may have been killed half-way.

    A database of an earlier nirflow, which worked as superuser, is handed over to its role.
    """
    with address.administer() as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        ready = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin")}
        for name in DATABASES:
            if name not in there or name not in ready:
                _make(address, connection, name, made=name not in there)


def _make(
    address: PostgresAddress, connection: psycopg.Connection[tuple[object, ...]], name: str, *, made: bool
) -> None:
    owner = sql.Identifier(name)
    connection.execute(MAKE_ROLES)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(owner))
    if made:
        connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(owner))
    _hand_over(address, name)
    if name == "prefect":
        # Losing the last half second of run records in a crash is acceptable; losing the store's rows is not.
        connection.execute("ALTER DATABASE prefect SET synchronous_commit = off")
        with address.administer(name) as own:
            own.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    else:
        roles = sql.SQL(", ").join(map(sql.Identifier, (PIPELINE, READER)))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(owner, roles))
        # A reader drops the owner's rights first: see `calib_store.reader`.
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER), owner))
    for database in (name, MAINTENANCE, "template1"):
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
    connection.execute(sql.SQL("ALTER DATABASE {0} OWNER TO {0}").format(owner))
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(owner))  # last, to mark completion


def _hand_over(address: PostgresAddress, name: str) -> None:
    """Make the role of a database the owner of everything in it, all or nothing."""
    with address.administer(name) as own, own.transaction():
        found = own.execute(_OF_THE_SUPERUSER).fetchall()
        for kind, thing in found:
            # Both come from PostgreSQL's catalogue, which quotes names.
            own.execute(f"ALTER {kind} {thing} OWNER TO {name}".encode())
    if found:
        logger.info("Handed %d objects in the database %s over to the role %s", len(found), name, name)
