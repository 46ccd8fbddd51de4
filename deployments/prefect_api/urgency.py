"""What goes first: the science of tonight."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from imaging.frames.nights import night_of

Urgency = Literal["tonight", "backlog"]

#: A night's frames are urgent until this long after its end, s: the morning after belongs to it.
_MORNING: Final = timedelta(hours=8)


def urgency(night: date, now: datetime | None = None) -> Urgency:
    """Whether frames of a UT night are of tonight, or have waited already."""
    now = now or datetime.now(UTC)
    return "tonight" if night >= night_of(now - _MORNING) else "backlog"
