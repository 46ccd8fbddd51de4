"""References without files behind them, and a workspace with its own store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from raw_files import SHAPE, raw_bytes

from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from tasks.support.references import RawFrame, Survey
from tasks.support.workspace import Workspace, close_stores
from tasks.survey import survey_frames


@pytest.fixture
def raw_frame() -> Callable[..., RawFrame]:
    """Make a raw frame of a given name; other facts by keyword."""

    def make(name: str = "S20131121S0075.fits", **changes: Any) -> RawFrame:
        values: dict[str, Any] = {
            "name": name, "instrument": "F2", "kind": "dark", "observation_class": "dayCal", "target": "Dark",
            "exposure_time": 120.0, "coadds": 1, "read_pairs": 8, "filter_id": "DK_G0807", "filter": "DK",
            "lyot": "", "focal_mask": "Open", "disperser": "Open", "detector": "109",
            "started": datetime(2013, 11, 21, 2, tzinfo=UTC),
        }  # fmt: skip
        path = Path("/raw") / name
        facts = FrameFacts(**(values | changes))
        return RawFrame(path=path, source=path, sha256=name.encode().hex().ljust(64, "0"), facts=facts)

    return make


@pytest.fixture
def workspace(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    yield Workspace(data_dir=tmp_path / "data", out=tmp_path / "out", threads=2)
    close_stores()


@pytest.fixture
def raw(tmp_path: Path) -> list[Path]:
    """Four darks."""
    paths = [tmp_path / f"S20131121S000{n}.fits" for n in range(4)]
    for n, path in enumerate(paths):
        path.write_bytes(raw_bytes(n))
    return paths


@pytest.fixture
def look(workspace: Workspace) -> Callable[..., Survey]:
    """Survey files of a night."""
    return lambda paths: survey_frames.fn(list(paths), "night", CheckParameters(shape=SHAPE), workspace)
