"""Backups that were made to harm whoever restores them: refused, and nothing of them has run or stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from real_server import RealServer
from server_store import Settings, database_of, dumped, fill
from sqlalchemy import make_url

from calib_store import migrations
from calib_store.administration import backup_folder, dump
from calib_store.administration.backup import backup
from calib_store.administration.backup_folder import Backup, read_backup
from calib_store.administration.restore import restore
from calib_store.administration.schema_upkeep import initialise
from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import file_sha256
from calib_store.libpq import program_environment
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.store import Store
from imaging.errors import StoreError

#: A value that a test finds in the dump, and puts others of the same length in the place of.
MARK = "MARK" * 30


def url_of(settings: StoreSettings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def execute(settings: StoreSettings, *statements: str) -> None:
    with psycopg.connect(url_of(settings), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def dump_again(settings: StoreSettings, folder: Path, *options: str) -> None:
    """Put a dump of a database as it is now in the place of the one of a backup, as its writer could."""
    new = folder / "new.dump"
    subprocess.run(
        [str(postgres.program("pg_dump")), "--format=custom", "--no-owner", "--no-privileges", f"--file={new}",
         *options],
        env=program_environment(make_url(url_of(settings)).set(drivername="postgresql+psycopg")), check=True,
    )  # fmt: skip
    take(folder, new)


def take(folder: Path, new: Path) -> None:
    told = Backup.model_validate_json((folder / "backup.json").read_bytes())
    (folder / told.dump).unlink()
    changed = told.model_copy(update={"dump_sha256": file_sha256(new)})
    new.rename(folder / changed.dump)
    (folder / "backup.json").write_text(changed.model_dump_json())


def edit_dump(folder: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a dump that is not compressed."""
    assert len(old) == len(new)
    told = Backup.model_validate_json((folder / "backup.json").read_bytes())
    content = (folder / told.dump).read_bytes()
    assert old in content
    (folder / "edited").write_bytes(content.replace(old, new))
    take(folder, folder / "edited")


@pytest.fixture(scope="module")
def templates(
    real_server: RealServer, facts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    """Databases to copy, one with a store and one with an unused one; and a backup, whose dump can be edited."""
    folder, names = tmp_path_factory.mktemp("written"), (f"full_{os.getpid()}", f"unused_{os.getpid()}")
    full, unused = (
        StoreSettings(data_dir=folder / name, database_url=SecretStr(real_server.url(name))) for name in names
    )
    for one in (full, unused):
        initialise(one)
    with Store.open(full) as store:
        fill(store, facts, folder, 2)
    execute(full, f"UPDATE frames SET target = '{MARK}'")
    backup(full, folder / "backup")
    dump_again(full, folder / "backup", "--compress=none")
    yield (*names, folder / "backup")
    with real_server.connect() as connection:
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def filled(
    settings: Settings, real_server: RealServer, templates: tuple[str, str, Path], tmp_path: Path
) -> tuple[StoreSettings, Path]:
    """A store, and a backup of it; both may be changed."""
    source = settings()
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(source)} TEMPLATE {templates[0]}")
    shutil.copytree(templates[2], tmp_path / "backup")
    return source, tmp_path / "backup"


@pytest.fixture
def unused(settings: Settings, real_server: RealServer, templates: tuple[str, str, Path]) -> StoreSettings:
    """A store that was made and never used."""
    target = settings(folder="target")
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(target)} TEMPLATE {templates[1]}")
    return target


@pytest.fixture
def refused(unused: StoreSettings) -> Callable[..., StoreError]:
    """Restore a backup into an unused store, which is to stay as it is; the error."""
    target = unused

    def attempt(folder: Path, match: str) -> StoreError:
        with Store.open(target) as store:
            before = dumped(store)
            with pytest.raises(StoreError, match=match) as caught:
                restore(target, folder)
            assert dumped(store) == before
            assert store.products() == ()
        return caught.value

    return attempt


