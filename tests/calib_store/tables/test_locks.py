"""The right to reduce a night or one of its sequences: which requests wait, and which are granted at once."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date, timedelta

import pytest
from waiting import PATIENCE, wait_until

from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.locks import alone_with

NIGHT, NEXT = date(2013, 11, 21), date(2013, 11, 22)
A, B = "2013-11-21.science.Y.aaaaaaaa", "2013-11-21.science.Y.bbbbbbbb"

HOLD = """
import sys
from datetime import date
from pathlib import Path
from calib_store.tables.locks import alone_with
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
data, url, sequence = sys.argv[1:]
with Store.open(StoreSettings(data_dir=Path(data), database_url=url)) as store:
    with alone_with(store.database, [date(2013, 11, 21)], sequence or None):
        print("held", flush=True)
        sys.stdin.read()
"""

Ask = Callable[..., AbstractContextManager["Asking"]]


class Asking:
    """A thread that requests a right and holds it until it is released."""

    def __init__(self, store: Store, nights: list[date], sequence: str | None) -> None:
        self.waits = 0
        self.holds = threading.Event()
        self._waiting = threading.Event()
        self.go = threading.Event()
        self._arguments = (store.database, nights, sequence)
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()

    def _hold(self) -> None:
        with alone_with(*self._arguments, self._wait):
            self.holds.set()
            self.go.wait(PATIENCE)

    def _wait(self) -> None:
        self.waits += 1
        self._waiting.set()

    def held(self) -> bool:
        return self.holds.wait(PATIENCE)

    def waiting(self) -> bool:
        """Whether it has to wait for another holder, and is still waiting."""
        return self._waiting.wait(PATIENCE) and not self.holds.wait(0.15)

    def leave(self) -> None:
        self.go.set()
        self.thread.join(PATIENCE)


@pytest.fixture
def ask(store: Store) -> Ask:
    @contextmanager
    def asking(nights: list[date], sequence: str | None = None) -> Iterator[Asking]:
        one = Asking(store, nights, sequence)
        try:
            yield one
        finally:
            one.leave()

    return asking


@pytest.mark.parametrize(("first", "second"), [(None, A), (A, None), (None, None), (A, A)])
def test_these_two_exclude_each_other(ask: Ask, first: str | None, second: str | None) -> None:
    with ask([NIGHT], first) as holder:
        assert holder.held()
        with ask([NIGHT], second) as waiter:
            assert waiter.waiting()
            holder.leave()
            assert waiter.held()
            assert (holder.waits, waiter.waits) == (0, 1)


def test_two_sequences_of_a_night_run_in_parallel(ask: Ask) -> None:
    with ask([NIGHT], A) as one, ask([NIGHT], B) as other:
        assert one.held()
        assert other.held()
        assert (one.waits, other.waits) == (0, 0)


def test_different_nights_run_in_parallel(ask: Ask) -> None:
    with ask([NIGHT]) as one, ask([NEXT]) as other, ask([NEXT - (NIGHT - NEXT)], A) as third:
        assert one.held()
        assert other.held()
        assert third.held()


def test_a_range_is_locked_in_one_order_without_deadlocks(ask: Ask) -> None:
    """The second requests them in reverse order, which would be a deadlock."""
    nights = [NIGHT, NEXT]
    for _ in range(5):
        with ask(nights) as one, ask(nights[::-1]) as other:
            both = [one, other]
            wait_until(lambda one=one, other=other: one.holds.is_set() or other.holds.is_set(), "one of two")
            holder, waiter = both if one.holds.is_set() else both[::-1]
            assert not waiter.holds.is_set()
            holder.leave()
            assert waiter.held()


def test_a_night_named_twice_is_taken_once(ask: Ask) -> None:
    with ask([NIGHT, NIGHT]) as one:
        assert one.held()
        assert one.waits == 0


def test_years_of_nights_take_one_connection(ask: Ask) -> None:
    """A server has a hundred."""
    nights = [NIGHT + timedelta(days=n) for n in range(500)]
    with ask(nights) as one:
        assert one.held()
        with ask(nights[-1:]) as other:
            assert other.waiting()
            one.leave()
            assert other.held()


def test_locks_of_a_killed_process_are_released(
    ask: Ask, store_settings: StoreSettings, store: Store, python: Callable[..., subprocess.Popen[str]]
) -> None:
    url = store_settings.database_url
    assert url is not None
    holder = python(HOLD, store_settings.data_dir, url.get_secret_value(), A, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with ask([NIGHT]) as whole:
        assert whole.waiting()
        holder.kill()
        assert whole.held()
    holder.stdin.close()
