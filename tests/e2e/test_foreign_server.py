"""A user's shell points to another PostgreSQL server; nirflow's servers start, work and stop without
contacting it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from foreign_server import Foreign

pytestmark = pytest.mark.long


def test_commands_and_servers_never_reach_the_server_of_the_variables(
    foreign: Foreign, tmp_path: Path
) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    home.mkdir()
    (home / ".pg_service.conf").write_text((foreign.folder / "services").read_text())
    (home / ".pgpass").write_text("*:*:*:*:theirs\n")
    databases, visits = foreign.databases(), len(foreign.visits())
    environment = {
        **os.environ, **foreign.values(), "HOME": str(home), "NIRFLOW_DATA_DIR": str(data),
        "NIRFLOW_SERVER_PORT": "0",
    }  # fmt: skip

    def nirflow(*arguments: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("nirflow")), *arguments],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        nirflow("server", "start")
        nirflow("cal", "status")
        nirflow("server", "status")
        nirflow("cal", "backup", str(tmp_path / "backup"))
        seen = foreign.visits()[visits:]
        with psycopg.connect(host=str(data / "run"), port=5432, user="prefect", dbname="prefect") as own:
            (flows,) = own.execute("SELECT count(*) FROM pg_class WHERE relname = 'flow_run'").fetchone() or (
                0,
            )
    finally:
        nirflow("server", "stop")
    log = (data / "postgres" / "server.log").read_text()
    sys.stdout.write(
        f"foreign server: {seen.count('connection received')} connections, new databases "
        f"{sorted(foreign.databases() - databases)}; embedded: Prefect's table flow_run {flows}, "
        f"second postmasters {log.count('lock file')}\n"
    )
    assert seen == ""
    assert foreign.databases() == databases
    assert flows == 1
    assert "lock file" not in log
    assert (tmp_path / "backup" / "backup.json").is_file()
