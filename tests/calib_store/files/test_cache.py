"""The copies of objects at a URL, on a machine whose processes are killed occasionally."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from calib_store.files.remote import RemoteObjects


def left(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_files_of_killed_processes_are_removed_and_recent_ones_kept(tmp_path: Path) -> None:
    objects = RemoteObjects(f"memory://{uuid.uuid4().hex}/objects", tmp_path / "cache", cache_limit=10**9)
    objects.prepare()
    root, digest = objects.cache.root, "ab" + "0" * 62
    gone = [
        left(root / "coming" / uuid.uuid4().hex, 7200),
        left(root / "ab" / f".{digest}.0123456789ab", 7200),
        left(root / "quarantine" / f"{digest}.fits.0123456789ab", 7200),
    ]
    kept = [left(root / "coming" / uuid.uuid4().hex, 60), left(root / "ab" / f".{digest}.ba9876543210", 60)]
    file = tmp_path / "S1_dark.fits"
    file.write_bytes(b"pixels")
    sha256, _ = objects.put(file)
    assert [path.name for path in gone if path.exists()] == []
    assert all(path.exists() for path in kept)
    assert objects.local(sha256).read_bytes() == b"pixels"
