"""The folders of a run and its limits on the machine."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from imaging.errors import FrameError
from imaging.io.planes import touch
from imaging.io.raw_file import unpack
from imaging.pixels.bands import DEFAULT_MEMORY, thread_count
from tasks.support.parameters import ReductionParameters
from tasks.support.references import ProductRef, RawFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calib_store.store import Store

#: Bytes of scratch kept in a data folder, so that after a change of parameters only later steps are repeated.
DEFAULT_SCRATCH_LIMIT = 20 * 1024**3


class Workspace(BaseModel):
    """Folders and limits of a run. It is sent with every task, so it holds no connection and no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(description="the store's folder: objects, scratch, embedded database")
    out: Path = Field(description="folder for the products")
    by_night: bool = Field(default=False, description="a subfolder for the products of each night")
    threads: int = Field(default_factory=thread_count, ge=1, description="threads that compute at a time")
    memory: int = Field(default=DEFAULT_MEMORY, ge=2**20, description="bytes for all bands being processed")
    scratch_limit: int = Field(default=DEFAULT_SCRATCH_LIMIT, ge=0, description="bytes of scratch to keep")
    scarce_scratch: bool = Field(
        default=False, description="the planes of each group are removed as soon as no later step needs them"
    )
    overwrite: bool = Field(default=False, description="replace files of other content in the output folder")
    previews: bool = Field(default=True, description="write a PNG next to each product")
    as_of: datetime | None = Field(
        default=None, description="use what the store knew at that moment, and its rules at that time"
    )
    left_out: frozenset[str] = Field(
        default=frozenset(), description="sha256 of the frames that the survey of this run left out"
    )
    parameters: ReductionParameters = Field(
        default=ReductionParameters(),
        description="parameters of all steps: products made with them are preferred",
    )

    @property
    def scratch(self) -> Path:
        """Folder of the planes between steps."""
        return self.data_dir / "scratch"

    @property
    def unpacked(self) -> Path:
        """Folder of unpacked raw frames."""
        return self.data_dir / "unpacked"

    @property
    def staging(self) -> Path:
        """Folder on the file system of the objects where products are written before they are added."""
        return self.data_dir / "staging"

    def folder_of(self, night: date) -> Path:
        """Return the folder of the products of a night."""
        return self.out / str(night) if self.by_night else self.out

    def store(self) -> Store:
        """Return the calibration store, with one connection pool per process."""
        return _open_store(self.data_dir)

    def file_of(self, product: ProductRef) -> Path:
        """Return a product's file on this machine, verified, for reading only.

        Raises
        ------
        StoreError
            If it is missing or damaged.
        """
        return self.store().objects.local(product.sha256)

    def readable(self, frame: RawFrame) -> Path:
        """Return the frame as a plain file from which bands of rows can be read, unpacked again if necessary.

        Raises
        ------
        FrameError
            If the unpacked file is not the frame that was surveyed.
        """
        if frame.path == frame.source:
            return frame.path
        if not frame.path.is_file():
            path, sha256 = unpack(frame.source, self.unpacked)
            if sha256 != frame.sha256:
                raise FrameError(
                    frame.name, f"{frame.source} has changed on disk since the survey",
                    remedy="Run the reduction again when nothing writes to the folder any longer.",
                )  # fmt: skip
            return path
        touch(frame.path)
        return frame.path


_stores: dict[Path, Store] = {}
_store_lock = threading.Lock()


def _open_store(data_dir: Path) -> Store:
    from calib_store.model.settings import StoreSettings
    from calib_store.store import Store

    with _store_lock:
        if data_dir not in _stores:
            _stores[data_dir] = Store.open(StoreSettings(data_dir=data_dir))
        return _stores[data_dir]


def close_stores() -> None:
    """Close the stores that this process opened."""
    with _store_lock:
        while _stores:
            _stores.popitem()[1].close()


_slots: dict[int, threading.BoundedSemaphore] = {}
_slots_lock = threading.Lock()


@contextmanager
def compute_slot(workspace: Workspace) -> Iterator[None]:
    """Wait for one of the run's ``threads`` slots.

    The orchestrator starts every task whose inputs are ready; this limits cores and memory.
    """
    with _slots_lock:
        slot = _slots.setdefault(workspace.threads, threading.BoundedSemaphore(workspace.threads))
    with slot:
        yield
