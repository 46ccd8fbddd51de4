"""What may be said about a reduction besides what to make and from which files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from imaging.kinds import Target
from imaging.pixels.bands import DEFAULT_MEMORY
from tasks.choose import Choice
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Reference
from tasks.support.workspace import DEFAULT_SCRATCH_LIMIT


class Options(Reference):
    """What may be said about a reduction besides what and where."""

    bands: tuple[str, ...] = Field(default=(), description="filters to reduce; all without any")
    only: tuple[Target, ...] = Field(default=(), description="products wanted, with what they need")
    parameters: ReductionParameters = Field(default=ReductionParameters(), description="parameters by step")
    choice: Choice = Field(default=Choice(), description="calibrations named, or done without")
    across_nights: bool = Field(default=False, description="combine science frames of several nights")
    recursive: bool = Field(default=False, description="search the folders below a folder too")
    overwrite: bool = Field(default=False, description="replace files of other content in the output folder")
    previews: bool = Field(default=True, description="write a PNG beside each product")
    by_night: bool = Field(
        default=False, description="a folder for each night's products below the output folder"
    )
    as_of: datetime | None = Field(
        default=None,
        description="choose calibrations as the store would have at that moment (with its time zone)",
    )
    affected_by: str | None = Field(
        default=None,
        description="make only what was made with this product or raw frame, which is rejected by now",
    )
    data_dir: Path | None = Field(default=None, description="the store's folder; from the settings without")
    threads: int | None = Field(default=None, ge=1, description="threads; as many as cores without")
    memory: int = Field(default=DEFAULT_MEMORY, ge=2**20, description="bytes for the bands in work")
    scratch_limit: int = Field(default=DEFAULT_SCRATCH_LIMIT, ge=0, description="bytes of scratch to keep")

    def limited_to(self, target: Target) -> Options:
        """The same for one kind of product, and what it needs."""
        return self.model_copy(update={"only": (target,)})
