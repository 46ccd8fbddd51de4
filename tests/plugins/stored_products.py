"""Direct access to the database for several tests of the store."""

from __future__ import annotations

from sqlalchemy import func, select

from calib_store.store import Store


def count_rows(store: Store, table) -> int:
    with store.database.begin() as connection:
        return connection.scalar(select(func.count()).select_from(table))
