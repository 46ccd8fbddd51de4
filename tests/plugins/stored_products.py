"""What several tests of the store do behind its back."""

from __future__ import annotations

from sqlalchemy import func, select

from calib_store.store import Store


def count_rows(store: Store, table) -> int:
    with store.database.begin() as connection:
        return connection.scalar(select(func.count()).select_from(table))
