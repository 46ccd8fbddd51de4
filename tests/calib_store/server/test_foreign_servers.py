"""A user's own PostgreSQL, and the libpq variables and files that lead there, do not affect the embedded server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign_server import Foreign
from psycopg import pq
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from calib_store import libpq
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.store import Store
from calib_store.tables.database import Database
from deployments.settings.server_settings import ServerSettings, server_environment
from imaging.errors import StoreError

#: Variables that libpq reads although they belong to no parameter, and those of the programs.
WITHOUT_PARAMETER = {
    "PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGDATA", "PGCTLTIMEOUT",
    "PG_COLOR",
}  # fmt: skip
VARIABLES = sorted(
    WITHOUT_PARAMETER
    | {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar is not None}
)
#: Properties of the session; none of them may depend on a variable.
SESSION = """
    SELECT current_setting('nirflow.cluster'), current_database(), current_user::text, current_setting('DateStyle'),
           current_setting('TimeZone'), current_setting('client_encoding'), current_setting('search_path'),
           current_setting('application_name'), current_setting('geqo'), inet_server_addr()::text
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose server is running."""
    folder = tmp_path_factory.mktemp("own")
    postgres.ensure_running(folder)
    yield folder
    postgres.stop(folder)


def session_of_psycopg(data_dir: Path) -> tuple[object, ...]:
    database = Database(postgres.ensure_running(data_dir).url("nirflow"))
    try:
        return tuple(database.read(lambda connection: connection.execute(text(SESSION)).one()))
    finally:
        database.close()


def session_of_the_prefect_server(
    data_dir: Path, base: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[object, ...]:
    """Return what asyncpg gets in the environment of the server's process."""
    url = postgres.address_of(data_dir).prefect_url()
    environment = server_environment(ServerSettings(), home=data_dir, port=1, database_url=url, base=base)

    async def ask() -> tuple[object, ...]:
        engine = create_async_engine(environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"])
        try:
            async with engine.connect() as connection:
                return tuple((await connection.execute(text(SESSION))).one())
        finally:
            await engine.dispose()

    with monkeypatch.context() as patch:
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return asyncio.run(ask())


def session_of_a_program(data_dir: Path) -> list[str]:
    done = subprocess.run(
        [str(postgres.program("psql")), "--no-psqlrc", "-At", "-c", SESSION],
        env=libpq.program_environment(postgres.address_of(data_dir).url("nirflow")),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip().split("|")


def sessions(data_dir: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    got: list[object] = []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    got.append(session_of_psycopg(data_dir))
    got.append(session_of_the_prefect_server(data_dir, {**os.environ, **variables}, monkeypatch))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    got.append(session_of_a_program(data_dir))
    return got


def postmasters_started(data_dir: Path) -> int:
    log = (data_dir / "postgres" / "server.log").read_text()
    return log.count("lock file") + log.count("pre-existing shared memory")


@pytest.mark.parametrize("variable", VARIABLES)
def test_no_variable_changes_a_connection(
    own: Path, foreign: Foreign, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    variable: str,
) -> None:  # fmt: skip
    expected = sessions(own, {}, monkeypatch)
    assert [one[0] for one in expected] == [str(own / "postgres")] * 3  # type: ignore[index]
    visits, pid = foreign.visits(), postgres.status(own).pid
    value = foreign.values().get(variable, "nonsense")
    assert sessions(own, {variable: value}, monkeypatch) == expected
    assert (foreign.visits(), postgres.status(own).pid, postmasters_started(own)) == (visits, pid, 0)
    assert capfd.readouterr().err == ""


def test_all_variables_and_files_at_once_from_the_first_start(
    tmp_path: Path, foreign: Foreign, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    databases = foreign.databases()
    visits = len(foreign.visits())
    home = tmp_path / "home"
    home.mkdir()
    for name, source in ((".pg_service.conf", "services"), (".pgpass", "pgpass")):
        (home / name).write_text((foreign.folder / source).read_text())
    monkeypatch.setenv("HOME", str(home))
    everything = dict.fromkeys(VARIABLES, "nonsense") | foreign.values()
    for name, value in everything.items():
        monkeypatch.setenv(name, value)
    try:
        with Store.open(StoreSettings(data_dir=tmp_path / "data")) as store:
            assert store.products() == ()
        psycopg_, asyncpg_, program = sessions(tmp_path / "data", everything, monkeypatch)
        cluster = str(tmp_path / "data" / "postgres")
        assert (psycopg_[0], asyncpg_[0], program[0]) == (cluster, cluster, cluster)  # type: ignore[index]
        assert postmasters_started(tmp_path / "data") == 0
    finally:
        assert postgres.stop(tmp_path / "data")
    assert foreign.visits()[visits:] == ""
    assert capfd.readouterr().err == ""  # both drivers warn if they read that password file
    assert foreign.databases() == databases


def test_the_files_in_the_home_folder_alone(
    own: Path, foreign: Foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    expected = sessions(own, {}, monkeypatch)
    for name, source in ((".pg_service.conf", "services"), (".pgpass", "pgpass")):
        (tmp_path / name).write_text((foreign.folder / source).read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sessions(own, {}, monkeypatch) == expected
    assert capfd.readouterr().err == ""


def test_a_variable_is_removed_and_reported_and_others_stay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("PGHOSTADDR", "PGFUTURE", "PGPLOT_DIR", "PG_DUMP_FOLDER", "MYPGHOST"):
        monkeypatch.setenv(name, "x")
    with caplog.at_level("INFO", logger="calib_store"):
        libpq.forget_variables()
        libpq.forget_variables()
    assert "PGHOSTADDR" not in os.environ
    assert "PGFUTURE" not in os.environ
    assert {"PGPLOT_DIR", "PG_DUMP_FOLDER", "MYPGHOST"} <= set(os.environ)
    (record,) = caplog.records
    assert "PGFUTURE, PGHOSTADDR" in record.getMessage()


# A database that the user names by URL: the URL decides.


def test_a_url_takes_precedence_over_all_variables(
    real_server, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = foreign.visits()
    for name, value in foreign.values().items():
        monkeypatch.setenv(name, value)
    database = Database(real_server.url("postgres"))
    port = database.read(lambda connection: connection.scalar(text("SELECT inet_server_port()")))
    database.close()
    assert port == real_server.port
    assert foreign.visits() == visits


def test_parts_missing_from_a_url_come_only_from_a_file_that_it_names(
    real_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = real_server.passwords["admin"]
    bare = make_url(f"postgresql+psycopg://admin@127.0.0.1:{real_server.port}/postgres")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(StoreError, match="no password supplied"):
        Database(bare).read(lambda connection: connection.scalar(text("SELECT 1")))
    passfile = tmp_path / "passwords"
    passfile.write_text(f"127.0.0.1:{real_server.port}:*:admin:{password}\n")
    passfile.chmod(0o600)
    named = bare.update_query_dict({"passfile": str(passfile), "application_name": "ours"})
    database = Database(named)
    assert database.read(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    database.close()
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    done = subprocess.run(
        [str(postgres.program("psql")), "--no-psqlrc", "-At", "-c", "SHOW application_name"],
        env=libpq.program_environment(named), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ours", "")
    environment = libpq.program_environment(
        make_url("postgresql+psycopg:///x?host=a:1&host=b:2&options=-cx=1")
    )
    assert [environment.get(name) for name in ("PGHOST", "PGPORT", "PGOPTIONS", "PGHOSTADDR")] == [
        "a,b", "1,2", "-cx=1", None,
    ]  # fmt: skip


# A failed connection does not mean that no server runs.


def test_a_live_server_that_refuses_is_reported_and_not_started_twice(own: Path) -> None:
    pid = postgres.status(own).pid
    rules = own / "postgres" / "pg_hba.conf"
    good = rules.read_text()
    rules.write_text("local all all reject\n")
    os.kill(pid, 1)
    try:
        began = time.monotonic()
        while postgres.status(own).running:
            assert time.monotonic() < began + 10
        with pytest.raises(StoreError, match=rf"runs \(process {pid}\) but cannot be used.*pg_hba") as caught:
            postgres.ensure_running(own)
        assert "nirflow server stop" in caught.value.remedy
        assert (postgres.status(own).running, postgres.status(own).pid) == (False, pid)
        assert postmasters_started(own) == 0
    finally:
        rules.write_text(good)
        os.kill(pid, 1)
    assert postgres.ensure_running(own)
    assert postgres.status(own).pid == pid


def test_a_live_server_whose_socket_was_removed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_STARTING_SECONDS", 0.2)
    pid = postgres.status(own).pid
    socket = own / "run" / ".s.PGSQL.5432"
    socket.rename(socket.with_name("away"))
    with pytest.raises(StoreError, match=rf"runs \(process {pid}\) but cannot be used"):
        postgres.ensure_running(own)
    assert postmasters_started(own) == 0
    socket.with_name("away").rename(socket)
    postgres.ensure_running(own)


def test_a_live_server_in_a_folder_that_was_renamed(tmp_path: Path) -> None:
    """Its command line has the folder's old path, but it still works there."""
    postgres.ensure_running(tmp_path / "before")
    pid = postgres.status(tmp_path / "before").pid
    (tmp_path / "before").rename(tmp_path / "after")
    try:
        postgres.ensure_running(tmp_path / "after")
        assert postgres.status(tmp_path / "after").pid == pid
        assert postmasters_started(tmp_path / "after") == 0
    finally:
        assert postgres.stop(tmp_path / "after")


def test_another_server_at_the_socket_is_not_mistaken_for_the_stores(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of a copy of the data folder, which listens at the same place.

    Under root it may run as another account, depending on what else runs on the machine: then that is the reason.
    """
    postgres.ensure_running(tmp_path)
    try:
        monkeypatch.setattr(postgres, "_STARTING_SECONDS", 2.0)
        theirs = postgres.address_of(tmp_path)
        monkeypatch.setattr(postgres, "address_of", lambda _: theirs)
        with pytest.raises(StoreError, match=r"answers at its socket|belongs to another account"):
            postgres.ensure_running(own)
    finally:
        monkeypatch.undo()
        postgres.stop(tmp_path)
