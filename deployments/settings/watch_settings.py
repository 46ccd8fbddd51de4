"""The settings of the watcher of new raw frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import SequenceKind


def _absolute(folder: Path) -> Path:
    # The parts of the service have other working folders, in which the path must mean the same.
    return folder.expanduser().absolute()


class WatchSettings(BaseModel):
    """Settings of the watcher. Times are in seconds unless noted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: tuple[Annotated[Path, AfterValidator(_absolute)], ...] = Field(
        default=(),
        description="folders of new raw frames, with all folders below them; relative to the folder of the command",
    )
    quiet: float = Field(
        default=60.0,
        ge=1,
        description="time without a new frame after which a sequence is reduced, s; at least 1",
    )
    settle: float = Field(
        default=1.0,
        ge=0,
        description="time without a change of size and date after which a file may be complete, s",
    )
    poll: float = Field(
        default=5.0,
        gt=0,
        description="time between two scans of folders whose changes the kernel does not report, s",
    )
    rescan: float = Field(
        default=60.0,
        gt=0,
        description="time between two scans of the other folders, in case a change was missed, s",
    )
    polling: bool = Field(
        default=False,
        description="scan all folders every poll seconds, as is always done for network file systems",
    )
    give_up: float = Field(
        default=900.0,
        gt=0,
        description="time without a change after which to warn of an incomplete file, s",
    )
    backlog_after: float = Field(
        default=18.0, ge=0, description="age from which a frame of another night belongs to the backlog, h"
    )
    expected: dict[SequenceKind, PositiveInt] = Field(
        default_factory=dict,
        description="frames of a complete sequence, by its kind (science, dark, flat); default: wait for quiet",
    )
    check: CheckParameters = Field(
        default=CheckParameters(), description="checks that a file must pass to be used"
    )
