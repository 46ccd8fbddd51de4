"""A PostgreSQL server as an observatory has one: over TCP, with passwords, and an administrator's account.

Loaded by name from tests/conftest.py; the first test that asks for it pays for its start (about 2 s).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
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
        """A connection in autocommit."""
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
    """A server over TCP that asks for passwords."""
    from calib_store import postgres
    from calib_store.account import server_account

    folder = tmp_path_factory.mktemp("real")
    account = server_account()
    cluster, words = folder / "cluster", folder / "password"
    password = secrets.token_urlsafe(12)
    words.write_text(password)
    for path in (folder, words):
        account.give(path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = account.run(
        [str(postgres.program("initdb")), "-D", str(cluster), "-U", "admin", "--auth=scram-sha-256",
         f"--pwfile={words}", "--encoding=UTF8", "--locale=C", "-c", "fsync=off",
         "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="],
        cwd=Path("/"), timeout=PATIENCE,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    started = account.run(
        ["/bin/sh", "-c", '"$@" >"$0" 2>&1 & echo $!', str(folder / "log"),
         str(postgres.program("postgres")), "-D", str(cluster)], cwd=Path("/"), timeout=PATIENCE,
    )  # fmt: skip
    server = RealServer(port, folder, {"admin": password})

    def answers() -> bool:
        with server.connect():
            return True

    wait_until(answers, lambda: (folder / "log").read_text(), pause=0.05, ignored=(psycopg.OperationalError,))
    yield server
    subprocess.run(["kill", "-QUIT", started.stdout.strip()], check=False)
