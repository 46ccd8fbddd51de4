"""Everything that is up, arrives, waits and runs, from what can be asked; what cannot be asked is stated.

The sequences come from the store, the files that arrive from the watcher's record, and only the runs and what is
switched off from the Prefect server: without it, the rest is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from calib_store.reader import Reader
from calib_store.server import postgres
from deployments.notices.outbox import Notice, waiting
from deployments.prefect_api.rest import Rest
from deployments.settings.all_settings import Settings
from deployments.status.arriving import SILENCE, WatcherRecord, read_record
from deployments.status.due import KnownRun, SequenceState, due_but
from deployments.status.prefect_runs import ServerFacts, runs_with_keys, server_facts, switched_off
from deployments.status.store_facts import StoreFacts
from imaging.errors import NirflowError
from imaging.machine import free_bytes

#: Files in quarantine that are listed; the others are counted.
_QUARANTINED: Final = 100


class Unknown(BaseModel):
    """A part that could not be asked, and why."""

    model_config = ConfigDict(frozen=True)

    what: str
    why: str


class QuarantinedFile(BaseModel):
    """A raw file that cannot be used. The time is UTC."""

    model_config = ConfigDict(frozen=True)

    name: str
    reason: str
    since: datetime
    paths: tuple[Path, ...] = ()


class Overview(BaseModel):
    """What arrives, waits and runs, and the room that is left. Times are UTC.

    What is None could not be asked; `unknown` has the reason.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    sequences: tuple[SequenceState, ...] | None = None
    runs: tuple[KnownRun, ...] | None = None
    arriving: WatcherRecord | None = Field(default=None, description="the record of the watcher")
    quarantined: int | None = Field(default=None, description="files in quarantine")
    quarantine: tuple[QuarantinedFile, ...] = Field(default=(), description="the newest of them")
    notices: tuple[Notice, ...] = Field(default=(), description="notifications that are not delivered yet")
    switched_off: tuple[str, ...] | None = Field(
        default=None, description="automations, deployments, schedules and queues that somebody switched off"
    )
    free: int | None = Field(
        default=None, description="free bytes for this account on the disk of the data folder"
    )
    unknown: tuple[Unknown, ...] = Field(default=(), description="what could not be asked, and why")


def overview(
    settings: Settings,
    rest: Rest | None,
    *,
    why_not: str = "",
    watched: tuple[Path, ...] | None = None,
    now: datetime | None = None,
) -> Overview:
    """Return what arrives, waits and runs. Nothing is started or changed.

    Parameters
    ----------
    settings
        All settings.
    rest
        The Prefect server; None if it cannot be asked.
    why_not
        Why it cannot be asked.
    watched
        Folders that the watcher watches; default: those in the settings, and if these name none, unknown ones.
    now
        The time, UTC; default: the machine's clock.
    """
    now = now or datetime.now(UTC)
    folders = (settings.watch.folders or None) if watched is None else watched
    data = settings.data_dir.expanduser().resolve()
    unknown: list[Unknown] = []
    server = _of_server(rest, why_not, settings, unknown)
    states, number, quarantine = _of_store(settings, folders, server, unknown)
    return Overview(
        at=now,
        sequences=states,
        runs=server.facts.runs if server.facts is not None else None,
        arriving=_of_watcher(data, folders, now, unknown),
        quarantined=number,
        quarantine=quarantine,
        notices=waiting(settings),
        switched_off=server.switched_off,
        free=free_bytes(data),
        unknown=tuple(unknown),
    )


@dataclass(frozen=True)
class _Server:
    """What the Prefect server answered; without it, None."""

    rest: Rest | None = None
    facts: ServerFacts | None = None
    switched_off: tuple[str, ...] | None = None


def _of_server(rest: Rest | None, why_not: str, settings: Settings, unknown: list[Unknown]) -> _Server:
    what = "the runs in progress, and what is switched off"
    if rest is None:
        unknown.append(Unknown(what=what, why=why_not))
        return _Server()
    try:
        return _Server(rest, server_facts(rest, settings), switched_off(rest, settings))
    except NirflowError as error:
        unknown.append(Unknown(what=what, why=str(error)))
        return _Server()


def _of_store(
    settings: Settings, folders: tuple[Path, ...] | None, server: _Server, unknown: list[Unknown]
) -> tuple[tuple[SequenceState, ...] | None, int | None, tuple[QuarantinedFile, ...]]:
    data = settings.data_dir.expanduser().resolve()
    what = "the sequences that arrived or wait for calibrations, and the quarantine"
    if settings.database_url is None and not postgres.status(data).running:
        unknown.append(Unknown(what=what, why="The database is not running."))
        return None, None, ()
    here = tuple(folder.resolve() for folder in folders) if folders is not None else None
    try:
        with closing(Reader(settings)) as reader:
            facts, now = StoreFacts(reader, settings, here).read()
            number, found = reader.quarantined(_QUARANTINED)
        if server.facts is not None:
            facts = replace(facts, runs=server.facts.runs, paused=server.facts.paused)
        states = due_but(facts, now, settings, lambda keys: _with_keys(server.rest, settings, keys))
    except NirflowError as error:
        unknown.append(Unknown(what=what, why=str(error)))
        return None, None, ()
    quarantine = tuple(
        QuarantinedFile(name=one.name, reason=one.reason, since=one.added_at, paths=one.paths)
        for one in found
    )
    return states, number, quarantine


def _with_keys(rest: Rest | None, settings: Settings, keys: Sequence[str]) -> tuple[KnownRun, ...]:
    return runs_with_keys(rest, settings, keys) if rest is not None else ()


def _of_watcher(
    data: Path, folders: tuple[Path, ...] | None, now: datetime, unknown: list[Unknown]
) -> WatcherRecord | None:
    record = read_record(data)
    if record is not None and now - record.written < SILENCE:
        return record
    if folders is None or folders:
        last = f"; it reported last at {record.written:%Y-%m-%d %H:%M} UT" if record is not None else ""
        unknown.append(
            Unknown(
                what="the files that are still arriving", why=f"No watcher runs with this data folder{last}."
            )
        )
    return None
