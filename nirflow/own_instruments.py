"""The user's own tables of instruments, by the settings: read when a table is first needed, not before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def know_own_instruments() -> None:
    """Have frames read by the tables that the settings name, too."""
    from imaging.instruments.own_tables import OWN_TABLES

    OWN_TABLES.paths = _paths


def _paths() -> Iterable[Path]:
    from calib_store.model.settings import StoreSettings

    return StoreSettings().instruments
