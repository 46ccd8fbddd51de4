"""Where an embedded PostgreSQL server listens, who connects to it, and which process it is."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy import URL

from calib_store import libpq
from calib_store.server.socket_folder import required_peer

#: nirflow's database and the orchestrator's, each with a role of the same name that owns it and nothing else. nirflow's
#: is created last: if it accepts connections, both exist.
DATABASES: Final = ("prefect", "nirflow")
STORE_ROLE: Final = "nirflow"
#: The role that creates databases and roles. It is not used for work on the store or on runs.
SUPERUSER: Final = "postgres"
#: A database that every cluster has.
MAINTENANCE: Final = "postgres"
#: ``struct ucred`` of unix(7): process, user and group.
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True)
class PostgresAddress:
    """Where an embedded server listens: the folder of its socket."""

    socket_dir: Path
    port: int = 5432

    def url(self, database: str, *, role: str = STORE_ROLE) -> URL:
        """Return the SQLAlchemy URL of a database, for psycopg."""
        return self._url("postgresql+psycopg", database, role).update_query_dict(required_peer())

    def prefect_url(self) -> str:
        """Return the URL of the orchestrator's database, for asyncpg."""
        return self._url("postgresql+asyncpg", "prefect", "prefect").render_as_string(hide_password=False)

    def _url(self, driver: str, database: str, role: str) -> URL:
        query = {"host": str(self.socket_dir), "port": str(self.port), "passfile": self._no_passfile}
        return URL.create(driver, username=role, database=database, query=query)

    def connect(
        self, database: str, *, role: str | None = None, timeout: int = 30
    ) -> psycopg.Connection[tuple[object, ...]]:
        """Return a new connection to a database, as the role that owns it, in autocommit."""
        return self._connect(database, role or (database if database in DATABASES else STORE_ROLE), timeout)

    def administer(
        self, database: str = MAINTENANCE, *, timeout: int = 30
    ) -> psycopg.Connection[tuple[object, ...]]:
        """Return a superuser connection in autocommit that finds only PostgreSQL's own functions and tables.

        It is used to create databases and roles: the owner of a database could have defined functions to deceive it.
        """
        return self._connect(database, SUPERUSER, timeout, options="-c search_path=pg_catalog")

    def _connect(
        self, database: str, role: str, timeout: int, **more: str
    ) -> psycopg.Connection[tuple[object, ...]]:
        return libpq.connect(
            host=str(self.socket_dir), port=self.port, user=role, dbname=database,
            passfile=self._no_passfile, connect_timeout=timeout, **required_peer(), **more,
        )  # fmt: skip

    @property
    def _no_passfile(self) -> str:
        """A file that does not exist, so that libpq and asyncpg leave the user's ``~/.pgpass`` alone."""
        return str(self.socket_dir / "no-passwords")


def served_by(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Return the process id of the server at the other end of a socket, as reported by the kernel."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[0])
