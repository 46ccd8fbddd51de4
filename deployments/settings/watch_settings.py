"""What can be set about the watcher of new raw frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import SequenceKind


def _absolute(folder: Path) -> Path:
    # Parts work in folders of their own: what is said here has to mean the same there.
    return folder.expanduser().absolute()


class WatchSettings(BaseModel):
    """Settings of the watcher. Times are seconds where nothing else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: tuple[Annotated[Path, AfterValidator(_absolute)], ...] = Field(
        default=(),
        description="folders that raw frames come to, with all folders below them; from the folder of the command",
    )
    quiet: float = Field(
        default=60.0,
        ge=10,
        description="time without a new frame after which a sequence is reduced, s; at least 10",
    )
    settle: float = Field(
        default=1.0, ge=0, description="time for which size and date of a file must not change, s"
    )
    poll: float = Field(
        default=5.0,
        gt=0,
        description="time between two scans of folders whose changes the kernel does not tell, s",
    )
    rescan: float = Field(
        default=60.0,
        gt=0,
        description="time between two scans of the other folders, in case a change was missed, s",
    )
    polling: bool = Field(
        default=False, description="scan all folders every poll seconds; network file systems always are"
    )
    give_up: float = Field(
        default=900.0,
        gt=0,
        description="time without change after which a file that is not whole is warned of, s",
    )
    backlog_after: float = Field(
        default=18.0, ge=0, description="age from which a frame of another night is of the backlog, h"
    )
    expected: dict[SequenceKind, PositiveInt] = Field(
        default_factory=dict,
        description="frames that make a sequence complete, by its kind (science, dark, flat); none waits for quiet",
    )
    check: CheckParameters = Field(
        default=CheckParameters(), description="what a file has to be before it takes part"
    )
