from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from calib_store.migrations import HEAD

Run = Callable[..., Result]
Add = Callable[..., dict[str, Any]]


@pytest.fixture
def as_owner(own_store: None, owner_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the command line as the owner of the store."""
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", owner_url)


def objects(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "objects").glob("*/*.fits"))


def test_verify_and_repair(nirflow: Run, added: Add, tmp_path: Path) -> None:
    dark = added()
    good = nirflow("cal", "verify")
    assert good.exit_code == 0
    assert "1 product (" in good.stdout
    (path,) = objects(tmp_path)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"\x01")
    bad = nirflow("cal", "verify")
    assert bad.exit_code == 4
    assert dark["id"][:8] in bad.stdout
    assert "damaged" in bad.stdout
    assert "--repair" in bad.stdout
    for options, told_ in (
        (("--copies", tmp_path), "--copies is for repairs"),
        (("--note-lost", "1"), "--note-lost is for repairs"),
        (("--repair", "--copies", tmp_path / "copies"), "no such folder"),
    ):
        refused = nirflow("cal", "verify", *options)
        assert refused.exit_code == 2
        assert told_ in refused.stderr
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "x.fits").write_bytes(content)
    mended = nirflow("cal", "verify", "--repair", "--copies", tmp_path / "copies", "--json")
    assert mended.exit_code == 0
    reported = json.loads(mended.stdout)
    assert [finding["done"] for finding in reported["findings"]] == ["replaced"]
    assert len(reported["leftovers"]) == 1
    assert nirflow("cal", "verify", "--quiet").exit_code == 0


def test_files_of_an_unmounted_disk_are_recorded_as_lost_only_on_confirmation(
    nirflow: Run, added: Add, tmp_path: Path
) -> None:
    dark = added()
    folder = tmp_path / "data" / "objects"
    folder.rename(tmp_path / "disk")
    folder.mkdir()
    seen = nirflow("cal", "verify")
    assert seen.exit_code == 4
    assert "holds no file of any product" in " ".join(seen.stdout.split())
    assert "--repair --note-lost 1" in " ".join(seen.stdout.split())
    refused = nirflow("cal", "verify", "--repair")
    assert refused.exit_code == 1
    assert "Nothing was changed" in refused.stderr
    assert f"{dark['name']} ({dark['id'][:8]})" in refused.stderr
    assert json.loads(nirflow("cal", "verify", "--json").stdout)["missing"] == 1
    assert nirflow("cal", "show", dark["id"]).exit_code == 0
    folder.rmdir()
    (tmp_path / "disk").rename(folder)
    assert nirflow("cal", "verify").exit_code == 0
    (tmp_path / "disk").mkdir()
    folder.rename(tmp_path / "disk" / "really lost")
    noted = nirflow("cal", "verify", "--repair", "--note-lost", "1", "--json")
    assert [finding["done"] for finding in json.loads(noted.stdout)["findings"]] == ["noted"]


def test_gc_lists_and_then_removes(nirflow: Run, added: Add, tmp_path: Path) -> None:
    added()
    orphan = tmp_path / "data" / "objects" / "ab" / f"{'ab' * 32}.fits"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 5000)
    assert nirflow("cal", "gc", "--dry-run").stdout == "Would remove: 0 files, 0 bytes.\n"
    listed = nirflow("cal", "gc", "--dry-run", "--grace", "0")
    assert listed.stdout.splitlines()[1].split() == ["orphan", "5000", "bytes", f"ab/{'ab' * 32}.fits"]
    assert orphan.exists()
    reported = json.loads(nirflow("cal", "gc", "--grace", "0", "--json").stdout)
    assert (reported["removed"], reported["bytes"]) == (1, 5000)
    assert not orphan.exists()
    assert nirflow("cal", "verify").exit_code == 0


@pytest.mark.usefixtures("as_owner")
def test_status_init_and_migrate(nirflow: Run) -> None:
    reported = json.loads(nirflow("cal", "status", "--json").stdout)
    assert (reported["revision"], reported["usable"], reported["account"]) == (HEAD, True, "owner")
    shown = nirflow("cal", "status")
    assert shown.exit_code == 0
    assert f"version {HEAD}" in shown.stdout
    assert "nothing changed" in nirflow("cal", "init").stdout
    assert "already" in nirflow("cal", "migrate").stdout
    for command in ("init", "migrate"):
        assert json.loads(nirflow("cal", command, "--json").stdout)["revision"] == HEAD


def test_the_embedded_store_is_created_by_the_first_command(
    nirflow: Run, postgres_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIRFLOW_DATABASE_URL", raising=False)
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(postgres_data_dir))
    shown = nirflow("cal", "status")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"version {HEAD}" in shown.stdout


@pytest.mark.usefixtures("as_owner")
def test_status_of_a_store_that_needs_attention(nirflow: Run, owner: Any) -> None:
    from sqlalchemy import text

    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    result = nirflow("cal", "status")
    assert result.exit_code == 4
    assert "nirflow cal migrate" in result.stderr
    refused = nirflow("cal", "list")
    assert refused.exit_code == 1
    assert "nirflow cal migrate" in refused.stderr


@pytest.mark.usefixtures("as_owner")
def test_backup_and_restore(
    nirflow: Run, added: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = added()
    done = nirflow("cal", "backup", tmp_path / "backup")
    assert done.exit_code == 0
    assert done.stdout.startswith("1 product and the rows of 0 raw frames")
    full = nirflow("cal", "restore", tmp_path / "backup")
    assert full.exit_code == 1
    assert "can only be restored to an empty one" in full.stderr
    # Into a data folder with an embedded database of its own.
    monkeypatch.delenv("NIRFLOW_DATABASE_URL")
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "new"))
    try:
        back = nirflow("cal", "restore", tmp_path / "backup", "--json")
        assert back.exit_code == 0, back.stderr
        assert json.loads(back.stdout)["products"] == 1
        (product,) = json.loads(nirflow("cal", "list", "--json").stdout)
        assert product["id"] == dark["id"]
        assert nirflow("cal", "verify").exit_code == 0
    finally:
        from calib_store.server import postgres

        postgres.stop(tmp_path / "new")


@pytest.mark.usefixtures("as_owner")
def test_a_backup_reports_missing_files(nirflow: Run, added: Add, tmp_path: Path) -> None:
    added()
    objects(tmp_path)[0].unlink()
    result = nirflow("cal", "backup", tmp_path / "backup")
    assert result.exit_code == 4
    assert "its file is lost" in result.stderr
    nothing = nirflow("cal", "restore", tmp_path)
    assert nothing.exit_code == 1
    assert "is not a backup" in nothing.stderr
