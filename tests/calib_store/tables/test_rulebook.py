"""The rules of a store: changed by users, kept for ever, so that past choices can be repeated."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text
from waiting import PATIENCE

from calib_store.curation.certify import certify
from calib_store.files.local_objects import LocalObjects
from calib_store.migrations import migrate
from calib_store.rules.rules import RuleSet
from calib_store.rules.rules_toml import read_rules, shipped_rules, shipped_text
from calib_store.store import Store
from calib_store.tables import rulebook, status
from calib_store.tables.database import Database
from imaging.errors import StoreError

SHIPPED = shipped_rules()


def changed(old: str, new: str, version: str = "mine-1") -> RuleSet:
    """The shipped rules with one change."""
    text = shipped_text().replace(SHIPPED.version, version)
    assert old in text
    return read_rules(text.replace(old, new), "mine.toml")


@pytest.fixture
def mine(owner: Database, store: Store) -> Store:
    """The test's store, as its owner."""
    return Store(owner, store.objects)


def activate(store: Store, rules: RuleSet, reason: str = "better") -> bool:
    return store.database.run(
        lambda connection: rulebook.activate(connection, rules, author="Ana", reason=reason)
    )


def now(store: Store):
    time.sleep(0.002)
    with store.database.begin() as connection:
        return connection.scalar(text("SELECT clock_timestamp()"))


def test_a_new_store_uses_the_shipped_rules(store: Store) -> None:
    assert store.rules() == SHIPPED
    (first,) = store.database.run(rulebook.rule_history)
    assert (first.version, first.author) == (SHIPPED.version, rulebook.SHIPPED)


def test_a_change_changes_what_products_serve_and_decisions_name_it(mine: Store, add, facts) -> None:
    near, far = add(), add(hours=24 * 40)
    assert [c.product for c in mine.match(facts(), "dark").candidates] == [near, far]
    assert activate(mine, changed("[dark]\nkind", "[dark]\nframes = 'later'\nkind")) is True
    later = facts(started=far.middle)
    match = mine.match(later, "dark")
    assert match.rules_version == "mine-1"
    explained = {c.product.id: c.reason for c in mine.explain(facts(), "dark").candidates}
    assert explained[far.id].startswith("serves frames from")
    assert [c.author for c in mine.database.run(rulebook.rule_history)] == ["Ana", rulebook.SHIPPED]


def test_the_window_and_the_facts_of_another_version(mine: Store, add, facts) -> None:
    """A coarser rule joins configurations and a finer one splits them; both also for earlier products."""
    ours, other_reads = add(), add(hours=1, facts=facts(read_pairs=4))
    assert mine.match(facts(read_pairs=4), "dark").product.id == other_reads.id
    activate(mine, changed('"read_pairs", ', ""))
    served = [c.product.id for c in mine.match(facts(read_pairs=6), "dark").candidates]
    assert set(served) == {ours.id, other_reads.id}
    activate(mine, changed('"read_pairs", "coadds"', '"read_pairs", "coadds", "lyot"', "mine-2"))
    assert mine.match(facts(lyot="GEMS"), "dark").product is None
    assert mine.match(facts(), "dark").product.id == ours.id
    assert mine.get(ours.id).keys["lyot"] == facts().lyot
    new = add(hours=2, facts=facts(lyot="GEMS"))
    assert mine.match(facts(lyot="GEMS"), "dark").product.id == new.id


