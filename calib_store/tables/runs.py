"""Reports of finished runs of a night's flow: for the night's page, and for science that waits for calibrations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, any_, func, select
from sqlalchemy.dialects.postgresql import insert

from calib_store.model.records import Run
from calib_store.tables.database import Database
from calib_store.tables.frames import any_of, plain_json
from calib_store.tables.schema import frames, runs


class Runs:
    """The runs of one database; `calib_store.store.Store.runs`.

    Parameters
    ----------
    database
        Where the rows are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run) -> None:
        """Record a run; the same run is recorded only once."""
        self._database.run(lambda connection: _add(connection, run))

    def of_night(self, night: date) -> tuple[Run, ...]:
        """Return the runs that reduced frames of a night, earliest first."""
        return self._database.run(lambda connection: _of_night(connection, night))

    def nights(self) -> tuple[date, ...]:
        """Return the nights of which any run reduced frames, newest first."""
        return self._database.run(_nights)

    def waiting(self, since: datetime) -> tuple[Run, ...]:
        """Return the sequences whose latest run, ended after some time, lacked a kind of calibration.

        Parameters
        ----------
        since
            Sequences that have waited since before that time have been given up.
        """
        return self._database.run(lambda connection: waiting(connection, since))


def _add(connection: Connection, run: Run) -> None:
    values = run.model_dump(exclude={"frames"}) | {
        "report": plain_json(run.report), "waits_for": list(run.waits_for), "nights": list(run.nights)
    }  # fmt: skip
    connection.execute(insert(runs).on_conflict_do_nothing(), values)
    had = frames.update().where(frames.c.sha256 == any_of(sorted(run.frames)), ~frames.c.in_run)
    connection.execute(had.values(in_run=True))


def _of_night(connection: Connection, night: date) -> tuple[Run, ...]:
    query = select(runs).where(any_(runs.c.nights) == night).order_by(runs.c.started, runs.c.id)
    return _runs(connection.execute(query).mappings())


def _nights(connection: Connection) -> tuple[date, ...]:
    night = func.unnest(runs.c.nights).label("night")
    return tuple(connection.scalars(select(night).distinct().order_by(night.desc())))


def waiting(connection: Connection, since: datetime) -> tuple[Run, ...]:
    """Return what `Runs.waiting` does; only the reports of what waits are read, however long the history is."""
    last = (
        select(runs.c.id, runs.c.sequence, runs.c.waits_for)
        .distinct(runs.c.sequence)
        .where(runs.c.sequence.is_not(None), runs.c.ended >= since)
        .order_by(runs.c.sequence, runs.c.ended.desc(), runs.c.id)
        .subquery()
    )
    waits = select(runs).join(last, runs.c.id == last.c.id).where(func.cardinality(last.c.waits_for) > 0)
    return _runs(connection.execute(waits.order_by(runs.c.sequence)).mappings())


def _runs(rows: Iterable[Any]) -> tuple[Run, ...]:
    return tuple(Run.model_validate(dict(row)) for row in rows)
