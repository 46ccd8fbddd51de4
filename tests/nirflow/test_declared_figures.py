"""A figure that a model declares is on the page, in the report, the UI, histories, expressions and documentation."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from calib_store.model.records import Product
from flows.page.products import page_figures
from flows.run.history import history_rows
from flows.run.report import NightReport
from imaging.figures import Figure, Metrics, figure, flat_values, share
from imaging.product_figures import metric_models
from nirflow.console.reduction_report import print_report
from nirflow.expressions.language import Expression, ValueKind
from nirflow.expressions.product_names import product_lookup, product_names
from tasks.support.artifacts import product_summary
from tasks.support.references import ProductRef

ROOT = Path(__file__).parents[2]


class MadeUp(Metrics):
    """Figures of no real step."""

    glow: float = figure(
        "light of the guide probe", "probe glow", unit="electron", headline=True, history=True
    )
    ghosts: float = share("fraction of the pixels in ghosts", "in ghosts", history=True)
    shutter: str = figure("what closed the beam")


METRICS = flat_values(MadeUp(glow=12.3456, ghosts=0.0123, shutter="blade"))
#: A figure of an earlier version.
OLD = {"n_glitches": 7, "odd": 0.123456}


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(metric_models(), "dark", MadeUp)
    product_names.cache_clear()
    yield
    product_names.cache_clear()


def ref(**changes: Any) -> ProductRef:
    values: dict[str, Any] = {
        "id": "1", "kind": "dark", "name": "S1_dark.fits", "sha256": "0" * 64, "recipe_key": "1" * 64,
        "metrics": METRICS | OLD,
    }  # fmt: skip
    return ProductRef(**values | changes)


def product(metrics: dict[str, Any], day: int = 21) -> Product:
    taken = datetime(2013, 11, day, 3, tzinfo=UTC)
    return Product.model_construct(
        id=uuid.UUID(int=day), kind="dark", name="S1_dark.fits", status="certified", metrics=metrics, facts={},
        middle=taken, span=(taken, taken), made_at=taken, size=1, software_version="0",
    )  # fmt: skip


def test_on_the_page() -> None:
    assert page_figures("dark", METRICS | OLD) == (
        Figure("probe glow", "12.35", "e\N{SUPERSCRIPT MINUS}"),
        Figure("in ghosts", "1.23", "%"),
        Figure("n_glitches", "7"),
        Figure("odd", "0.1235"),
    )


def test_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(
        NightReport(
            out=Path("out"), started=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0,
            products=(ref(), ref(name="S2_dark.fits", metrics=OLD)),
        )
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "S1_dark.fits 0 - probe glow 12.35 e- 0.0 s built" in lines
    assert "S2_dark.fits 0 - - 0.0 s built" in lines


def test_in_the_ui() -> None:
    rows = product_summary(ref()).splitlines()
    assert rows[rows.index("| --- | --- |") + 1 :] == [
        "| probe glow | 12.35 e- |",
        "| in ghosts | 1.23 % |",
        "| n_glitches | 7 |",
        "| odd | 0.1235 |",
        "| shutter | blade |",
    ]


def test_in_histories() -> None:
    new, old = product(METRICS | OLD), product(OLD, day=20)
    assert [list(row)[3:] for row in history_rows(new, [old])] == [["probe glow, e-", "in ghosts, %"]] * 2
    assert [row["probe glow, e-"] for row in history_rows(new, [old])] == [12.346, None]
    assert [row["in ghosts, %"] for row in history_rows(new, [old])] == [1.23, None]
    assert [list(row)[3:] for row in history_rows(old, [])] == [[]]


def test_in_expressions() -> None:
    names = product_names()
    assert (names["glow"].kind, names["glow"].meaning) == (
        ValueKind.NUMBER, "light of the guide probe, electron"
    )  # fmt: skip
    assert (names["ghosts"].meaning, names["shutter"].kind) == (
        "fraction of the pixels in ghosts", ValueKind.TEXT
    )  # fmt: skip
    wanted = Expression.parse("ghosts < 0.02 and glow > 12 and shutter == 'blade'", names)
    assert wanted.evaluate(product_lookup(product(METRICS)))
    assert not wanted.evaluate(product_lookup(product(OLD)))


def test_a_name_of_several_kinds_has_the_meaning_of_each() -> None:
    meanings = {name: one.meaning for name, one in product_names().items()}
    assert meanings["rejected"] == (
        "flat: fraction of the input pixels that were rejected; image: rejected values, all frames"
    )
    assert meanings["circle_radius"] == "radius at half the light, px"
    assert not any("*" in name for name in meanings)


def test_in_the_documentation() -> None:
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.figures_page()
    assert "| `glow` | electron | probe glow | e- | report, history | light of the guide probe |" in page
    assert "| `ghosts` |  | in ghosts | % | history | fraction of the pixels in ghosts |" in page
    assert "| `shutter` |  |  |  |  | what closed the beam |" in page
