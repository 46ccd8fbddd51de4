"""A complete store backed up and restored, on a server over TCP with passwords."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from real_server import RealServer
from server_store import Settings, database_of, dumped, fill
from sqlalchemy import create_engine

from calib_store import migrations
from calib_store.administration.backup import backup
from calib_store.administration.backup_folder import read_backup
from calib_store.administration.restore import restore
from calib_store.administration.schema_upkeep import initialise, state
from calib_store.curation.verify import verify
from calib_store.files.local_objects import LocalObjects
from calib_store.model.records import Product
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.services.catalogue_answers import Question
from imaging.errors import StoreError
from imaging.io.atomic import take_lock


def backed_up(
    settings: Settings, facts, folder: Path, number: int
) -> tuple[StoreSettings, StoreSettings, list]:
    """A store with some products, a backup of it in ``folder / "backup"``, and an empty store; and the products."""
    source, target = settings(), settings(folder="other")
    for one in (source, target):
        initialise(one)
    with Store.open(source) as store:
        made = fill(store, facts, folder, number)
    backup(source, folder / "backup")
    return source, target, made


def test_a_restored_backup_is_identical_row_by_row_and_byte_by_byte(
    settings: Settings, facts, tmp_path: Path, caplog: pytest.LogCaptureFixture, real_server: RealServer
) -> None:
    source, target = settings(), settings(folder="other")
    initialise(source)
    with caplog.at_level(logging.DEBUG), Store.open(source) as store:
        dark, _, image = fill(store, facts, tmp_path)
        store.set_status(dark, "certified", author="Ana", reason="good", validity=(facts().started, None))
        recorded = backup(source, tmp_path / "backup")
        assert (recorded.products, recorded.frames, recorded.lost, recorded.revision) == (
            3,
            3,
            (),
            migrations.HEAD,
        )
        assert read_backup(tmp_path / "backup") == recorded
        rows = dumped(store)
    initialise(target)  # created and never used: its tables are replaced
    assert restore(target, tmp_path / "backup") == recorded
    with Store.open(target) as other:
        assert dumped(other) == rows
        assert verify(other).well
        assert other.file_of(image).read_bytes() == b"product 2" * 500
        assert other.match(facts(), "dark").product == other.get(dark.id)
        with pytest.raises(StoreError, match="of the same configuration"):  # constraints were restored
            other.set_status(
                other.products("dark")[0], "certified", author="x", reason="", validity=(None, None)
            )
    written = "".join(p.read_text(errors="replace") for p in (tmp_path / "backup").glob("*.json"))
    assert real_server.passwords["admin"] not in caplog.text + written


def test_two_backups_to_one_folder_run_one_after_the_other(settings: Settings, facts, tmp_path: Path) -> None:
    """Each deletes what only an earlier one needs: at the same time they would leave no backup."""
    source, target, _ = backed_up(settings, facts, tmp_path, 2)
    folder = tmp_path / "backup"
    held = take_lock(folder / ".lock")
    assert held is not None
    before = sorted(path.name for path in folder.iterdir())
    with held, pytest.raises(StoreError, match=f"Another backup is being written to {folder}"):
        backup(source, folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    with Store.open(source) as store:
        fill(store, facts, tmp_path, 4)
    assert backup(source, folder) == read_backup(folder)
    assert restore(target, folder).products == 4


def test_a_backup_killed_before_it_wrote_anything_does_not_block_the_next(
    settings: Settings, facts, tmp_path: Path
) -> None:
    source = settings()
    initialise(source)
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / ".lock").touch()
    assert backup(source, tmp_path / "backup").products == 0


def test_the_password_is_not_in_the_list_of_processes(
    settings: Settings, facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_server: RealServer
) -> None:
    source = settings()
    initialise(source)
    commands: list[str] = []

    class Recorded(subprocess.Popen):
        def __init__(self, arguments, **options) -> None:
            commands.append(" ".join(map(str, arguments)))
            if "pg_restore" in commands[-1]:  # nor does it need a database
                assert real_server.passwords["admin"] not in str(options["env"])
            super().__init__(arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    backup(source, tmp_path / "backup")
    target = settings(folder="other")
    initialise(target)
    restore(target, tmp_path / "backup")
    assert [name for name in ("pg_dump", "pg_restore") if not any(name in line for line in commands)] == []
    assert not [line for line in commands if real_server.passwords["admin"] in line]


def test_a_second_backup_adds_what_is_new(settings: Settings, facts, tmp_path: Path) -> None:
    source = settings()
    initialise(source)
    folder = tmp_path / "backup"
    with Store.open(source) as store:
        fill(store, facts, tmp_path, 2)
        backup(source, folder)
        files = {p: p.stat().st_mtime_ns for p in folder.rglob("*.fits")}
        fill(store, facts, tmp_path, 4)
    recorded = backup(source, folder)
    assert recorded.products == 4
    assert len(list(folder.rglob("*.fits"))) == 4
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == [".lock"]


def test_lost_files_are_reported(settings: Settings, facts, tmp_path: Path) -> None:
    source = settings()
    initialise(source)
    with Store.open(source) as store:
        dark, _, _ = fill(store, facts, tmp_path)
        store.file_of(dark).unlink()
        recorded = backup(source, tmp_path / "backup")
    assert recorded.lost == (f"{dark.name} ({dark.sha256[:12]})",)
    target = settings(folder="other")
    initialise(target)
    assert restore(target, tmp_path / "backup").lost == recorded.lost
    with Store.open(target) as other:
        assert [f.condition for f in verify(other).findings] == ["missing"]
        assert other.get(dark.id).damaged


def test_a_store_that_holds_something_is_not_overwritten(settings: Settings, facts, tmp_path: Path) -> None:
    _, target, _ = backed_up(settings, facts, tmp_path, 2)
    with Store.open(target) as other:
        fill(other, facts, tmp_path, 1)
        before = dumped(other)
        with pytest.raises(
            StoreError, match="holds 1 frames and 1 products; a backup can only be restored to an empty"
        ):
            restore(target, tmp_path / "backup")
        assert dumped(other) == before


def test_a_store_that_came_into_use_while_files_were_copied_is_left_alone(
    settings: Settings, facts, tmp_path: Path
) -> None:
    _, target, _ = backed_up(settings, facts, tmp_path, 2)
    with Store.open(target) as other:
        came: list[Product] = []

        def come(_: str) -> None:
            if not came:
                (tmp_path / "late").mkdir()
                came.extend(fill(other, facts, tmp_path / "late", 1))

        with pytest.raises(StoreError, match="could not be restored") as caught:
            restore(target, tmp_path / "backup", progress=come)
        assert "meanwhile the store came into use" in str(caught.value)
        assert other.products() == tuple(came)


def test_files_missing_from_the_backup_are_reported_and_the_backup_is_unchanged(
    settings: Settings, facts, tmp_path: Path
) -> None:
    _, target, made = backed_up(settings, facts, tmp_path, 3)
    kept = LocalObjects(tmp_path / "backup" / "objects")
    kept.path(made[0].sha256).unlink()
    kept.path(made[1].sha256).chmod(0o644)
    kept.path(made[1].sha256).write_bytes(b"rot")
    before = sorted(path for path in (tmp_path / "backup").rglob("*"))
    recorded = restore(target, tmp_path / "backup")
    assert {one.split()[0] for one in recorded.lost} == {made[0].name, made[1].name}
    assert sorted(path for path in (tmp_path / "backup").rglob("*")) == before
    with Store.open(target) as other:
        assert [other.get(one.id).damaged for one in made] == [True, True, False]


def test_a_failed_backup_leaves_the_earlier_one_intact(
    settings: Settings, facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, _ = backed_up(settings, facts, tmp_path, 1)
    folder = tmp_path / "backup"
    first = read_backup(folder)
    with Store.open(source) as store:
        fill(store, facts, tmp_path, 2)

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("calib_store.administration.backup.write_complete", fail)
            with pytest.raises(StoreError, match="No space left on device"):
                backup(source, folder)
    assert read_backup(folder) == first
    assert restore(target, folder).products == 1
    second = backup(source, folder)
    assert [path.name for path in folder.glob("*.dump")] == [second.dump]
    assert second.dump != first.dump


@pytest.mark.parametrize("harm", ["dump", "manifest", "nothing there", "newer"])
def test_an_invalid_backup_changes_nothing(settings: Settings, facts, tmp_path: Path, harm: str) -> None:
    source, target, folder = settings(), settings(folder="other"), tmp_path / "backup"
    initialise(source)
    initialise(target)
    recorded = backup(source, folder)
    if harm == "dump":
        (folder / recorded.dump).write_bytes((folder / recorded.dump).read_bytes()[:-100])
    elif harm == "manifest":
        (folder / "backup.json").write_text('{"format": "else"}')
    elif harm == "newer":
        (folder / "backup.json").write_text(
            recorded.model_copy(update={"revision": "9999"}).model_dump_json()
        )
    else:
        (folder / "backup.json").unlink()
    with Store.open(target) as other:
        before = dumped(other)
        with pytest.raises(StoreError, match=r"damaged|not a backup|of version 9999"):
            restore(target, folder)
        assert dumped(other) == before


def test_a_backup_of_an_older_version_is_upgraded(settings: Settings, tmp_path: Path) -> None:
    source, target, folder = settings(), settings(folder="other"), tmp_path / "backup"
    initialise(source)
    recorded = backup(source, folder)
    old = settings(folder="old")
    url = old.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    with psycopg.connect(
        old.database_url.get_secret_value().rpartition("/")[0] + "/postgres", autocommit=True
    ) as c:
        c.execute(f"CREATE DATABASE {database_of(old)}")
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    environment = os.environ | {"PGPASSWORD": create_engine(url).url.password or ""}
    from calib_store.files.objects import file_sha256
    from calib_store.server import postgres

    subprocess.run(
        [str(postgres.program("pg_dump")), "--format=custom", "--no-owner", f"--file={folder / 'old.dump'}",
         "--host=127.0.0.1", f"--port={engine.url.port}", "--username=admin", database_of(old)],
        env=environment, check=True,
    )  # fmt: skip
    changed = recorded.model_copy(
        update={"revision": "0001", "dump_sha256": file_sha256(folder / "old.dump"), "store": ""}
    )
    (folder / "old.dump").rename(folder / changed.dump)
    (folder / "backup.json").write_text(changed.model_dump_json())
    initialise(target)
    restore(target, folder)
    assert state(target).revision == migrations.HEAD
    with Store.open(target) as store:
        assert store.products() == ()


def test_targets_that_hold_something_else(settings: Settings, tmp_path: Path) -> None:
    source = settings()
    initialise(source)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    for target in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(StoreError, match="something other than a backup"):
            backup(source, target)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "notes"


def test_damaged_bright_pixels_are_refused(settings: Settings, facts, tmp_path: Path) -> None:
    """A row that no reduction could read would stop every later one."""
    source, target = settings(), settings(folder="other")
    for one in (source, target):
        initialise(one)
    with Store.open(source) as store:
        fill(store, facts, tmp_path, 2)
        with store.database.begin() as connection:
            connection.exec_driver_sql("UPDATE bright_pixels SET pixels = '\\x01'")
    backup(source, tmp_path / "backup")
    with pytest.raises(StoreError, match="a row of bright_pixels that cannot be read"):
        restore(target, tmp_path / "backup")


def test_answers_of_services_are_restored_and_damaged_ones_refused(
    settings: Settings, facts, tmp_path: Path
) -> None:
    source, good, bad = settings(), settings(folder="good"), settings(folder="bad")
    for one in (source, good, bad):
        initialise(one)
    question = Question("vizier", "II/246/out", 63.49, -47.84, 0.2)
    with Store.open(source) as store:
        fill(store, facts, tmp_path, 2)
        answer = store.answers.add(question, b"stars\n" * 1000)
    backup(source, tmp_path / "backup")
    restore(good, tmp_path / "backup")
    with Store.open(good) as store:
        assert store.answers.find(question) == answer
    with Store.open(source) as store, store.database.begin() as connection:
        connection.exec_driver_sql("UPDATE catalogue_answers SET answer = '\\x01'")
    backup(source, tmp_path / "damaged")
    with pytest.raises(StoreError, match="a row of catalogue_answers that cannot be read"):
        restore(bad, tmp_path / "damaged")
