from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from server_store import fill
from sqlalchemy import create_engine, event, text
from waiting import PATIENCE

from calib_store import migrations
from calib_store.files.local_objects import LocalObjects
from calib_store.model.settings import StoreSettings
from calib_store.rules.rules_toml import shipped_rules
from calib_store.store import Store
from calib_store.tables.database import Database
from calib_store.tables.schema import metadata
from calib_store.tables.services.catalogue_answers import Question
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
    # Alembic does not compare checks and exclusions: compare the server's description of both.
    with postgres_address.administer() as connection:
        connection.execute("CREATE DATABASE by_models OWNER nirflow")
    engine = create_engine(postgres_address.url("by_models"))
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert _constraints(connection) == migrated
    engine.dispose()
    assert {name for name, _ in migrated} >= {"products_certified_once", "products_validity_check"}


def test_at_head_two_queries_are_enough(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert migrations.migrate(database.engine) is False
    assert len(statements) == 2
    assert statements[0] == "SELECT version_num FROM alembic_version"
    assert "rule_changes" in statements[1]


def _empty(postgres_address, name: str) -> str:
    with postgres_address.administer() as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER nirflow")
    return postgres_address.url(name).render_as_string(hide_password=False)


def test_processes_that_migrate_at_once(postgres_address, python) -> None:
    url = _empty(postgres_address, "empty_for_four")
    script = """
        import sys
        from calib_store.tables.database import Database
        from calib_store.migrations import migrate
        migrate(Database(sys.argv[1]).engine)
    """
    processes = [python(script, url) for _ in range(4)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    engine = create_engine(url)
    assert migrations.current_revision(engine) == migrations.HEAD
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM rule_changes")) == 1
    engine.dispose()


@pytest.mark.parametrize("revision", ["9999", "zzzz"])
def test_tables_of_a_newer_version_are_refused(database: Database, owner: Database, revision: str) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    for refused in (migrations.migrate, migrations.require_head):
        with pytest.raises(StoreError, match="does not know") as caught:
            refused(owner.engine)
        assert "Update nirflow" in caught.value.remedy


def test_only_the_owner_creates_and_migrates_a_named_database(
    postgres_address, tmp_path: Path, owner: Database, owner_url: str
) -> None:
    """A store at a URL does not change tables automatically, and reports who must."""
    empty = _empty(postgres_address, "empty_and_named")
    with pytest.raises(StoreError, match="no calibration store yet") as caught:
        Store.open(StoreSettings(data_dir=tmp_path, database_url=SecretStr(empty)))
    assert "nirflow cal init" in caught.value.remedy
    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(StoreError, match="of version 0001") as caught:
        Store.open(StoreSettings(data_dir=tmp_path, database_url=SecretStr(owner_url)))
    assert "nirflow cal migrate" in caught.value.remedy


def test_a_failed_migration_leaves_everything_as_it_was(
    postgres_address, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(_empty(postgres_address, "half_migrated"))

    def fail(connection) -> bool:
        raise StoreError("no")

    monkeypatch.setattr(migrations, "take_over_shipped", fail)
    with pytest.raises(StoreError, match="no"):
        migrations.migrate(engine)
    assert migrations.current_revision(engine) is None
    monkeypatch.undo()
    assert migrations.migrate(engine) is True
    engine.dispose()


# A filled database of the first version: a dark certified in 2013, a rejected flat, a published mask, and an image.
_FILLED = """
    INSERT INTO configurations (id, digest, rule, kind, keys) OVERRIDING SYSTEM VALUE VALUES
        (1, 'a', 'dark', 'dark', :dark), (2, 'b', 'flat', 'flat', :flat), (3, 'c', 'static bpm', 'bpm', :bpm);
    INSERT INTO frames (sha256, name, kind, facts) VALUES (repeat('1', 64), 'S1.fits', 'dark', '{}');
    INSERT INTO products (id, recipe_key, kind, name, sha256, size, configuration_id, status, validity, span_start,
        span_end, middle, facts, metrics, parameters, algorithm_version, software_version, preview)
    SELECT lpad(n::text, 32, '0')::uuid, repeat(n::text, 64), kind, 'S' || n || '.fits', repeat(n::text, 64), 1,
        configuration, status, validity, :m, :m, :m, CAST(:facts AS jsonb), '{}', '{}', '1', 'nirflow 0.1.0', 'x.png'
    FROM (VALUES (1, 'dark', 1, 'certified', tstzrange('2013-01-01', '2014-01-01')),
                 (2, 'flat', 2, 'rejected', NULL), (3, 'bpm', 3, 'candidate', NULL),
                 (4, 'image', NULL, 'candidate', NULL)) p (n, kind, configuration, status, validity);
    INSERT INTO status_history (product_id, status, author, reason)
        SELECT id, status, 'Ana', 'made' FROM products;
    INSERT INTO inputs (product_id, ordinal, role, frame_sha256)
        SELECT id, 0, 'dark', repeat('1', 64) FROM products WHERE kind = 'dark';
    INSERT INTO inputs (product_id, ordinal, role, input_product_id)
        SELECT i.id, 0, 'dark', d.id FROM products i, products d WHERE i.kind = 'image' AND d.kind = 'dark';
    INSERT INTO decisions (frame_sha256, kind, product_id, rules_version, candidates)
        SELECT repeat('1', 64), 'dark', id, 'f2-imaging-2', '[]' FROM products WHERE kind IN ('dark', 'flat')
"""


def test_a_filled_database_is_upgraded_completely(postgres_address, tmp_path: Path, facts) -> None:
    """Promise 6."""
    url = _empty(postgres_address, "filled_at_0001")
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        old = {rule.name: json.dumps(rule.keys_of(facts())) for rule in shipped_rules().rules}
        values = {"dark": old["dark"], "flat": old["flat"], "bpm": old["bpm"], "m": facts().middle}
        for statement in _FILLED.split(";"):
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            if ":facts" in statement:
                used["facts"] = facts().model_dump_json()
            connection.execute(text(statement), used)
    assert migrations.migrate(engine) is True
    assert migrations.migrate(engine) is False
    engine.dispose()

    settings = StoreSettings(data_dir=tmp_path, database_url=SecretStr(url))
    with Store.open(settings) as store:
        store._is_intact = lambda product: True  # type: ignore[method-assign]  # there are no files here
        kinds = {product.kind: product for product in store.products()}
        assert {kind: p.status for kind, p in kinds.items()} == {
            "dark": "certified", "flat": "rejected", "bpm": "candidate", "image": "candidate",
        }  # fmt: skip
        assert [kind for kind, p in kinds.items() if p.published] == ["bpm"]
        assert kinds["bpm"].rule == "static bpm"
        assert store.match(facts(), "dark").product == kinds["dark"]
        assert store.match(facts(), "bpm").product == kinds["bpm"]
        assert store.match(facts(), "flat").product is None
        assert store.lineage(kinds["image"]).frames == ("1" * 64,)
        assert store.affected(kinds["dark"]) == (kinds["image"],)
        assert store.rules().version == shipped_rules().version


# What the versions since 0007 added.
_BACK_TO_0007 = """
    ALTER TABLE frames DROP COLUMN in_run;
    DROP INDEX frames_quarantined_idx;
    DROP TABLE catalogue_answers;
    UPDATE alembic_version SET version_num = '0007'
"""
# A run over the night of all frames; one of them arrived after it.
_RUN = """
    INSERT INTO runs (id, nights, flow, waits_for, started, ended, report)
    VALUES (gen_random_uuid(), ARRAY[CAST('2013-11-21' AS date)], 'night', '{}', now(), clock_timestamp(), '{}');
    UPDATE frames SET added_at = clock_timestamp() + interval '1 hour' WHERE name = 'S2.fits'
"""


def test_a_filled_store_of_an_earlier_version_keeps_its_rows_and_gets_what_is_new(
    postgres_address, tmp_path: Path, facts
) -> None:
    url = _empty(postgres_address, "filled_at_0007")
    settings = StoreSettings(data_dir=tmp_path, database_url=SecretStr(url))
    engine = create_engine(url)
    assert migrations.migrate(engine) is True
    filled = Store(Database(url), LocalObjects(tmp_path / "objects"))
    fill(filled, facts, tmp_path)
    with engine.begin() as connection:
        for statement in f"{_RUN};{_BACK_TO_0007}".split(";"):
            connection.execute(text(statement))
    before = [name for name in metadata.tables if name not in ("catalogue_answers", "frames")]
    rows = {name: rows_of(filled, name) for name in before}
    assert len(rows["products"]) == len(rows["bright_pixels"]) == 3
    filled.close()

    assert migrations.migrate(engine) is True
    engine.dispose()
    with Store.open(settings) as store:
        assert {name: rows_of(store, name) for name in before} == rows
        question = Question("vizier", "II/246/out", 63.49, -47.84, 0.2)
        assert store.answers.find(question) is None
        assert store.answers.find(store.answers.add(question, b"stars").question) is not None
        with store.database.begin() as connection:
            had = dict(connection.execute(text("SELECT name, in_run FROM frames")).tuples().all())
    assert had == {"S0.fits": True, "S1.fits": True, "S2.fits": False}


def rows_of(store: Store, table: str) -> list[str]:
    with store.database.begin() as connection:
        return sorted(map(str, connection.execute(text(f"SELECT * FROM {table}")).all()))