def test_as_of_uses_the_rules_of_that_time(mine: Store, add, facts) -> None:
    """Promise 5: a past choice is repeated although products and rules have changed since."""
    far = add(hours=24 * 60)
    then = now(mine)
    activate(mine, changed("[dark]", "[dark]\n# narrower").model_copy(update={"rules": tuple(
        rule.model_copy(update={"window_days": 10.0, "match": (*rule.match, "lyot")}) if rule.name == "dark" else rule
        for rule in SHIPPED.rules)}))  # fmt: skip
    near = add(hours=24)
    frame = facts(lyot="another")
    assert mine.match(facts(), "dark").product.id == near.id
    assert mine.match(frame, "dark").product is None
    repeated = mine.match(frame, "dark", as_of=then)
    assert (repeated.product.id, repeated.rules_version) == (far.id, SHIPPED.version)
    assert repeated.product.keys == {k: v for k, v in far.keys.items() if k != "lyot"}
    explained = mine.explain(frame, "dark", as_of=then)
    assert [c.product.id for c in explained.candidates] == [far.id]
    before_all = mine.rules(then.replace(year=2000))
    assert before_all.version == SHIPPED.version


def test_back_to_an_earlier_version(mine: Store, add, facts) -> None:
    product = add()
    wide = changed("window_days = 90", "window_days = 900")
    assert activate(mine, wide) is True
    assert activate(mine, wide) is False
    assert activate(mine, SHIPPED, reason="it was right before") is True
    assert mine.rules().version == SHIPPED.version
    assert mine.match(facts(), "dark").product == mine.get(product.id)
    assert [c.version for c in mine.database.run(rulebook.rule_history)] == [
        SHIPPED.version, "mine-1", SHIPPED.version,
    ]  # fmt: skip


def test_a_version_is_never_reused_for_another_table(mine: Store) -> None:
    with pytest.raises(
        StoreError, match=re.escape(f"already has different rules with the version '{SHIPPED.version}'")
    ) as caught:
        activate(mine, changed("window_days = 90", "window_days = 80", SHIPPED.version))
    assert "a new version" in caught.value.remedy
    with pytest.raises(StoreError, match=re.escape(f"are the same as '{SHIPPED.version}'")):
        activate(mine, SHIPPED.model_copy(update={"version": "renamed"}))
    with pytest.raises(StoreError, match="never had the rules 'nothing'"):
        mine.database.run(lambda connection: rulebook.rules_of(connection, "nothing"))
    assert mine.rules() == SHIPPED
    assert len(mine.database.run(rulebook.rule_history)) == 1


def test_certified_products_never_come_to_overlap(mine: Store, add, facts) -> None:
    one, two = add(), add(facts=facts(read_pairs=4))
    for product in (one, two):
        mine.set_status(product, "certified", author="me", reason="", validity=(None, None))
    with pytest.raises(StoreError, match="both certified, would serve the same frames") as caught:
        activate(mine, changed('"read_pairs", ', ""))
    assert "Supersede one" in caught.value.remedy
    assert {str(one.id), str(two.id)} <= set(str(caught.value).replace("(", " ").replace(")", " ").split())
    assert mine.rules() == SHIPPED
    assert mine.match(facts(read_pairs=4), "dark").product.id == two.id
    mine.set_status(two, "superseded", author="me", reason="")
    assert activate(mine, changed('"read_pairs", ', "")) is True


def test_certified_products_do_not_come_within_a_tolerance_of_each_other(
    mine: Store, add, facts, epoch
) -> None:
    seconds = facts().exposure_time
    one, two = add(), add(facts=facts(exposure_time=seconds + 0.3))
    add(facts=facts(exposure_time=seconds + 0.2))

    def certify(product, start, end) -> None:
        mine.set_status(product, "certified", author="me", reason="", validity=(start, end))

    certify(one, None, epoch)
    certify(two, epoch, None)
    loose = changed("exposure_time = 0.01", "exposure_time = 0.5", "loose")
    assert activate(mine, loose) is True  # each has its own time
    with pytest.raises(StoreError, match="certified for part of that time: .*" + str(two.id)[:8]):
        certify(one, None, None)
    assert activate(mine, SHIPPED) is True
    certify(one, None, None)
    with pytest.raises(StoreError, match="both certified, would serve the same frames") as caught:
        activate(mine, loose)
    assert str(one.id) in caught.value.message
    assert str(two.id) in caught.value.message
    assert mine.rules() == SHIPPED
    assert activate(mine, changed("exposure_time = 0.01", "exposure_time = 0.25", "tighter")) is True


