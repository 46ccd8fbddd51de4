"""A store on a server over TCP, with passwords: created, and used with few rights."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr
from real_server import RealServer
from server_store import Settings, database_of, dumped, fill
from sqlalchemy import text

from calib_store import migrations
from calib_store.administration.backup import backup
from calib_store.administration.schema_upkeep import bring_up_to_date, initialise, state
from calib_store.curation.verify import verify
from calib_store.migrations.roles import PIPELINE, READER, make_roles
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.database import Database
from imaging.errors import StoreError


def test_init_makes_database_tables_roles_and_rules_and_is_safe_to_repeat(
    settings: Settings, facts, tmp_path: Path
) -> None:
    named = settings()
    made = initialise(named)
    assert (made.database_made, made.before, made.revision) == (True, None, migrations.HEAD)
    assert made.missing_roles == ()
    assert Path(made.objects).is_dir()
    with Store.open(named) as store:
        fill(store, facts, tmp_path)
        before = dumped(store)
        again = initialise(named)
        assert (again.database_made, again.before) == (False, migrations.HEAD)
        assert bring_up_to_date(named).before == migrations.HEAD
        assert dumped(store) == before


def test_init_when_the_database_cannot_be_created(real_server: RealServer, settings: Settings) -> None:
    poor = real_server.account(f"poor_{uuid.uuid4().hex[:6]}")
    with pytest.raises(StoreError, match="does not exist and cannot be created: permission denied") as caught:
        initialise(settings(poor))
    assert "CREATE DATABASE" in caught.value.remedy
    assert real_server.passwords[poor] not in str(caught.value)
    named = settings()
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(named)}")
    with pytest.raises(StoreError, match="no calibration store yet"):
        bring_up_to_date(named)


def test_the_error_of_a_wrong_password_does_not_contain_it(real_server: RealServer, tmp_path: Path) -> None:
    url = f"postgresql://admin:wrong-hush@127.0.0.1:{real_server.port}/postgres"
    wrong = StoreSettings(data_dir=tmp_path, database_url=SecretStr(url))
    for act in (
        lambda: Store.open(wrong),
        lambda: initialise(wrong),
        lambda: state(wrong),
        lambda: backup(wrong, tmp_path / "b"),
    ):
        with pytest.raises(StoreError, match="password authentication failed") as caught:
            act()
        assert "hush" not in str(caught.value) + repr(caught.value)


def test_a_pipeline_may_do_what_a_reduction_needs_and_no_more(
    real_server: RealServer, settings: Settings, facts, tmp_path: Path
) -> None:
    owner = settings()
    initialise(owner)
    account = real_server.account(f"pipeline_{uuid.uuid4().hex[:6]}", PIPELINE)
    with Store.open(settings(account, database_of(owner))) as store:
        dark, _, _ = fill(store, facts, tmp_path)
        assert store.match(facts(), "dark").product is not None
        store.set_status(dark, "certified", author="me", reason="", validity=(None, None))
        for statement in (
            "DELETE FROM products", "DELETE FROM frames", "TRUNCATE decisions", "DROP TABLE inputs",
            "UPDATE status_history SET author = 'x'", "UPDATE products SET recipe_key = 'x'", "DELETE FROM inputs",
            "UPDATE decisions SET product_id = NULL", "CREATE TABLE t (x int)", "INSERT INTO rule_changes (version, "
            "author, reason) VALUES ('x', 'x', 'x')", "UPDATE frames SET sha256 = 'x'", "DELETE FROM frame_history",
        ):  # fmt: skip
            with (
                pytest.raises(StoreError, match=r"permission denied|must be owner"),
                store.database.begin() as c,
            ):
                c.execute(text(statement))
    assert state(settings(account, database_of(owner))).account == "pipeline"
    assert state(owner).account == "owner"


def test_a_reader_may_look_and_nothing_else(
    real_server: RealServer, settings: Settings, facts, tmp_path: Path
) -> None:
    owner = settings()
    initialise(owner)
    with Store.open(owner) as store:
        dark, other, image = fill(store, facts, tmp_path)
    account = real_server.account(f"reader_{uuid.uuid4().hex[:6]}", READER)
    reading = settings(account, database_of(owner))
    with Store.open(reading) as store:
        assert len(store.products()) == 3
        assert store.match(facts(), "dark").product in (dark, other)
        assert len(store.explain(facts(), "dark").candidates) == 2
        assert len(store.lineage(image).frames) == 3
        assert store.affected(dark) == (other, image)
        assert store.file_of(dark).is_file()
        assert verify(store).well
        for act in (
            lambda: store.set_status(dark, "rejected", author="me", reason="x"),
            lambda: fill(store, facts, tmp_path, 4),
        ):
            with pytest.raises(StoreError, match="permission denied") as caught:
                act()
            assert PIPELINE in caught.value.remedy
        # A reader cannot record damage, which does not prevent anything else.
        store.file_of(dark).unlink()
        assert store.match(facts(), "dark").product == other
        assert store.find(dark.recipe_key) is None
        assert not store.get(dark.id).damaged
    found = state(reading)
    assert (found.account, found.products) == (
        "reader",
        {"dark": {"candidate": 2}, "image": {"candidate": 1}},
    )


def test_an_owner_who_may_not_create_roles_proceeds_without_them(
    real_server: RealServer, tmp_path: Path
) -> None:
    """The roles are renamed in the meantime, as if the server did not have them."""
    account = real_server.account(f"owner_{uuid.uuid4().hex[:6]}")
    name = f"nirflow_{uuid.uuid4().hex[:8]}"
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {account}")
        there = {r[0] for r in connection.execute("SELECT rolname FROM pg_roles")} & {PIPELINE, READER}
        for role in there:
            connection.execute(f"ALTER ROLE {role} RENAME TO away_{role}")
        try:
            own = StoreSettings(data_dir=tmp_path, database_url=SecretStr(real_server.url(name, account)))
            made = initialise(own)
            assert made.missing_roles == (PIPELINE, READER)
            with Store.open(own) as store:
                assert store.products() == ()
            assert state(own).missing_roles == (PIPELINE, READER)
        finally:
            for role in there:
                connection.execute(f"ALTER ROLE away_{role} RENAME TO {role}")
        for role in {PIPELINE, READER} - there:
            connection.execute(f"CREATE ROLE {role} NOLOGIN")
    assert initialise(own).missing_roles == ()
    with real_server.connect(name) as connection:
        query = "SELECT has_table_privilege(%s, 'products', 'SELECT')"
        assert connection.execute(query, (READER,)).fetchone() == (True,)
    with real_server.connect() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_state_of_a_database_without_a_store_and_of_an_old_one(
    real_server: RealServer, settings: Settings
) -> None:
    named = settings()
    with real_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database_of(named)}")
    found = state(named)
    assert (found.revision, found.usable, found.account) == (None, False, "unknown")
    initialise(named)
    found = state(named)
    assert found.usable
    assert found.rules == found.shipped_rules
    assert "admin@127.0.0.1" in found.place
    assert real_server.passwords["admin"] not in repr(found)


def test_roles_can_be_granted_repeatedly(owner: Database) -> None:
    for _ in range(2):
        with owner.begin() as connection:
            make_roles(connection)
