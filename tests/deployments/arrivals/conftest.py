"""Fixtures of this folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from raw_files import SHAPE
from watched_folder import NIGHT, Clock, Server, Watch

from calib_store.store import Store
from deployments.arrivals.watcher import Watcher
from deployments.settings.watch_settings import WatchSettings
from imaging.frames.find_files import CheckParameters


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(store: Store, server: Server, clock: Clock, raw: Path, tmp_path: Path) -> Iterator[Watch]:
    """Create a watcher of the folder ``raw``, with settings by keyword, and close the previous one."""
    made: list[Watcher] = []

    def make(*, send: Any = None, real_time: bool = False, now: datetime = NIGHT, **settings: Any) -> Watcher:
        while made:
            made.pop().close()
        values: dict[str, Any] = {"folders": (raw,), "check": CheckParameters(shape=SHAPE)}
        made.append(
            Watcher(
                WatchSettings(**(values | settings)), store, send or server.emit, data_dir=tmp_path / "data",
                threads=2, clock=time.monotonic if real_time else clock, now=lambda: now,
            )
        )  # fmt: skip
        return made[0]

    yield make
    while made:
        made.pop().close()
