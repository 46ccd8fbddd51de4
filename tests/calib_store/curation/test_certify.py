"""Decisions of users about products and frames, and their consequences."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from waiting import PATIENCE, wait_until

from calib_store.curation.certify import (
    certify,
    certify_compared,
    changed_with,
    reinstate,
    reject,
    status_as_of,
    supersede,
)
from calib_store.curation.lookup import product_or_frame
from calib_store.store import Store
from calib_store.tables.locks import changes_alone
from calib_store.tables.status import set_status
from imaging.errors import StoreError

DAY = timedelta(days=1)
WHO = {"author": "Ana", "reason": "good"}


def test_the_default_validity_is_that_of_the_rule(store: Store, add, facts) -> None:
    dark = certify(store, add(), **WHO)
    assert (dark.status, dark.validity) == ("certified", (dark.middle - 90 * DAY, dark.middle + 90 * DAY))
    mask = certify(store, add("bpm", published=True), **WHO)
    assert mask.validity == (mask.middle, None)
    last = store.history(dark)[-1]
    assert (last.status, last.author, last.reason, last.validity) == (
        "certified",
        "Ana",
        "good",
        dark.validity,
    )


def test_each_side_may_be_given_or_open(store: Store, add, epoch) -> None:
    dark = add()
    assert certify(store, dark, start=epoch, **WHO).validity == (epoch, dark.middle + 90 * DAY)
    assert certify(store, dark, end=epoch, **WHO).validity == (dark.middle - 90 * DAY, epoch)
    assert certify(store, dark, start="always", end="always", **WHO).validity == (None, None)
    with pytest.raises(StoreError, match="ends before it begins"):
        certify(store, dark, start=epoch, end=epoch, **WHO)
    with pytest.raises(StoreError, match="no rule applies to an image"):
        certify(store, add("image"), **WHO)


def test_an_overlap_is_reported_with_the_other_product_and_its_time(store: Store, add) -> None:
    one, two = certify(store, add(), **WHO), add(hours=24 * 30)
    with pytest.raises(StoreError, match="another dark of the same configuration is certified") as caught:
        certify(store, two, **WHO)
    assert f"{one.name} ({str(one.id)[:8]}) for {one.validity[0]:%Y-%m-%d %H:%M} to" in str(caught.value)
    assert "--take-over" in caught.value.remedy
    assert [change.status for change in store.history(two)] == ["candidate"]


def test_neighbours_share_the_time_half_way(store: Store, add) -> None:
    first, second, third = add(), add(hours=24 * 30), add(hours=24 * 20)
    first = certify(store, first, **WHO)
    second = certify(store, second, take_over=True, **WHO)
    third = certify(store, third, take_over=True, **WHO)
    first, second = store.get(first.id), store.get(second.id)
    assert first.validity == (first.middle - 90 * DAY, first.middle + 10 * DAY)
    assert third.validity == (third.middle - 10 * DAY, third.middle + 5 * DAY)
    assert second.validity == (third.middle + 5 * DAY, second.middle + 90 * DAY)
    assert "time shared with" in store.history(first)[-1].reason
    same = certify(store, add(hours=24 * 20), take_over=True, **WHO)
    assert store.get(third.id).status == "superseded"
    assert same.status == "certified"


def test_each_season_takes_its_time_from_the_previous_one(store: Store, add) -> None:
    """In the order of the nights, as automatic certification proceeds."""
    darks = [certify(store, add(hours=240 * n), take_over=True, **WHO) for n in range(4)]
    now = [store.get(dark.id) for dark in darks]
    assert [dark.status for dark in now] == ["certified"] * 4
    first = darks[0].middle
    ends = [first + n * DAY for n in (5, 15, 25)]
    assert [dark.validity for dark in now] == list(
        pairwise([first - 90 * DAY, *ends, first + (30 + 90) * DAY])
    )


def test_a_validity_limited_by_a_user_is_not_extended(store: Store, add) -> None:
    early = add()
    early = certify(store, early, end=early.middle + 4 * DAY, **WHO)
    late = certify(store, add(hours=24 * 90), take_over=True, **WHO)
    assert store.get(early.id).validity == early.validity
    assert late.validity == (early.validity[1], late.middle + 90 * DAY)
    assert len(store.history(early)) == 2  # nobody decided about it


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_certified_times_never_overlap_and_the_nearest_serves(store: Store, add, facts, data) -> None:
    """Promise 2 and the purpose of taking over: for any order and any mix of ways to certify."""
    reads = data.draw(st.integers(1, 10**9), label="a configuration of its own")
    frame = facts(read_pairs=reads)
    middles = data.draw(st.lists(st.integers(-100, 100), min_size=2, max_size=6))
    products = [add(hours=24 * day, facts=frame) for day in middles]
    for product in products:
        way = data.draw(st.sampled_from(["rule", "share", "given"]))
        start = product.middle + data.draw(st.integers(-60, 0)) * DAY if way == "given" else None
        end = product.middle + data.draw(st.integers(0, 60)) * DAY if way == "given" else None
        before = {p.id: store.get(p.id) for p in products}
        refused = ""
        try:
            certify(store, product, start=start, end=end, take_over=way == "share", **WHO)
        except StoreError as error:  # it stays a candidate
            refused = str(error)
        allowed = ("ends before it begins", "would have no certified dark")
        assert way != "share" or refused == "" or any(word in refused for word in allowed)
        for old in (p for p in before.values() if p.status == "certified"):
            new = store.get(old.id)
            assert new.status == "superseded" or old.validity[0] <= new.validity[0]
            assert new.status == "superseded" or new.validity[1] <= old.validity[1]
        # No time that had a certified product has lost it.
        now = [p.validity for p in (store.get(p.id) for p in products) if p.status == "certified"]
        for old in (p for p in before.values() if p.status == "certified"):
            for moment in (old.validity[0], old.middle, old.validity[1] - DAY / 24):
                inside = old.validity[0] <= moment < old.validity[1]
                assert not inside or any(one[0] <= moment < one[1] for one in now)
    certified = [p for p in (store.get(p.id) for p in products) if p.status == "certified"]
    spans = sorted(p.validity for p in certified)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    day = data.draw(st.integers(-120, 120))
    asked = facts(read_pairs=reads, started=facts().started + day * DAY)
    serving = [p for p in certified if p.validity[0] <= asked.middle < p.validity[1]]
    chosen = store.match(asked, "dark").product
    assert len(serving) <= 1
    if serving:
        assert chosen is not None
        assert chosen.id == serving[0].id


def test_texts_that_no_database_can_store_are_kept_as_far_as_possible(store: Store, add, record) -> None:
    """Text as from a terminal with a different encoding."""
    reason = "na\udce9vet\udce9 \0"
    reject(store, add(), author="An\udce9", reason=reason)
    store.frames.ingest([record("R.fits")])
    frame = reject(store, store.frames.get("R.fits"), author="An\udce9", reason=reason)
    (dark,) = store.products(status="rejected")
    for last in (store.history(dark)[-1], store.frames.history(frame)[-1]):
        assert (last.author, last.reason) == ("An\\udce9", "na\\udce9vet\\udce9 \N{REPLACEMENT CHARACTER}")


def test_taking_over_never_leaves_a_gap(store: Store, add, facts) -> None:
    """A validity has no gap: leaving time to neither of the two is refused, on either side."""
    early = certify(store, add(), **WHO)
    late = add(hours=24 * 40)
    for days in ((-45, 5), (-20, 5)):
        start, end = (late.middle + day * DAY for day in days)
        with pytest.raises(
            StoreError, match=r"part of that would have no certified dark if S1_dark.fits"
        ) as caught:
            certify(store, late, start=start, end=end, take_over=True, **WHO)
        assert "--from, --to" in caught.value.remedy
        assert store.get(early.id).validity == early.validity
    # It extends to its end; before its requested beginning the other keeps all time, even past half-way.
    start, end = late.middle - 10 * DAY, early.validity[1]
    done = certify(store, late, start=start, end=end, take_over=True, **WHO)
    assert done.validity == (start, end)
    assert store.get(early.id).validity == (early.validity[0], start)
    assert [one.id for one in changed_with(store, done)] == [early.id]
    assert changed_with(store, certify(store, add(hours=24 * 400), take_over=True, **WHO)) == ()
    # The same on the other side, in another configuration.
    late, early = (add(hours=24 * day, facts=facts(read_pairs=1)) for day in (40, 0))
    certify(store, late, **WHO)
    done = certify(store, early, end=early.middle + 10 * DAY, take_over=True, **WHO)
    assert done.validity == (early.middle - 90 * DAY, early.middle + 10 * DAY)
    assert store.get(late.id).validity == (early.middle + 10 * DAY, late.middle + 90 * DAY)


def test_a_doubtful_product_is_certified_only_on_purpose(store: Store, add) -> None:
    gate = {"passed": False, "reasons": ["light"], "reference": {"id": "0" * 32, "name": "S1_dark.fits"}}
    doubtful = add(gate=gate)
    with pytest.raises(
        StoreError, match=r"failed the comparison with S1_dark.fits \(00000000\): light"
    ) as caught:
        certify(store, doubtful, **WHO)
    assert "--despite-gate" in caught.value.remedy
    assert certify(store, doubtful, despite_gate=True, **WHO).status == "certified"


def test_a_damaged_or_rejected_product_is_not_certified(store: Store, add) -> None:
    lost, bad = add(), add(hours=1)
    store.file_of(lost).unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        certify(store, lost, **WHO)
    reject(store, bad, author="Bo", reason="light leak")
    with pytest.raises(StoreError, match=r"was rejected by Bo on .*: light leak") as caught:
        certify(store, bad, **WHO)
    assert f"reinstate {str(bad.id)[:8]}" in caught.value.remedy


def test_reject_and_reinstate(store: Store, add, facts) -> None:
    dark = add()
    with pytest.raises(StoreError, match="needs a reason"):
        reject(store, dark, author="Bo", reason=" ")
    assert reject(store, dark, author="Bo", reason="light leak").status == "rejected"
    assert store.match(facts(), "dark").product is None
    again = reinstate(store, store.get(dark.id), author="Bo", reason="a mistake")
    assert again.status == "candidate"
    assert store.match(facts(), "dark").product.id == dark.id
    with pytest.raises(StoreError, match="is already a candidate"):
        reinstate(store, store.get(dark.id), author="Bo", reason="")


def test_a_better_product_takes_over_at_the_same_time(store: Store, add, facts, epoch) -> None:
    old, new, other = add(), add(hours=5), add(facts=facts(read_pairs=4))
    old = certify(store, old, start=epoch - DAY, end=epoch + DAY, **WHO)
    for wrong in (old, other, add("flat")):
        with pytest.raises(StoreError, match="cannot supersede"):
            supersede(store, old, by=wrong, **WHO)
    done, better = supersede(store, old, by=new, **WHO)
    assert (done.status, done.validity) == ("superseded", None)
    assert (better.status, better.validity) == ("certified", old.validity)
    assert store.match(facts(), "dark").product.id == new.id
    alone, nobody = supersede(store, better, **WHO)
    assert (alone.status, nobody) == ("superseded", None)
    reject(store, new, **WHO)
    with pytest.raises(StoreError, match="was rejected"):
        supersede(store, new, **WHO)
    with pytest.raises(StoreError, match="was rejected by Ana"):
        supersede(store, old, by=new, **WHO)


def test_a_damaged_or_rejected_product_supersedes_nothing(store: Store, add) -> None:
    old, new = certify(store, add(), **WHO), add(hours=5)
    file = store.file_of(new)
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(b"rot")
    with pytest.raises(StoreError, match="missing or damaged"):
        supersede(store, old, by=new, **WHO)
    assert store.get(old.id).status == "certified"
    copy = file.with_name("copy.fits")
    copy.write_bytes(content)
    again = add(hours=5, content=content, recipe_key=new.recipe_key)
    assert again.id == new.id
    supersede(store, store.get(old.id), by=again, **WHO)
    # Two that supersede each other would leave no product.
    with pytest.raises(StoreError, match=r"was superseded by Ana on .*: good"):
        supersede(store, store.get(new.id), by=store.get(old.id), **WHO)
    assert store.get(new.id).status == "certified"


def test_without_a_user_only_a_product_like_the_others_is_certified(store: Store, add, facts) -> None:
    reference = certify(store, add(), start=facts().middle - DAY, end=facts().middle, **WHO)
    passed = {"passed": True, "reference": {"id": str(reference.id), "name": reference.name}, "reasons": []}
    inside = add(hours=-2, gate=passed)
    with pytest.raises(StoreError, match=r"was certified by Ana for the time of"):
        certify_compared(store, inside, "like it")
    experiment = add(hours=24 * 20, gate=passed, parameters={"dark": {"high": 1.5}})
    with pytest.raises(
        StoreError, match=r"other parameters than the defaults \(dark.high is 1.5, 4.0 in this run\)"
    ):
        certify_compared(store, experiment, "like it")
    provisional = add(hours=24 * 20, gate=passed, provisional="made as of 2013-11-21 03:00")
    with pytest.raises(StoreError, match="is provisional: made as of"):
        certify_compared(store, provisional, "like it")
    first = certify_compared(store, add(hours=24 * 10, gate=passed), "like it")
    assert first.validity == (reference.validity[1], first.middle + 90 * DAY)
    # Automatically certified products share the time.
    second = certify_compared(store, add(hours=24 * 30, gate=passed), "like it")
    half = first.middle + (second.middle - first.middle) / 2
    assert store.get(first.id).validity == (reference.validity[1], half)
    assert second.validity == (half, second.middle + 90 * DAY)
    assert store.get(reference.id).validity == reference.validity


def test_a_certified_product_takes_over_the_time_next_to_its_own(store: Store, add) -> None:
    early, late, far = (add(hours=24 * days) for days in (0, 20, 300))
    early = certify(store, early, **WHO)
    late = certify(store, late, take_over=True, **WHO)
    far = certify(store, far, **WHO)
    half, end = late.validity
    for old, new in ((far, early), (early, far)):
        with pytest.raises(StoreError, match="there is a gap") as caught:
            supersede(store, old, by=new, **WHO)
        assert "without --by" in caught.value.remedy
        assert store.get(old.id).status == "certified"  # all or nothing
    done, better = supersede(store, late, by=early, **WHO)
    assert (done.status, done.validity) == ("superseded", None)
    assert better.validity == (early.middle - 90 * DAY, end)
    assert better.validity[0] < half < end
    assert store.history(late)[-1].by == early.id
    # Conversely, the later one takes the time before its own.
    again = reinstate(store, late, author="Bo", reason="a mistake")
    again = certify(store, again, take_over=True, **WHO)
    _, better = supersede(store, store.get(early.id), by=again, **WHO)
    assert better.validity == (early.middle - 90 * DAY, again.validity[1])


@pytest.mark.parametrize("turned", [False, True])
def test_two_that_are_open_to_both_sides_join_to_all_time(store: Store, add, epoch, turned: bool) -> None:
    one, other = add(), add(hours=5)
    one = certify(store, one, start="always", end=epoch, **WHO)
    other = certify(store, other, start=epoch, end="always", **WHO)
    old, new = (other, one) if turned else (one, other)
    _, better = supersede(store, old, by=new, **WHO)
    assert better.validity == (None, None)


def test_two_that_are_open_to_both_sides_with_a_gap_do_not_join(store: Store, add, epoch) -> None:
    one, other = add(), add(hours=5)
    one = certify(store, one, start="always", end=epoch, **WHO)
    other = certify(store, other, start=epoch + DAY, end="always", **WHO)
    with pytest.raises(StoreError, match="there is a gap"):
        supersede(store, one, by=other, **WHO)


def test_a_rejected_frame_is_reported_and_can_be_reinstated(store: Store, record) -> None:
    store.frames.ingest([record("S1.fits")])
    frame = product_or_frame(store, "S1")
    rejected = reject(store, frame, author="Bo", reason="satellite")
    assert rejected.rejected == "satellite"
    assert store.frames.rejections([frame.sha256])[frame.sha256].author == "Bo"
    store.frames.ingest([record("S1.fits")])  # seen again: the user's decision is kept
    assert store.frames.get("S1.fits").rejected == "satellite"
    assert reinstate(store, rejected, author="Bo", reason="it was a star").rejected is None
    assert store.frames.rejections([frame.sha256]) == {}
    with pytest.raises(StoreError, match="is not rejected"):
        reinstate(store, store.frames.get("S1"), author="Bo", reason="")
    assert [c.status for c in store.frames.history(frame)] == ["rejected", "usable"]


def test_the_decision_as_of_an_earlier_time(store: Store, add, record) -> None:
    def now():
        time.sleep(0.002)
        with store.database.begin() as connection:
            return connection.scalar(text("SELECT clock_timestamp()"))

    before = now()
    dark = add()
    store.frames.ingest([record("S1.fits")])
    made = now()
    reject(store, dark, **WHO)
    frame = reject(store, store.frames.get("S1"), **WHO)
    bad = now()
    reinstate(store, store.get(dark.id), **WHO)
    reinstate(store, frame, **WHO)
    statuses = [status_as_of(store, dark, moment).status for moment in (before, made, bad, None)]
    assert statuses == ["candidate", "candidate", "rejected", "candidate"]
    rejected = [bool(store.frames.rejections([frame.sha256], as_of=m)) for m in (made, bad, None)]
    assert rejected == [False, True, False]


def test_of_two_simultaneous_decisions_the_last_entry_of_the_log_counts(store: Store, add) -> None:
    dark = add()
    with store.database.begin() as connection, ThreadPoolExecutor() as pool:
        changes_alone(connection)
        other = pool.submit(reject, store, dark, author="Ben", reason="bad")
        _until_one_waits(store)
        set_status(connection, dark, "superseded", **WHO)
        connection.commit()
        other.result(timeout=PATIENCE)
    statuses = [change.status for change in store.history(dark)]
    assert statuses == ["candidate", "superseded", "rejected"]
    assert store.get(dark.id).status == "rejected"
    assert status_as_of(store, dark, None).status == "rejected"


def _until_one_waits(store: Store) -> None:
    waits = """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event = 'advisory'"""
    wait_until(
        lambda: store.database.read(lambda connection: connection.scalar(text(waits))), "one that waits"
    )


def test_names_of_products_and_frames(store: Store, add, record) -> None:
    dark = add(name="S1_dark.fits")
    store.frames.ingest([record("S1.fits"), record("S2.fits", "a"), record("S2.fits", "b")])
    assert product_or_frame(store, "S1_dark") == dark
    assert product_or_frame(store, "S1.fits.bz2").name == "S1.fits"
    frame = store.frames.get("S1")
    assert product_or_frame(store, frame.sha256[:10]) == frame
    with pytest.raises(StoreError, match="no product and no raw frame 'S9'"):
        product_or_frame(store, "S9")
    with pytest.raises(StoreError, match=r"may be any of: frame .*, frame"):
        product_or_frame(store, "S2")
    with pytest.raises(StoreError, match="any of 2 frames"):
        store.frames.get("S2.fits")
