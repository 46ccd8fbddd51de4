"""A PostgreSQL server like an observatory's: over TCP, with passwords and an administrator's account.

Loaded by name from tests/conftest.py; the first test that needs it starts it (about 2 s).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from waiting import PATIENCE, wait_until


@dataclass(frozen=True)
class RealServer:
    """Its address and the passwords of its accounts."""

    port: int
    folder: Path
    #: An account with all rights; one that owns databases and creates roles; one that may do neither.
    passwords: dict[str, str]

    def url(self, database: str, user: str = "admin") -> str:
        """Return the URL of a database, including the password."""
        return f"postgresql://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def connect(self, database: str = "postgres", user: str = "admin") -> Iterator[psycopg.Connection]:
        """Yield a connection in autocommit."""
        with psycopg.connect(self.url(database, user), autocommit=True) as connection:
            yield connection

    def account(self, name: str, *roles: str) -> str:
        """Create an account that is a member of these roles and return its name."""
        self.passwords[name] = secrets.token_urlsafe(12)
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(name), sql.Literal(self.passwords[name])
                )
            )
            for role in roles:
                connection.execute(
                    sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name))
                )
        return name


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Yield a server over TCP that requires passwords."""
    from calib_store.server.account import making_account, server_account
    from calib_store.server.postgres_cluster import HERE
    from calib_store.server.programs import program_for

    folder = tmp_path_factory.mktemp("real")
    cluster = folder / "cluster"
    cluster.mkdir(mode=0o700)
    account = making_account(server_account(cluster))
    account.give(cluster)
    password = secrets.token_urlsafe(12)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as password_file:
        password_file.write(password)
        password_file.flush()
        os.fchown(password_file.fileno(), account.uid, account.gid)
        made = account.run(
            [str(program_for(account, "initdb")), "-D", HERE, "-U", "admin", "--auth=scram-sha-256",
             f"--pwfile=/proc/self/fd/{password_file.fileno()}", "--encoding=UTF8", "--locale=C", "-c", "fsync=off",
             "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="],
            cwd=cluster, timeout=PATIENCE, descriptors=(password_file.fileno(),),
        )  # fmt: skip
    assert made.returncode == 0, made.stdout
    started = account.run(
        ["/bin/sh", "-c", '"$@" >log 2>&1 & echo $!', "sh", str(program_for(account, "postgres")), "-D", HERE],
        cwd=cluster, timeout=PATIENCE,
    )  # fmt: skip
    server = RealServer(port, folder, {"admin": password})

    def answers() -> bool:
        with server.connect():
            return True

    wait_until(
        answers, lambda: (cluster / "log").read_text(), pause=0.05, ignored=(psycopg.OperationalError,)
    )
    yield server
    subprocess.run(["kill", "-QUIT", started.stdout.strip()], check=False)
