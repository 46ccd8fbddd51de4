"""Times and nights as users write them on the command line.

A time is a moment in UT; a date without a time means midnight. A night is named by the observatory's date for it,
that at its end; when it begins depends on the site (`imaging.instruments.site.Site`). No option accepts one in place
of the other.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from imaging.frames.nights import check_night
from nirflow.exits import UsageError

_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})", re.ASCII)
_NIGHT_REMEDY = "Write the date at its end, as in the names of Gemini's files: 2013-11-21 or 20131121."


def moment(text: str | None, option: str) -> datetime | None:
    """Return the moment that a user wrote: a date, or a date and a time; UT unless it has an offset.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is not a time.",
            remedy="Write 2013-11-21T03:00, or 2013-11-21 for 00:00 of that day; UT.",
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def is_date(text: str | None) -> bool:
    """Return whether a time is written as a date without a time of day."""
    return text is not None and _DATE.fullmatch(text.strip()) is not None


def night(text: str, option: str, *, remedy: str = _NIGHT_REMEDY) -> date:
    """Return the night that a user wrote: 2013-11-21 or 20131121.

    Raises
    ------
    UsageError
        If it is not the date of a night.
    """
    parts = _DATE.fullmatch(text.strip())
    try:
        if parts is not None:
            return check_night(date(*map(int, parts.groups())))
    except ValueError:
        pass
    raise UsageError(f"{option} {text!r} is not a night.", remedy=remedy)


def nights(text: str, option: str) -> tuple[date, date]:
    """Return the first and the last night of a text: one night, or a range including both ends.

    Raises
    ------
    UsageError
        If they are not nights, or in the wrong order.
    """
    first_text, dots, last_text = text.partition("..")
    first = night(first_text, option)
    last = night(last_text, option) if dots else first
    if last < first:
        raise UsageError(
            f"{option} {text!r} ends before it begins.", remedy=f"Write {option} {last}..{first}."
        )
    return first, last
