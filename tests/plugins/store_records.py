"""Facts, raw frames and products for a store. Loaded by name from tests/conftest.py."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.model.records import FrameRecord, InputRef, Product
from calib_store.store import Store, recipe_key
from calib_store.tables.products import NewProduct
from imaging.frames.facts import FrameFacts

EPOCH = datetime(2013, 11, 21, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def epoch() -> datetime:
    return EPOCH


@pytest.fixture(scope="session")
def facts() -> Callable[..., FrameFacts]:
    """Return the facts of a frame of the tutorial's night, of 8 x 8 pixels like the tests' files, with changes."""

    def make(**changes: Any) -> FrameFacts:
        values: dict[str, Any] = {
            "name": "S20131121S0075.fits", "instrument": "F2", "kind": "object",
            "observation_class": "science", "target": "FIELD", "exposure_time": 120.0, "coadds": 1,
            "read_pairs": 8, "filter_id": "Y_G0811", "filter": "Y", "lyot": "f/16_G5830",
            "focal_mask": "Open", "disperser": "Open", "detector": "109", "started": EPOCH,
            "section": "[1:8,1:8]",
        }  # fmt: skip
        return FrameFacts(**{**values, **changes})

    return make


@pytest.fixture
def record(facts: Callable[..., FrameFacts], tmp_path: Path) -> Callable[..., FrameRecord]:
    """Return a raw frame's record; its content is a text."""

    def make(name: str = "S1.fits", content: str | None = None, **changes: Any) -> FrameRecord:
        sha256 = hashlib.sha256((content if content is not None else name).encode()).hexdigest()
        values: dict[str, Any] = {
            "path": tmp_path / name, "sha256": sha256, "size": 10, "changed_ns": 1,
            "facts": facts(name=name), "header": {"OBJECT": "FIELD"},
        }  # fmt: skip
        return FrameRecord(**{**values, **changes})

    return make


@pytest.fixture
def add(
    store: Store, facts: Callable[..., FrameFacts], record: Callable[..., FrameRecord], tmp_path: Path
) -> Callable[..., Product]:
    """Add a product whose inputs' middle is some hours from the night's first frame."""
    serial = itertools.count()

    def make(
        kind: str = "dark", *, hours: float = 0.0, content: bytes | None = None, **changes: Any
    ) -> Product:
        number = next(serial)
        made_of = changes.pop("facts", facts())
        middle = made_of.middle + timedelta(hours=hours)
        raw = record(f"raw{number}.fits")
        store.frames.ingest([raw])
        file = tmp_path / f"product{number}.fits"
        file.write_bytes(content if content is not None else f"product {number}".encode() * 1000)
        values: dict[str, Any] = {
            "kind": kind, "name": f"S{number}_{kind}.fits", "facts": made_of,
            "span": (middle - timedelta(minutes=10), middle + timedelta(minutes=10)),
            "inputs": [InputRef(kind, raw.sha256)], "parameters": {"low": 3.0}, "metrics": {"level": 1.5},
            "recipe_key": recipe_key(kind, [raw.sha256], {"low": 3.0}, "1"), "algorithm_version": "1",
        }  # fmt: skip
        return store.add(NewProduct(**{**values, **changes}), file)

    return make
