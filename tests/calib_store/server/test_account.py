"""The account that the embedded server runs as, who may connect, and the rights of its roles."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from waiting import PATIENCE, wait_until

from calib_store.server import account, postgres, postmaster, programs
from calib_store.server.account import RESERVED, server_account
from calib_store.server.programs import program_for
from imaging.errors import StoreError

Python = Callable[..., "subprocess.Popen[str]"]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")


def as_user(uid: int, gid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--"]


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, children.read_text().split())]


@pytest.fixture
def place() -> Iterator[Path]:
    """A data folder that every account can reach by the modes of its parents."""
    folder = Path(tempfile.mkdtemp(prefix="nf", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    postgres.stop(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose server was started with secrets in the environment."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIRFLOW_SERVER_AUTH", "observer:secret")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        postgres.ensure_running(folder)
    yield folder
    postgres.stop(folder)


# The process


def test_no_process_of_the_server_has_a_capability_or_a_secret(own: Path) -> None:
    pid = postgres.status(own).pid
    assert pid is not None
    seen = 0
    for one in family(pid):
        try:
            text = Path(f"/proc/{one}/status").read_text()
            environment = Path(f"/proc/{one}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a process that cleaned up and has ended
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == ("1" if os.geteuid() == 0 else status["NoNewPrivs"])
        names = {line.partition(b"=")[0].decode() for line in environment.split(b"\0") if line.strip(b"\0")}
        assert names <= {"PATH", "TZ", "LC_ALL", "PWD", "PGDATA"}, names
        assert b"secret" not in environment
        seen += 1
    assert seen > 3


@AS_ROOT
def test_roots_server_has_its_own_user_id(own: Path) -> None:
    pid = postgres.status(own).pid
    uid = Path(f"/proc/{pid}").stat().st_uid
    assert uid in RESERVED
    assert (own / "postgres").stat().st_uid == uid
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)


@AS_ROOT
def test_a_cluster_that_only_root_can_reach(tmp_path: Path) -> None:
    """No folder's permissions are widened for the server, which may not search it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    assert postgres.ensure_running(hidden / "data")
    try:
        assert hidden.stat().st_mode & 0o777 == 0o700
        assert hidden.stat().st_uid == 0
    finally:
        postgres.stop(hidden / "data")


# Who may connect


@AS_ROOT
@pytest.mark.parametrize("role", ["postgres", "nirflow", "prefect"])
def test_another_account_that_reaches_the_socket_is_refused(place: Path, role: str) -> None:
    address = postgres.ensure_running(place)
    place.chmod(0o755)
    address.socket_dir.chmod(0o755)
    nobody = server_account(place / "postgres")
    command = [
        str(program_for(nobody, "psql")), "--no-psqlrc", "-h", str(address.socket_dir), "-U", role, "-d", "nirflow",
        "-c", "SELECT 1",
    ]  # fmt: skip
    for uid, gid in ((NOBODY.pw_uid, NOBODY.pw_gid), (nobody.uid, nobody.gid)):
        done = subprocess.run([*as_user(uid, gid), *command], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "eer authentication failed" in done.stderr or "could not look up local user" in done.stderr


def test_the_account_that_owns_the_data_may_assume_any_role(own: Path) -> None:
    address = postgres.address_of(own)
    for role in ("nirflow", "prefect", "postgres"):
        with address.connect("nirflow" if role != "prefect" else "prefect", role=role) as connection:
            assert connection.execute("SELECT current_user::text").fetchone() == (role,)


# Rights of the roles


@pytest.mark.parametrize("role", ["nirflow", "prefect"])
@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "CREATE TEMPORARY TABLE t (x text); COPY t FROM PROGRAM 'id'",
        "COPY (SELECT 1) TO '/tmp/nirflow-written'",
        "CREATE TEMPORARY TABLE t (x text); COPY t FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/nirflow-written')",
        "CREATE EXTENSION file_fdw",
        "CREATE EXTENSION dblink",
        "CREATE EXTENSION postgres_fdw",
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc.so.6', 'system'",
        "CREATE FUNCTION f(internal) RETURNS int LANGUAGE internal AS 'boolin'",
        "LOAD 'auto_explain'",
        "ALTER SYSTEM SET archive_command = 'id'",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE other SUPERUSER",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "GRANT pg_execute_server_program TO CURRENT_USER",
        "SET session_replication_role = replica",
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION pg_catalog.tsvector_update_trigger()",
        "SELECT pg_reload_conf()",
    ],
)
def test_no_ordinary_role_can_leave_its_database(own: Path, role: str, statement: str) -> None:
    address = postgres.address_of(own)
    *before, last = statement.split("; ")
    with address.connect(role) as connection:
        for one in before:
            connection.execute(one)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(last)


