"""Figures over time are those of the products that count, by night and configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from sqlalchemy import event, text

from calib_store.model.product_nights import night_of
from calib_store.model.records import Product, recipe_key
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from calib_store.tables.trends.figure_history import figure_history, night_medians
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts

FIRST = datetime(2013, 11, 21, 3, tzinfo=UTC)
EVER = {"since": datetime(2000, 1, 1, tzinfo=UTC), "before": datetime(2030, 1, 1, tzinfo=UTC)}


@pytest.fixture
def add(store: Store, facts: Callable[..., FrameFacts], tmp_path: Path) -> Callable[..., Product]:
    """Add a dark of some time with these figures."""

    def make(serial: int, metrics: dict[str, Any], *, hours: float = 0, **changes: Any) -> Product:
        start = FIRST + timedelta(hours=hours)
        file = tmp_path / f"{serial}.fits"
        file.write_bytes(f"{serial}".encode())
        new = NewProduct(
            kind="dark", name=f"S{serial}_dark.fits", recipe_key=recipe_key("dark", [], {"n": serial}, "1"),
            span=(start, start + timedelta(minutes=10)), facts=facts(kind="dark", started=start, **changes),
            inputs=[], parameters={}, metrics=metrics, algorithm_version="1",
        )  # fmt: skip
        return store.add(new, file)

    return make


def medians(store: Store, *figures: str, **options: Any) -> Any:
    return store.database.run(
        lambda c: night_medians(c, "dark", facts=("read_pairs",), figures=figures, **EVER, **options)
    )


def test_figures_are_numbers_or_texts_in_order_of_time(store: Store, add: Callable[..., Product]) -> None:
    add(1, {"level": 105.5, "variance_from": "darks", "n_hot": 7, "noise": None}, hours=24)
    add(2, {"level": "unknown", "scales_S1": 1.0})
    rows = store.database.run(
        lambda c: figure_history(
            c,
            "dark",
            facts=("read_pairs", "nothing"),
            figures=("level", "n_hot", "noise", "variance_from"),
            **EVER,
        )
    )
    assert [row.name for row in rows] == ["S2_dark.fits", "S1_dark.fits"]
    assert (dict(rows[0].values), dict(rows[0].texts)) == ({}, {"level": "unknown"})
    assert (dict(rows[1].values), dict(rows[1].texts)) == (
        {"level": 105.5, "n_hot": 7.0},
        {"variance_from": "darks"},
    )
    assert rows[1].facts["read_pairs"] == "8"
    assert "nothing" not in rows[1].facts
    assert [row.night for row in rows] == [date(2013, 11, 21), date(2013, 11, 22)]


def test_medians_are_those_of_each_night_and_configuration(store: Store, add: Callable[..., Product]) -> None:
    levels = [101.0, 109.0, 102.0]
    for n, level in enumerate(levels):
        add(n, {"level": level}, hours=n)
    add(10, {"level": 50.0, "noise": 2.0}, read_pairs=1)
    add(11, {"level": 104.0}, hours=24)
    add(12, {"level": "high", "noise": math.pi}, hours=48)
    found = medians(store, "level", "noise")
    assert [(row.night.day, row.groups["read_pairs"], row.medians.get("level"), row.products) for row in found] == [
        (21, "1", 50.0, 1), (21, "8", median(levels), 3), (22, "8", 104.0, 1), (23, "8", None, 1),
    ]  # fmt: skip
    assert [row.medians.get("noise") for row in found] == [2.0, None, None, pytest.approx(math.pi)]


def test_texts_separate_the_products_of_a_night(store: Store, add: Callable[..., Product]) -> None:
    add(1, {"level": 1.0, "source": "2MASS"})
    add(2, {"level": 2.0, "source": "nominal"})
    add(3, {"level": 3.0})
    found = medians(store, "level", texts=("source",))
    assert {row.groups.get("source"): row.medians["level"] for row in found} == {
        "2MASS": 1.0, "nominal": 2.0, None: 3.0,
    }  # fmt: skip


@pytest.mark.parametrize("instrument", ["F2", "NIRI", "GONE"])
@pytest.mark.parametrize("hours", [0, 9, 13.8, 14.2, 16.9, 17.1, 20.9, 21.1, 23.9])
def test_the_database_dates_nights_as_the_observatory_does(
    store: Store, add: Callable[..., Product], instrument: str, hours: float
) -> None:
    """A night changes at 14:00 of the time at the site."""
    made = add(1, {"level": 1.0}, hours=hours - 3)
    with store.database.begin() as connection:
        connection.execute(
            text("CREATE TEMP TABLE products ON COMMIT DROP AS SELECT * FROM public.products"),
        )
        connection.execute(
            text(
                "UPDATE pg_temp.products SET facts = facts || jsonb_build_object('instrument', CAST(:i AS text))"
            ),
            {"i": instrument},
        )
        (row,) = night_medians(connection, "dark", facts=(), figures=("level",), **EVER)
    middle = made.middle
    assert row.night == night_of({"instrument": instrument}, (middle, middle))


def test_products_that_do_not_count_are_left_out(store: Store, add: Callable[..., Product]) -> None:
    rejected, kept = add(1, {"level": 1.0}), add(2, {"level": 2.0})
    store.set_status(rejected, "rejected", author="Ana", reason="light leak")
    damaged = add(3, {"level": 3.0})
    path = store.file_of(damaged)
    path.chmod(0o644)
    path.write_bytes(b"x")
    assert store.find(damaged.recipe_key) is None
    (row,) = medians(store, "level")
    assert (row.medians["level"], row.products) == (2.0, 1)
    rows = store.database.run(lambda c: figure_history(c, "dark", facts=(), figures=("level",), **EVER))
    assert [row.id for row in rows] == [kept.id]


def test_limits_of_time(store: Store, add: Callable[..., Product]) -> None:
    products = [add(n, {"level": float(n)}, hours=24 * n) for n in range(3)]
    limits = {"since": products[1].middle, "before": products[2].middle}
    rows = store.database.run(lambda c: figure_history(c, "dark", facts=(), figures=("level",), **limits))
    assert [row.id for row in rows] == [products[1].id]
    found = store.database.run(lambda c: night_medians(c, "dark", facts=(), figures=("level",), **limits))
    assert [row.medians["level"] for row in found] == [1.0]


def test_an_unknown_kind_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.database.run(lambda c: night_medians(c, "sky", facts=(), figures=("level",), **EVER))


def test_an_index_restricts_the_search(store: Store) -> None:
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, query: str, values: Any, *_: Any) -> None:
        asked.append((query, values))

    event.listen(store.database.engine, "before_cursor_execute", note)
    medians(store, "level")
    query, values = next(one for one in asked if "percentile_cont" in one[0])
    with store.database.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.exec_driver_sql(f"EXPLAIN {query}", values).scalars().all()
    assert any("products_kind_middle_idx" in line for line in plan), plan
