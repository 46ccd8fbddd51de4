"""The watcher: sees new raw frames, notes them in the store and tells the Prefect server.

What holds, whatever ends the process, the server or the database at whatever moment:

- a whole frame in a watched folder comes into the store, once;
- the event of a frame that is new and usable is sent at least once: until the server has recorded it in its
  database. A crash at the wrong moment sends it twice, which does no harm.

For the second, events are in a journal on disk (`deployments.arrivals.journal`) before the store hears of their frames.
What the server has recorded is its own to keep. A frame that another process notes in the store before the watcher
has first seen its file is no news and gives no event.

Nothing here imports Prefect: the process stays small.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from calib_store.model.records import FrameRecord
from deployments.arrivals.announce import announcements
from deployments.arrivals.folders import Notices, Scanner, hidden, need_polling, shown
from deployments.arrivals.journal import Pending
from deployments.arrivals.landing import Landings, Signature, is_frame_name, lacking, signature
from deployments.prefect_api.events import Event, EventsError, EventsRefusedError
from deployments.settings.watch_settings import WatchSettings
from imaging.errors import NirflowError, StoreError
from imaging.io.examine import Examination, examine
from imaging.pixels.bands import thread_count
from tasks.support.noting import record_of

if TYPE_CHECKING:
    from calib_store.store import Store

log = logging.getLogger(__name__)

#: Files looked at, noted and announced together.
BATCH: Final = 100
#: Paths in one question to the store.
_ASKED: Final = 5_000
#: Longest time between two looks at whether to stop, s.
_TURN: Final = 0.5
#: Pause before events are sent again, s: the first, doubled up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class _Waits(NamedTuple):
    """Why a file has to wait: it is in pieces, or something is the matter that may pass."""

    why: str
    in_pieces: bool = False


class Watcher:
    """Watches folders for new raw frames.

    Parameters
    ----------
    settings
        What to watch, and how.
    store
        Where frames are noted.
    send
        Sends events; raises `EventsError` where they were not taken: `EventSender.emit`.
    data_dir
        The data folder: unpacked files and the journal of events are in it.
    threads
        Files looked at at a time; as many as cores without.
    clock
        Seconds that never go back.
    now
        The time of day, UTC; the machine's without.

    Raises
    ------
    NirflowError
        Where another watcher works for the data folder, or it cannot be written.
    """

    def __init__(
        self,
        settings: WatchSettings,
        store: Store,
        send: Callable[[Sequence[Event]], None],
        *,
        data_dir: Path,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings = settings
        self.pending = Pending(data_dir / "watcher")
        self._store, self._send, self._clock = store, send, clock
        self._now = now or _now
        self._folders = tuple(folder.resolve() for folder in settings.folders)
        self._unpacked = data_dir / "unpacked"
        self._landings = Landings(settings.settle, settings.give_up, clock)
        self._scanner = Scanner()
        self._candidates: dict[str, Signature] = {}
        self._wake, self._news = threading.Event(), threading.Event()
        self._polling = settings.polling or need_polling(self._folders)
        self._notices = self._new_notices()
        self._scan_at = clock()
        self._troubled = self._unheard = False
        self._pool = ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="look")

    def close(self) -> None:
        """End the threads and let another watcher have the data folder; `run` has returned."""
        self._pool.shutdown()
        self.pending.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set.

        A store or a Prefect server that does not answer is waited for. Events that were not sent are sent by
        the next run.
        """
        log.info("Watching %s", ", ".join(shown(str(folder)) for folder in self._folders) or "no folder")
        self._notices = self._new_notices()
        if self._folders and not self._polling:
            self._notices.start()
        ended = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="events") as sender:
            sending = sender.submit(self._keep_sending, ended)
            try:
                while not stop.is_set():
                    if sending.done():
                        sending.result()  # it ends by an error only
                    if not self.step():
                        self._pause(stop)
            finally:
                ended.set()
                self._news.set()
                self._notices.stop()

    def step(self) -> bool:
        """One round: find files, look at those that are whole, note them in the store and have them announced.

        Returns
        -------
        bool
            Whether more files wait for their look already.
        """
        try:
            self._settle_journal()
            self._find()
            more = self._take_in()
        except NirflowError as error:
            # The database is away, or the disk full: what was found stays known here and is taken up again.
            log.log(logging.DEBUG if self._troubled else logging.ERROR, "%s", error)
            self._troubled = True
            return False
        if self._troubled:
            log.info("New frames are taken in again.")
            self._troubled = False
        return more

    def deliver(self) -> bool:
        """Send the events that wait, first come first.

        Returns
        -------
        bool
            False where the server did not take them: try again later.
        """
        for path, batch in self.pending.ready():
            try:
                self._send(batch.events)
            except EventsRefusedError as error:
                log.error("%s The events stay in %s; the next start sends them again.", error, path)
                self.pending.set_aside(path)
                continue
            except EventsError as error:
                log.log(logging.DEBUG if self._unheard else logging.WARNING, "%s Events wait.", error)
                self._unheard = True
                return False
            self.pending.sent(path)
            if self._unheard:
                log.info("The Prefect server takes events again.")
                self._unheard = False
        return True

    # --- threads ---------------------------------------------------------------------------------

    def _keep_sending(self, ended: threading.Event) -> None:
        pause = _FIRST_PAUSE
        while not ended.is_set():
            self._news.clear()
            if self.deliver():
                pause = _FIRST_PAUSE
                if not ended.is_set():
                    self._news.wait()
            else:
                ended.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _new_notices(self) -> Notices:
        return Notices(self._folders, self._wake, retry=self.settings.poll)

    def _pause(self, stop: threading.Event) -> None:
        """Wait for a notice or the next moment to do something."""
        if self._troubled:
            stop.wait(_FIRST_PAUSE)
            return
        until = self._scan_at
        if (due := self._landings.next_due()) is not None:
            until = min(until, due)
        while not stop.is_set() and (left := until - self._clock()) > 0:
            if self._wake.wait(min(left, _TURN)):
                break

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
            self._notice(path)
        news = {path: was for path, was in self._candidates.items() if self._landings.is_news(path, was)}
        self._candidates = news  # kept where the store does not answer
        for known_path, sha256, same in self._known(news):
            if same:
                self._landings.done(known_path, news[known_path])
            else:
                self._landings.add(known_path, news[known_path], sha256)
        self._candidates = {}

    def _notice(self, path: str) -> None:
        path = str(Path(path))
        if hidden(path, self._folders):
            return
        if is_frame_name(Path(path).name):
            try:
                found = signature(path)
            except OSError as error:
                log.debug("%s: %s", shown(path), error)  # a scan finds it again
                return
            if found is not None:
                self._candidates[path] = found
                return
        if not Path(path).name.startswith(".") and Path(path).is_dir():
            # Files may have come into a new folder before the kernel was asked to tell of it.
            self._candidates.update(self._scanner.find(path))

    def _known(self, news: dict[str, Signature]) -> list[tuple[str, str | None, bool]]:
        """Of each file what the store has under its path, and whether it still is that."""
        told: list[tuple[str, str | None, bool]] = []
        paths = [Path(path) for path in news]
        for first in range(0, len(paths), _ASKED):
            asked = paths[first : first + _ASKED]
            known = self._store.frames.known_files(asked)
            for path in asked:
                file = known.get(path)
                same = file is not None and (file.size, file.mtime_ns) == news[str(path)]
                told.append((str(path), file.sha256 if file else None, same))
        return told

    # --- looking ---------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        settled = self._landings.settled()
        batch = settled[:BATCH]
        looked: list[tuple[str, Examination]] = []
        for path, found in zip(batch, self._pool.map(self._examine, batch), strict=True):
            if isinstance(found, Examination):
                looked.append((path, found))
            elif found is not None and self._put_off(path, found.why) and found.in_pieces:
                self._quarantine(path, found.why)
        noted = self._note([one for _, one in looked])
        for path, one in looked:
            if record_of(one) is None or path in noted:
                self._landings.done(path, self._landings.seen(path))
                self._tell(one)
            else:
                self._put_off(path, "the store did not take it")
        return len(settled) > BATCH

    def _examine(self, path: str) -> Examination | _Waits | None:
        """What a file that has settled is; why it has to wait; None where it changed just now."""
        seen = self._landings.seen(path)
        try:
            if why := lacking(Path(path), self._unpacked):
                return _Waits(why, in_pieces=True)
            examined = examine(Path(path), self.settings.check, unpacked=self._unpacked)
            if signature(path) != seen:
                return None
        except Exception as error:  # noqa: BLE001 - no file may end the watch, whatever its look raises
            return _Waits(_trouble(path, error))
        return _Waits(examined.reason) if examined.verdict == "unreadable" else examined

    def _put_off(self, path: str, why: str) -> bool:
        """Look at a file again later, or when it changes; whether it was warned of now."""
        log.debug("%s has to wait: %s", shown(path), shown(why))
        warned = self._landings.put_off(path)
        if warned:
            log.warning(
                "%s has not changed for %.0f s and cannot be taken in: %s. It is looked at again when it changes.",
                shown(path), self.settings.give_up, shown(why),
            )  # fmt: skip
        return warned

    def _quarantine(self, path: str, why: str) -> None:
        """Have the store know of a file that stays in pieces: the night's page tells of it."""
        try:
            record = record_of(examine(Path(path), self.settings.check, unpacked=self._unpacked))
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("%s cannot be put in quarantine: %s", shown(path), shown(_trouble(path, error)))
            return
        # What another process found fit stays so: it may do without the padding at the end of a file.
        if record is not None and not self._usable([record.sha256]):
            self._ingest([replace(record, quarantine=why)])

    def _tell(self, examined: Examination) -> None:
        if not examined.usable:
            level = logging.INFO if examined.verdict == "excluded" else logging.WARNING
            found = shown(str(examined.path)), shown(examined.reason), examined.remedy
            log.log(level, "%s takes no part: %s. %s", *found)

    # --- noting ----------------------------------------------------------------------------------

    def _note(self, examined: Sequence[Examination]) -> set[str]:
        """Note files in the store and hold the events of new usable frames; which files were noted."""
        found = [(one, record) for one in examined if (record := record_of(one)) is not None]
        records = {str(record.path): record for _, record in found}
        usable = [record for one, record in found if one.usable]
        before = {path: self._landings.before(path) for path in records}
        self.pending.hold(announcements(self._store, usable, before, self.settings, self._now()))
        noted = self._ingest(list(records.values()))
        self._settle_journal()
        return noted

    def _ingest(self, records: Sequence[FrameRecord]) -> set[str]:
        """Note records; where the store cannot take all, those that it can."""
        if not records:
            return set()
        try:
            report = self._store.frames.ingest(records)
        except (StoreError, DBAPIError) as error:
            self._store.frames.known_files([])  # where it does not answer, no half of them goes either
            if len(records) == 1:
                log.error("%s cannot be noted in the store: %s", shown(str(records[0].path)), error)
                return set()
            half = len(records) // 2
            return self._ingest(records[:half]) | self._ingest(records[half:])
        for message in report.messages():
            log.info("%s", shown(message))
        return {str(record.path) for record in records}

    def _settle_journal(self) -> None:
        if unsure := self.pending.unsure():
            self.pending.settle(self._usable(unsure))
            self._news.set()

    def _usable(self, sha256s: Collection[str]) -> Collection[str]:
        try:
            return self._store.frames.facts_of(sha256s)
        except ValidationError:
            log.warning("The store's facts are of another version of nirflow; events may be sent twice.")
            return sha256s


def _trouble(path: str, error: Exception) -> str:
    """Why a file could not be looked at, in words."""
    if isinstance(error, OSError | NirflowError):
        return str(error)
    log.debug("%s cannot be looked at", shown(path), exc_info=True)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _now() -> datetime:
    return datetime.now(UTC)
