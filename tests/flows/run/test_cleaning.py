"""Limits of the temporary files in the data folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flows.run.temporary_files import limit_temporary_files, temporary_files
from tasks.support.workspace import Workspace

HOUR, DAY = 3600, 86400


def made(path: Path, age: float, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_scratch_unpacked_and_staging_stay_within_bounds(tmp_path: Path) -> None:
    workspace = Workspace(data_dir=tmp_path, out=tmp_path, scratch_limit=2500)
    limit_temporary_files(workspace)  # nothing to clean yet
    kept = [
        made(workspace.scratch / "new", 60),
        made(workspace.scratch / "newer", 30),
        made(workspace.scratch / "newest", 0),
        made(workspace.unpacked / "a.fits", 2 * DAY, 2000),
        made(workspace.staging / "at work", 23 * HOUR),
    ]
    gone = [
        made(workspace.scratch / "old", 2 * HOUR),
        made(workspace.unpacked / "b.fits", 3 * DAY),
        made(workspace.staging / "killed", 25 * HOUR),
    ]
    limit_temporary_files(workspace)
    assert [path.name for path in kept if not path.exists()] == []
    assert [path.name for path in gone if path.exists()] == []


def test_what_a_run_may_be_using_is_not_expendable(tmp_path: Path) -> None:
    workspace = Workspace(data_dir=tmp_path, out=tmp_path)
    used = made(workspace.scratch / "used", 60)
    planes = made(workspace.scratch / "frame" / "sci", 60, 3000).parent
    os.utime(planes, (time.time() - 2 * HOUR,) * 2)
    killed = made(workspace.staging / "killed", 25 * HOUR)
    found = {one.what: one.expendable() for one in temporary_files(workspace)}
    assert found == {
        "planes between steps": {planes: 3000},
        "unpacked raw frames": {},
        "unfinished products": {killed: 1000},
    }
    assert used.exists()
    assert planes.exists()
