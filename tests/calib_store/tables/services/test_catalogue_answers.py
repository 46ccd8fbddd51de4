"""The answers of services in the store: found again by region and time, intact, and without another question."""

from __future__ import annotations

import hashlib
import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from waiting import PATIENCE

from calib_store.store import Store
from calib_store.tables.database import Database
from calib_store.tables.services import catalogue_answers as module
from calib_store.tables.services.catalogue_answers import Question
from imaging.errors import StoreError

HERE = Question("vizier", "II/246/out", 63.49, -47.84, 0.2)


def asked(ra: float = 63.49, dec: float = -47.84, radius: float = 0.2, **changes: str) -> Question:
    return Question(changes.get("service", "vizier"), changes.get("catalogue", "II/246/out"), ra, dec, radius)


def test_an_answer_is_found_again(store: Store) -> None:
    assert store.answers.find(HERE) is None
    added = store.answers.add(HERE, b"<VOTABLE/>" * 1000)
    found = store.answers.find(HERE)
    assert found == added
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"<VOTABLE/>" * 1000).hexdigest()
    assert found.asked_at.tzinfo is not None


@pytest.mark.parametrize(
    ("question", "covered"),
    [
        (asked(radius=0.1), True),
        (asked(dec=-47.94, radius=0.1), True),
        (asked(dec=-47.95, radius=0.1), False),
        (asked(ra=63.49 + 0.14, radius=0.1), True),  # 0.14 deg of right ascension are 0.094 deg here
        (asked(ra=63.49 + 0.16, radius=0.1), False),
        (asked(radius=0.21), False),
        (asked(catalogue="I/355/gaiadr3"), False),
        (asked(service="other"), False),
    ],
)
def test_an_answer_serves_regions_within_its_own(store: Store, question: Question, covered: bool) -> None:
    store.answers.add(HERE, b"stars")
    found = store.answers.find(question)
    assert (found is not None) is covered
    assert found is None or found.question == HERE


def test_across_the_origin_of_right_ascension(store: Store) -> None:
    store.answers.add(asked(ra=360.0, dec=0.0), b"stars")
    assert store.answers.find(asked(ra=359.95, dec=0.0, radius=0.1)) is not None
    assert store.answers.find(asked(ra=0.05, dec=0.0, radius=0.1)) is not None


def test_the_earliest_answer_counts_unless_a_time_is_given(store: Store, owner: Database) -> None:
    first = store.answers.add(HERE, b"first")
    second = store.answers.add(HERE, b"second")
    found = store.answers.find(HERE)
    assert found is not None
    assert found.content == b"first"
    later = store.answers.find(HERE, since=second.asked_at)
    assert later is not None
    assert later.content == b"second"
    assert store.answers.find(HERE, as_of=first.asked_at - timedelta(seconds=1)) is None
    assert store.answers.find(HERE, since=second.asked_at, as_of=first.asked_at) is None


def test_a_damaged_record_is_reported(store: Store, owner: Database) -> None:
    store.answers.add(HERE, b"stars")
    for damaged in ("answer = '\\x01'", f"sha256 = '{'0' * 64}'"):
        with owner.begin() as connection:
            connection.execute(text(f"UPDATE catalogue_answers SET {damaged}"))
        with pytest.raises(StoreError, match="cannot be read") as caught:
            store.answers.find(HERE)
        assert "catalogue.asked_since" in caught.value.remedy


def test_a_large_answer_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ANSWER", 100)
    with pytest.raises(StoreError, match="too large"):
        store.answers.add(HERE, b"a" * 101)
    assert store.answers.find(HERE) is None


def test_one_process_asks_at_a_time(store: Store) -> None:
    waited = threading.Event()
    order: list[str] = []

    def second() -> None:
        with store.answers.asking(HERE, waiting=waited.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.answers.asking(HERE):
        thread.start()
        assert waited.wait(PATIENCE)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_times_are_those_of_the_database(store: Store) -> None:
    before = store.answers.add(HERE, b"a").asked_at
    after = store.answers.add(HERE, b"b").asked_at
    assert isinstance(before, datetime)
    assert before <= after