def test_certified_products_may_exchange_configurations(mine: Store, add, facts) -> None:
    """Two that exchange configurations overlap only temporarily."""
    first = add(facts=facts(read_pairs=4, coadds=1))
    second = add(facts=facts(read_pairs=8, coadds=1))
    for product in (first, second):
        mine.set_status(product, "certified", author="me", reason="", validity=(None, None))
    assert activate(mine, changed('"coadds", ', "")) is True
    assert activate(mine, SHIPPED) is True
    assert mine.match(facts(read_pairs=4), "dark").product.id == first.id


def test_no_certified_product_is_left_without_a_rule(mine: Store, add, facts) -> None:
    flat = mine.set_status(add("flat"), "certified", author="me", reason="", validity=(None, None))
    without = SHIPPED.model_copy(
        update={"version": "no-flats", "rules": tuple(r for r in SHIPPED.rules if r.kind != "flat")}
    )
    with pytest.raises(StoreError, match="would serve no frame"):
        activate(mine, without)
    mine.set_status(flat, "candidate", author="me", reason="")
    assert activate(mine, without) is True
    assert mine.match(facts(), "flat").product is None
    assert mine.get(flat.id).rule is None
    explained = mine.explain(facts(), "flat").candidates
    assert [c.reason for c in explained] == ["no rule applies to such a flat"]
    assert activate(mine, SHIPPED) is True
    assert mine.match(facts(), "flat").product.id == flat.id


def test_a_newer_nirflow_brings_its_rules_unless_a_user_has_set_others(
    mine: Store, owner: Database, add, facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(hours=24 * 100)
    newer = changed("window_days = 90", "window_days = 120", "f2-imaging-99")
    monkeypatch.setattr(rulebook, "shipped_rules", lambda: newer)
    assert mine.match(facts(), "dark").product is None
    assert migrate(owner.engine) is False
    assert mine.rules().version == "f2-imaging-99"
    assert mine.match(facts(), "dark").product is not None
    activate(mine, changed("window_days = 90", "window_days = 1", "mine-1"))
    migrate(owner.engine)
    assert mine.rules().version == "mine-1"


def test_an_older_nirflow_leaves_the_rules_of_a_newer_one_alone(
    mine: Store, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = changed("window_days = 90", "window_days = 120", "f2-imaging-99")
    with monkeypatch.context() as patch:
        patch.setattr(rulebook, "shipped_rules", lambda: newer)
        migrate(owner.engine)
    migrate(owner.engine)
    assert mine.rules().version == "f2-imaging-99"
    assert len(mine.database.run(rulebook.rule_history)) == 2


FRINGES = {**next(one for one in SHIPPED.rules if one.kind == "flat").model_dump(mode="json"), "name": "fringes",
            "kind": "fringes"}  # fmt: skip


def earlier_rules(connection: Connection, version: str, author: str, reason: str) -> None:
    """Set rules like a nirflow that had the kind fringes."""
    content = SHIPPED.model_dump(mode="json") | {"version": version}
    content["rules"].append(FRINGES)
    connection.execute(
        text("INSERT INTO rule_sets (version, digest, content) VALUES (:v, :d, CAST(:c AS jsonb))"),
        {"v": version, "d": hashlib.sha256(version.encode()).hexdigest(), "c": json.dumps(content)},
    )
    connection.execute(
        text("INSERT INTO rule_changes (version, author, reason) VALUES (:v, :a, :r)"),
        {"v": version, "a": author, "r": reason},
    )


def test_stored_rules_about_an_unknown_kind_are_ignored(
    mine: Store, add, facts, caplog: pytest.LogCaptureFixture
) -> None:
    dark = add()
    mine.database.run(lambda connection: earlier_rules(connection, "theirs-1", "Ana", "sky flats too"))
    with caplog.at_level(logging.DEBUG, "calib_store.rules.rules"):
        rules = mine.rules()
    assert rules == SHIPPED.model_copy(update={"version": "theirs-1"})
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "Rule 'fringes' of theirs-1 is about the unknown kind 'fringes' and is ignored")
    ]
    match = mine.match(facts(), "dark")
    assert (match.product, match.rules_version) == (dark, "theirs-1")
    assert add(hours=1).rule == "dark"
    # A user's rules are kept; rules that replace them apply to every product again.
    assert mine.database.run(rulebook.take_over_shipped) is False
    assert activate(mine, changed("window_days = 90", "window_days = 30")) is True
    assert mine.match(facts(), "dark").rules_version == "mine-1"


