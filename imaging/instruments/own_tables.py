"""Where the user's own tables are: set by whoever knows the settings, asked when a table is first needed.

Light to import: commands set it before they know whether they need a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


class OwnTables:
    """The paths of the user's own tables; none until somebody sets where they come from."""

    def __init__(self) -> None:
        self.paths: Callable[[], Iterable[Path]] = tuple


OWN_TABLES = OwnTables()
