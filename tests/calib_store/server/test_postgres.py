from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from waiting import PATIENCE, wait_until

from calib_store.server import postgres
from imaging.errors import StoreError

Python = Callable[..., "object"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose server the tests may kill."""
    folder = tmp_path_factory.mktemp("own")
    postgres.ensure_running(folder)
    yield folder
    postgres.stop(folder)


def _show(address: postgres.PostgresAddress, database: str, name: str) -> str:
    with address.connect(database) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _kill(folder: Path) -> int:
    pid = postgres.status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not postgres.status(folder).running, "the end of the server")
    return pid


def test_eight_processes_make_and_start_one_server(tmp_path: Path, python: Python) -> None:
    script = """
        import sys
        from pathlib import Path
        from calib_store.server import postgres
        address = postgres.ensure_running(Path(sys.argv[1]))
        with address.connect("nirflow") as connection:
            print("started", connection.execute("SELECT pg_postmaster_start_time()").fetchone()[0])
    """
    processes = [python(script, tmp_path / "data") for _ in range(8)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    try:
        assert all(process.returncode == 0 for process in processes), outputs
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        starts = {line for output in outputs for line in output.splitlines() if line.startswith("started")}
        assert len(starts) == 1
        # The server outlives its callers, and nothing unfinished is left next to it.
        assert postgres.status(tmp_path / "data").running
        assert not list((tmp_path / "data").glob(".postgres-*"))
    finally:
        assert postgres.stop(tmp_path / "data")


def test_server_is_safe_small_and_private(own: Path) -> None:
    address = postgres.ensure_running(own)
    assert _show(address, "nirflow", "listen_addresses") == ""
    assert _show(address, "nirflow", "fsync") == "on"
    assert _show(address, "nirflow", "full_page_writes") == "on"
    assert _show(address, "nirflow", "synchronous_commit") == "on"
    assert _show(address, "prefect", "synchronous_commit") == "off"
    assert address.socket_dir.stat().st_mode & 0o077 == 0
    with address.connect("prefect") as connection:
        found = connection.execute("SELECT extname FROM pg_extension").fetchall()
    assert ("pg_trgm",) in found


def test_url_reaches_the_server_through_sqlalchemy(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A user's own libpq variables must have no effect.
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "localhost")
    monkeypatch.setenv("PGDATABASE", "other")
    engine = create_engine(postgres.ensure_running(own).url("nirflow"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar() == "nirflow"
    engine.dispose()
    assert re.fullmatch(
        r"postgresql\+asyncpg://prefect@/prefect\?host=.+&port=5432",
        postgres.ensure_running(own).prefect_url(),
    )


def test_check_of_a_running_server_starts_no_process(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = postgres.ensure_running(own)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert postgres.ensure_running(own) == address


def test_starts_again_after_kill_and_keeps_what_was_committed(own: Path) -> None:
    with postgres.ensure_running(own).connect("nirflow") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    _kill(own)
    with postgres.ensure_running(own).connect("nirflow") as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_stale_pid_that_belongs_to_another_process(own: Path) -> None:
    postgres.ensure_running(own)
    _kill(own)
    # After a reboot the number may belong to any process: here to this one.
    for stale in (own / "postgres" / "postmaster.pid", own / "run" / ".s.PGSQL.5432.lock"):
        lines = stale.read_text().split("\n")
        stale.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert not postgres.status(own).running
    assert postgres.stop(own) is False  # and must not signal this process
    postgres.ensure_running(own)
    assert postgres.status(own).running
    assert postgres.status(own).pid != os.getpid()


def test_a_cluster_that_another_machine_may_run_is_left_alone(own: Path) -> None:
    """On a shared disk: its process is not visible on this machine."""
    postgres.ensure_running(own)
    _kill(own)
    note = own / "postgres.host"
    mine = note.read_text()
    note.write_text("pipeline-2 pid:[4026531836]\n")
    before = (own / "postgres" / "postmaster.pid").read_text()
    with pytest.raises(
        StoreError, match="was started on pipeline-2 by an earlier nirflow and may run there"
    ) as caught:
        postgres.ensure_running(own)
    assert str(note) in caught.value.remedy
    assert (own / "postgres" / "postmaster.pid").read_text() == before
    note.unlink()  # as in the remedy
    postgres.ensure_running(own)
    assert note.read_text() == mine
    note.write_text("pipeline-2 pid:[4026531836]\n")
    postgres.stop(own)  # shut down properly: then any machine may use it
    postgres.ensure_running(own)
    assert note.read_text() == mine


def test_databases_missing_after_a_kill_half_way_are_created(own: Path) -> None:
    with postgres.ensure_running(own).administer() as connection:
        connection.execute("DROP DATABASE nirflow WITH (FORCE)")
    with postgres.ensure_running(own).connect("nirflow") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_stop_reports_its_result_and_can_be_repeated(own: Path, tmp_path: Path) -> None:
    assert postgres.stop(tmp_path) is False
    postgres.ensure_running(own)
    assert postgres.stop(own) is True
    assert postgres.stop(own) is False
    found = postgres.status(own)
    assert (found.running, found.pid, found.version) == (False, None, None)


def test_long_path_with_characters_that_shells_and_libpq_interpret(tmp_path: Path) -> None:
    folder = tmp_path / ("a, b'\"$HOME`touch x`é" + "x" * 90)
    address = postgres.ensure_running(folder)
    try:
        assert len(os.fsencode(address.socket_dir)) < 60
        with address.connect("nirflow") as connection:
            row = connection.execute("SHOW nirflow.cluster").fetchone()
        assert row == (str(folder / "postgres"),)
    finally:
        assert postgres.stop(folder)
    assert not address.socket_dir.exists()


def test_socket_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    trap = postgres._socket_dir(folder.resolve())
    trap.mkdir()
    trap.chmod(0o777)
    try:
        with pytest.raises(StoreError, match="open to others"):
            postgres.ensure_running(folder)
    finally:
        trap.rmdir()


def test_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    trap = postgres._socket_dir(folder.resolve())
    trap.symlink_to(elsewhere)
    try:
        with pytest.raises(StoreError, match="another account"):
            postgres.ensure_running(folder)
        assert elsewhere.stat().st_uid == os.geteuid()
    finally:
        trap.unlink()


def test_data_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created or started") as caught:
        postgres.ensure_running(tmp_path / "file" / "data")
    assert "NIRFLOW_DATA_DIR" in caught.value.remedy


def test_a_server_that_cannot_start_names_its_log(own: Path) -> None:
    postgres.ensure_running(own)
    postgres.stop(own)
    configuration = own / "postgres" / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(good + "shared_buffers = nonsense\n")
    try:
        with pytest.raises(StoreError, match=r"shared_buffers") as caught:
            postgres.ensure_running(own)
        assert "server.log" in caught.value.remedy
    finally:
        configuration.write_text(good)
    postgres.ensure_running(own)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_has_a_server_too(python: Python) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="nf", dir="/tmp"))
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    script = """
        import sys
        from pathlib import Path
        from calib_store.server import postgres
        folder = Path(sys.argv[1])
        with postgres.ensure_running(folder).connect("nirflow") as connection:
            print(connection.execute("SELECT 42").fetchone())
        print(postgres.stop(folder))
    """
    try:
        # A capability lets it reach an interpreter below /root; otherwise it is not root.
        prefix = (
            "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups",
            "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--",
        )  # fmt: skip
        process = python(
            script, folder / "data", cwd="/", env={**os.environ, "HOME": str(folder)}, prefix=prefix
        )
        output, _ = process.communicate(timeout=PATIENCE)
        assert output.split() == ["(42,)", "True"], output
    finally:
        shutil.rmtree(folder)


def test_connection_is_refused_if_no_server_runs(tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError):
        postgres.PostgresAddress(tmp_path).connect("nirflow")
