"""The record of the watcher: the files that are still arriving, in ``service/watcher.json`` of the data folder.

The watcher writes it when it changes, and otherwise every quarter of a minute, so that its age shows whether the
watcher works. It removes it when it ends.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib_store.private import private_folder
from imaging.io.atomic import write_complete

#: Longest time between two records, and the age from which the watcher counts as down.
EVERY: Final = timedelta(seconds=15)
SILENCE: Final = timedelta(seconds=60)
#: Files that a record lists; the others are counted.
LISTED: Final = 100


class ArrivingFile(BaseModel):
    """A file in a watched folder that is not complete, or not recorded yet. The time is UTC."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="in printable form")
    size: int = Field(description="bytes")
    since: datetime = Field(description="when it was last seen to change")
    reason: str = Field(default="", description="why it cannot be recorded; empty while it may be growing")


class WatcherRecord(BaseModel):
    """What the watcher saw last. The time is UTC."""

    model_config = ConfigDict(frozen=True)

    written: datetime
    number: int = Field(default=0, description="files that are arriving")
    files: tuple[ArrivingFile, ...] = Field(default=(), description="those that have waited longest")
    trouble: str = Field(default="", description="why nothing is recorded at present")


def record_file(data_dir: Path) -> Path:
    """Return the file of the record."""
    return data_dir.expanduser().resolve() / "service" / "watcher.json"


def write_record(data_dir: Path, record: WatcherRecord) -> None:
    """Write the record atomically."""
    file = record_file(data_dir)
    private_folder(file.parent)
    write_complete(file, [record.model_dump_json(indent=1).encode()], sync=False)


def read_record(data_dir: Path) -> WatcherRecord | None:
    """Return the last record; None if it is missing or damaged."""
    try:
        return WatcherRecord.model_validate_json(record_file(data_dir).read_bytes())
    except (OSError, ValidationError):
        return None
