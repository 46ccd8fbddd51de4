"""Fixtures of this folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_files import SHAPE
from watched_folder import NIGHT, Clock, Watch

from calib_store.store import Store
from deployments.arrivals.watcher import Watcher
from deployments.settings.watch_settings import WatchSettings
from imaging.frames.find_files import CheckParameters


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(store: Store, clock: Clock, raw: Path, tmp_path: Path) -> Iterator[Watch]:
    """Create a watcher of the folder ``raw``, with settings by keyword, and close the previous one."""
    made: list[Watcher] = []

    def make(
        *, recorded: Callable[[], None] = lambda: None, real_time: bool = False, **settings: Any
    ) -> Watcher:
        while made:
            made.pop().close()
        values: dict[str, Any] = {"folders": (raw,), "check": CheckParameters(shape=SHAPE)}
        made.append(
            Watcher(
                WatchSettings(**(values | settings)), store, data_dir=tmp_path / "data", recorded=recorded,
                threads=2, clock=time.monotonic if real_time else clock, now=lambda: NIGHT,
            )
        )  # fmt: skip
        return made[0]

    yield make
    while made:
        made.pop().close()
