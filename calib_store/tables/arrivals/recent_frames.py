"""Raw frames that no run has had yet, and those in quarantine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from calib_store.tables.frames import any_of, rejections
from calib_store.tables.schema import frame_files, frames
from imaging.frames.facts import FrameFacts


@dataclass(frozen=True)
class Arrival:
    """A usable raw frame with its files, and when the store first had it (UTC).

    Its facts are None if they are from another version of nirflow: the next survey replaces them.
    """

    facts: FrameFacts | None
    paths: tuple[Path, ...]
    added_at: datetime


@dataclass(frozen=True)
class News:
    """The frames that no run has had.

    Attributes
    ----------
    now
        The time by the database's clock, which also dated the arrivals.
    there
        When the store first had each frame, by its sha256, earliest first.
    unknown
        The frames that the caller did not know.
    """

    now: datetime
    there: dict[str, datetime]
    unknown: dict[str, Arrival]


@dataclass(frozen=True)
class Quarantined:
    """A raw frame in quarantine with its files, why it is there, and when the store first had it (UTC)."""

    name: str
    reason: str
    paths: tuple[Path, ...]
    added_at: datetime


def new(connection: Connection, known: Collection[str] = ()) -> News:
    """Return the usable frames with a file that no run has had, and the time by the database's clock.

    Parameters
    ----------
    connection
        To the database.
    known
        sha256 of frames whose facts and files the caller has: they are listed only.
    """
    query = (
        select(frames.c.sha256, frames.c.added_at)
        .where(~frames.c.in_run, frames.c.facts.is_not(None), frames.c.quarantine.is_(None), _has_file())
        .order_by(frames.c.added_at, frames.c.sha256)
    )
    there = {row.sha256: row.added_at for row in connection.execute(query)}
    for sha256 in rejections(connection, there):
        del there[sha256]
    unknown = select(frames.c.sha256, frames.c.facts, frames.c.added_at, _paths()).where(
        frames.c.sha256 == any_of(there.keys() - set(known))
    )
    arrivals = {
        row.sha256: Arrival(_facts(row.facts), tuple(map(Path, row.paths)), row.added_at)
        for row in connection.execute(unknown)
    }
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    return News(now=now, there=there, unknown=arrivals)


def quarantined(connection: Connection, limit: int) -> tuple[int, tuple[Quarantined, ...]]:
    """Return how many files are in quarantine, and the newest of them, at most ``limit``.

    A frame whose file was replaced by a better one is not among them.
    """
    better = frames.alias()
    replaced = select(better.c.sha256).where(better.c.name == frames.c.name, better.c.quarantine.is_(None))
    stays = (frames.c.quarantine.is_not(None), _has_file(), ~replaced.exists())
    number = connection.scalar(select(func.count()).select_from(frames).where(*stays)) or 0
    query = (
        select(frames.c.name, frames.c.quarantine, frames.c.added_at, _paths())
        .where(*stays)
        .order_by(frames.c.added_at.desc(), frames.c.sha256)
        .limit(limit)
    )
    found = (
        Quarantined(row.name, row.quarantine, tuple(map(Path, row.paths)), row.added_at)
        for row in connection.execute(query)
    )
    return number, tuple(found)


def _facts(stored: object) -> FrameFacts | None:
    try:
        return FrameFacts.model_validate(stored)
    except ValidationError:
        return None


def _paths() -> ColumnElement[list[str]]:
    """Return the paths of a frame's files as a column."""
    of_frame = select(func.array_agg(frame_files.c.path)).where(frame_files.c.frame_sha256 == frames.c.sha256)
    return of_frame.scalar_subquery().label("paths")


def _has_file() -> ColumnElement[bool]:
    return select(frame_files.c.path).where(frame_files.c.frame_sha256 == frames.c.sha256).exists()