def test_an_earlier_store_adopts_the_rules_without_the_unknown_kind(
    mine: Store, owner: Database, add, facts
) -> None:
    dark = add()
    version = "f2-imaging-4"
    with mine.database.begin() as connection:
        connection.execute(text("DELETE FROM rule_changes"))
        connection.execute(text("DELETE FROM rule_sets"))
        earlier_rules(connection, version, rulebook.SHIPPED, "came with nirflow")
    assert mine.rules().version == version
    migrate(owner.engine)
    assert mine.rules() == SHIPPED
    assert mine.match(facts(), "dark").product == dark
    assert mine.database.run(lambda connection: rulebook.rules_of(connection, version)).version == version


def test_a_product_of_an_unknown_kind_is_unchanged(mine: Store, add, facts) -> None:
    dark, other = add(), add(hours=1)
    with mine.database.begin() as connection:
        connection.execute(text("UPDATE products SET kind = 'fringes' WHERE id = :id"), {"id": other.id})
    assert activate(mine, changed("window_days = 90", "window_days = 30")) is True
    assert mine.match(facts(), "dark").product == dark
    assert (mine.get(other.id).kind, mine.get(other.id).rule) == ("fringes", "dark")


def test_a_users_rules_with_an_unknown_kind_are_refused() -> None:
    given = shipped_text() + '\n[fringes]\nkind = "fringes"\nmatch = ["instrument"]\n'
    with pytest.raises(StoreError, match=r"mine\.toml: fringes\.kind: Input should be 'dark', 'bpm'"):
        read_rules(given, "mine.toml")


def test_rules_set_by_an_account_called_nirflow_count_as_a_users(mine: Store, owner: Database) -> None:
    """The account in the containers has that name."""
    own = changed("window_days = 90", "window_days = 7", "mine-1")
    mine.database.run(lambda c: rulebook.activate(c, own, author="nirflow", reason="short nights"))
    migrate(owner.engine)
    assert mine.rules().version == "mine-1"


def test_a_withdrawn_tolerance_no_longer_serves(mine: Store, add, facts) -> None:
    """What it served before is still known, as of that time."""
    activate(mine, changed("exposure_time = 0.01", "exposure_time = 0.5", "loose"))
    near = add(facts=facts(exposure_time=facts().exposure_time + 0.3))
    add(facts=facts())
    assert near.id in {c.product.id for c in mine.match(facts(), "dark").candidates}
    then = now(mine)
    activate(mine, SHIPPED)
    assert near.id not in {c.product.id for c in mine.match(facts(), "dark").candidates}
    assert mine.match(facts(), "dark", prefer=[near.id]).product.id != near.id
    assert near.id in {c.product.id for c in mine.match(facts(), "dark", as_of=then).candidates}
    (candidate,) = [c for c in mine.explain(facts(), "dark").candidates if c.product.id == near.id]
    assert "exposure" in candidate.reason


