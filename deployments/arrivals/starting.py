"""The runs that are due are started: by the watcher, and by flows that made calibrations.

What is due follows each time from the store and from the runs that the Prefect server has (`deployments.status.due`).
So nothing has to be kept: a process that ends at any point is replaced by one that asks again. A run that is started
twice is created once, as its idempotency key is that of its frames.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from calib_store.reader import Reader
from calib_store.store import Store
from calib_store.tables.locks import alone_starting_runs
from deployments.prefect_api.rest import Rest
from deployments.settings.all_settings import Settings
from deployments.status.due import SequenceState, due, due_but, starts
from deployments.status.prefect_runs import runs_with_keys, server_facts
from deployments.status.store_facts import StoreFacts
from imaging.errors import NirflowError

log = logging.getLogger(__name__)

#: Time between two questions what is due, s: while a run is going on or cannot be started, and otherwise.
_OFTEN, _SELDOM = 2.0, 15.0
#: Shortest time between two questions, s.
_MOMENT: Final = 0.05


def start_due(
    facts: StoreFacts, store: Store, rest: Rest, settings: Settings, *, own_run: str = ""
) -> tuple[tuple[SequenceState, ...], datetime]:
    """Start the runs that are due, and return where all sequences stand, and the time that this is for.

    Parameters
    ----------
    facts
        What the store knows.
    store
        The store, in whose database one process at a time starts runs.
    rest
        The Prefect server.
    settings
        All settings.
    own_run
        Id of the flow run that asks: it is about to end.

    Raises
    ------
    NirflowError
        If the store or the server does not respond.
    """
    found, now = facts.read()
    states = due(found, now, settings)
    if not starts(states):
        return states, now  # whatever the server has
    with alone_starting_runs(store.database):
        # The server is asked first: a run that has ended by then has left its report in the store.
        server = server_facts(rest, settings)
        found, now = facts.read()
        runs = tuple(one for one in server.runs if not own_run or one.id != own_run)
        found = replace(found, runs=runs, paused=server.paused)
        states = due_but(found, now, settings, lambda keys: runs_with_keys(rest, settings, keys))
        for one in starts(states):
            if one.deployment not in server.deployments:
                raise NirflowError(
                    "The Prefect server lacks a deployment of nirflow.",
                    remedy="Register all: nirflow up.",
                )
            name = rest.create_run(
                server.deployments[one.deployment], one.request, key=one.key, tags=one.tags, reason=one.cause
            )
            log.info("Started, %s: %s", one.cause, name)
    return states, now


def start_waiting(settings: Settings, store: Store, rest: Rest, *, own_run: str) -> None:
    """Start the runs of the science whose missing calibrations are now available.

    Parameters
    ----------
    settings, store, rest, own_run
        As for `start_due`.

    Raises
    ------
    NirflowError
        If the store or the server does not respond.
    """
    with closing(Reader(settings)) as reader:
        start_due(StoreFacts(reader, settings, ()), store, rest, settings, own_run=own_run)


class Starter:
    """A thread that starts the runs that are due, from the start of the block to its end.

    Parameters
    ----------
    settings
        All settings.
    store
        The store.
    rest
        The Prefect server.
    stop
        Set if there is a defect in it; the error is then raised at the end of the block.
    """

    def __init__(self, settings: Settings, store: Store, rest: Rest, stop: threading.Event) -> None:
        self._stop = stop
        self._defect: Exception | None = None
        self._settings, self._store, self._rest = settings, store, rest
        self._reader = Reader(settings)
        folders: Sequence[Path] = [folder.resolve() for folder in settings.watch.folders]
        self._facts = StoreFacts(self._reader, settings, folders)
        self._wake, self._ended = threading.Event(), threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._keep_starting, name="starter", daemon=True)

    def wake(self) -> None:
        """Ask at once, as the store has changed."""
        self._wake.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join()
        self._reader.close()
        if self._defect is not None:
            raise self._defect

    def ask(self) -> float:
        """Start what is due, and return the time after which to ask again, s."""
        try:
            states, now = start_due(self._facts, self._store, self._rest, self._settings)
        except NirflowError as error:
            log.log(logging.DEBUG if self._trouble else logging.WARNING, "No run can be started: %s", error)
            self._trouble = str(error)
            return _OFTEN
        if self._trouble:
            log.info("Runs are started again.")
            self._trouble = ""
        return pause(states, now)

    def _keep_starting(self) -> None:
        try:
            while not self._ended.is_set():
                self._wake.clear()
                self._wake.wait(self.ask())
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self._defect = error
            self._stop.set()


def pause(states: Sequence[SequenceState], now: datetime) -> float:
    """Return the time until something may be due without a change of the store, s."""
    going_on = any(one.stage in ("due", "queued", "running") for one in states)
    ends = [
        (one.until - now).total_seconds() for one in states if one.stage == "quiet" and one.until is not None
    ]
    return max(_MOMENT, min([_OFTEN if going_on else _SELDOM, *ends]))
