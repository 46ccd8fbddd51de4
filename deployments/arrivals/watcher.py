"""The watcher: finds new raw frames and records them in the store.

A complete frame in a watched folder is recorded in the store, once, even if the process or the database ends at any
moment. The frames in the store that no run has had are what is due (`deployments.arrivals.starting`).

Nothing here imports Prefect: the process stays small.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from calib_store.model.records import FrameRecord
from calib_store.private import private_folder
from deployments.arrivals.arriving_files import Report, log_left_out, problem_of
from deployments.arrivals.folders import Notices, Scanner, need_polling, shown
from deployments.arrivals.landing import Landings, Signature, signature, why_incomplete
from deployments.settings.watch_settings import WatchSettings
from imaging.errors import NirflowError, StoreError
from imaging.io.atomic import take_lock
from imaging.io.examine import Examination, examine
from imaging.pixels.bands import thread_count
from tasks.support.noting import record_of

if TYPE_CHECKING:
    from calib_store.store import Store

log = logging.getLogger(__name__)

#: Files examined and recorded together.
BATCH: Final = 100
#: Paths in one query to the store.
_QUERIED: Final = 5_000
#: Longest time between two checks whether to stop, s.
_TURN: Final = 0.5
#: Pause before the store is tried again, s.
_RETRY: Final = 1.0


class _Waiting(NamedTuple):
    """Why a file must wait: it is incomplete, or has a problem that may be temporary."""

    reason: str
    incomplete: bool = False


class Watcher:
    """A watcher of folders for new raw frames.

    Parameters
    ----------
    settings
        What to watch, and how.
    store
        The store in which frames are recorded.
    data_dir
        The data folder, with the unpacked files.
    recorded
        Called after frames were recorded.
    threads
        Files examined at a time; default: one per core.
    clock
        Monotonic clock, s.
    now
        Returns the current time, UTC; default: the machine's clock.

    Raises
    ------
    NirflowError
        If another watcher is running for the data folder, or it cannot be written.
    """

    def __init__(
        self,
        settings: WatchSettings,
        store: Store,
        *,
        data_dir: Path,
        recorded: Callable[[], None] = lambda: None,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings = settings
        self._held = sole_watcher(data_dir / "watcher")
        self._store, self._recorded, self._clock = store, recorded, clock
        self._now = now or _now
        self._folders = tuple(folder.resolve() for folder in settings.folders)
        self._unpacked = data_dir / "unpacked"
        self._landings = Landings(settings.settle, settings.give_up, clock)
        self._scanner = Scanner()
        self._candidates: dict[str, Signature] = {}
        self._wake = threading.Event()
        self._polling = settings.polling or need_polling(self._folders)
        self._notices = self._new_notices()
        self._scan_at = clock()
        self._accepted_again: dict[str, bool] = {}
        self._report = Report(data_dir, clock, self._now)
        self._trouble = ""
        self._pool = ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="look")

    def close(self) -> None:
        """End the threads and release the data folder; call it after `run` has returned."""
        self._pool.shutdown()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set.

        If the store does not respond, it is waited for.
        """
        log.info("Watching %s", ", ".join(shown(str(folder)) for folder in self._folders) or "no folder")
        self._notices = self._new_notices()
        if self._folders and not self._polling:
            self._notices.start()
        try:
            while not stop.is_set():
                more = self.step()
                self._report.write(self._landings, self._trouble)
                if not more:
                    self._pause(stop)
        finally:
            self._report.remove()
            self._notices.stop()

    def step(self) -> bool:
        """Find files, examine the complete ones, and record them in the store.

        Returns
        -------
        bool
            Whether more files are ready to be examined.
        """
        try:
            self._find()
            more = self._take_in()
        except NirflowError as error:
            # The database is down, or the disk full: the files found are remembered and tried again.
            log.log(logging.DEBUG if self._trouble else logging.ERROR, "%s", error)
            self._trouble = str(error)
            return False
        if self._trouble:
            log.info("New frames are recorded again.")
            self._trouble = ""
        return more

    def _new_notices(self) -> Notices:
        return Notices(self._folders, self._wake, retry=self.settings.poll)

    def _pause(self, stop: threading.Event) -> None:
        """Wait for a reported change, or until the next check is due."""
        if self._trouble:
            stop.wait(_RETRY)
            return
        until = self._scan_at
        if (due := self._landings.next_due()) is not None:
            until = min(until, due)
        while not stop.is_set() and (left := until - self._clock()) > 0:
            if self._wake.wait(min(left, _TURN)):
                break
            self._report.write(self._landings)

    # --- finding ---------------------------------------------------------------------------------

    def _find(self) -> None:
        self._wake.clear()
        paths, missed = self._notices.take()
        now = self._clock()
        if missed or now >= self._scan_at:
            seeing = self._notices.seeing and not self._polling
            self._scan_at = now + (self.settings.rescan if seeing else self.settings.poll)
            found = [one for folder in self._folders for one in self._scanner.find(str(folder))]
            self._candidates.update(found)
            self._landings.keep_only({path for path, _ in found})
        for path in paths:
            self._candidates.update(self._scanner.changed(path, self._folders))
        new = {path: was for path, was in self._candidates.items() if self._landings.is_new(path, was)}
        self._candidates = new  # kept in case the store does not respond
        unchanged = self._unchanged(new)
        for path, was in new.items():
            if path in unchanged:
                self._landings.done(path, was)
            else:
                self._landings.add(path, was)
        self._candidates = {}

    def _unchanged(self, new: dict[str, Signature]) -> set[str]:
        """Return the files that are as the store knows them.

        A file in quarantine is examined again once, as the settings of this watcher may accept it.
        """
        found: set[str] = set()
        paths = [Path(path) for path in new]
        for first in range(0, len(paths), _QUERIED):
            batch = paths[first : first + _QUERIED]
            same = {
                str(path): file.sha256
                for path, file in self._store.frames.known_files(batch).items()
                if (file.size, file.changed_ns) == new[str(path)]
            }
            refused = self._store.frames.in_quarantine(same.values())
            found |= {
                path for path, sha256 in same.items() if sha256 not in refused or not self._now_accepted(path)
            }
        return found

    def _now_accepted(self, path: str) -> bool:
        """Return whether a file in quarantine passes the checks of the current settings."""
        if path not in self._accepted_again:
            self._accepted_again[path] = False
            with suppress(Exception):  # as in _examine
                complete = not why_incomplete(Path(path), self._unpacked)
                record = record_of(examine(Path(path), self.settings.check, unpacked=self._unpacked))
                self._accepted_again[path] = complete and record is not None and record.quarantine is None
        return self._accepted_again[path]

    # --- examining -------------------------------------------------------------------------------
    def _take_in(self) -> bool:
        settled = self._landings.settled()
        batch = settled[:BATCH]
        examined: list[tuple[str, Examination]] = []
        for path, found in zip(batch, self._pool.map(self._examine, batch), strict=True):
            if isinstance(found, Examination):
                examined.append((path, found))
            elif found is not None and self._put_off(path, found.reason) and found.incomplete:
                self._quarantine(path, found.reason)
        recorded = self._record([one for _, one in examined])
        for path, one in examined:
            if record_of(one) is None or path in recorded:
                self._landings.done(path, self._landings.seen(path))
            else:
                self._put_off(path, "the store could not record it")
        log_left_out([one for path, one in examined if self._landings.is_processed(path)])
        return len(settled) > BATCH

    def _examine(self, path: str) -> Examination | _Waiting | None:
        """Examine a settled file; return why it must wait, or None if it has just changed."""
        seen = self._landings.seen(path)
        try:
            if reason := why_incomplete(Path(path), self._unpacked):
                return _Waiting(reason, incomplete=True)
            examined = examine(Path(path), self.settings.check, unpacked=self._unpacked)
            if signature(path) != seen:
                return None
        except Exception as error:  # noqa: BLE001 - no file may end the watcher, whatever examining it raises
            return _Waiting(problem_of(path, error))
        return _Waiting(examined.reason) if examined.verdict == "unreadable" else examined

    def _put_off(self, path: str, reason: str) -> bool:
        """Postpone a file until later, or until it changes; return whether a warning was logged."""
        log.debug("%s must wait: %s", shown(path), shown(reason))
        warned = self._landings.put_off(path, reason)
        if warned:
            log.warning(
                "%s has not changed for %.0f s and cannot be recorded: %s. It will be checked again when it changes.",
                shown(path), self.settings.give_up, shown(reason),
            )  # fmt: skip
        return warned

    def _quarantine(self, path: str, reason: str) -> None:
        """Record a file that stays incomplete in the store, so that the night's page shows it."""
        try:
            record = record_of(examine(Path(path), self.settings.check, unpacked=self._unpacked))
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("%s cannot be put in quarantine: %s", shown(path), shown(problem_of(path, error)))
            return
        # A file that another process found usable stays so: it may not need the padding at the end of a file.
        if record is not None and not self._usable([record.sha256]):
            self._ingest([replace(record, quarantine=reason)])

    # --- recording -------------------------------------------------------------------------------

    def _record(self, examined: Sequence[Examination]) -> set[str]:
        """Record files in the store and return the recorded paths."""
        records = {str(record.path): record for one in examined if (record := record_of(one)) is not None}
        recorded = self._ingest(list(records.values()))
        if recorded:
            self._recorded()
        return recorded

    def _ingest(self, records: Sequence[FrameRecord]) -> set[str]:
        """Ingest records; if the store cannot take all of them, ingest those that it can. Return their paths."""
        if not records:
            return set()
        try:
            report = self._store.frames.ingest(records)
        except (StoreError, DBAPIError) as error:
            self._store.frames.known_files([])  # raises if the store is down: then halving would not help
            if len(records) == 1:
                log.error("%s cannot be recorded in the store: %s", shown(str(records[0].path)), error)
                return set()
            half = len(records) // 2
            return self._ingest(records[:half]) | self._ingest(records[half:])
        for message in report.messages():
            log.info("%s", shown(message))
        return {str(record.path) for record in records}

    def _usable(self, sha256s: Collection[str]) -> Collection[str]:
        try:
            return self._store.frames.facts_of(sha256s)
        except ValidationError:
            return sha256s  # facts of another version of nirflow


def sole_watcher(folder: Path) -> IO[str]:
    """Take the right to watch for a data folder; events that an earlier version left there are removed.

    Raises
    ------
    NirflowError
        If another process has it, or the folder cannot be used.
    """
    try:
        private_folder(folder)
        held = take_lock(folder / "lock")
    except OSError as error:
        raise NirflowError(
            f"The folder {folder} of the watcher cannot be used: {error.strerror}.",
            remedy="Make the data folder writable.",
        ) from error
    if held is None:
        raise NirflowError(
            f"Another watcher is running for this data folder (it holds the lock {folder / 'lock'}).",
            remedy="Use one watcher, and list all folders in its settings.",
        )
    for left in (*folder.glob("*.json"), *folder.glob("*.damaged")):
        left.unlink(missing_ok=True)
    return held


def _now() -> datetime:
    return datetime.now(UTC)
