"""The options of a reduction, besides its products and its files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from calib_store.model.settings import StoreSettings
from imaging.kinds import Target
from imaging.pixels.bands import DEFAULT_MEMORY, thread_count
from tasks.choose import Choice
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Reference
from tasks.support.workspace import DEFAULT_SCRATCH_LIMIT, Workspace


class Options(Reference):
    """Options of a reduction, besides its input and output."""

    bands: tuple[str, ...] = Field(default=(), description="filters to reduce; default: all")
    only: tuple[Target, ...] = Field(default=(), description="products to make, with what they need")
    parameters: ReductionParameters = Field(default=ReductionParameters(), description="parameters by step")
    choice: Choice = Field(default=Choice(), description="calibrations named by the user, or not needed")
    across_nights: bool = Field(default=False, description="combine science frames of several nights")
    join: bool = Field(
        default=False,
        description="stack adjacent sequences of one pointing together, whatever their observation ids",
    )
    recursive: bool = Field(default=False, description="also search subfolders")
    overwrite: bool = Field(default=False, description="replace files of other content in the output folder")
    previews: bool = Field(default=True, description="write a PNG next to each product")
    by_night: bool = Field(
        default=False, description="a subfolder of the output folder for each night's products"
    )
    as_of: datetime | None = Field(
        default=None,
        description="choose calibrations as the store would have at that moment (with its time zone)",
    )
    affected_by: str | None = Field(
        default=None,
        description="make again only what was made with this rejected product or raw frame",
    )
    data_dir: Path | None = Field(default=None, description="the store's folder; default: from the settings")
    threads: int | None = Field(default=None, ge=1, description="threads; default: one per core")
    memory: int = Field(default=DEFAULT_MEMORY, ge=2**20, description="bytes for all bands being processed")
    scratch_limit: int = Field(default=DEFAULT_SCRATCH_LIMIT, ge=0, description="bytes of scratch to keep")

    def workspace(self, out: Path) -> Workspace:
        """Return the folders of a run with these options, and its limits on the machine."""
        return Workspace(
            data_dir=(self.data_dir or StoreSettings().data_dir).expanduser().resolve(),
            out=out,
            threads=self.threads or thread_count(),
            memory=self.memory,
            scratch_limit=self.scratch_limit,
            overwrite=self.overwrite,
            previews=self.previews,
            by_night=self.by_night,
            as_of=self.as_of,
            parameters=self.parameters,
        )

    def limited_to(self, target: Target) -> Options:
        """Return the same options for one kind of product, with what it needs."""
        return self.model_copy(update={"only": (target,)})
