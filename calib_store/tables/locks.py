"""Exclusive rights among all processes that share the database."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from calib_store.tables.database import Database

#: Key of the advisory lock that protects a file whose row is being written from housekeeping, and a product that is
#: being added from a change of rules: "objects".
KEEPING: Final = int.from_bytes(b"objects", "big")

#: Key of the advisory lock under which one of several equivalent configurations is certified: "certify".
CERTIFYING: Final = int.from_bytes(b"certify", "big")

#: Key of the advisory lock under which products and decisions about them change: "changes".
CHANGING: Final = int.from_bytes(b"changes", "big")


def keep(connection: Connection) -> None:
    """Keep rules and files until the end of the transaction: rules are not changed, and files not removed."""
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": KEEPING})


def changes_alone(connection: Connection) -> None:
    """Hold the exclusive right to change products and decisions about them until the end of the transaction.

    It is taken before any row is locked, so that two transactions never wait for each other.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHANGING})


def lock_number(digest: str) -> int:
    """Return the number of the advisory lock that belongs to a hexadecimal digest."""
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


@contextlib.contextmanager
def alone_with(
    database: Database,
    nights: Sequence[date],
    sequence: str | None,
    waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the exclusive right to reduce complete nights, or one sequence of a night.

    Different sequences of a night may be reduced at the same time, but not a complete night and one of its sequences.
    The right is released at once when its holder is killed.

    Parameters
    ----------
    database
        The database that they share.
    nights
        The nights.
    sequence
        Name of the one sequence; None for all of the nights.
    waiting
        Called once for each right that another process holds.
    """
    with contextlib.ExitStack() as stack:
        # In a fixed order, so that two processes never wait for each other.
        numbers = [_number(f"night {night}") for night in sorted(set(nights))]
        shared = sequence is not None
        stack.enter_context(database.lock(*numbers, waiting=waiting, shared=shared))
        if sequence is not None:
            stack.enter_context(database.lock(_number(f"sequence {sequence}"), waiting=waiting))
        yield


@contextlib.contextmanager
def alone_with_pages(database: Database) -> Iterator[None]:
    """Hold the exclusive right to write the pages of nights."""
    with database.lock(_number("pages of nights")):
        yield


@contextlib.contextmanager
def alone_starting_runs(database: Database) -> Iterator[None]:
    """Hold the exclusive right to find out which runs are due, and to start them."""
    with database.lock(_number("start of runs")):
        yield


def _number(name: str) -> int:
    return lock_number(hashlib.sha256(name.encode()).hexdigest())
