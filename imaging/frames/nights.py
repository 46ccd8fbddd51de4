"""Nights by a UT date, where no instrument is known; those of a frame: `imaging.frames.facts.FrameFacts.night`."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

#: A night rolls over at 14:00 UT, unless the table of an instrument has its own site.
NIGHT_ROLLOVER = timedelta(hours=10)

#: Nights that can be requested: far beyond any frame, but with times that Python and databases can represent.
FIRST_NIGHT: Final = date(1900, 1, 1)
LAST_NIGHT: Final = date(2999, 12, 31)


def check_night(night: date) -> date:
    """Return a night unchanged.

    Raises
    ------
    ValueError
        If it is out of range.
    """
    if not FIRST_NIGHT <= night <= LAST_NIGHT:
        raise ValueError(f"{night} is not a night between {FIRST_NIGHT} and {LAST_NIGHT}")
    return night


def night_of(moment: datetime) -> date:
    """Return the date of the night of a time."""
    return (moment.astimezone(UTC) + NIGHT_ROLLOVER).date()


def nights_between(first: date, last: date) -> list[date]:
    """Return every night from the first to the last, both included."""
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def night_begins(night: date) -> datetime:
    """Return the time from which exposures belong to a night."""
    return datetime.combine(night, time(), UTC) - NIGHT_ROLLOVER
