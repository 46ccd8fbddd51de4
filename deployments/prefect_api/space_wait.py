"""A run that waits for disk space, as the labels of the run in the Prefect server keep it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.machine import free_bytes, size_text

#: Tag of a run that has waited for disk space, for automations, which see no labels. The server reads the tags of a run
#: at most every 5 minutes.
WAITED_FOR_SPACE: Final = "waited for disk space"
#: How often a run is started again after it met a full disk.
ATTEMPTS: Final = 5
_PREFIX: Final = "nirflow.space."


class SpaceWait(BaseModel):
    """What a run waits for. The time is UTC."""

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(description="a folder or file on the disk that was full")
    needed: int = Field(description="bytes that have to be free")
    attempts: int = Field(ge=1, description="attempts that met the full disk")
    since: datetime = Field(description="when the first of them did")

    @classmethod
    def of(cls, labels: Mapping[str, Any]) -> Self | None:
        """Return what a run with these labels waits for, or waited for; None if no disk was full."""
        found = {
            name.removeprefix(_PREFIX): value for name, value in labels.items() if name.startswith(_PREFIX)
        }
        try:
            return cls.model_validate(found) if found else None
        except ValidationError:
            return None

    @property
    def labels(self) -> dict[str, Any]:
        """The labels of the run."""
        return {_PREFIX + name: value for name, value in self.model_dump(mode="json").items()}

    @property
    def free(self) -> int | None:
        """Free bytes for this account on that disk, as far as this machine knows."""
        return free_bytes(self.folder)

    def text(self) -> str:
        """Describe what is free and what is needed."""
        free = "unknown space" if self.free is None else size_text(self.free)
        return f"waits for disk space: {free} free, {size_text(self.needed)} needed ({self.folder})"
