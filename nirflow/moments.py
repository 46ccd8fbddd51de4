"""Times as a person writes them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from nirflow.exits import UsageError


def moment(text: str | None, option: str) -> datetime | None:
    """A time as a person writes it: a day or a day and a time, UTC unless it says otherwise.

    Raises
    ------
    UsageError
        Where it is neither.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no time.", remedy="Write 2013-11-21 or 2013-11-21T03:00, UTC."
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
