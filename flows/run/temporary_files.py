"""The temporary files in the data folder of this machine: all can be made again from raw frames and products."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.io.planes import expendable, prune
from tasks.support.workspace import Workspace

#: Scratch used within this time is kept whatever its size, because another run may be using it, s.
_GRACE: Final = 3600.0
#: A product started longer ago than this is abandoned, because its process was killed, s.
_STAGING_GRACE: Final = 86400.0


@dataclass(frozen=True)
class TemporaryFiles:
    """The files and folders of one kind.

    Attributes
    ----------
    what
        The kind, in messages.
    folder
        Where they are.
    grace
        Those used within this time may be in use, s.
    """

    what: str
    folder: Path
    grace: float

    def entries(self) -> Iterator[Path]:
        """Yield the files and folders."""
        yield from self.folder.iterdir() if self.folder.is_dir() else ()

    def expendable(self) -> dict[Path, int]:
        """Return those that no run is using, with their sizes, bytes."""
        return expendable(self.entries(), 0, before=time.time() - self.grace)

    def limit(self, size: int) -> dict[Path, int]:
        """Remove the least recently used until the rest take at most ``size`` bytes; return what was removed."""
        return prune(self.entries(), size, before=time.time() - self.grace)


def temporary_files(workspace: Workspace) -> tuple[TemporaryFiles, TemporaryFiles, TemporaryFiles]:
    """Return the planes between steps, the unpacked raw frames, and unfinished products."""
    return (
        TemporaryFiles("planes between steps", workspace.scratch, _GRACE),
        TemporaryFiles("unpacked raw frames", workspace.unpacked, _GRACE),
        TemporaryFiles("unfinished products", workspace.staging, _STAGING_GRACE),
    )


def limit_temporary_files(workspace: Workspace) -> None:
    """Limit the temporary files to the scratch that is kept."""
    planes, unpacked, staging = temporary_files(workspace)
    planes.limit(workspace.scratch_limit)
    unpacked.limit(workspace.scratch_limit)
    staging.limit(0)
