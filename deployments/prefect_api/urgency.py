"""The urgency of frames: the science of tonight goes first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from imaging.frames.nights import night_of

Urgency = Literal["tonight", "backlog"]

#: A night's frames are urgent until this long after its end, which includes the next morning.
_MORNING: Final = timedelta(hours=8)


def urgency(night: date, now: datetime | None = None) -> Urgency:
    """Return whether frames of a UT night are from tonight or belong to the backlog."""
    now = now or datetime.now(UTC)
    return "tonight" if night >= night_of(now - _MORNING) else "backlog"
