"""The location of the user's own tables: set by the code that knows the settings, used when a table is first needed.

Cheap to import, because commands set it before they know whether they need a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


class OwnTables:
    """The paths of the user's own tables; empty until their source is set."""

    def __init__(self) -> None:
        self.paths: Callable[[], Iterable[Path]] = tuple


OWN_TABLES = OwnTables()
