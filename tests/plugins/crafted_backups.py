"""Backups crafted to harm a user who restores them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from calib_store.administration.backup_folder import Backup
from calib_store.files.objects import file_sha256
from calib_store.libpq import program_environment
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres

#: A value that a test finds in the dump and replaces by others of the same length.
MARK = "MARK" * 30


def url_of(settings: StoreSettings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def execute(settings: StoreSettings, *statements: str) -> None:
    with psycopg.connect(url_of(settings), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def dump_again(settings: StoreSettings, folder: Path, *options: str) -> None:
    """Replace the dump of a backup by a new dump of a database, as its author could."""
    new = folder / "new.dump"
    subprocess.run(
        [str(postgres.program("pg_dump")), "--format=custom", "--no-owner", "--no-privileges", f"--file={new}",
         *options],
        env=program_environment(make_url(url_of(settings)).set(drivername="postgresql+psycopg")), check=True,
    )  # fmt: skip
    take(folder, new)


def take(folder: Path, new: Path) -> None:
    reported = Backup.model_validate_json((folder / "backup.json").read_bytes())
    (folder / reported.dump).unlink()
    changed = reported.model_copy(update={"dump_sha256": file_sha256(new)})
    new.rename(folder / changed.dump)
    (folder / "backup.json").write_text(changed.model_dump_json())
