"""Nights by their dates. The night of a moment depends on the site: `imaging.instruments.site.Site.night_of`."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

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


def nights_between(first: date, last: date) -> list[date]:
    """Return every night from the first to the last, both included."""
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def span_anywhere(first: date, last: date) -> tuple[datetime, datetime]:
    """Return a time that contains the nights from the first to the last, both included, at any site."""
    margin = timedelta(days=2)  # time zone and rollover: a night begins up to 38 hours before its date
    return datetime.combine(first, time(), UTC) - margin, datetime.combine(last, time(), UTC) + margin
