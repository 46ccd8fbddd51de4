"""The urgency of frames: the science of tonight goes first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from imaging.instruments import catalogue

Urgency = Literal["tonight", "backlog"]

#: A night's frames are urgent until this long after its end in the afternoon.
_AFTERWARDS: Final = timedelta(hours=5)


def urgency(night: date, instrument: str, now: datetime | None = None) -> Urgency:
    """Return whether frames of a night at an instrument's site are from tonight or belong to the backlog."""
    now = now or datetime.now(UTC)
    return "tonight" if night >= catalogue.site_of(instrument).night_of(now - _AFTERWARDS) else "backlog"
