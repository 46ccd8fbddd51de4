"""Where a run works and how much of the machine it takes."""

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

#: Scratch that a data folder keeps so that a changed parameter redoes only the steps after it, bytes.
DEFAULT_SCRATCH_LIMIT = 20 * 1024**3


class Workspace(BaseModel):
    """Folders and limits of a run. It goes with every task, so it holds no connection and no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(description="the store's folder: objects, scratch, embedded database")
    out: Path = Field(description="folder for the products")
    by_night: bool = Field(default=False, description="a folder below it for the products of each night")
    threads: int = Field(default_factory=thread_count, ge=1, description="threads that compute at a time")
    memory: int = Field(default=DEFAULT_MEMORY, ge=2**20, description="bytes for the bands in work")
    scratch_limit: int = Field(default=DEFAULT_SCRATCH_LIMIT, ge=0, description="bytes of scratch to keep")
    overwrite: bool = Field(default=False, description="replace files of other content in the output folder")
    previews: bool = Field(default=True, description="write a PNG beside each product")
    as_of: datetime | None = Field(
        default=None, description="go by what the store knew at that moment, and by the rules of then"
    )
    parameters: ReductionParameters = Field(
        default=ReductionParameters(),
        description="parameters of all steps: what was made with them comes first",
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
        """Folder of the products of a UT night."""
        return self.out / str(night) if self.by_night else self.out

    def store(self) -> Store:
        """The calibration store; one connection pool for the whole process."""
        return _open_store(self.data_dir)

    def file_of(self, product: ProductRef) -> Path:
        """A product's file on this machine, verified, for reading only.

        Raises
        ------
        StoreError
            Where it is missing or damaged.
        """
        return self.store().objects.local(product.sha256)

    def readable(self, frame: RawFrame) -> Path:
        """The frame as a plain file that bands of rows can be read from; unpacks it again if need be.

        Raises
        ------
        FrameError
            Where what was unpacked is not the frame that was surveyed.
        """
        if frame.path == frame.source:
            return frame.path
        if not frame.path.is_file():
            path, sha256 = unpack(frame.source, self.unpacked)
            if sha256 != frame.sha256:
                raise FrameError(
                    frame.name, f"{frame.source} changed on disk since it was surveyed",
                    remedy="Run it again when nothing writes to the folder any more.",
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
    """Wait for one of the run's ``threads`` places.

    The orchestrator starts every task whose inputs are there; this keeps cores and memory within bounds.
    """
    with _slots_lock:
        slot = _slots.setdefault(workspace.threads, threading.BoundedSemaphore(workspace.threads))
    with slot:
        yield
