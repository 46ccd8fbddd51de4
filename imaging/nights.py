"""Nights as Gemini names them, by a UT date."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

#: The Gemini night rolls over at 14:00 UT, which is mid-morning on Cerro Pachon.
NIGHT_ROLLOVER = timedelta(hours=10)


def night_of(moment: datetime) -> date:
    """The UT date that Gemini gives to the night of a moment."""
    return (moment.astimezone(UTC) + NIGHT_ROLLOVER).date()


def nights_between(first: date, last: date) -> list[date]:
    """Every night from the first to the last, both included."""
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def night_begins(night: date) -> datetime:
    """The moment from which on exposures are of a night."""
    return datetime.combine(night, time(), UTC) - NIGHT_ROLLOVER
