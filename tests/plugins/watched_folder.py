"""A watcher of a folder with a fake clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from calib_store.model.records import Frame
from calib_store.store import Store
from calib_store.tables.schema import frames
from deployments.arrivals.watcher import Watcher

#: Time in the middle of the night of the frames.
NIGHT = datetime(2013, 11, 21, 4, tzinfo=UTC)


class Clock:
    """A clock that only advances on request."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


Watch = Callable[..., Watcher]


def rounds(watcher: Watcher, clock: Clock, n: int = 3) -> None:
    """Let enough time pass for every complete file to be recorded."""
    for _ in range(n):
        clock.time += 60.0
        while watcher.step():
            pass


def in_store(store: Store) -> Counter[str]:
    """Return the number of frames of each name, without those in quarantine."""
    with store.database.engine.connect() as connection:
        return Counter(connection.scalars(select(frames.c.name).where(frames.c.quarantine.is_(None))))


def sha256s(store: Store) -> dict[str, str | None]:
    with store.database.engine.connect() as connection:
        return {
            row.sha256: row.quarantine
            for row in connection.execute(select(frames.c.sha256, frames.c.quarantine))
        }


def put(path: Path, content: bytes) -> Path:
    """Write to a temporary name and rename, as a good copying program does."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(content)
    return aside.rename(path)


def known(store: Store, *names: str) -> list[Frame]:
    return [frame for name in names for frame in store.frames.named(name)]
