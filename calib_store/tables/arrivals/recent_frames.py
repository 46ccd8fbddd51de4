"""Raw frames by the time at which the store first had them: those that arrived lately, and those in quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from calib_store.tables.schema import frame_files, frames
from imaging.frames.facts import FrameFacts


@dataclass(frozen=True)
class Arrival:
    """A usable raw frame with its files, and when the store first had it (UTC)."""

    facts: FrameFacts
    paths: tuple[Path, ...]
    added_at: datetime


@dataclass(frozen=True)
class Quarantined:
    """A raw frame in quarantine with its files, why it is there, and when the store first had it (UTC)."""

    name: str
    reason: str
    paths: tuple[Path, ...]
    added_at: datetime


def arrived(connection: Connection, since: datetime, limit: int) -> tuple[Arrival, ...]:
    """Return usable frames with a file that the store first had at a time or later, newest first, at most ``limit``."""
    query = (
        select(frames.c.facts, frames.c.added_at, _paths())
        .where(
            frames.c.added_at >= since,
            frames.c.facts.is_not(None),
            frames.c.quarantine.is_(None),
            _has_file(),
        )
        .order_by(frames.c.added_at.desc(), frames.c.sha256)
        .limit(limit)
    )
    return tuple(
        Arrival(FrameFacts.model_validate(row.facts), tuple(map(Path, row.paths)), row.added_at)
        for row in connection.execute(query)
    )


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


def _paths() -> ColumnElement[list[str]]:
    """Return the paths of a frame's files as a column."""
    of_frame = select(func.array_agg(frame_files.c.path)).where(frame_files.c.frame_sha256 == frames.c.sha256)
    return of_frame.scalar_subquery().label("paths")


def _has_file() -> ColumnElement[bool]:
    return select(frame_files.c.path).where(frame_files.c.frame_sha256 == frames.c.sha256).exists()
