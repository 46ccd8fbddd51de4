"""Rights that one process holds at a time, among all that share the database."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from calib_store.tables.database import Database

#: Key of the advisory lock that keeps housekeeping from a file whose row is being written, and a change of rules from
#: a product that is being added: "objects".
KEEPING: Final = int.from_bytes(b"objects", "big")

#: Key of the advisory lock under which one of several configurations alike is certified: "certify".
CERTIFYING: Final = int.from_bytes(b"certify", "big")

#: Key of the advisory lock under which products, and what is said of them, change: "changes".
CHANGING: Final = int.from_bytes(b"changes", "big")


def keep(connection: Connection) -> None:
    """Have rules and files stay to the end of the transaction: no change of rules, no file taken away."""
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": KEEPING})


def changes_alone(connection: Connection) -> None:
    """Change products, or what is said of them, alone until the end of the transaction.

    Taken before any row is locked, so that no two wait for each other.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHANGING})


def lock_number(digest: str) -> int:
    """The number of the advisory lock that belongs to a hexadecimal digest."""
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


@contextlib.contextmanager
def alone_with(
    database: Database,
    nights: Sequence[date],
    sequence: str | None,
    waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the right to reduce whole nights, or one sequence of a night; others wait.

    Different sequences of a night may be reduced at a time; a whole night, and one of its sequences, not. The
    right is free at once when its holder is killed.

    Parameters
    ----------
    database
        The database that they share.
    nights
        UT nights.
    sequence
        Name of the one sequence; None for all of the nights.
    waiting
        Called once for each right that somebody else holds.
    """
    with contextlib.ExitStack() as stack:
        # In one order, so that no two wait for each other.
        numbers = [_number(f"night {night}") for night in sorted(set(nights))]
        shared = sequence is not None
        stack.enter_context(database.lock(*numbers, waiting=waiting, shared=shared))
        if sequence is not None:
            stack.enter_context(database.lock(_number(f"sequence {sequence}"), waiting=waiting))
        yield


@contextlib.contextmanager
def alone_with_pages(database: Database) -> Iterator[None]:
    """Hold the right to write the pages of nights; others wait."""
    with database.lock(_number("pages of nights")):
        yield


def _number(name: str) -> int:
    return lock_number(hashlib.sha256(name.encode()).hexdigest())
