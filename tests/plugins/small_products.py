"""Small products to write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

STAMP = datetime(2026, 11, 23, 6, 2, 15, 165327, tzinfo=UTC)


KEY = "0123456789abcdef" * 4


INPUTS = [f"S20131121S{n:04d}.fits" for n in (75, 76, 77)]


Write = Callable[..., Path]
