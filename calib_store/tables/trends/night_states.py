"""What changes when something happens to a night: its runs and the frames around it, for lists that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Date, Row, cast, func, select

from calib_store.tables.schema import frames, runs

#: A night has frames of these days in UT, wherever the observatory is: from two before its date to one after it.
_DAYS = range(-2, 2)


def night_states(connection: Connection, nights: Sequence[date] = ()) -> dict[date, str]:
    """Return a text for each night that changes if a run over it ends, or a frame of it is added.

    Parameters
    ----------
    connection
        The database.
    nights
        Nights that are wanted although no run was over them.
    """
    night = func.unnest(runs.c.nights).label("night")
    each = select(night, runs.c.ended).subquery()
    ended = select(each.c.night, func.count(), func.max(each.c.ended)).group_by(each.c.night)
    by_night = {row[0]: _state(row) for row in connection.execute(ended)}
    day = cast(func.timezone("UTC", frames.c.started), Date)
    added = (
        select(day, func.count(), func.max(frames.c.added_at))
        .where(frames.c.started.is_not(None))
        .group_by(day)
    )
    by_day = {row[0]: _state(row) for row in connection.execute(added)}
    return {
        one: " ".join([by_night.get(one, "-"), *(by_day.get(one + timedelta(days=n), "-") for n in _DAYS)])
        for one in {*by_night, *nights}
    }


def _state(row: Row[tuple[date, int, datetime]]) -> str:
    _, number, last = row
    return f"{number}@{last.isoformat()}"
