"""Schema changes, in order, which bring a store's tables, roles and rules up to this nirflow."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from calib_store.migrations.roles import make_roles
from calib_store.tables.rulebook import shipped_are_new, take_over_shipped
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

#: Newest revision in ``versions``; one query compares it with the store's, which determines whether to migrate.
HEAD = "0010"
#: Key of the advisory lock under which one process at a time migrates: "nirflow" in ASCII.
_LOCK = int.from_bytes(b"nirflow", "big")


def current_revision(engine: Engine) -> str | None:
    """Return the revision of the database's tables, or None for an empty database."""
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == "42P01":  # undefined_table
            return None
        raise


def require_head(engine: Engine) -> None:
    """Refuse tables of a different revision, without changing them.

    Raises
    ------
    StoreError
        If the revision differs; the remedy is the command that upgrades them.
    """
    revision = current_revision(engine)
    if revision is None:
        raise StoreError(
            "The database has no calibration store yet.",
            remedy="Create it, as the owner of the database: nirflow cal init",
        )
    if revision != HEAD:
        if revision > HEAD:
            raise _newer(revision)
        raise StoreError(
            f"The calibration store's tables are of version {revision}; this nirflow needs {HEAD}.",
            remedy="Bring them up to date, as their owner: nirflow cal migrate",
        )


def migrate(engine: Engine) -> bool:
    """Upgrade tables, roles and rules to this nirflow, and return whether the tables changed.

    It may be called by several processes at once. After an error the store is unchanged.

    Raises
    ------
    StoreError
        If a newer nirflow created the tables.
    """
    revision = current_revision(engine)
    with engine.connect() as connection:
        if revision == HEAD and not shipped_are_new(connection):
            return False
        connection.rollback()
        # One transaction for everything; the lock is held to its end.
        with connection.begin():
            keep_others_out(connection)
            changed = revision != HEAD and upgrade(connection)
            complete(connection)
    return changed


def keep_others_out(connection: Connection) -> None:
    """Hold the lock for changes of the tables until the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def complete(connection: Connection) -> None:
    """Add the roles and rules that belong to the newest tables."""
    make_roles(connection)
    take_over_shipped(connection)


def revisions() -> tuple[str, ...]:
    """Return every revision of the tables that this nirflow knows, in order."""
    return tuple(sorted(path.name[:4] for path in Path(__file__).parent.glob("versions/[0-9]*_*.py")))


def upgrade(connection: Connection, revision: str = HEAD) -> bool:
    """Upgrade the tables to a revision, in the transaction of the connection, and return True.

    Raises
    ------
    StoreError
        If this nirflow does not know their revision.
    """
    # Importing alembic takes a third of a second, so it is imported only when needed.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise _newer(str(error)) from error
    logger.info("Upgraded the store's tables to revision %s", revision)
    return True


def _newer(found: str) -> StoreError:
    return StoreError(
        f"The calibration store's tables are of a version that this nirflow does not know: {found}.",
        remedy="Update nirflow; a newer one has used this store.",
    )
