"""Fixtures for tests of administration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crafted_backups import MARK, dump_again, execute
from pydantic import SecretStr
from real_server import RealServer
from server_store import Settings, database_of, dumped, fill

from calib_store.administration.backup import backup
from calib_store.administration.restore import restore
from calib_store.administration.schema_upkeep import initialise
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from imaging.errors import StoreError


@pytest.fixture(scope="module")
def templates(
    real_server: RealServer, facts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, StoreSettings, Path]]:
    """A template database with a store, an unused store, and a backup whose dump can be edited."""
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
    yield names[0], unused, folder / "backup"
    with real_server.connect() as connection:
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def folder(templates: tuple[str, StoreSettings, Path], tmp_path: Path) -> Path:
    """A backup, which may be changed."""
    return Path(shutil.copytree(templates[2], tmp_path / "backup"))


@pytest.fixture
def source(
    settings: Settings, real_server: RealServer, templates: tuple[str, StoreSettings, Path]
) -> StoreSettings:
    """The store of the backup, which may be changed."""
    made = settings()
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(made)} TEMPLATE {templates[0]}")
    return made


@pytest.fixture
def unused(
    settings: Settings, real_server: RealServer, templates: tuple[str, StoreSettings, Path]
) -> StoreSettings:
    """A store that was created and never used."""
    target = settings(folder="target")
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(target)} TEMPLATE {database_of(templates[1])}")
    return target


@pytest.fixture
def refused(templates: tuple[str, StoreSettings, Path]) -> Callable[..., StoreError]:
    """Restore a backup to an unused store, which must stay unchanged, and return the error."""
    target = templates[1]

    def attempt(folder: Path, match: str) -> StoreError:
        with Store.open(target) as store:
            before = dumped(store)
            with pytest.raises(StoreError, match=match) as caught:
                restore(target, folder)
            assert dumped(store) == before
            assert store.products() == ()
        return caught.value

    return attempt
