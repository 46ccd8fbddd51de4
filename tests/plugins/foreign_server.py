"""A PostgreSQL server of somebody else, which nirflow must never contact.

Loaded by name from tests/conftest.py; the first test that needs it starts it (about 2 s).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import PATIENCE


@dataclass(frozen=True)
class Foreign:
    """Somebody else's server: an address of this machine, the usual port, and open to everyone."""

    host: str
    folder: Path

    def visits(self) -> str:
        """Return its log of connections."""
        return (self.folder / "log").read_text()

    def databases(self) -> set[str]:
        """Return the names of its databases, requested over its socket."""
        from calib_store import libpq

        with libpq.connect(host=str(self.folder), port=5432, user="postgres", dbname="postgres") as asked:
            return {row[0] for row in asked.execute("SELECT datname FROM pg_database")}

    def values(self) -> dict[str, str]:
        """Return the variables that point to it, or that break a connection to any other server."""
        return {
            "PGHOST": self.host, "PGHOSTADDR": self.host, "PGPORT": "5432", "PGUSER": "postgres",
            "PGDATABASE": "postgres", "PGPASSWORD": "theirs", "PGPASSFILE": str(self.folder / "pgpass"),
            "PGSERVICE": "theirs", "PGSERVICEFILE": str(self.folder / "services"),
            "PGSYSCONFDIR": str(self.folder), "PGREQUIREAUTH": "scram-sha-256",
            "PGTARGETSESSIONATTRS": "standby", "PGDATESTYLE": "nonsense", "PGCLIENTENCODING": "SQL_ASCII",
            "PGTZ": "Mars/Phobos", "PGOPTIONS": "-c search_path=theirs", "PGSSLMODE": "require",
            "PGSSLNEGOTIATION": "direct", "PGAPPNAME": "theirs", "PGGEQO": "off", "PGCONNECT_TIMEOUT": "x",
            "PGDATA": str(self.folder / "cluster"), "PGREQUIREPEER": "nobody-else", "PGGSSENCMODE": "require",
            "PGMINPROTOCOLVERSION": "9.9", "PGMAXPROTOCOLVERSION": "2.0", "PGCHANNELBINDING": "require",
            "PGLOADBALANCEHOSTS": "nonsense", "PGSSLMINPROTOCOLVERSION": "TLSv9", "PG_COLOR": "always",
        }  # fmt: skip


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """Yield a server that listens on its own address and logs connections."""
    from calib_store.server.account import making_account, server_account
    from calib_store.server.postgres_cluster import HERE
    from calib_store.server.programs import program_for

    folder = tmp_path_factory.mktemp("foreign")
    cluster = folder / "cluster"
    cluster.mkdir(mode=0o700)
    account = making_account(server_account(cluster))
    for path in (folder, cluster):
        account.give(path)
    host = ".".join(["127", *(str(random.randint(2, 250)) for _ in range(3))])
    made = account.run(
        [str(program_for(account, "initdb")), "-D", HERE, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
         "--locale=C", "-c", "fsync=off", "-c", f"listen_addresses={host}", "-c", "port=5432",
         "-c", "log_connections=on"],
        cwd=cluster, timeout=PATIENCE,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    place = os.open(folder, os.O_PATH)
    control = [str(program_for(account, "pg_ctl")), "-D", HERE, "-w"]
    options = ["-o", f"-c unix_socket_directories=/proc/self/fd/{place}", "-l", f"/proc/self/fd/{place}/log"]
    started = account.run([*control, *options, "start"], cwd=cluster, timeout=PATIENCE, descriptors=(place,))
    assert started.returncode == 0, started.stdout
    (folder / "services").write_text(f"[theirs]\nhost={host}\nport=5432\nuser=postgres\ndbname=postgres\n")
    (folder / "pg_service.conf").write_text((folder / "services").read_text())
    (folder / "pgpass").write_text("*:*:*:*:theirs\n")  # open to others: both drivers warn if they read it
    yield Foreign(host, folder)
    account.run([*control, "-m", "immediate", "stop"], cwd=cluster, timeout=PATIENCE)
    os.close(place)