def test_a_product_that_is_added_while_the_rules_change_serves_by_the_new_ones(
    mine: Store, add, facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, may_go = threading.Event(), threading.Event()
    original = rulebook._work_out_configurations

    def slowly(connection, rules) -> None:
        original(connection, rules)
        working.set()
        may_go.wait(PATIENCE)

    monkeypatch.setattr(rulebook, "_work_out_configurations", slowly)
    newer = changed('"coadds", ', '"coadds", "lyot", ')
    with ThreadPoolExecutor(2) as pool:
        change = pool.submit(activate, mine, newer)
        assert working.wait(PATIENCE)
        added = pool.submit(add)
        with pytest.raises(TimeoutError):  # it waits for the rules
            added.result(timeout=0.3)
        may_go.set()
        assert change.result(PATIENCE)
        product = added.result(PATIENCE)
    assert mine.match(facts(), "dark").product == product


def test_rules_do_not_change_during_a_certification(mine: Store, add) -> None:
    """By the new rules both could be certified for the same frames, which neither transaction could detect."""
    product, newer = add(), changed('"coadds", ', '"coadds", "lyot", ')
    with mine.database.begin() as certifying:
        status.set_status(
            certifying, product, "certified", author="Ana", reason="good", validity=(product.middle, None)
        )
        with ThreadPoolExecutor(1) as pool:
            change = pool.submit(activate, mine, newer)
            with pytest.raises(TimeoutError):  # it waits
                change.result(timeout=0.3)
            certifying.commit()
            assert change.result(PATIENCE)
    assert mine.get(product.id).status == "certified"


def test_a_pipeline_changes_no_rules(store: Store) -> None:
    with pytest.raises(StoreError, match="permission denied") as caught:
        activate(store, changed("window_days = 90", "window_days = 1"))
    assert "owner of the tables" in caught.value.remedy


def test_many_products_are_processed_page_by_page(
    mine: Store, add, facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rulebook, "_BATCH", 3)
    products = [add(hours=n) for n in range(8)]
    activate(mine, changed('"coadds", ', '"coadds", "lyot", '))
    served = {c.product.id for c in mine.match(facts(), "dark").candidates}
    assert served == {product.id for product in products}
    assert isinstance(mine.objects, LocalObjects)


def test_stricter_rules_shorten_what_came_from_the_rule_and_name_what_users_chose(
    mine: Store, add, facts
) -> None:
    day = timedelta(days=1)
    by_rule = certify(mine, add(), author="Ana", reason="good")
    start = by_rule.validity[1]
    chosen = certify(mine, add(hours=24 * 200), start=start, end="always", author="Ana", reason="good")
    assert activate(mine, changed("window_days = 90", "window_days = 2"), reason="drift") is True
    now_valid = mine.get(by_rule.id)
    assert now_valid.validity == (by_rule.middle - 2 * day, by_rule.middle + 2 * day)
    last = mine.history(by_rule)[-1]
    assert (last.author, last.reason) == (
        "Ana", f"the rules mine-1 allow a shorter validity than {SHIPPED.version}",
    )  # fmt: skip
    assert mine.get(chosen.id).validity == chosen.validity
    longer = mine.database.run(lambda connection: rulebook.beyond(connection, mine.rules()))
    assert longer == [f"{chosen.name} ({chosen.short_id})"]
    later = facts(started=facts().started + 19 * day)
    assert mine.match(later, "dark").product is None


def test_a_users_rules_get_the_newer_order_as_a_new_version(mine: Store, add, facts) -> None:
    old = changed("window_days = 90", "window_days = 30").model_copy(update={"order": 1})
    activate(mine, old)
    doubtful = add(gate={"passed": False, "reasons": ["light"]})
    far = add(hours=24 * 9)
    assert mine.match(facts(), "dark", prefer=[doubtful.id]).product.id == doubtful.id
    then = now(mine)
    assert mine.database.run(rulebook.take_over_shipped) is True
    assert (mine.rules().version, mine.rules().order) == ("mine-1+order2", 2)
    assert mine.database.run(rulebook.take_over_shipped) is False
    assert mine.match(facts(), "dark", prefer=[doubtful.id]).product.id == far.id
    # The old choice can be repeated.
    assert mine.match(facts(), "dark", prefer=[doubtful.id], as_of=then).product.id == doubtful.id
    with pytest.raises(StoreError, match="order is 9; this nirflow knows 1, 2"):
        read_rules(shipped_text().replace("order = 2", "order = 9"), "mine.toml")
