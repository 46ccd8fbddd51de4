"""The script that creates the accounts and databases of the container's PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest
from databases_script import ACCOUNTS, run_script
from real_server import RealServer


@pytest.mark.parametrize("file", ACCOUNTS)
def test_a_password_that_is_missing_or_needs_escapes_ends_the_script_before_anything_is_created(
    real_server: RealServer, tmp_path: Path, file: str
) -> None:
    for wrong in ("", "postgresql://{}:with%40escapes1234@postgres/x", "postgresql://{}:short@postgres/x"):
        for name, account in ACCOUNTS.items():
            url = wrong if name == file else "postgresql://{}:longenough12@postgres/x"
            (tmp_path / name).write_text(url.format(account))
        output = run_script(real_server, tmp_path, tmp_path, check=False)
        assert file in output
        assert "longenough12" not in output
    with real_server.connect() as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'nirflow_owner'").fetchone() is None
