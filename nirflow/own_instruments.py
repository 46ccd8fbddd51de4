"""The user's own tables of instruments, named in the settings and read when a table is first needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def know_own_instruments() -> None:
    """Register the tables that the settings name for reading frames."""
    from imaging.instruments.own_tables import OWN_TABLES

    OWN_TABLES.paths = _paths


def _paths() -> Iterable[Path]:
    from calib_store.model.settings import StoreSettings

    return StoreSettings().instruments
