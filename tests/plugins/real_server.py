"""A PostgreSQL server as an observatory has one: over TCP, with passwords, and an administrator's account.

Loaded by name from tests/conftest.py; the first test that asks for it pays for its start (about 2 s).
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
    """Where it listens, and the passwords of its accounts."""

    port: int
    folder: Path
    #: Account that may do everything; one that owns databases and makes roles; one that may do neither.
    passwords: dict[str, str]

    def url(self, database: str, user: str = "admin") -> str:
        """URL of a database, password and all."""
        return f"postgresql://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def connect(self, database: str = "postgres", user: str = "admin") -> Iterator[psycopg.Connection]:
        """Yield a connection in autocommit."""
        with psycopg.connect(self.url(database, user), autocommit=True) as connection:
            yield connection

    def account(self, name: str, *roles: str) -> str:
        """Make an account that is a member of some roles; its name."""
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
    """Yield a server over TCP that asks for passwords."""
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
    with tempfile.TemporaryFile("w+") as words:
        words.write(password)
        words.flush()
        os.fchown(words.fileno(), account.uid, account.gid)
        made = account.run(
            [str(program_for(account, "initdb")), "-D", HERE, "-U", "admin", "--auth=scram-sha-256",
             f"--pwfile=/proc/self/fd/{words.fileno()}", "--encoding=UTF8", "--locale=C", "-c", "fsync=off",
             "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="],
            cwd=cluster, timeout=PATIENCE, descriptors=(words.fileno(),),
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
