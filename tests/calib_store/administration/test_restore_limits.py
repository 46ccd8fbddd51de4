"""Backups that unpack to too much or whose files lead elsewhere, and what must work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from crafted_backups import dump_again, execute
from real_server import RealServer
from server_store import Settings, database_of, dumped, fill

from calib_store import migrations
from calib_store.administration import backup_folder, dump
from calib_store.administration.backup_folder import read_backup
from calib_store.administration.restore import restore
from calib_store.files.local_objects import LocalObjects
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.server.account import RESERVED
from calib_store.store import Store
from imaging.errors import StoreError

pytestmark = pytest.mark.long

# Too much


def test_a_dump_that_unpacks_to_too_much_is_refused(
    source: StoreSettings, folder: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(source, "UPDATE frames SET target = repeat('x', 30000000)")
    dump_again(source, folder)
    monkeypatch.setattr(dump, "_FREE", 1_000_000)
    refused(folder, "unpacks to more than 200 times as much")
    monkeypatch.undo()
    monkeypatch.setattr(dump, "_LONGEST_ROW", 1_000_000)
    refused(folder, "has a row of frames of more than 0 MB")


def test_the_unpacking_process_has_limited_memory_and_time(
    folder: Path, refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
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


def test_the_unpacking_process_has_no_rights(
    folder: Path, unused: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secrets, no files written; for root a different account, without capabilities, that runs nothing else."""
    spy = Path("/tmp") / f"nirflow-spy-{os.getpid()}"
    spy.write_text(
        '#!/bin/sh\nexec >&2\necho "error: $(id -u) $(env | tr "\\n" " ") $(grep CapEff /proc/self/status)"\nexit 1\n'
    )
    spy.chmod(0o755)
    monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "observer:secret")
    try:
        monkeypatch.setattr(dump, "program_for", lambda *_: spy)
        with pytest.raises(StoreError, match="cannot be unpacked") as caught:
            restore(unused, folder)
    finally:
        spy.unlink()
    recorded = str(caught.value)
    assert "secret" not in recorded
    assert "PATH=" in recorded
    if os.geteuid() == 0:
        # Which of them is spare depends on what else runs on the machine.
        (number,) = re.findall(r"error: (\d+) ", recorded)
        assert int(number) in RESERVED


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
    folder: Path, refused, change: dict[str, object], match: str
) -> None:
    recorded = read_backup(folder)
    (folder / "backup.json").write_text(recorded.model_copy(update=change).model_dump_json())
    refused(folder, match)


@pytest.mark.parametrize("file", ["backup.json", "dump"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_anything_but_a_regular_file_is_refused(folder: Path, refused, file: str, kind: str) -> None:
    path = folder / (file if file != "dump" else read_backup(folder).dump)
    path.rename(folder / "elsewhere")
    if kind == "link":
        path.symlink_to(folder / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    refused(folder, "is not a backup")


def test_a_manifest_that_is_too_large_is_not_read(
    folder: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_folder, "_LONGEST_MANIFEST", 10)
    refused(folder, "is larger than")


@pytest.mark.parametrize("kind", ["link", "linked folder", "linked objects", "pipe", "longer", "other bytes"])
def test_only_the_files_of_products_are_restored(
    source: StoreSettings, folder: Path, unused: StoreSettings, tmp_path: Path, kind: str
) -> None:
    """Only files named by a product are read: the rest of the folder is ignored."""
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
    recorded = restore(unused, folder)
    lost = {one.name} | (
        {other.name} if kind == "linked objects" or one.sha256[:2] == other.sha256[:2] else set()
    )
    if kind not in ("linked folder", "linked objects"):
        lost = {one.name}
    assert {name.split()[0] for name in recorded.lost} == lost
    with Store.open(unused) as restored:
        assert not restored.objects.exists("a" * 64)
        assert restored.get(one.id).damaged
        assert not restored.objects.exists(one.sha256)


# What must work


def test_an_account_that_owns_the_database_and_nothing_else_restores(
    source: StoreSettings, folder: Path, settings: Settings, real_server: RealServer, facts, tmp_path: Path
) -> None:
    user = real_server.account(f"ana_{os.getpid()}")
    target = settings(user=user, folder="target")
    name = database_of(target)
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {user}")
    try:
        recorded = restore(target, folder)
        assert recorded.products == 2
        with Store.open(source) as one, Store.open(target) as other:
            assert dumped(one) == dumped(other)
            # Numbers continue after those of the rows.
            (tmp_path / "more").mkdir()
            assert len(fill(other, facts, tmp_path / "more", 4)) == 4
    finally:
        with real_server.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP OWNED BY {user}")
            connection.execute(f"DROP ROLE {user}")


def test_the_embedded_database_is_restored_by_its_own_role(
    source: StoreSettings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
