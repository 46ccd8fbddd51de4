"""The record of a night's frames: two JSON files in the folder of the night, each replaced when a frame is added.

``judged.json`` has all figures. A frame is in it once, by its sha256, so that a restart measures nothing twice.
``arriving.json`` has the latest frames as rows of texts: the page of the night polls it.
"""

from __future__ import annotations

import logging
from datetime import date, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from imaging.io.atomic import write_complete
from imaging.quick_look.frame_figures import FrameFigures
from imaging.quick_look.shown import ArrivingRows, rows_of

log = logging.getLogger(__name__)

#: Names of the files: all figures, and the rows of the page.
RECORD, ROWS = "judged.json", "arriving.json"


class NightRecord(BaseModel):
    """The frames of a night, in the order in which they were judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: date
    written: datetime | None = None
    frames: tuple[FrameFigures, ...] = ()

    def has(self, sha256: str) -> bool:
        """Return whether a frame is in the record."""
        return any(one.sha256 == sha256 for one in self.frames)

    def with_frame(self, frame: FrameFigures, now: datetime) -> NightRecord:
        """Return the record with a further frame, written now."""
        return NightRecord(night=self.night, written=now, frames=(*self.frames, frame))

    def of_group(self, group: str) -> tuple[FrameFigures, ...]:
        """Return the frames of a group; none for the empty name of frames that belong to no group."""
        return tuple(one for one in self.frames if one.group == group) if group else ()


def read_record(folder: Path, night: date) -> NightRecord:
    """Return the record in the folder of a night.

    It is empty if the file is missing, or if another version of nirflow wrote it.
    """
    path = folder / RECORD
    try:
        return NightRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        problem = error.strerror if isinstance(error, OSError) else "another version of nirflow wrote it"
        log.warning("%s cannot be read: %s. Its frames are measured again.", path, problem)
    return NightRecord(night=night)


def write_record(nights: Path, record: NightRecord) -> Path:
    """Write the record of a night into its folder, and return the path of all figures.

    Raises
    ------
    NirflowError
        If it cannot be written.
    """
    folder = nights / record.night.isoformat()
    rows = rows_of(record.frames, record.night, record.written)
    write_complete(folder / RECORD, [record.model_dump_json(exclude_none=True).encode()], sync=False)
    write_complete(folder / ROWS, [rows.model_dump_json(exclude_defaults=True).encode()], sync=False)
    return folder / RECORD


def read_rows(folder: Path) -> ArrivingRows | None:
    """Return the rows of a night from its folder; None if no frame was judged."""
    try:
        return ArrivingRows.model_validate_json((folder / ROWS).read_bytes())
    except (OSError, ValidationError):
        return None
