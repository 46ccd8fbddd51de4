"""Products in the store: intact, certified without overlap, and with every decision recorded."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from stored_products import count_rows

from calib_store.choice.matching import SERVING_LIMIT
from calib_store.model.records import Decision, InputRef, Override
from calib_store.store import Store, recipe_key
from calib_store.tables.database import Database
from calib_store.tables.products import product_id
from calib_store.tables.schema import (
    decisions,
    metadata,
    products,
    status_history,
)
from imaging.errors import StoreError


def _damage(path: Path) -> None:
    path.chmod(0o644)
    with path.open("rb+") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))


# Products


def test_products_of_a_night_are_found_by_the_site_of_their_instrument(store, add, facts, epoch) -> None:
    """15:00 UT of the 21st is noon in Chile; without a table of the instrument, nights change at 14:00 UT."""
    noon = [add(hours=12) for _ in range(5)]
    elsewhere = [add(hours=12, facts=facts(instrument="UNKNOWN")) for _ in range(5)]
    night, next_night = epoch.date(), epoch.date() + timedelta(days=1)

    def pages(wanted, limit=2):
        found, last = [], None
        while page := store.products(night=wanted, after=last, limit=limit):
            assert len(page) <= limit
            found += page
            last = page[-1]
        return [one.id for one in found]

    assert pages(night) == [one.id for one in reversed(noon)]
    assert pages(next_night) == [one.id for one in reversed(elsewhere)]
    assert pages(night - timedelta(days=1)) == pages(next_night + timedelta(days=1)) == []


def test_recipe_key_is_canonical() -> None:
    class Parameters(BaseModel):
        low: float = 3.0
        operation: str = "mean"

    key = recipe_key("dark", ["a", "b"], Parameters(), "1")
    assert key == recipe_key("dark", ["a", "b"], {"operation": "mean", "low": 3.0}, "1")
    others = [
        recipe_key("flat", ["a", "b"], Parameters(), "1"),
        recipe_key("dark", ["b", "a"], Parameters(), "1"),
        recipe_key("dark", ["ab"], Parameters(), "1"),
        recipe_key("dark", ["a", "b"], Parameters(low=2.5), "1"),
        recipe_key("dark", ["a", "b"], Parameters(), "2"),
    ]
    assert len({key, *others}) == 6
    for value in (math.nan, object()):
        with pytest.raises(StoreError, match="cannot be represented as JSON"):
            recipe_key("dark", [], {"low": value}, "1")


def test_a_product_is_returned_as_it_was_added(store: Store, add, facts, epoch) -> None:
    product = add("dark", hours=2, gate={"passed": None}, flow_run_id="run")
    assert store.find(product.recipe_key) == product
    assert store.products("dark") == (product,)
    assert store.products("flat") == store.products(status="certified") == ()
    assert product.middle == facts().middle + timedelta(hours=2)
    assert product.span == (product.middle - timedelta(minutes=10), product.middle + timedelta(minutes=10))
    assert (product.status, product.validity, product.rule) == ("candidate", None, "dark")
    assert product.keys["exposure_time"] == 120.0
    assert (product.metrics, product.parameters) == ({"level": 1.5}, {"low": 3.0})
    assert (product.gate, product.flow_run_id) == ({"passed": None}, "run")
    assert product.software_version.startswith("nirflow ")
    assert store.file_of(product).read_bytes() == b"product 0" * 1000
    for name in (
        product.id,
        str(product.id),
        product.name,
        product.sha256[:8],
        product.recipe_key[:8],
        str(product.id)[:8],
    ):
        assert store.get(name) == product


def test_adding_again_gives_the_first_and_changes_nothing(store: Store, add) -> None:
    key = recipe_key("dark", [], {}, "1")
    first = add("dark", recipe_key=key)
    again = add("dark", recipe_key=key, name="other.fits", metrics={"level": 99})
    assert again == first
    assert count_rows(store, products) == count_rows(store, status_history) == 1


def test_the_same_recipe_has_the_same_id_in_every_store(add) -> None:
    key = recipe_key("dark", [], {}, "1")
    assert add("dark", recipe_key=key).id == product_id(key)


def test_two_products_of_one_name_are_distinguished(store: Store, add) -> None:
    one, two = add("dark", name="S1_dark.fits"), add("dark", name="S1_dark.fits")
    with pytest.raises(StoreError, match="any of 2 products") as caught:
        store.get("S1_dark.fits")
    assert str(one.id) in str(caught.value)
    assert str(two.id) in str(caught.value)
    with pytest.raises(StoreError, match=r"has no product 'S2_dark\.fits'"):
        store.get("S2_dark.fits")


@pytest.mark.parametrize("source", ["f" * 64, uuid4()])
def test_unknown_input_leaves_no_row(store: Store, add, source) -> None:
    with pytest.raises(StoreError, match="an input that the store does not know"):
        add("dark", inputs=[InputRef("dark", source)])
    assert count_rows(store, products) == count_rows(store, status_history) == 0


def test_invalid_spans(add, epoch) -> None:
    for span in ((epoch, epoch - timedelta(seconds=1)), (epoch.replace(tzinfo=None), epoch)):
        with pytest.raises(StoreError, match="time span"):
            add("dark", span=span)
    with pytest.raises(StoreError, match="not a recipe key"):
        add("dark", recipe_key="abc")
    with pytest.raises(StoreError, match="no product kind"):
        add("bias")


def test_lineage_reaches_every_raw_frame(store: Store, add, record) -> None:
    darks = [record(f"D{i}.fits") for i in range(3)]
    flats = [record(f"F{i}.fits") for i in range(2)]
    science = [record(f"S{i}.fits") for i in range(2)]
    store.frames.ingest([*darks, *flats, *science])
    bpm = add("bpm", inputs=[InputRef("short dark", r.sha256) for r in darks])
    flat = add("flat", inputs=[*[InputRef("lamp on", r.sha256) for r in flats], InputRef("bpm", bpm.id)])
    inputs = [
        *[InputRef("science", r.sha256) for r in science],
        InputRef("flat", flat.id),
        InputRef("bpm", bpm.id),
    ]
    image = add("image", inputs=inputs)
    assert store.inputs_of(image) == tuple(inputs)
    lineage = store.lineage(image)
    assert set(lineage.frames) == {r.sha256 for r in (*darks, *flats, *science)}
    assert lineage.frames[:2] == tuple(r.sha256 for r in science)
    assert set(lineage.products) == {flat.id, bpm.id}
    assert {e.name for e in lineage.edges if e.depth == 1} == {"S0.fits", "S1.fits", flat.name, bpm.name}


def test_export_copies_into_a_folder_or_to_a_path(store: Store, add, tmp_path: Path) -> None:
    product = add("dark")
    out = tmp_path / "out"
    out.mkdir()
    assert store.export_file(product, out) == out / product.name
    assert store.export_file(product, out / "mine.fits").read_bytes() == store.file_of(product).read_bytes()
    # Changes of a copy do not affect the store.
    (out / product.name).write_bytes(b"changed")
    assert store.find(product.recipe_key) == product


# Promise 1: every product that is found is intact


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("harm", ["bit", "gone"])
def test_damaged_product_is_not_found_and_is_made_again(
    store: Store, store_settings, add, facts, harm: str, fresh: bool
) -> None:
    key = recipe_key("dark", [], {}, "1")
    near, next_best = add("dark", recipe_key=key), add("dark", hours=5)
    assert store.match(facts(), "dark").product == near
    if harm == "bit":
        _damage(store.file_of(near))
    else:
        store.file_of(near).unlink()
    reader = Store.open(store_settings) if fresh else store
    match = reader.match(facts(), "dark")
    assert match.product == next_best
    assert "missing or damaged" in match.candidates[0].reason
    assert reader.find(key) is None
    with pytest.raises(StoreError, match="missing or damaged"):
        reader.file_of(near)
    assert reader.get(near.id).damaged
    explained = {c.product.id: c.reason for c in reader.explain(facts(), "dark").candidates}
    assert explained[near.id] == "its file is missing or damaged"
    again = add("dark", recipe_key=key, content=b"made again")
    assert again.id == near.id
    assert store.file_of(again).read_bytes() == b"made again"
    assert reader.match(facts(), "dark").product == again
    if fresh:
        reader.close()


def test_repairing_a_file_keeps_the_users_decision(store: Store, add) -> None:
    key = recipe_key("dark", [], {}, "1")
    old, new = add("dark", recipe_key=key), add(hours=1)
    about = {"author": "Ana", "reason": "made again without it", "because": "0" * 64, "by": new.id}
    store.set_status(old, "superseded", **about)
    store.file_of(old).unlink()
    assert store.find(key) is None
    add("dark", recipe_key=key, content=b"made again")
    *_, before, last = store.history(old)
    assert last.reason.startswith("made again without it (its file was damaged; pipeline made it again as ")
    assert (last.status, last.author, last.by, last.because) == (
        before.status, before.author, before.by, before.because,
    )  # fmt: skip


@pytest.mark.parametrize("harmed", [1, SERVING_LIMIT, 2 * SERVING_LIMIT + 3])
def test_an_account_that_may_not_record_damage_uses_the_next_best(
    store: Store, add, facts, monkeypatch: pytest.MonkeyPatch, harmed: int
) -> None:
    """As for a read-only account, or a store whose files cannot be moved."""
    products = [add("dark", hours=n) for n in range(harmed + 1)]
    for product in products[:-1]:
        _damage(store.file_of(product))
    monkeypatch.setattr("calib_store.tables.products.mark_damaged", lambda *_: None)
    match = store.match(facts(), "dark")
    assert match.product == products[-1]
    assert [c.product.id for c in match.candidates[:harmed]] == [p.id for p in products[:-1]]
    assert all("missing or damaged" in c.reason for c in match.candidates[:harmed])


# Promise 2: certified validity never overlaps


def test_overlapping_certification_is_refused_with_an_explanation(store: Store, add, facts, epoch) -> None:
    day = timedelta(days=1)
    one, two = add("dark"), add("dark", hours=1)
    other = add("dark", facts=facts(exposure_time=60.0))
    flat = add("flat")

    def certify(product, start, end):
        return store.set_status(product, "certified", author="me", reason="looks good", validity=(start, end))

    assert certify(one, epoch - day, epoch + day).validity == (epoch - day, epoch + day)
    for start, end in (
        (epoch, epoch + 2 * day),
        (None, None),
        (epoch + day - timedelta(microseconds=1), None),
    ):
        with pytest.raises(StoreError, match="another dark of the same configuration is"):
            certify(two, start, end)
    assert store.get(two.id).status == "candidate"
    # A range that begins at the end of another does not overlap it; other configurations and kinds are independent.
    assert certify(two, epoch + day, None).status == "certified"
    certify(other, None, None)
    certify(flat, None, None)
    for start, end in ((epoch, epoch), (epoch + day, epoch)):
        with pytest.raises(StoreError, match="ends before it begins"):
            certify(other, start, end)
    superseded = store.set_status(one, "superseded", author="me", reason="newer")
    assert (superseded.status, superseded.validity) == ("superseded", None)


def test_empty_and_missing_validity_are_refused(store: Store, add, epoch) -> None:
    product, image = add("dark"), add("image")
    for status, validity in (("certified", None), ("candidate", (None, None)), ("rejected", (epoch, None))):
        with pytest.raises(StoreError, match="forbids it"):
            store.set_status(product, status, author="me", reason="", validity=validity)
    with pytest.raises(StoreError, match="serves no frame"):
        store.set_status(image, "certified", author="me", reason="", validity=(None, None))
    assert count_rows(store, status_history) == 2


def test_the_database_itself_refuses(owner: Database, add) -> None:
    one, two = add("dark"), add("dark", hours=1)
    certify = text(
        "UPDATE products SET status = 'certified', validity = CAST(:range AS tstzrange) WHERE id = :id"
    )
    with owner.begin() as connection:
        connection.execute(certify, {"range": "[2013-01-01,2014-01-01)", "id": one.id})
    for span in ("[2013-12-31,2015-01-01)", "empty", "[2013-06-01,2013-06-01)", "(,)", None):
        with pytest.raises(IntegrityError), owner.begin() as connection:
            connection.execute(certify, {"range": span, "id": two.id})
    with pytest.raises(IntegrityError), owner.begin() as connection:
        connection.execute(text("UPDATE products SET configuration_id = NULL WHERE id = :id"), {"id": one.id})


def test_every_status_is_logged(store: Store, add, epoch) -> None:
    product = add("dark", author="pipeline")
    store.set_status(product, "certified", author="Ana", reason="good", validity=(None, epoch))
    store.set_status(product, "rejected", author="Bo", reason="glow")
    with store.database.begin() as connection:
        rows = connection.execute(select(status_history).order_by(status_history.c.id)).all()
    assert [(r.status, r.author, r.reason) for r in rows] == [
        ("candidate", "pipeline", "made"),
        ("certified", "Ana", "good"),
        ("rejected", "Bo", "glow"),
    ]
    assert rows[0].changed_at <= rows[1].changed_at <= rows[2].changed_at


# Decisions


def test_decisions_record_choice_and_candidates(store: Store, add, facts, record) -> None:
    frame = record("S9.fits")
    store.frames.ingest([frame])
    near, far = add("dark"), add("dark", hours=30)
    match = store.match(facts(), "dark")
    store.record_decisions([Decision(frame.sha256, match, near, flow_run_id="run")])
    store.record_decisions([Decision(frame.sha256, match, far, Override("Ana", "glow in the other"))])
    store.record_decisions([Decision(frame.sha256, store.match(facts(), "flat"), None)])
    with store.database.begin() as connection:
        rows = connection.execute(select(decisions).order_by(decisions.c.id)).all()
    assert [row.product_id for row in rows] == [near.id, far.id, None]
    assert [(row.override_author, row.override_reason) for row in rows[:2]] == [
        (None, None),
        ("Ana", "glow in the other"),
    ]
    taken, other = rows[0].candidates
    assert (taken["product"], taken["taken"], other["taken"]) == (str(near.id), True, False)
    assert other["reason"].startswith("30.0 hours after; the one taken 0.0 hours")
    assert rows[0].rules_version == match.rules_version
    assert rows[0].flow_run_id == "run"


def test_all_tables_are_known() -> None:
    assert set(metadata.tables) == {
        "frames", "frame_headers", "frame_files", "frame_history", "rule_sets", "rule_changes",
        "configurations", "products", "serves", "inputs", "status_history", "decisions",
        "runs", "variants", "tier_changes", "proposals", "bright_pixels", "catalogue_answers",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"noise": 10**400}},
        {"parameters": {"low": [10**400]}},
        {"metrics": {"unused": 7}},
        {"metrics": {"given_as": [1]}},
        {"metrics": {"exposed_before": [1]}},
        {"metrics": {"left_out": ["a"]}},
        {"gate": {"reference": "x"}},
        {"gate": {"passed": True, "reference": "x"}},
        {"gate": {"passed": True, "reasons": "x"}},
        {"gate": {"passed": True, "figures": [1]}},
    ],
)
def test_values_that_could_be_stored_but_not_read_are_refused(add, store: Store, changes) -> None:
    with pytest.raises(StoreError, match=r"its (metrics|parameters|gate) have"):
        add("dark", **changes)
    nested: object = 1
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(StoreError, match="endlessly nested"):
        add("dark", parameters={"low": nested})
    assert store.products() == ()