# Programs instead of rows


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            (
                """CREATE FUNCTION runit() RETURNS int LANGUAGE plpgsql AS $$
                   BEGIN EXECUTE 'copy (select 1) to program ''touch {ran}'''; RETURN 1; END $$""",
                "CREATE MATERIALIZED VIEW shown AS SELECT runit() WITH NO DATA",
                # As its writer would have it: then a restore fills it.
                "UPDATE pg_class SET relispopulated = true WHERE relname = 'shown'",
            ),
            "FUNCTION public runit",
        ),
        (("CREATE MATERIALIZED VIEW shown AS SELECT 1 AS one",), "MATERIALIZED VIEW public shown"),
        (("CREATE TABLE other (x int)",), "TABLE public other"),
        (("CREATE VIEW other AS SELECT 1 AS one",), "VIEW public other"),
        (("CREATE RULE r AS ON INSERT TO frames DO ALSO SELECT 1",), "RULE public frames r"),
        (("CREATE SCHEMA other",), "SCHEMA - other"),
        (("CREATE EXTENSION pg_trgm",), "EXTENSION - pg_trgm"),
        (("COMMENT ON TABLE frames IS 'x'",), "COMMENT public TABLE frames"),
        (("SELECT lo_create(0)",), "BLOB"),
        (
            (
                "CREATE TRIGGER t BEFORE UPDATE ON frames EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            ),
            "TRIGGER public frames t",
        ),
        (("ALTER TABLE frames ENABLE ROW LEVEL SECURITY",), "ROW SECURITY public frames"),
        (("CREATE TYPE mood AS ENUM ('sad')",), "TYPE public mood"),
    ],
)
def test_a_dump_that_holds_more_than_rows_is_refused_by_name(
    filled: tuple[StoreSettings, Path], refused, statements: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    source, folder = filled
    ran = tmp_path / "ran"
    execute(source, *(one.replace("{ran}", str(ran)) for one in statements))
    dump_again(source, folder)
    refused(folder, f"holds what no store has: .*{named}")
    assert not ran.exists()


def test_rows_as_statements_are_refused(filled: tuple[StoreSettings, Path], refused) -> None:
    source, folder = filled
    dump_again(source, folder, "--inserts")
    refused(folder, "has no rows of products as pg_dump writes them")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        # The statement that goes with the rows is text in the archive.
        (b"FROM stdin;", b"TO program;", "as pg_dump writes them"),
        (b"COPY public.products (id,", b"SELECT 1; COPY produ (id,", "as pg_dump writes them"),
        (b"COPY public.products (id,", b"COPY public.products (ix,", "other columns"),
        (b"COPY public.products (id,", b"COPY public.inputsxx (id,", "as pg_dump writes them"),
        # Rows that end early, with statements after them.
        (
            MARK.encode(),
            b"x\n\\.\nDROP TABLE products;".ljust(len(MARK), b"-"),
            "something else after the rows",
        ),
        (MARK.encode(), b"x\n\\.\n\\! id;".ljust(len(MARK), b"-"), "something else after the rows"),
        (
            MARK.encode(),
            b"x\n\\.\n\nCOPY public.frames (name) FROM stdin;\n".ljust(len(MARK), b"y"),
            "after the rows",
        ),
    ],
)
def test_statements_hidden_in_the_archive_are_refused(
    filled: tuple[StoreSettings, Path], refused, old: bytes, new: bytes, match: str
) -> None:
    edit_dump(filled[1], old, new)
    refused(filled[1], match)


