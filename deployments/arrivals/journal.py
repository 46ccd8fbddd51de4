"""The journal of events that the Prefect server has not recorded yet.

A batch of events is a file in the journal's folder: written and synced before the frames are recorded in the store, and
deleted once the server has recorded the events. If the process ends in between, the next one finds the file and looks
up which of the frames are in the store: their events are sent; the other frames will be found on disk as new again.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from calib_store.private import private_folder
from deployments.prefect_api.events import Event
from imaging.errors import NirflowError
from imaging.io.atomic import take_lock, write_complete

log = logging.getLogger(__name__)


class Announcement(BaseModel):
    """An event about a frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    event: Event


class Batch(BaseModel):
    """Events that are stored and sent together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    announcements: tuple[Announcement, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """The events, in their order."""
        return tuple(one.event for one in self.announcements)


class Pending:
    """The events waiting to be sent. Threads may share it; only one process may open it at a time.

    Parameters
    ----------
    folder
        Folder of the journal.

    Raises
    ------
    NirflowError
        If another process has it open, or the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            private_folder(folder)
            held = take_lock(folder / "lock")
        except OSError as error:
            raise NirflowError(
                f"The folder {folder} for events waiting to be sent cannot be used: {error.strerror}.",
                remedy="Make the data folder writable.",
            ) from error
        if held is None:
            raise NirflowError(
                f"Another watcher is running for this data folder (it holds the lock {folder / 'lock'}).",
                remedy="Use one watcher, and list all folders in its settings.",
            )
        self._held = held
        self._lock = threading.Lock()
        self._ready: dict[Path, Batch] = {}
        self._unsure = self._left_over()

    def close(self) -> None:
        """Close the journal, so that another process can open it."""
        self._held.close()

    def __len__(self) -> int:
        """Return the number of events waiting to be sent."""
        with self._lock:
            return sum(len(batch.announcements) for batch in self._ready.values())

    def hold(self, announcements: Sequence[Announcement]) -> None:
        """Keep events on disk until `settle` is called with the frames that the store has.

        Raises
        ------
        NirflowError
            If they cannot be written.
        """
        if not announcements:
            return
        batch = Batch(announcements=tuple(announcements))
        path = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        write_complete(path, [batch.model_dump_json().encode()])
        with self._lock:
            self._unsure[path] = batch

    def unsure(self) -> frozenset[str]:
        """Return the sha256 of the frames that may or may not be in the store."""
        with self._lock:
            return frozenset(one.sha256 for batch in self._unsure.values() for one in batch.announcements)

    def settle(self, known: Collection[str]) -> None:
        """Release the events of ``known`` frames for sending; drop those of the other unsure frames."""
        with self._lock:
            unsure, self._unsure = self._unsure, {}
            for path, batch in unsure.items():
                kept = tuple(one for one in batch.announcements if one.sha256 in known)
                if kept:
                    self._ready[path] = Batch(announcements=kept)
                else:
                    path.unlink(missing_ok=True)

    def ready(self) -> tuple[tuple[Path, Batch], ...]:
        """Return the batches to send, oldest first."""
        with self._lock:
            return tuple(sorted(self._ready.items()))

    def sent(self, path: Path) -> None:
        """Remove a batch that the server has recorded."""
        with self._lock:
            del self._ready[path]
        path.unlink(missing_ok=True)

    def set_aside(self, path: Path) -> None:
        """Give up a batch that the server rejects, and leave it in the folder for the next process."""
        with self._lock:
            del self._ready[path]

    def _left_over(self) -> dict[Path, Batch]:
        found: dict[Path, Batch] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                found[path] = Batch.model_validate_json(path.read_bytes())
            except ValidationError:
                aside = path.replace(path.with_suffix(".damaged"))
                log.error(
                    "%s cannot be read: events of new frames may be lost. Reduce their night again.", aside
                )
        return found
