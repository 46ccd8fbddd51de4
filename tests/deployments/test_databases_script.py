"""The script that creates the accounts and databases of the container's PostgreSQL server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from real_server import RealServer
from waiting import PATIENCE

from benchmarks.containers.workload import ROOT

#: Account of each secret with a URL.
ACCOUNTS = {
    "owner_url": "nirflow_owner", "pipeline_url": "nirflow_worker", "reader_url": "nirflow_pages",
    "prefect_url": "prefect",
}  # fmt: skip


def failing_script(server: RealServer, secrets: Path, folder: Path) -> str:
    """Run the script of the databases as the image of PostgreSQL does, and return what psql prints as it fails."""
    from calib_store.server import postgres

    script = folder / "databases.sql"
    text = (ROOT / "deployments" / "databases.sql").read_text()
    script.write_text(text.replace("/run/secrets", str(secrets)))
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": server.passwords["admin"]}
    done = subprocess.run(
        [str(postgres.program("psql")), "-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc",
         "--username=admin", "--dbname=postgres", "-f", str(script)],
        env=os.environ | where, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("file", ACCOUNTS)
def test_a_password_that_is_missing_or_needs_escapes_ends_the_script_before_anything_is_created(
    real_server: RealServer, tmp_path: Path, file: str
) -> None:
    for wrong in ("", "postgresql://{}:with%40escapes1234@postgres/x", "postgresql://{}:short@postgres/x"):
        for name, account in ACCOUNTS.items():
            url = wrong if name == file else "postgresql://{}:longenough12@postgres/x"
            (tmp_path / name).write_text(url.format(account))
        output = failing_script(real_server, tmp_path, tmp_path)
        assert file in output
        assert "longenough12" not in output
    with real_server.connect() as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'nirflow_owner'").fetchone() is None
