"""The health check of the watcher's container."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.status import watcher_health
from deployments.status.arriving import SILENCE, WatcherRecord, write_record


@pytest.mark.parametrize(
    ("age", "trouble", "logged"),
    [
        (None, "", "no record"),
        (SILENCE, "", "is old"),
        (timedelta(), "the database is down", "the database is down"),
        (timedelta(), "", ""),
    ],
)
def test_a_watcher_is_healthy_while_its_record_is_recent(
    age: timedelta | None,
    trouble: str,
    logged: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watcher_health, "make_output_printable", lambda: None)
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path))
    if age is not None:
        write_record(tmp_path, WatcherRecord(written=datetime.now(UTC) - age, trouble=trouble))
    assert watcher_health.main() == (1 if logged else 0)
    assert logged in caplog.text
