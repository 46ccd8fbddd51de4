"""A store that was filled before instruments were tables: its contents and its choices are unchanged.

The dump is that of a real store: a simulated Y night of 19 small frames, reduced; the dark certified; then a user's own
rules, which have a rule about a kind of product that there is no more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url

from calib_store import migrations
from calib_store.curation.certify import certify
from calib_store.migrations import migrate
from calib_store.model.product_nights import nights_of, site_of
from calib_store.model.settings import StoreSettings
from calib_store.rules.rules_toml import read_rules, rules_text, shipped_rules
from calib_store.server.programs import program
from calib_store.store import Store
from calib_store.tables import rulebook
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence
from imaging.instruments import catalogue
from tasks.support.parameters import STEPS

DAY = timedelta(days=1)
DUMP = Path(__file__).parents[1] / "fixtures" / "store_before_tables.dump"
IDS = {"dark": "7dc43f20", "bpm": "027b5cfa", "flat": "4aa4ac17", "image": "d2c98c41"}


@pytest.fixture
def old(postgres_address, tmp_path: Path) -> Iterator[Store]:
    with postgres_address.administer() as connection:
        connection.execute("DROP DATABASE IF EXISTS before_tables WITH (FORCE)")
        connection.execute("CREATE DATABASE before_tables OWNER nirflow")
    url = postgres_address.url("before_tables").render_as_string(hide_password=False)
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    command = [
        program("pg_restore"),
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "--dbname",
        plain,
        DUMP,
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    settings = StoreSettings(data_dir=tmp_path, database_url=SecretStr(url))
    from calib_store.server.places import open_database

    database = open_database(settings)
    migrate(database.engine)
    database.close()
    with Store.open(settings) as store:
        store._is_intact = lambda product: True  # type: ignore[method-assign]  # the dump has no files
        yield store


def frame(store: Store, name: str = "S20131121S0075.fits") -> FrameFacts:
    found = store.frames.get(name)
    assert found is not None
    assert found.facts is not None
    return found.facts


def test_its_tables_have_the_current_version(old: Store) -> None:
    assert migrations.current_revision(old.database.engine) == migrations.HEAD


def test_products_and_frames_are_listed_as_before(old: Store) -> None:
    assert {p.kind: (p.short_id, p.status) for p in old.products()} == {
        kind: (short, "certified" if kind == "dark" else "candidate") for kind, short in IDS.items()
    }
    facts = frame(old)
    assert (facts.value("lyot"), facts.read_pairs, facts.section) == ("f/16_G5830", 8, "[1:2048,1:2048]")
    assert Sequence.of(facts) is not None
    assert facts == FrameFacts.model_validate(facts.model_dump(mode="json"))


@pytest.mark.parametrize("kind", ["dark", "bpm", "flat"])
def test_a_frame_gets_the_same_calibrations_for_the_same_reason(old: Store, kind: str) -> None:
    facts = frame(old)
    match = old.match(facts, kind)
    assert match.product is not None
    assert match.product.short_id == IDS[kind]
    assert match.rules_version == "ana-1"
    explained = {c.product.short_id: c.reason for c in old.explain(facts, kind).candidates}
    expected = {
        "dark": "taken: 22.0 hours before",
        "bpm": "taken: 4.3 days after",
        "flat": "taken: 6.8 days after",
    }
    assert explained == {IDS[kind]: expected[kind]}
    other = old.explain(facts.model_copy(update={"detector": "110"}), kind)
    assert [c.reason for c in other.candidates] == ["detector 109, frame 110"]


def test_an_instruments_own_fact_is_compared(old: Store) -> None:
    changed = FrameFacts.model_validate(frame(old).model_dump() | {"lyot": "f/32"})
    assert old.match(changed, "flat").product is None
    (one,) = old.explain(changed, "flat").candidates
    assert one.reason == "Lyot stop f/16_G5830, frame f/32"


def test_the_users_rules_are_kept_and_the_shipped_ones_can_be_restored(old: Store) -> None:
    rules = old.rules()
    assert rules.version == "ana-1"
    assert {rule.name: rule.window_days for rule in rules.rules} == {
        "dark": 60.0, "flat": 60.0, "bpm": 60.0, "static bpm": None,
    }  # fmt: skip
    assert read_rules(rules_text(rules), "again") == rules
    old.database.run(lambda c: rulebook.activate(c, shipped_rules(), author="Ana", reason="as shipped"))
    assert old.rules().version == shipped_rules().version
    for kind in ("dark", "bpm", "flat"):
        product = old.match(frame(old), kind).product
        assert product is not None
        assert product.short_id == IDS[kind]


def test_a_product_can_be_certified_and_rejected(old: Store) -> None:
    flat = next(p for p in old.products() if p.kind == "flat")
    old.file_of = lambda product: Path(product.name)  # type: ignore[method-assign]
    certify(old, flat, author="Ana", reason="looks good")
    assert old.get(flat.id).status == "certified"
    old.set_status(old.get(flat.id), "rejected", author="Ana", reason="not after all")
    assert old.match(frame(old), "flat").product is None


def test_the_configurations_are_those_that_this_version_makes(old: Store) -> None:
    rules = old.rules()
    with old.database.begin() as connection:
        rows = connection.execute(text("SELECT digest, kind, keys FROM configurations")).all()
    for product in old.products():
        made = rules.configuration(product.kind, product.facts, published=product.published)
        if made is not None:
            assert (made.digest, made.kind, dict(made.keys)) in [tuple(row) for row in rows]


def test_the_parameters_of_its_products_are_read_with_their_values(old: Store) -> None:
    """Parameters that were added since have their defaults; those that no longer exist are left out."""
    for product in old.products():
        for name, recorded in product.parameters.items():
            current = STEPS[name].current(recorded)
            read = STEPS[name].model_validate(current).model_dump(mode="json")
            assert current.items() <= read.items(), (product.kind, name)
            assert recorded.keys() - current.keys() <= STEPS[name].retired


def test_its_products_are_of_the_nights_of_their_instruments_site(old: Store) -> None:
    """Their rows were written when nights changed at another hour."""
    for product in old.products():
        assert site_of(product.facts) == catalogue.named(frame(old).instrument).site
        first, last = nights_of(product.facts, product.span)
        for night, found in ((first, True), (last, True), (first - DAY, False), (last + DAY, False)):
            assert (product in old.products(night=night)) is found
