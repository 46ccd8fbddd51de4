"""Connections: a small pool, locks that die with their holder, and errors that tell what to do."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from calib_store.migrations import migrate
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

_POOL_SIZE = 4
_CONNECT_SECONDS = 10
#: A wait for a lock comes back to Python this often, so that it can be interrupted.
_LOCK_SLICE = "1s"
_REMEDY = "Start the database (nirflow server start), or correct NIRFLOW_DATABASE_URL."
#: SQLSTATEs (PostgreSQL, appendix A) by which there is no connection: lost, refused by the server, no such
#: database, too many connections, shutting down or starting. An attempt that got no answer has none at all.
_NO_CONNECTION = ("08", "28", "3D000", "53300", "57P")
#: What helps against the others, by their beginning; the first that fits.
_REMEDIES = {
    "53100": "Make room on the disk of the database.",
    "53": "The database's machine is short of something; look into the log of the server.",
    "40": "Other work was in the way; run it again.",
    "": "Run it again; if it stays so, look into the log of the server.",
}


class Database:
    """One PostgreSQL database.

    Parameters
    ----------
    url
        Its address, for any PostgreSQL driver; psycopg is used.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = _checked(url)
        arguments = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "nirflow",
            "options": "-c timezone=UTC",
        }
        self.engine: Engine = create_engine(
            self.url, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=60, pool_pre_ping=True,
            hide_parameters=True, connect_args=arguments,
        )  # fmt: skip
        # A lock is a connection of its own: from the pool, waiting flows could starve the one at work.
        self._locks: Engine = create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True,
            connect_args=arguments,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @property
    def place(self) -> str:
        """The address without its password."""
        shown = self.url.set(password=None, query={})
        host = self.url.query.get("host", "")
        return shown.render_as_string() + (f" ({host})" if host else "")

    def migrate(self) -> None:
        """Bring the tables to this version of nirflow."""
        with self._told():
            migrate(self.engine)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back at an error.

        Raises
        ------
        StoreError
            Where the database does not answer, or cannot go on (disk full, deadlock).
        """
        with self._told(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def lock(self, number: int, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the advisory lock ``number`` (64 bits, signed); free at once when the holder is killed.

        ``waiting`` is called once when somebody else holds it.
        """
        with self._told(), self._locks.connect() as connection:
            self._wait(connection, number, waiting)
            try:
                yield
            finally:
                # Closing the connection is what frees the lock; asking first keeps the order plain, and
                # a connection that was lost in the meantime has freed it already.
                with contextlib.suppress(DBAPIError):
                    connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": number})

    def _wait(self, connection: Connection, number: int, waiting: Callable[[], None] | None) -> None:
        at_once = text("SELECT pg_try_advisory_lock(:number)")
        if connection.execute(at_once, {"number": number}).scalar_one():
            return
        if waiting is not None:
            waiting()
        began = time.monotonic()
        connection.execute(text("SELECT set_config('lock_timeout', :slice, false)"), {"slice": _LOCK_SLICE})
        while True:
            try:
                connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available: the slice is over
                    raise
            else:
                logger.debug("Waited %.1f s for a lock", time.monotonic() - began)
                return

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._locks.dispose()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell a database that is down, or cannot go on, in words; mistakes in statements pass."""
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise self._error(error) from error
        except PoolTimeoutError as error:
            raise StoreError(
                f"All {_POOL_SIZE} connections to {self.place} have been busy for a minute.",
                remedy="Another step holds them; look for one that hangs.",
            ) from error

    def _error(self, error: DBAPIError) -> StoreError:
        """What the driver says, as its first line: the statement and its values stay out of it."""
        why = (str(error.orig).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        state = getattr(error.orig, "sqlstate", None)
        if state is None or state.startswith(_NO_CONNECTION):
            return StoreError(
                f"The calibration store's database {self.place} does not answer: {why}.", remedy=_REMEDY
            )
        remedy = next(text for start, text in _REMEDIES.items() if state.startswith(start))
        return StoreError(f"The calibration store's database {self.place} gave up: {why}.", remedy=remedy)


def _checked(url: str | URL) -> URL:
    # Nothing of what was given is repeated: a password may be anywhere in an address that is not well formed.
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise StoreError(
            "NIRFLOW_DATABASE_URL is not a database address.",
            remedy="Write it as postgresql://USER:PASSWORD@HOST:5432/NAME; escape special characters with %.",
        ) from None
    if backend not in ("postgresql", "postgres"):
        raise StoreError(
            f"NIRFLOW_DATABASE_URL names a {backend} database; the store needs PostgreSQL.",
            remedy="Write it as postgresql://USER:PASSWORD@HOST:5432/NAME, or leave it out.",
        )
    return parsed.set(drivername="postgresql+psycopg")
