"""A database that becomes unavailable and returns: every request is executed, and only once."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, text
from waiting import PATIENCE

from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.server.postmaster import running_pid
from calib_store.store import Store
from calib_store.tables.database import Database
from calib_store.tables.status_log import history
from imaging.errors import StoreError

ONE = text("SELECT 1")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A data folder with its own embedded server, which a test may stop or kill."""
    folder = tmp_path / "own"
    postgres.ensure_running(folder)
    yield folder
    postgres.stop(folder)


def _later(act: Callable[[], object], seconds: float = 0.5) -> threading.Thread:
    thread = threading.Timer(seconds, act)
    thread.start()
    return thread


def test_a_server_that_is_started_again_is_waited_for(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(postgres.ensure_running(own).url("nirflow"), patience=PATIENCE)
    assert database.run(lambda connection: connection.scalar(ONE)) == 1
    postgres.stop(own)
    back = _later(lambda: postgres.ensure_running(own))
    with caplog.at_level(logging.WARNING):
        assert database.run(lambda connection: connection.scalar(ONE)) == 1
    back.join()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "does not answer" in line
    assert "Trying again for 300 s." in line
    database.close()


def test_a_server_that_does_not_return_is_reported_after_the_patience(own: Path) -> None:
    database = Database(postgres.ensure_running(own).url("nirflow"), patience=0.6)
    database.run(lambda connection: connection.scalar(ONE))
    postgres.stop(own)
    began = time.monotonic()
    with pytest.raises(StoreError, match="does not answer") as caught:
        database.run(lambda connection: connection.scalar(ONE))
    assert time.monotonic() - began > 0.5
    assert "Check that it is up" in caught.value.remedy
    # A server that is restarted automatically has a log with the reason why it does not start.
    embedded = Database(database.url.render_as_string(hide_password=False), patience=0.2, revive=lambda: None)
    with pytest.raises(StoreError, match="does not answer") as caught:
        embedded.run(lambda connection: connection.scalar(ONE))
    assert "server.log" in caught.value.remedy
    with pytest.raises(StoreError, match="does not answer"), database.lock(1):
        pass
    database.close()


def test_a_killed_embedded_server_is_started_again_but_not_a_stopped_one(own: Path) -> None:
    store = Store.open(StoreSettings(data_dir=own))
    pid = running_pid(own / "postgres")
    assert pid is not None
    backends = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(backends, timeout=PATIENCE)  # a connection may still answer for a moment
    assert store.products() == ()
    assert running_pid(own / "postgres") not in (None, pid)
    store.database.patience = 0.5
    postgres.stop(own)
    with pytest.raises(StoreError, match="does not answer"):
        store.products()
    assert running_pid(own / "postgres") is None
    store.close()


@pytest.mark.parametrize("state", ["40P01", "57P01", "08006", "53300"])
def test_temporary_errors_are_retried(store: Store, state: str) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> int:
        tries.append(1)
        if len(tries) < 3:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"))
        return len(tries)

    assert store.database.run(work) == 3


@pytest.mark.parametrize("state", ["53100", "57014", "28P01"])
def test_permanent_errors_are_reported_at_once(store: Store, state: str) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"))

    if state == "57014":  # query_canceled has the same class as a shutdown, but is intended
        with pytest.raises(StoreError, match="gave up"):
            store.database.run(work)
    else:
        with pytest.raises(StoreError):
            store.database.run(work)
    assert len(tries) == 1


class AnswerLost:
    """A database that commits a transaction and then loses the connection, so that the caller gets no answer."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = 0
        original = store.database.run

        def run(work):
            if self.lost:
                return original(work)
            self.lost += 1
            original(work)
            return original(work)  # like the retry

        monkeypatch.setattr(store.database, "run", run)


def test_nothing_is_done_twice_if_the_answer_is_lost(
    store: Store, add, facts, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, frame = add(), record("S9.fits")
    for act in (
        lambda: store.set_status(product, "certified", author="me", reason="", validity=(None, None)),
        lambda: store.frames.ingest([frame]),
        lambda: store.frames.set_status(store.frames.get("S9.fits"), "rejected", author="me", reason="x"),
        lambda: add(hours=3),
    ):
        with monkeypatch.context() as patch:
            lost = AnswerLost(store, patch)
            act()
            assert lost.lost == 1
    with store.database.begin() as connection:
        assert [c.status for c in history(connection, product.id)] == ["candidate", "certified"]
        for table, number in {"frame_history": 1, "products": 2, "inputs": 2, "serves": 2}.items():
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == number, table


def test_decisions_are_written_once_if_the_answer_is_lost(
    store: Store, add, facts, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calib_store.model.records import Decision

    frame, product = record("S9.fits"), add()
    store.frames.ingest([frame])
    match = store.match(facts(), "dark")
    AnswerLost(store, monkeypatch)
    store.record_decisions([Decision(frame.sha256, match, product)])
    store.record_decisions([Decision(frame.sha256, match, product)])  # another act: another entry
    with store.database.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM decisions")) == 2


def test_a_server_that_is_too_old_is_refused_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(Database(store.database.url)) as old:
        monkeypatch.setattr("calib_store.tables.database._OLDEST", 990000)
        for act in (old.read, old.run):
            with pytest.raises(
                StoreError, match=r"is PostgreSQL 1\d\.\d.*; nirflow needs 99 or later"
            ) as raised:
                act(lambda c: c.execute(ONE).scalar())
            assert "Upgrade it" in raised.value.remedy


def test_the_pool_is_small_and_bounded(store: Store, postgres_address) -> None:
    def ask(_: int) -> None:
        store.database.run(lambda connection: connection.execute(text("SELECT pg_sleep(0.02)")))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    with postgres_address.administer() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        most = max(connection.execute(query, (store.database.url.database,)).fetchone()[0] for _ in range(20))
    for thread in threads:
        thread.join()
    assert 1 <= most <= 4


def test_neither_repr_nor_errors_contain_the_password() -> None:
    database = Database("postgresql://me:hush@127.0.0.1:1/nirflow?options=-csearch_path%3Dx", patience=0.2)
    with pytest.raises(StoreError) as caught:
        database.run(lambda connection: None)
    texts = [repr(database), database.place, str(caught.value), repr(caught.value), repr(database.engine)]
    assert not [text for text in texts if "hush" in text]
    assert re.fullmatch(r"Database\(postgresql://me@127\.0\.0\.1:1/nirflow\)", repr(database))
