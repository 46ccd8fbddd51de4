"""Nights for the page: tiny simulated frames, a stack of them, and hand-made reports of runs."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_files import facts_of

from calib_store.model.records import FrameRecord, InputRef, Product, Run, recipe_key
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from flows.run.report import Failure, NightReport
from imaging.header import Header
from imaging.io.examine import last_change
from imaging.io.raw_file import read_headers
from imaging.pixels.image import Image
from imaging.products.header_cards import Record
from imaging.products.product_file import write_product
from imaging.products.product_tables import Table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from tasks.support.references import LeftOut, ProductRef

NIGHT = date(2013, 11, 21)
MADE = datetime(2026, 1, 1, 6, tzinfo=UTC)
_ALIGNMENT = [
    ("name", "U40"), ("dx", "f8"), ("dy", "f8"), ("rotation", "f8"), ("scale", "f8"), ("rms", "f8"),
    ("uncertainty", "f8"), ("n_matched", "i4"), ("flux_scale", "f8"), ("seeing", "f8"), ("sky", "f8"),
    ("found_by", "U12"), ("used", "?"),
]  # fmt: skip


@pytest.fixture(scope="session")
def night() -> date:
    return NIGHT


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three dithered science frames of 128 x 128 pixels."""
    folder = tmp_path_factory.mktemp("simulated")
    none = {"n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
    simulate_night(folder, NightParameters(size=128, n_science=3, **none))
    return tuple(sorted(folder.glob("*.fits")))


@pytest.fixture
def frame_record() -> Callable[..., FrameRecord]:
    """Return the record of a raw file as made by the survey."""

    def make(path: Path, **changes: Any) -> FrameRecord:
        stat = path.stat()
        facts = facts_of(path).model_copy(update=changes.pop("facts", {}))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        values: dict[str, Any] = {"quarantine": None, **changes}
        return FrameRecord(path, sha256, stat.st_size, last_change(stat), facts, {}, **values)

    return make


@pytest.fixture
def raws(
    store: Store, simulated: Sequence[Path], tmp_path: Path, frame_record: Callable[..., FrameRecord]
) -> tuple[FrameRecord, ...]:
    """Return the three frames in the test's own folder, recorded in the store."""
    records = []
    for source in simulated:
        path = tmp_path / "raw" / source.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source.read_bytes())
        records.append(frame_record(path))
    store.frames.ingest(records)
    return tuple(records)


@pytest.fixture
def stack(store: Store, raws: Sequence[FrameRecord], tmp_path: Path) -> Callable[..., Product]:
    """Add a stack of the three frames, with its file in ``out``; its table ``without`` some columns,
    taken so many ``days`` earlier."""

    def make(
        serial: int = 0, *, without: Sequence[str] = (), days: float = 0, facts: Any = (), **metrics: Any
    ) -> Product:
        first = raws[0]
        assert first.facts is not None
        key = recipe_key("image", [raw.sha256 for raw in raws], {"serial": serial}, "1")
        primary, _ = read_headers(first.path)
        sci = np.random.default_rng(serial).normal(0, 5, (40, 50)).astype(np.float32)
        image = Image(sci, sci**2, np.zeros(sci.shape, np.uint16), Header(), primary)
        rows = [
            (
                raw.path.name,
                i,
                -i,
                0.0,
                1.0,
                0.01,
                0.02,
                5 + i,
                1 - i / 10,
                4.1 + i / 4,
                2500.0 - 40 * i,
                "wcs" if i else "reference",
                i < 2,
            )
            for i, raw in enumerate(raws)
        ]
        names = [raw.path.name for raw in raws]
        record = Record(kind="image", facts=first.facts, inputs=names, stamp=MADE, key=key)
        name = f"{first.facts.root}_image.fits"
        file = tmp_path / "out" / name
        complete = np.array(rows, _ALIGNMENT)
        table = Table(complete[[name for name, _ in _ALIGNMENT if name not in without]].copy())
        write_product(file, image, record, tables={"ALIGNMENT": table})
        start = first.facts.started - timedelta(days=days)
        its_facts = first.facts.model_copy(update=dict(facts))
        new = NewProduct(
            kind="image", name=name, facts=its_facts, span=(start, start + timedelta(minutes=6)),
            inputs=[InputRef("science", raw.sha256) for raw in raws], parameters={"serial": serial},
            metrics={"ncombine": 3, "seeing": 4.2, "sky": 2500.0} | metrics,
            recipe_key=key, algorithm_version="1",
        )  # fmt: skip
        return store.add(new, file)

    return make


@pytest.fixture
def ref(tmp_path: Path) -> Callable[..., ProductRef]:
    """Return a product as in a report; it need not be in a store."""

    def make(product: Product | None = None, **changes: Any) -> ProductRef:
        values: dict[str, Any] = {
            "id": str(uuid.UUID(int=1)), "kind": "image", "name": "S20131121S0075_image.fits",
            "sha256": "a" * 64, "recipe_key": "b" * 64, "label": "FIELD Y 2013-11-21",
            "inputs": ("S20131121S0075.fits", "S20131121S0076.fits"), "seconds": 1.5,
        }  # fmt: skip
        if product is not None:
            output = tmp_path / "out" / product.name
            values |= {
                "id": str(product.id), "kind": product.kind, "name": product.name, "sha256": product.sha256,
                "recipe_key": product.recipe_key, "metrics": {}, "output": output,
                "preview": output.with_suffix(".png"),
            }  # fmt: skip
        return ProductRef(**values | changes)

    return make


@pytest.fixture
def report() -> Callable[..., NightReport]:
    """Return the report of a run of 12.5 s."""

    def make(*products: ProductRef, **changes: Any) -> NightReport:
        values: dict[str, Any] = {
            "products": products, "out": Path("out"), "started": MADE, "seconds": 12.5,
            "step_seconds": {"sky": 2.0, "stack": 4.0}, "flow_run": "night in out",
            "url": "http://127.0.0.1:4200/flow-runs/1",
        }  # fmt: skip
        return NightReport(**values | changes)

    return make


@pytest.fixture
def record_run(store: Store, report: Callable[..., NightReport]) -> Callable[..., Run]:
    """Record a run of the night in the store; each begins an hour after the previous one."""
    reported: list[Run] = []

    def make(*products: ProductRef, nights: Sequence[date] = (NIGHT,), **changes: Any) -> Run:
        began = MADE + timedelta(hours=len(reported))
        content = changes.pop("content", None) or report(*products, **changes).model_dump(mode="json")
        run = Run(
            id=uuid.UUID(int=len(reported) + 100), nights=tuple(nights), flow="night", started=began,
            ended=began + timedelta(seconds=13), report=content,
        )  # fmt: skip
        store.runs.add(run)
        reported.append(run)
        return run

    return make


@pytest.fixture(scope="session")
def failure() -> Callable[..., Failure]:
    """Return a failure of a science group."""

    def make(**changes: Any) -> Failure:
        values = {"step": "science", "label": "FIELD Y 2013-11-21", "message": "no stars to align by."}
        return Failure(**values | changes)

    return make


@pytest.fixture(scope="session")
def lost() -> Callable[..., LeftOut]:
    """Return an item that was left out."""

    def make(name: str = "S20131121S0099.fits", **changes: Any) -> LeftOut:
        return LeftOut(**{"name": name, "reason": "truncated", "remedy": "Fetch the file again."} | changes)

    return make
