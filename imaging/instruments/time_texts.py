"""Texts of dates and times in headers: what they state, and in which time scale."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

_DATE: Final = r"(?P<year>\d{4})(?P<sep>[-/.]?)(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})"
_CLOCK: Final = r"(?P<hour>\d{1,2})[: ]?(?P<minute>\d{2})(?:[: ]?(?P<second>\d{1,2}(?:[.,]\d*)?))?"
_ZONE: Final = r"(?P<zone>Z|UTC?|GMT|[+-]\d{2}(?::?\d{2})?)"
_MOMENT: Final = re.compile(rf"{_DATE}(?:[T ] *{_CLOCK} *{_ZONE}?)?", re.IGNORECASE)
_TIME_OF_DAY: Final = re.compile(rf"{_CLOCK} *{_ZONE}?", re.IGNORECASE)
DAY: Final = timedelta(days=1)
#: Names of UTC, and time scales for which it is replaced, with their offset from those that astropy knows.
UTC_NAMES: Final = ("", "UTC", "UT", "UT1", "GMT", "Z")
SCALES: Final = {
    "TAI": ("tai", 0), "IAT": ("tai", 0), "GPS": ("tai", -19), "TT": ("tt", 0), "TDT": ("tt", 0), "ET": ("tt", 0),
    "TDB": ("tdb", 0), "TCG": ("tcg", 0), "TCB": ("tcb", 0),
}  # fmt: skip
LOCAL_NAMES: Final = ("LOCAL", "LT", "LOCAL TIME")


@dataclass(frozen=True)
class TimeText:
    """What a text states: a date, a time of day since midnight and its zone, as far as it has them."""

    date: date | None = None
    clock: timedelta | None = None
    zone: timedelta | None = None

    @property
    def moment(self) -> datetime | None:
        """The moment, UTC."""
        if self.date is None or self.clock is None:
            return None
        try:
            return at(self.date, self.clock) - (self.zone or timedelta(0))
        except OverflowError:
            return None


def parse_moment(text: object) -> datetime | None:
    """Return a date and time in UTC, or None if a text is neither that nor a date.

    Without a time zone it is UTC, without a time midnight. Second 60 and 24:00:00 are the beginning of the next
    minute and day.
    """
    found = stated(text)
    if found is None or found.date is None:
        return None
    return at(found.date, timedelta(0)) if found.clock is None else found.moment


def stated(value: object) -> TimeText | None:
    """Return what a text with a date states; None if it has none."""
    parts = _MOMENT.fullmatch(str(value).strip()) if isinstance(value, str) else None
    if parts is None or (not parts["sep"] and len(parts["month"] + parts["day"]) < 4):
        return None
    try:
        day = date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    except ValueError:
        return None
    if parts["hour"] is None:
        return TimeText(day)
    clock = _since_midnight(parts)
    return None if clock is None else TimeText(day, clock, _zone(parts["zone"]))


def time_of_day(value: object) -> TimeText | None:
    """Return what a text with a time of day states; None if it is none."""
    parts = _TIME_OF_DAY.fullmatch(str(value).strip()) if isinstance(value, str) else None
    if parts is None:
        return None
    clock = _since_midnight(parts)
    return None if clock is None else TimeText(None, clock, _zone(parts["zone"]))


def _since_midnight(parts: re.Match[str]) -> timedelta | None:
    hour, minute = int(parts["hour"]), int(parts["minute"])
    second = float((parts["second"] or "0").replace(",", "."))
    clock = timedelta(hours=hour, minutes=minute, microseconds=round(second * 1e6))
    # A leap second, and the end of a day, are 60 and 24.
    valid = minute < 60 and second < 61 and (hour < 24 or clock == DAY)
    return clock if valid else None


def _zone(text: str | None) -> timedelta | None:
    """Return the offset of a zone from UTC; None without a zone."""
    if text is None:
        return None
    if text[0] not in "+-":
        return timedelta(0)
    digits = text[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if text[0] == "-" else offset


def at(day: date, clock: timedelta) -> datetime:
    """Return the moment, UTC, of a time of day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + clock


def apart(one: TimeText, other: TimeText) -> timedelta:
    """Return by how much two times of day differ, over midnight if that is less."""
    assert one.clock is not None
    assert other.clock is not None
    difference = (one.clock - (one.zone or timedelta(0)) - other.clock + (other.zone or timedelta(0))) % DAY
    return min(difference, DAY - difference)


def ahead_of_utc(moment: datetime, scale: str, seconds: int) -> timedelta:
    """Return by how much a time scale is ahead of UTC."""
    from astropy.time import Time  # imported late: next to no frame needs it

    given = moment.replace(tzinfo=None)
    utc = Time(given, scale=scale).utc.to_datetime()
    return given - utc + timedelta(seconds=seconds)
