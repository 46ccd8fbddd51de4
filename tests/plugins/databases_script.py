"""The script that creates the accounts and databases of the container's PostgreSQL server, run as its image does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from real_server import RealServer
from waiting import PATIENCE

from benchmarks.containers.workload import ROOT

#: Account of each secret with a URL.
ACCOUNTS = {
    "owner_url": "nirflow_owner", "pipeline_url": "nirflow_worker", "reader_url": "nirflow_pages",
    "prefect_url": "prefect",
}  # fmt: skip


def run_script(server: RealServer, secrets: Path, folder: Path, check: bool = True) -> str:
    """Run the script of the databases as the image of PostgreSQL does, and return the output of psql."""
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
    assert (done.returncode == 0) is check, done.stderr
    return done.stdout + done.stderr