def test_a_dump_that_breaks_off_is_refused(filled: tuple[StoreSettings, Path], refused) -> None:
    _, folder = filled
    whole = (folder / read_backup(folder).dump).read_bytes()
    for part in (0, 10, len(whole) // 3, len(whole) - 300):
        (folder / "cut").write_bytes(whole[:part])
        take(folder, folder / "cut")
        refused(folder, "cannot be unpacked|breaks off")


# Rows that no store has


def test_rows_obey_the_constraints_of_our_own_tables(filled: tuple[StoreSettings, Path], refused) -> None:
    source, folder = filled
    whole = (folder / read_backup(folder).dump).read_bytes()
    with psycopg.connect(url_of(source)) as connection:
        ((frame,), (product,), (name,)) = (
            connection.execute(query).fetchone()
            for query in (
                "SELECT frame_sha256 FROM inputs WHERE frame_sha256 IS NOT NULL",
                "SELECT sha256 FROM products",
                "SELECT name FROM products",
            )
        )
    for old, new, match in (
        (frame, frame[:-1] + "g", "violates check constraint .frames_sha256_check"),
        (f"\tdark\t{frame}", f"\tdark\t{'0' * 64}", "violates foreign key constraint"),
        (product, "../" * 21 + ".", "has a product that cannot be one"),
        (f"\t{name}\t", "\t../" + "x" * (len(name) - 3) + "\t", "has a product that cannot be one"),
    ):
        edit_dump(folder, old.encode(), new.encode())
        refused(folder, match)
        (folder / "before").write_bytes(whole)
        take(folder, folder / "before")


def test_numbers_of_rows_are_those_that_the_backup_tells_of(
    filled: tuple[StoreSettings, Path], refused
) -> None:
    _, folder = filled
    told = read_backup(folder)
    for change in (
        {"products": 1},
        {"products": 3},
        {"frames": 1},
        {"store": "0" * 32},
        {"revision": "0004"},
    ):
        (folder / "backup.json").write_text(told.model_copy(update=change).model_dump_json())
        refused(folder, "The dump of the backup|could not be restored")


def test_numbers_that_leave_none_for_later_rows_are_refused(
    filled: tuple[StoreSettings, Path], refused
) -> None:
    source, folder = filled
    execute(source, "UPDATE status_history SET id = id + 9223372036854775000")
    dump_again(source, folder)
    refused(folder, "has a row of status_history with the number 9223372036854775")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET made_at = 'infinity'",
        "UPDATE frames SET started = '0001-01-01 BC'",
        "UPDATE status_history SET validity = '[2013-01-01, infinity)'",
        "UPDATE status_history SET validity = '[-infinity, 2013-01-01)'",
        "INSERT INTO runs SELECT gen_random_uuid(), '{infinity}', 'night', NULL, '{}', now(), now(), '{}'",
    ],
)
def test_moments_that_no_reader_could_bear_are_refused(
    filled: tuple[StoreSettings, Path], refused, statement: str
) -> None:
    source, folder = filled
    execute(source, statement)
    dump_again(source, folder)
    refused(folder, "is in no year from 2 to 9998")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE products SET metrics = '[1, 2]'", "a row of products that cannot be read"),
        (
            "UPDATE products SET metrics = CAST('{\"noise\": ' || repeat('9', 400) || '}' AS jsonb)",
            "metrics have a number that is too large",
        ),
        (
            "UPDATE products SET parameters = CAST('{\"low\": ' || repeat('9', 5000) || '}' AS jsonb)",
            "a row of products that cannot be read",
        ),
        (
            "UPDATE products SET parameters = CAST(repeat('{\"a\":', 900) || '1' || repeat('}', 900) AS jsonb)",
            "a row of products that cannot be read",
        ),
        (
            "UPDATE products SET metrics = CAST('{\"noise\": ' || repeat('9', 400) || '.5}' AS jsonb)",
            "metrics have a number that is too large",
        ),
        (
            "UPDATE products SET parameters = CAST(repeat('{\"a\":', 60) || '1' || repeat('}', 60) AS jsonb)",
            "lists and tables in each other",
        ),
        ("UPDATE products SET metrics = '{\"unused\": 7}'", "a wrong unused"),
        ('UPDATE products SET gate = \'{"passed": true, "reference": "x"}\'', "a wrong reference"),
        ("UPDATE products SET facts = '{}'", "a row of products that cannot be read"),
        ("UPDATE frames SET facts = facts || '{\"exposure_time\": 1e300}'", "an exposure of"),
        ("UPDATE frames SET exposure_time = 'infinity'", "an infinite exposure"),
        ("UPDATE frame_headers SET header = '7'", "a row of frame_headers that cannot be read"),
        ("UPDATE variants SET parameters = '7'", "a row of variants that cannot be read"),
        (
            "INSERT INTO runs SELECT gen_random_uuid(), '{}', 'night', NULL, '{}', now(), now(), '7'",
            "a row of runs",
        ),
        (
            "INSERT INTO decisions (frame_sha256, kind, rules_version, candidates)"
            " SELECT sha256, 'dark', '1', '[7]' FROM frames LIMIT 1",
            "a row of decisions",
        ),
        (
            "INSERT INTO status_history (product_id, status, author, reason)"
            " SELECT id, 'splendid', 'x', 'y' FROM products LIMIT 1",
            "a decision that cannot be read",
        ),
    ],
)
def test_rows_that_no_command_could_read_are_refused_before_they_are_kept(
    filled: tuple[StoreSettings, Path], refused, statement: str, match: str
) -> None:
    source, folder = filled
    execute(source, statement)
    dump_again(source, folder)
    refused(folder, match)


