"""When a header was written, according to its own keywords."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from imaging.instruments.time_texts import parse_moment


def last_written(header: Mapping[str, Any]) -> datetime | None:
    """Return the latest of DATE and GEM-TLM, UTC, or None if neither is a date. Invalid values are not errors."""
    dates = (parse_moment(header.get(keyword)) for keyword in ("DATE", "GEM-TLM"))
    return max((date for date in dates if date is not None), default=None)
