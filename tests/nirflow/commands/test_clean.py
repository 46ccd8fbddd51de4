"""``nirflow clean``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]


def aged(path: Path, hours: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 4096)
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    return path


def test_cleaning_frees_what_no_run_uses(nirflow: Run, own_store: None, tmp_path: Path) -> None:
    data = tmp_path / "data"
    old, used = aged(data / "scratch" / "old", 2), aged(data / "scratch" / "used", 0.5)
    raw = aged(data / "unpacked" / "S1.fits", 2)
    dry = json.loads(nirflow("clean", "--dry-run", "--json").stdout)
    assert (dry["removed"], dry["bytes"]) == (False, 8192)
    assert old.exists()
    freed = nirflow("clean")
    assert freed.exit_code == 0
    assert "Freed 8192 bytes; " in freed.stdout
    assert [path.exists() for path in (old, used, raw)] == [False, True, False]
    again = json.loads(nirflow("clean", "--json").stdout)
    assert {one["what"]: one["number"] for one in again["files"]} == {
        "planes between steps": 0,
        "unpacked raw frames": 0,
        "unfinished products": 0,
        "files that no product refers to": 0,
    }
