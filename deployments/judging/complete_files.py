"""The files of watched folders, each as soon as it is complete."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from deployments.arrivals.folders import Notices, Scanner, need_polling
from deployments.arrivals.landing import Landings, Signature, why_incomplete
from deployments.settings.watch_settings import WatchSettings

log = logging.getLogger(__name__)

#: Time without a change that is enough here, s: a file of complete length that changes later is measured again.
_SETTLE: Final = 0.3
#: Longest time between two checks whether to stop, s.
_TURN: Final = 0.5


class Arrived(NamedTuple):
    """A file that is complete, or why it is not although it has not changed for long."""

    path: Path
    seen: Signature
    incomplete: str = ""


class CompleteFiles:
    """The files of folders that become complete, by the rules of the watcher.

    Parameters
    ----------
    settings
        Folders, and how they are watched.
    unpacked
        Folder where compressed files are unpacked.
    since
        Files that are there at the start and did not change after this time, s since 1970, are passed over; None: all
        that are there.
    clock
        Monotonic clock, s.
    """

    def __init__(
        self,
        settings: WatchSettings,
        unpacked: Path,
        since: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._unpacked, self._since, self._clock = settings, unpacked, since, clock
        self._folders = tuple(folder.resolve() for folder in settings.folders)
        self._wake = threading.Event()
        self._landings = Landings(min(settings.settle, _SETTLE), settings.give_up, clock)
        self._scanner = Scanner()
        self._polling = settings.polling or need_polling(self._folders)
        self._notices = Notices(self._folders, self._wake, retry=settings.poll)
        self._scan_at, self._first = clock(), True

    def start(self) -> None:
        """Begin to watch."""
        if self._folders and not self._polling:
            self._notices.start()

    def stop(self) -> None:
        """End the thread that collects changes."""
        self._notices.stop()

    def wait(self, stop: threading.Event) -> None:
        """Wait for a reported change, or until the next check is due."""
        until = self._scan_at
        if (due := self._landings.next_due()) is not None:
            until = min(until, due)
        while not stop.is_set() and (left := until - self._clock()) > 0:
            if self._wake.wait(min(left, _TURN)):
                break

    def take(self) -> list[Arrived]:
        """Return the files that became complete since the last call, or stay incomplete."""
        self._find()
        arrived = []
        for path in self._landings.settled():
            seen = self._landings.seen(path)
            try:
                reason = why_incomplete(Path(path), self._unpacked)
            except Exception as error:  # noqa: BLE001 - no file may end the judge, whatever reading it raises
                reason = f"{type(error).__name__}: {error}"
            if reason is None:
                self._landings.done(path, seen)
                arrived.append(Arrived(Path(path), seen))
            elif self._landings.put_off(path, reason):
                arrived.append(Arrived(Path(path), seen, f"it stays incomplete: {reason}"))
        return arrived

    def _find(self) -> None:
        self._wake.clear()
        paths, missed = self._notices.take()
        now, found = self._clock(), dict[str, Signature]()
        if missed or now >= self._scan_at:
            seeing = self._notices.seeing and not self._polling
            self._scan_at = now + (self._settings.rescan if seeing else self._settings.poll)
            found |= {path: was for one in self._folders for path, was in self._scanner.find(str(one))}
            self._landings.keep_only(set(found))
            if self._first:
                self._first = False
                self._pass_over(found)
        for path in paths:
            found.update(self._scanner.changed(path, self._folders))
        for path, was in found.items():
            if self._landings.is_new(path, was):
                self._landings.add(path, was)

    def _pass_over(self, there: dict[str, Signature]) -> None:
        """Treat files that are there at the start, and old, as judged."""
        old = [
            p for p, was in there.items() if self._since is not None and was.changed_ns < self._since * 1e9
        ]
        for path in old:
            self._landings.done(path, there.pop(path))
        if old:
            log.info("Passed over %d files that were there before.", len(old))