@pytest.mark.parametrize(
    ("role", "database"),
    [("nirflow", "prefect"), ("prefect", "nirflow"), ("nirflow", "postgres"), ("prefect", "template1")],
)
def test_a_role_enters_its_own_database_only(own: Path, role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        postgres.address_of(own).connect(database, role=role)


def test_the_roles_own_their_databases_and_have_no_other_rights(own: Path) -> None:
    with postgres.address_of(own).administer() as connection:
        found = connection.execute(
            """SELECT rolname::text, datname::text FROM pg_roles JOIN pg_database ON datdba = pg_roles.oid
               WHERE NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"""
        ).fetchall()
        assert sorted(found) == [("nirflow", "nirflow"), ("prefect", "prefect")]
        memberships = connection.execute(
            """SELECT member::regrole::text, roleid::regrole::text, admin_option FROM pg_auth_members
               WHERE member IN ('nirflow'::regrole, 'prefect'::regrole)"""
        ).fetchall()
        # The store's owner can act as a read-only role, but cannot grant it.
        assert memberships == [("nirflow", "nirflow_reader", False)]


# A cluster of an earlier nirflow


def old_cluster(data: Path) -> int:
    """Create and start a cluster as nirflow did earlier: as nobody for root, with one superuser and no checks."""
    cluster, run = data / "postgres", data / "run"
    prefix: list[str] = []
    data.mkdir()
    for folder in (cluster, run):
        folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        for folder in (cluster, run):
            os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
        search = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        prefix = [*as_user(NOBODY.pw_uid, NOBODY.pw_gid)[:-1], *search, "--"]
    environment = {**os.environ, "LC_ALL": "C", "NIRFLOW_SERVER_AUTH": "observer:secret"}
    subprocess.run(
        [*prefix, str(postgres.program("initdb")), "-D", str(cluster), "-U", "postgres", "--auth-local=trust",
         "--auth-host=reject", "--encoding=UTF8", "--locale=C", "-c", "listen_addresses=", "-c", "fsync=off"],
        env=environment, cwd="/", check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    server = subprocess.Popen(
        [*prefix, "/bin/sh", "-c", '"$@" >>"$0" 2>&1 & echo $!', str(cluster / "server.log"),
         str(postgres.program("postgres")), "-D", str(cluster), "-c", f"unix_socket_directories={run}"],
        env=environment, cwd="/", start_new_session=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = int(server.communicate()[0])
    where = {"host": str(run), "user": "postgres"}

    def connect(database: str) -> psycopg.Connection:
        return psycopg.connect(dbname=database, autocommit=True, **where)

    def answers() -> bool:
        with connect("postgres"):
            return True

    wait_until(answers, ignored=(psycopg.OperationalError,))
    with connect("postgres") as connection:
        for name in ("prefect", "nirflow"):
            connection.execute(f"CREATE DATABASE {name}")
    with connect("prefect") as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("CREATE TYPE state_type AS ENUM ('RUNNING')")
        connection.execute(
            "CREATE TABLE flow_run (id bigint GENERATED ALWAYS AS IDENTITY, state state_type, name text)"
        )
        connection.execute("CREATE INDEX flow_run_name_idx ON flow_run USING gin (name gin_trgm_ops)")
        connection.execute("INSERT INTO flow_run (state, name) VALUES ('RUNNING', 'one')")
        connection.execute("CREATE VIEW running AS SELECT * FROM flow_run")
        connection.execute("CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'")
    with connect("nirflow") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    return pid


@pytest.mark.parametrize("running", [True, False])
def test_a_cluster_of_an_earlier_nirflow_is_taken_over_with_its_contents(place: Path, running: bool) -> None:
    before = old_cluster(place)
    if not running:
        postgres.stop(place)
    address = postgres.ensure_running(place)
    pid = postgres.status(place).pid
    assert pid not in (None, before)
    assert not postmaster.alive(before)
    assert Path(f"/proc/{pid}").stat().st_uid != NOBODY.pw_uid
    assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    with address.connect("nirflow") as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        connection.execute("ALTER TABLE kept ADD COLUMN more int")  # as in a migration
    with address.connect("prefect") as connection:
        connection.execute("ALTER TYPE state_type ADD VALUE 'FAILED'")
        connection.execute("INSERT INTO flow_run (state, name) VALUES ('FAILED', 'two')")
        connection.execute("CREATE OR REPLACE VIEW running AS SELECT * FROM flow_run WHERE state = 'RUNNING'")
        connection.execute("DROP FUNCTION answer()")
        connection.execute("ALTER TABLE flow_run ADD COLUMN more int")
        assert connection.execute("SELECT name FROM running").fetchall() == [("one",)]
    assert "trust" not in (place / "postgres" / "pg_hba.conf").read_text()
    # Only once; then it is unchanged.
    assert postgres.ensure_running(place) == address
    postgres.stop(place)
    postgres.ensure_running(place)


@AS_ROOT
def test_files_created_by_nobody_do_not_lead_root_elsewhere(place: Path, tmp_path: Path) -> None:
    old_cluster(place)
    postgres.stop(place)
    target = tmp_path / "of root"
    target.mkdir()
    (target / "file").write_text("root's")
    cluster = place / "postgres"
    for name, to in (("pg_hba.conf", target / "file"), ("folder", target), ("file", target / "file")):
        (cluster / name).unlink(missing_ok=True)
        (cluster / name).symlink_to(to)
        os.chown(cluster / name, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    (cluster / "hard").hardlink_to(target / "file")
    postgres.ensure_running(place)
    assert {path.stat().st_uid for path in (target, target / "file")} == {0}
    assert (target / "file").read_text() == "root's"
    assert not (cluster / "pg_hba.conf").is_symlink()


@AS_ROOT
def test_an_interrupted_take_over_is_completed_by_the_next_start(place: Path) -> None:
    old_cluster(place)
    postgres.stop(place)
    cluster = place / "postgres"
    number = server_account(cluster).uid
    os.chown(cluster, 0, 0)
    for half in ("base", "PG_VERSION"):
        os.chown(cluster / half, number, number)
    with postgres.ensure_running(place).connect("nirflow") as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    owners = {path.lstat().st_uid for path in (cluster, *cluster.rglob("*"))}
    assert owners == {cluster.stat().st_uid}
    assert owners <= set(RESERVED)


def test_processes_of_a_killed_server_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL overlooks processes of another user id, and would write to the same files."""
    monkeypatch.setattr(postmaster, "_ORPHAN_SECONDS", 0.0)
    left = subprocess.Popen(
        ["postgres: checkpointer", "1000"], executable=shutil.which("sleep"), cwd=tmp_path
    )
    try:
        wait_until((Path(f"/proc/{left.pid}") / "cmdline").read_bytes)
        with pytest.raises(StoreError, match=rf"still use the database.*{left.pid}"):
            postmaster.require_no_orphans(tmp_path)
        (tmp_path / "other").mkdir()
        postmaster.require_no_orphans(tmp_path / "other")
    finally:
        left.kill()
        left.wait()
    postmaster.require_no_orphans(tmp_path)


# Which account


@AS_ROOT
def test_a_cluster_of_another_account_is_refused(place: Path) -> None:
    cluster = place / "postgres"
    cluster.mkdir(parents=True)
    os.chown(cluster, 10001, 10001)
    with pytest.raises(StoreError, match="belongs to the account 10001, not to root") as caught:
        postgres.ensure_running(place)
    assert "chown" in caught.value.remedy
    # Owned by nobody, who also owns the folder around it: such an account runs nirflow.
    for path in (cluster, place):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(StoreError, match="belongs to the account nobody, not to root"):
        postgres.ensure_running(place)
    shutil.rmtree(cluster)


def test_a_cluster_created_by_root_is_reported_as_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres").mkdir()
    monkeypatch.setattr(account, "_owner", lambda _: 65520)
    monkeypatch.setattr(os, "geteuid", lambda: 20002)
    with pytest.raises(StoreError, match="belongs to the account 65520, not to 20002"):
        server_account(tmp_path / "postgres")


@AS_ROOT
def test_a_user_id_that_is_in_use_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = server_account(tmp_path / "postgres").uid
    known = pwd.getpwuid(0)
    names = {first: known}

    def named(uid: int) -> pwd.struct_passwd:
        return names[uid]

    monkeypatch.setattr(pwd, "getpwuid", named)
    assert server_account(tmp_path / "postgres").uid == first + 1
    # Another process runs as that one.
    other = subprocess.Popen([*as_user(first + 1, first + 1), "sleep", "1000"])
    try:
        wait_until(lambda: Path(f"/proc/{other.pid}").stat().st_uid == first + 1)
        assert server_account(tmp_path / "postgres").uid == first + 2
    finally:
        other.kill()
        other.wait()
    # A container with only a few user ids.
    monkeypatch.setattr(account, "_mapped", lambda *_: False)
    with pytest.raises(StoreError, match="none of the user ids 65520 to 65533 can be used") as caught:
        server_account(tmp_path / "postgres")
    assert "ordinary user" in caught.value.remedy


@AS_ROOT
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        # The default capabilities of root in containers, with which it cannot inspect processes of others.
        (
            ("setpriv", "--bounding-set=-all,+chown,+dac_override,+setgid,+setuid,+kill,+setpcap"),
            "[True, True]",
        ),
        (
            ("setpriv", "--bounding-set=-all"),
            "lacks the capabilities to run it as another account: CAP_CHOWN, ",
        ),
    ],
)
def test_a_root_with_few_rights(place: Path, python: Python, prefix: tuple[str, ...], expected: str) -> None:
    script = """
        import sys
        from pathlib import Path
        from calib_store.server import postgres
        from imaging.errors import StoreError
        folder = Path(sys.argv[1])
        try:
            for _ in range(2):
                postgres.ensure_running(folder)
            print([postgres.status(folder).running, postgres.stop(folder)])
        except StoreError as error:
            print(error)
    """
    process = python(script, place, prefix=prefix)
    output, _ = process.communicate(timeout=PATIENCE)
    assert expected in output


@AS_ROOT
def test_programs_that_only_root_can_reach_are_copied_for_the_server(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = place.parent / "copies"
    monkeypatch.setattr(programs, "_COPIES", copies)
    monkeypatch.setattr(programs, "_open_to_all", lambda _: False)
    umask = os.umask(0o077)
    try:
        postgres.ensure_running(place)
    finally:
        os.umask(umask)
    with postgres.ensure_running(place).connect("prefect") as connection:
        assert connection.execute("SELECT show_trgm('x') IS NOT NULL").fetchone() == (True,)
    (copy,) = copies.iterdir()
    pid = postgres.status(place).pid
    assert Path(f"/proc/{pid}/exe").readlink().is_relative_to(copy)
    assert {path.lstat().st_uid for path in copy.rglob("*")} == {0}
    assert not [path for path in copy.rglob("*") if path.lstat().st_mode & 0o022 and not path.is_symlink()]
    postgres.stop(place)
    postgres.ensure_running(place)
    assert list(copies.iterdir()) == [copy]
    # A folder that another account could have filled.
    postgres.stop(place)
    os.chown(copy, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(StoreError, match="Only root can read") as caught:
        postgres.ensure_running(place)
    assert "/opt" in caught.value.remedy
    os.chown(copy, 0, 0)