# Too much


def test_a_dump_that_unpacks_to_too_much_is_refused(
    filled: tuple[StoreSettings, Path], refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = filled
    execute(source, "UPDATE frames SET target = repeat('x', 30000000)")
    dump_again(source, folder)
    monkeypatch.setattr(dump, "_FREE", 1_000_000)
    refused(folder, "unpacks to more than 200 times as much")
    monkeypatch.undo()
    monkeypatch.setattr(dump, "_LONGEST_ROW", 1_000_000)
    refused(folder, "has a row of frames of more than 0 MB")


def test_what_unpacks_a_dump_has_little_memory_and_time(
    filled: tuple[StoreSettings, Path], refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, folder = filled
    with monkeypatch.context() as patch:
        patch.setattr(dump, "_MEMORY", 1000)
        refused(folder, "cannot be unpacked")
    busy = Path("/tmp") / f"nirflow-busy-{os.getpid()}"
    busy.write_text("#!/bin/sh\nwhile :; do :; done\n")
    busy.chmod(0o755)
    try:
        monkeypatch.setattr(dump, "program_for", lambda *_: busy)
        monkeypatch.setattr(dump, "_TIME", 1)
        refused(folder, "takes far more time to unpack")
    finally:
        busy.unlink()


def test_what_unpacks_a_dump_has_no_rights(
    filled: tuple[StoreSettings, Path], unused: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret, no file written; for root another account, without a capability, that runs nothing else."""
    spy = Path("/tmp") / f"nirflow-spy-{os.getpid()}"
    spy.write_text(
        '#!/bin/sh\nexec >&2\necho "error: $(id -u) $(env | tr "\\n" " ") $(grep CapEff /proc/self/status)"\nexit 1\n'
    )
    spy.chmod(0o755)
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "observer:secret")
    try:
        monkeypatch.setattr(dump, "program_for", lambda *_: spy)
        with pytest.raises(StoreError, match="cannot be unpacked") as caught:
            restore(unused, filled[1])
    finally:
        spy.unlink()
    told = str(caught.value)
    assert "secret" not in told
    assert "PATH=" in told
    if os.geteuid() == 0:
        assert f"error: {dump.spare_account().uid} " in told
        assert "error: 0 " not in told


# The other files


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dump_sha256": "../../../../etc/passwd"}, "dump_sha256: String should match pattern"),
        ({"dump_sha256": "A" * 64}, "dump_sha256"),
        ({"revision": "../1"}, "revision: String should match pattern"),
        ({"revision": "0999"}, "this nirflow knows 0001, .*0005"),
        ({"revision": "0000"}, "this nirflow knows"),
        ({"store": "../../x"}, "store: String should match pattern"),
        ({"products": -1}, "products: Input should be greater"),
        ({"software": "x" * 2000}, "software"),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_refused(
    filled: tuple[StoreSettings, Path], refused, change: dict[str, object], match: str
) -> None:
    folder = filled[1]
    told = read_backup(folder)
    (folder / "backup.json").write_text(told.model_copy(update=change).model_dump_json())
    refused(folder, match)


@pytest.mark.parametrize("file", ["backup.json", "dump"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_file_that_is_none_is_refused(
    filled: tuple[StoreSettings, Path], refused, file: str, kind: str
) -> None:
    folder = filled[1]
    path = folder / (file if file != "dump" else read_backup(folder).dump)
    path.rename(folder / "elsewhere")
    if kind == "link":
        path.symlink_to(folder / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    refused(folder, "is no backup")


def test_a_manifest_of_any_size_is_not_read(
    filled: tuple[StoreSettings, Path], refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_folder, "_LONGEST_MANIFEST", 10)
    refused(filled[1], "is larger than")


@pytest.mark.parametrize("kind", ["link", "linked folder", "linked objects", "pipe", "longer", "other bytes"])
def test_only_the_bytes_of_a_product_come_in(
    filled: tuple[StoreSettings, Path], unused: StoreSettings, tmp_path: Path, kind: str
) -> None:
    """And only those that a product names: the rest of the folder is not looked at."""
    source, folder = filled
    with Store.open(source) as store:
        one, other = store.products()
    kept = LocalObjects(folder / "objects")
    path, secret = kept.path(one.sha256), tmp_path / "secret"
    extra = kept.path("a" * 64)
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"not a product's")
    secret.write_bytes(path.read_bytes())
    path.parent.chmod(0o755)
    if kind in ("link", "pipe"):
        path.unlink()
        path.symlink_to(secret) if kind == "link" else os.mkfifo(path)
    elif kind.startswith("linked"):
        linked = path.parent if kind == "linked folder" else folder / "objects"
        linked.rename(tmp_path / "moved")
        linked.symlink_to(tmp_path / "moved")
    else:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b"x" if kind == "longer" else b"y" * path.stat().st_size)
    told = restore(unused, folder)
    lost = {one.name} | (
        {other.name} if kind == "linked objects" or one.sha256[:2] == other.sha256[:2] else set()
    )
    if kind not in ("linked folder", "linked objects"):
        lost = {one.name}
    assert {name.split()[0] for name in told.lost} == lost
    with Store.open(unused) as restored:
        assert not restored.objects.exists("a" * 64)
        assert restored.get(one.id).damaged
        assert not restored.objects.exists(one.sha256)


# What has to work


def test_an_account_that_owns_the_database_and_nothing_else_restores(
    filled: tuple[StoreSettings, Path], settings: Settings, real_server: RealServer, facts, tmp_path: Path
) -> None:
    source, folder = filled
    user = real_server.account(f"ana_{os.getpid()}")
    target = settings(user=user, folder="target")
    name = database_of(target)
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {user}")
    try:
        told = restore(target, folder)
        assert told.products == 2
        with Store.open(source) as one, Store.open(target) as other:
            assert dumped(one) == dumped(other)
            # Numbers go on where those of the rows end.
            (tmp_path / "more").mkdir()
            assert len(fill(other, facts, tmp_path / "more", 4)) == 4
    finally:
        with real_server.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP OWNED BY {user}")
            connection.execute(f"DROP ROLE {user}")


def test_the_embedded_database_is_restored_by_its_own_role(
    filled: tuple[StoreSettings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = filled
    target = StoreSettings(data_dir=tmp_path / "new")
    try:
        postgres.ensure_running(target.data_dir)
        monkeypatch.setattr(
            postgres.PostgresAddress, "administer", lambda *_, **__: pytest.fail("the superuser was used")
        )
        restore(target, folder)
        with Store.open(source) as one, Store.open(target) as other:
            assert dumped(one) == dumped(other)
    finally:
        monkeypatch.undo()
        postgres.stop(target.data_dir)


def test_revisions_are_those_of_the_migrations() -> None:
    assert migrations.revisions()[-1] == migrations.HEAD
    assert migrations.revisions()[0] == "0001"
