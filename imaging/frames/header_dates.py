"""When a header was written, according to its own keywords."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def last_written(header: Mapping[str, Any]) -> datetime | None:
    """Return the latest of DATE and GEM-TLM, UTC, or None if neither is a date. Invalid values are not errors."""
    dates = []
    for keyword in ("DATE", "GEM-TLM"):
        try:
            date = datetime.fromisoformat(str(header.get(keyword)).strip())
            dates.append(date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            continue
    return max(dates, default=None)
