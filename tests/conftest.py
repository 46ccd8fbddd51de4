"""Fixtures for all tests: one embedded server for a session, one clean database for a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from clean_databases import CleanDatabases

    from calib_store.model.settings import StoreSettings
    from calib_store.server.postgres import PostgresAddress
    from calib_store.store import Store
    from calib_store.tables.database import Database

pytest_plugins = [
    "foreign_server",
    "prefect_server",
    "real_server",
    "receivers",
    "s3_server",
    "service_up",
    "store_records",
]

# How long an example takes depends on what else the machine does.
settings.register_profile("nirflow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nirflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes longest first, so that no process is left alone with it: services, which wait for events, and
    other reductions.
    """
    folder = Path(__file__).with_name("e2e")
    with_services = {item.path for item in items if "service" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (folder not in item.path.parents, item.path not in with_services))


_TEMPLATE = "nirflow_template"
#: Accounts of the session's server: what a pipeline and a reader log in as.
PIPELINE_USER, READER_USER = "test_pipeline", "test_reader"


@pytest.fixture(scope="session", autouse=True)
def _own_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test away from the user's own store and settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("NIRFLOW_")]:
            patch.delenv(name)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("xdg")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def postgres_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data folder of the session's embedded server, which runs."""
    from calib_store.server import postgres

    folder = tmp_path_factory.mktemp("pg")
    address = postgres.ensure_running(folder)
    with address.administer() as connection:
        # The tests do not cut the power, and syncing makes each new database three times as slow.
        connection.execute("ALTER SYSTEM SET fsync = off")
        # Emptied databases are soon used again, as if they had just been made.
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    yield folder
    postgres.stop(folder)


@pytest.fixture(scope="session")
def postgres_address(postgres_data_dir: Path) -> PostgresAddress:
    """Address of the session's server, with a migrated template database."""
    from calib_store.migrations import migrate
    from calib_store.server import postgres
    from calib_store.tables.database import Database

    address = postgres.ensure_running(postgres_data_dir)
    with address.administer() as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE} OWNER nirflow")
    database = Database(address.url(_TEMPLATE))
    migrate(database.engine)
    database.close()
    with address.administer() as connection:
        connection.execute(f"CREATE ROLE {PIPELINE_USER} LOGIN IN ROLE nirflow_pipeline")
        connection.execute(f"CREATE ROLE {READER_USER} LOGIN IN ROLE nirflow_reader")
    return address


@pytest.fixture(scope="session")
def clean_databases(postgres_address: PostgresAddress) -> CleanDatabases:
    """Migrated databases without records."""
    from clean_databases import CleanDatabases

    return CleanDatabases(postgres_address, _TEMPLATE)


@pytest.fixture
def owner_url(postgres_address: PostgresAddress, clean_databases: CleanDatabases) -> Iterator[str]:
    """URL of a clean, migrated database for the owner of its tables."""
    with clean_databases.one() as name:
        yield postgres_address.url(name).render_as_string(hide_password=False)


@pytest.fixture
def database_url(owner_url: str) -> str:
    """URL of the same database for a pipeline, which may do what a reduction needs and nothing else."""
    return as_user(owner_url, PIPELINE_USER)


@pytest.fixture
def owner(owner_url: str) -> Iterator[Database]:
    """The same database for its owner: for what a test does behind the store's back."""
    from calib_store.tables.database import Database

    database = Database(owner_url)
    yield database
    database.close()


def as_user(url: str, user: str) -> str:
    """The URL for another account of the server."""
    from sqlalchemy import make_url

    return make_url(url).set(username=user).render_as_string(hide_password=False)


@pytest.fixture
def store_settings(database_url: str, tmp_path: Path) -> StoreSettings:
    """Settings of an empty store of the test's own."""
    from calib_store.model.settings import StoreSettings

    return StoreSettings(data_dir=tmp_path / "data", database_url=database_url)


@pytest.fixture
def store(store_settings: StoreSettings) -> Iterator[Store]:
    """An empty store of the test's own."""
    from calib_store.store import Store

    with Store.open(store_settings) as opened:
        yield opened
