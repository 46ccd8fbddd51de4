"""Schema changes, in order. The tables are brought up to date when a store is opened."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from imaging.errors import StoreError

logger = logging.getLogger(__name__)

#: Newest revision in ``versions``; one query against it decides whether anything has to be done.
HEAD = "0001"

#: Key of the advisory lock under which one process at a time migrates: "nirflow" in ASCII.
_LOCK = int.from_bytes(b"nirflow", "big")


def current_revision(engine: Engine) -> str | None:
    """Revision of the database's tables; None for an empty database."""
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == "42P01":  # undefined_table
            return None
        raise


def migrate(engine: Engine) -> bool:
    """Bring the tables to `HEAD`; whether there was anything to do. Safe from several processes at once.

    Raises
    ------
    StoreError
        Where the tables were made by a newer nirflow.
    """
    if current_revision(engine) == HEAD:
        return False
    # Alembic takes a third of a second to import: only where there is work for it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
        except CommandError as error:
            raise StoreError(
                f"The calibration store's tables are of a version that this nirflow does not know: {error}.",
                remedy="Update nirflow; a newer one has used this store.",
            ) from error
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
    logger.info("Brought the store's tables to revision %s", HEAD)
    return True
