"""The record of arriving files that the watcher keeps for ``nirflow status``, and what it logs about left out files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from deployments.arrivals.folders import shown
from deployments.arrivals.landing import Landings
from deployments.status.arriving import EVERY, LISTED, WatcherRecord, record_file, write_record
from imaging.errors import NirflowError
from imaging.io.examine import Examination
from imaging.listed import gathered

log = logging.getLogger(__name__)

#: Shortest time between two records, s.
_PAUSE: Final = 1.0


class Report:
    """The record of one watcher.

    Parameters
    ----------
    data_dir
        The data folder.
    clock
        Monotonic clock, s.
    now
        Returns the current time, UTC.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._data_dir, self._clock, self._now = data_dir, clock, now
        self._looked = -_PAUSE
        self._written: WatcherRecord | None = None

    def write(self, landings: Landings, trouble: str = "") -> None:
        """Write what arrives, if it has changed or the last record is old; a full disk is no problem of arrivals."""
        if self._clock() - self._looked < _PAUSE:
            return
        self._looked, now, last = self._clock(), self._now(), self._written
        files = tuple(islice(landings.listed(), LISTED))
        record = WatcherRecord(written=now, number=len(landings), files=files, trouble=trouble)
        if last is not None and now - last.written < EVERY and _content(record) == _content(last):
            return
        try:
            write_record(self._data_dir, record)
        except (OSError, NirflowError) as error:
            log.debug("The record of arriving files could not be written: %s", error)
            return
        self._written = record

    def remove(self) -> None:
        """Remove the record, as nothing is watched any more."""
        record_file(self._data_dir).unlink(missing_ok=True)


def log_left_out(examined: Sequence[Examination]) -> None:
    """Log the files that are not used, and why."""
    for level, excluded in ((logging.INFO, True), (logging.WARNING, False)):
        some = (one for one in examined if not one.usable and (one.verdict == "excluded") == excluded)
        for same in gathered((str(one.path), f"{one.reason}. {one.remedy}") for one in some):
            log.log(level, "Left out, %s: %s", shown(same.label), shown(same.text))


def problem_of(path: str, error: Exception) -> str:
    """Return why a file could not be examined."""
    if isinstance(error, OSError | NirflowError):
        return str(error)
    log.debug("%s cannot be examined", shown(path), exc_info=True)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _content(record: WatcherRecord) -> tuple[object, ...]:
    """Return a record without its time; the times of files may differ by a rounding."""
    return record.number, record.trouble, [(one.path, one.size, one.reason) for one in record.files]
