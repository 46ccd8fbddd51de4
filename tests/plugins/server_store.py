"""Stores on a server over TCP, shared by the tests of administration and backups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import text

from calib_store.model.records import FrameRecord, InputRef, recipe_key
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from imaging.pixels.bright_pixels import BrightPixels

#: What every raw frame leaves behind.
_BRIGHT = BrightPixels((8, 8), 6e4, np.array([3, 9], np.int64), np.array([9e3, np.inf], np.float32))

Settings = Callable[..., StoreSettings]


def database_of(settings: StoreSettings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value().rpartition("/")[2]


def fill(store: Store, facts, folder: Path, number: int = 3) -> list:
    """Add some darks and an image made with the last one."""
    made, previous = [], None
    for n in range(number):
        raw = FrameRecord(
            folder / f"S{n}.fits",
            hashlib.sha256(f"raw {n}".encode()).hexdigest(),
            10,
            1,
            facts(name=f"S{n}.fits"),
            bright=_BRIGHT,
        )
        store.frames.ingest([raw])
        file = folder / f"product{n}.fits"
        file.write_bytes(f"product {n}".encode() * 500)
        sources = [InputRef("dark", raw.sha256)] + ([InputRef("dark", previous.id)] if previous else [])
        new = NewProduct(
            kind="image" if n == number - 1 else "dark", name=f"S{n}.fits",
            recipe_key=recipe_key("dark", [raw.sha256], {}, "1"), span=(facts().started, facts().ended),
            facts=facts(), inputs=sources, parameters={"low": 3.0}, metrics={"level": n}, algorithm_version="1",
        )  # fmt: skip
        previous = store.add(new, file)
        made.append(previous)
    return made


def dumped(store: Store) -> dict[str, list]:
    """Return every row of a store."""
    from calib_store.tables.schema import metadata

    with store.database.begin() as connection:
        return {
            name: sorted(map(str, connection.execute(text(f"SELECT * FROM {name}")).all()))
            for name in metadata.tables
        }
