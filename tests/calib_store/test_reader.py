"""Read-only access to the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from calib_store.curation.certify import certify, reject
from calib_store.model.records import Decision, FrameRecord, Product, Tier
from calib_store.model.settings import StoreSettings
from calib_store.reader import Reader
from calib_store.server import postgres
from calib_store.store import Store
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts

WHO = {"author": "Ana", "reason": "good"}


@pytest.fixture
def reader(store_settings: StoreSettings) -> Iterator[Reader]:
    """A reader of the test's store, with the account of a pipeline."""
    one = Reader(store_settings)
    yield one
    one.close()


@pytest.fixture
def embedded(postgres_data_dir: Path) -> Iterator[Reader]:
    """A reader of the session's embedded server."""
    with Store.open(StoreSettings(data_dir=postgres_data_dir)):
        pass
    one = Reader(StoreSettings(data_dir=postgres_data_dir))
    yield one
    one.close()


@pytest.mark.parametrize("which", ["reader", "embedded"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET status = 'certified'",
        "INSERT INTO rule_sets (version, digest, content) VALUES ('x', 'x', '{}')",
        "CREATE TABLE mine (a int)",
        "DELETE FROM frames",
    ],
)
def test_it_cannot_write(which: str, statement: str, request: pytest.FixtureRequest) -> None:
    database = request.getfixturevalue(which).database
    for ask in (database.read, database.run):
        with pytest.raises((DBAPIError, StoreError), match=r"read-only transaction|permission denied"):
            ask(lambda connection: connection.execute(text(statement)))


def test_on_an_embedded_server_it_has_only_a_readers_rights(embedded: Reader) -> None:
    def ask(connection):
        return connection.execute(text("SELECT current_user, current_setting('is_superuser')")).one()

    assert tuple(embedded.database.read(ask)) == ("nirflow_reader", "off")
    assert embedded.products(limit=10) == ()
    with pytest.raises((DBAPIError, StoreError), match="permission denied"):
        embedded.database.read(lambda c: c.execute(text("SELECT pg_read_file('/etc/hostname')")))


def test_it_starts_no_server(tmp_path: Path) -> None:
    reader = Reader(StoreSettings(data_dir=tmp_path / "data"))
    with pytest.raises(StoreError, match="does not answer"):
        reader.products(limit=1)
    reader.close()
    assert not (tmp_path / "data").exists()
    assert not postgres.address_of(tmp_path / "data").socket_dir.exists()


def test_products_are_listed_newest_first_in_pages(
    reader: Reader, store: Store, add: Callable[..., Product]
) -> None:
    made = [add(), add("flat"), add(hours=24 * 40)]
    dark = certify(store, made[0], **WHO)
    assert [one.id for one in reader.products(limit=5)] == [one.id for one in reversed(made)]
    assert [one.id for one in reader.products(limit=2, after=made[2].id)] == [made[1].id, made[0].id]
    assert [one.id for one in reader.products(limit=5, kind="dark", status="certified")] == [dark.id]
    assert [one.id for one in reader.products(limit=5, kind="flat")] == [made[1].id]


def test_a_product_comes_with_everything_related_to_it(
    reader: Reader, store: Store, add: Callable[..., Product], facts: Callable[..., FrameFacts],
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    dark = add()
    raw = record("science.fits", facts=facts(name="science.fits"))
    store.frames.ingest([raw])
    assert raw.facts is not None
    match = store.match(raw.facts, "dark")
    store.record_decisions([Decision(raw.sha256, match, match.product)])
    source = store.frames.get("raw0.fits")
    assert source is not None
    reject(store, source, author="Eve", reason="light leak")
    found = reader.product(dark.id)
    assert found is not None
    assert found.product == store.get(dark.id)
    assert found.product.tier is Tier.TAINTED
    assert [edge.name for edge in found.inputs] == ["raw0.fits"]
    assert (found.frames, found.chosen_for) == (1, 1)
    assert [(one.name, one.candidates[0]["taken"]) for one in found.chosen] == [("science.fits", True)]
    assert [one.author for one in found.rejected] == ["Eve"]
    assert [change.status for change in found.history] == ["candidate"]
    assert reader.product(uuid.uuid4()) is None


def test_a_frame_comes_with_the_products_that_it_would_get_and_why(
    reader: Reader, store: Store, add: Callable[..., Product], facts: Callable[..., FrameFacts],
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    dark, other = add(), add(facts=facts(exposure_time=5.0))
    raw = record("science.fits", facts=facts(name="science.fits"))
    store.frames.ingest([raw])
    found = reader.frame(raw.sha256)
    assert found is not None
    assert [match.kind for match in found.matches] == ["dark", "bpm", "flat", "distortion"]
    assert found.matches[0].product == dark
    reasons = {candidate.product.id: candidate for candidate in found.matches[0].candidates}
    assert reasons[dark.id].taken
    assert reasons[other.id].reason == "exposure 5 s, frame 120 s"
    assert reader.frame("0" * 64) is None


def test_it_opens_no_file(reader: Reader, store: Store, add: Callable[..., Product], facts: Callable[..., FrameFacts],
                          record: Callable[..., FrameRecord]) -> None:  # fmt: skip
    """A reader does not detect damage that the store has not yet found, and records nothing."""
    dark = add()
    raw = record("science.fits", facts=facts(name="science.fits"))
    store.frames.ingest([raw])
    path = store.objects.local(dark.sha256)
    path.chmod(0o600)
    path.unlink()
    found = reader.frame(raw.sha256)
    assert found is not None
    assert found.matches[0].product == dark
    assert not store.get(dark.id).damaged
