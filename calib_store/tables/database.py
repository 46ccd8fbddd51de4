"""Connections: a small pool, locks that are released when their holder dies, and errors with a remedy."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from psycopg.types.json import set_json_loads
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from calib_store.libpq import forget_variables_before_connecting
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The oldest version of PostgreSQL that is supported, as libpq numbers versions.
_OLDEST: Final = 160000
_POOL_SIZE = 4
_CONNECT_SECONDS = 10
#: How long a database that answered before may be unavailable (a restart, a failover) before work is abandoned, s.
PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: Interval at which a wait for a lock returns to Python, so that it can be interrupted.
_LOCK_SLICE = "1s"
_REMEDY = "Check that it is up and can be reached from here, or correct NIRFLOW_DATABASE_URL."
_REMEDY_EMBEDDED = "Look at postgres/server.log in the data folder; the next command starts it again."
#: SQLSTATEs (PostgreSQL, appendix A) that mean there is no connection: lost, refused by the server, no such
#: database, too many connections, shutting down or starting. An attempt without an answer has no SQLSTATE.
_NO_CONNECTION = ("08", "28", "3D000", "53300", "57P")
#: Of these and others, those that pass without intervention: lost, too many, shutting down or starting; deadlock.
_PASSING = ("08", "53300", "57P", "40")
#: Remedies for the others, by their first characters; the first match applies.
_REMEDIES = {
    "53100": "Make room on the disk of the database.",
    "53": "The database's machine lacks resources; see the log of the server.",
    "40": "It conflicted with another transaction; run it again.",
    "42501": "Log in as a member of nirflow_pipeline (nirflow_reader only reads), or as the owner of the tables.",
    "": "Run it again; if it fails again, see the log of the server.",
}


class Database:
    """One PostgreSQL database.

    Parameters
    ----------
    url
        Its address, for any PostgreSQL driver; psycopg is used. Missing parts have libpq's built-in defaults,
        whatever ``PG...`` variables are set.
    patience
        How long to wait for a database that answered before and no longer does, s.
    revive
        Called before each new attempt; starts an embedded server that was killed.
    """

    def __init__(
        self, url: str | URL, *, patience: float = PATIENCE, revive: Callable[[], object] | None = None
    ) -> None:
        self.url = checked_url(url)
        self.patience = patience
        self._revive = revive
        self._answered = False
        # A statement that is repeated is planned once, whatever its values.
        options = "-c timezone=UTC -c plan_cache_mode=force_generic_plan"
        arguments = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "nirflow",
            "options": f"{options} {self.url.query.get('options', '')}".strip(),
            # A firewall may silently drop a connection that holds a lock during a long build.
            "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
        }  # fmt: skip
        self.engine: Engine = create_engine(
            self.url, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=60, hide_parameters=True,
            connect_args=arguments,
        )  # fmt: skip
        event.listen(self.engine, "connect", _quick_json)
        event.listen(self.engine, "connect", self._check_version)
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # A lock has its own connection: with the pool, waiting flows could starve the one that is running.
        self._locks: Engine = create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True,
            connect_args=arguments,
        )  # fmt: skip
        for engine in (self.engine, self._locks):
            forget_variables_before_connecting(engine)

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @property
    def place(self) -> str:
        """The address without its password."""
        url = self.url
        shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        host = self.url.query.get("host", "")
        return shown.render_as_string() + (f" ({host})" if host else "")

    def _check_version(self, connection: Any, _: object) -> None:
        """Refuse a server that is too old at once, before a query fails for a reason that no one understands."""
        if connection.info.server_version < _OLDEST:
            version = connection.info.parameter_status("server_version")
            connection.close()
            raise StoreError(
                f"The server of {self.place} is PostgreSQL {version}; nirflow needs {_OLDEST // 10000} or later.",
                remedy="Upgrade it, or name another in NIRFLOW_DATABASE_URL.",
            )

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Provide a transaction: committed at the end, rolled back after an error, tried once.

        Raises
        ------
        StoreError
            If the database does not answer, or cannot go on (disk full, deadlock).
        """
        with self._explained(), self.engine.begin() as connection:
            yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result; repeat it if the connection was lost.

        Parameters
        ----------
        work
            May run more than once, even after a first run that completed unnoticed: writing twice must have the
            same effect as writing once.

        Raises
        ------
        StoreError
            If the database does not answer, does not recover within `patience`, or cannot continue.
        """

        def attempt() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        return self.persist(attempt)

    def read(self, question: Callable[[Connection], T]) -> T:
        """Query without a transaction, which saves two round trips to the server; repeat like `run`.

        Several statements of ``question`` may see what others commit in between.
        """

        def attempt() -> T:
            with self._reading.connect() as connection:
                return question(connection)

        return self.persist(attempt)

    @contextlib.contextmanager
    def lock(
        self, *numbers: int, waiting: Callable[[], None] | None = None, shared: bool = False
    ) -> Iterator[None]:
        """Hold the advisory locks ``numbers`` (64 bits, signed); they are released at once when the holder is killed.

        They are taken in the order given, by one connection. Several holders may have them ``shared`` at a time.
        ``waiting`` is called once for each that is held elsewhere. If the database becomes unavailable, the locks are
        lost too: their holder must tolerate that.
        """
        mode = "_shared" if shared else ""
        connection = self.persist(lambda: self._locked(numbers, mode, waiting))
        try:
            yield
        finally:
            # Closing the connection releases the locks; releasing them first keeps the order clear, and a
            # connection that was lost in the meantime has already released them.
            with contextlib.suppress(DBAPIError):
                connection.execute(text("SELECT pg_advisory_unlock_all()"))
            with contextlib.suppress(DBAPIError):
                connection.close()

    def _locked(self, numbers: Iterable[int], mode: str, waiting: Callable[[], None] | None) -> Connection:
        connection = self._locks.connect()
        try:
            for number in numbers:
                self._wait(connection, number, mode, waiting)
        except BaseException:
            connection.close()
            raise
        return connection

    def _wait(
        self, connection: Connection, number: int, mode: str, waiting: Callable[[], None] | None
    ) -> None:
        at_once = text(f"SELECT pg_try_advisory_lock{mode}(:number)")
        if connection.execute(at_once, {"number": number}).scalar_one():
            return
        if waiting is not None:
            waiting()
        began = time.monotonic()
        connection.execute(text("SELECT set_config('lock_timeout', :slice, false)"), {"slice": _LOCK_SLICE})
        while True:
            try:
                connection.execute(text(f"SELECT pg_advisory_lock{mode}(:number)"), {"number": number})
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

    def persist(self, attempt: Callable[[], T]) -> T:
        """Return the result of ``attempt``; repeat it while it fails for a temporary reason, as described in `run`."""
        began, pause = time.monotonic(), 0.0
        while True:
            with self._explained():
                try:
                    done = attempt()
                except (OperationalError, InterfaceError) as error:
                    waited = time.monotonic() - began
                    if not self._passes(error) or waited >= self.patience:
                        raise
                    if pause == _FIRST_PAUSE:  # a connection closed while idle needs no warning
                        why = self._error(error).message
                        logger.warning("%s Trying again for %.0f s.", why, self.patience)
                else:
                    self._answered = True
                    return done
            time.sleep(min(pause, max(0.0, self.patience - waited)))
            pause = min(2 * pause, _LONGEST_PAUSE) or _FIRST_PAUSE
            if self._revive is not None:
                self._revive()

    def _passes(self, error: DBAPIError) -> bool:
        state = getattr(error.orig, "sqlstate", None)
        # An address that has never answered is more likely wrong than temporarily unavailable.
        return self._answered if state is None else state.startswith(_PASSING)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of a database that is down or cannot continue into explanations; re-raise others."""
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise self._error(error) from error
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != "42501":  # insufficient_privilege
                raise
            raise self._error(error) from error
        except PoolTimeoutError as error:
            raise StoreError(
                f"All {_POOL_SIZE} connections to {self.place} have been busy for a minute.",
                remedy="Another step holds them; look for one that is stuck.",
            ) from error

    def _error(self, error: DBAPIError) -> StoreError:
        """Return the error with the first line of the driver's message, which omits the statement and its values."""
        why = (str(error.orig).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        state = getattr(error.orig, "sqlstate", None)
        if state is None or state.startswith(_NO_CONNECTION):
            return StoreError(
                f"The calibration store's database {self.place} does not answer: {why}.",
                remedy=_REMEDY if self._revive is None else _REMEDY_EMBEDDED,
            )
        remedy = next(text for start, text in _REMEDIES.items() if state.startswith(start))
        return StoreError(f"The calibration store's database {self.place} gave up: {why}.", remedy=remedy)


def _quick_json(connection: Any, _: object) -> None:
    """Make a connection parse JSON with pydantic's parser, three times as fast as Python's own."""
    set_json_loads(from_json, connection)


def checked_url(url: str | URL) -> URL:
    """Return an address of a PostgreSQL database, for psycopg.

    Raises
    ------
    StoreError
        If it is not one; the message omits the address, which may hold a password.
    """
    # No part of the value is repeated: a password may be anywhere in a malformed address.
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
