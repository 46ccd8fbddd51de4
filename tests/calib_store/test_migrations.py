from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from calib_store import migrations
from calib_store.database import Database
from calib_store.models import metadata
from imaging.errors import StoreError


@pytest.fixture
def database(database_url: str):
    opened = Database(database_url)
    yield opened
    opened.close()


def _constraints(connection) -> set[tuple[str, str]]:
    found = connection.execute(
        text(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid::regclass::text = ANY(:t)"
        ),
        {"t": list(metadata.tables)},
    )
    return {(name, definition) for name, definition in found}


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_models_and_migrations_make_the_same_tables(database: Database, postgres_address) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = _constraints(connection)
    # Checks and exclusions are not compared by alembic: compare what the server says of both.
    with postgres_address.connect("postgres") as connection:
        connection.execute("CREATE DATABASE by_models")
    engine = create_engine(postgres_address.url("by_models"))
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert _constraints(connection) == migrated
    engine.dispose()
    assert {name for name, _ in migrated} >= {"products_certified_once", "products_validity_check"}


def test_at_head_one_query_is_enough(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert migrations.migrate(database.engine) is False
    assert statements == ["SELECT version_num FROM alembic_version"]


def test_processes_that_migrate_at_once(postgres_address, python) -> None:
    with postgres_address.connect("postgres") as connection:
        connection.execute("CREATE DATABASE empty_for_four")
    url = postgres_address.url("empty_for_four").render_as_string(hide_password=False)
    script = """
        import sys
        from calib_store.database import Database
        Database(sys.argv[1]).migrate()
    """
    processes = [python(script, url) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    engine = create_engine(url)
    assert migrations.current_revision(engine) == migrations.HEAD
    engine.dispose()


def test_tables_of_a_newer_version_are_refused(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="does not know") as caught:
        database.migrate()
    assert "Update nirflow" in caught.value.remedy
