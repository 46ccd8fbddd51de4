"""Plots are the same for the same figures, in the page's colours, and labels are shown literally."""

from __future__ import annotations

import xml.etree.ElementTree as Tree
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import matplotlib
import pytest

from flows.page.plots import Bar, Plot, Series, in_time, plain_label, spans


@pytest.fixture
def times(epoch: datetime) -> list[datetime]:
    return [epoch + timedelta(minutes=2 * i) for i in range(5)]


def drawn(plot: Plot | None) -> Tree.Element:
    assert plot is not None
    return Tree.fromstring(plot.svg)


def test_the_same_figures_give_the_same_plot(times: list[datetime]) -> None:
    series = [Series("x", times, [1.0, 2.0, 3.0, 2.0, 1.0]), Series("y", times, [0.0] * 5)]
    with ThreadPoolExecutor(4) as pool:
        plots = list(pool.map(lambda _: in_time("Shift", "px", series, salt="one"), range(4)))
    assert len({plot.svg for plot in plots if plot is not None}) == 1


def test_names_inside_two_plots_differ(times: list[datetime]) -> None:
    series = [Series("x", times, [1.0, 2.0, 3.0, 2.0, 1.0])]
    names = [
        {node.get("id") for node in drawn(in_time("Shift", "px", series, salt=salt)).iter() if node.get("id")}
        for salt in ("one", "two")
    ]
    assert names[0]
    assert not names[0] & names[1]


def test_a_plot_has_the_pages_colours_and_font_and_no_date(times: list[datetime]) -> None:
    plot = in_time("Shift", "px", [Series("x", times, [1.0, 2.0, 3.0, 2.0, 1.0])], salt="one", zero=True)
    assert plot is not None
    assert "var(--one)" in plot.svg
    assert "var(--ink)" in plot.svg
    for absent in ("#0", "font-family", "<style", "metadata", "DOCTYPE", "http://matplotlib"):
        assert absent not in plot.svg
    assert plot.description == "x: 1 to 3 px"


def test_the_settings_of_the_process_are_preserved(times: list[datetime]) -> None:
    before = dict(matplotlib.rcParams)
    in_time("Shift", "px", [Series("x", times[:1], [1.0])], salt="one")
    assert dict(matplotlib.rcParams) == before


def test_no_points_no_plot(times: list[datetime]) -> None:
    assert in_time("Shift", "px", [Series("x", [], [])], salt="one") is None
    assert spans("Seeing", "px", [], salt="one") is None


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$\\frac{a", "星団 \N{BELL}", ""]
)
def test_any_label_is_shown_literally(times: list[datetime], label: str) -> None:
    root = drawn(spans("Seeing", "px", [Bar(label, (times[0], times[4]), 4.2)], salt="one"))
    tags = {node.tag.rpartition("}")[2] for node in root.iter()}
    assert tags <= {"svg", "g", "defs", "path", "use", "text", "clipPath", "rect"}
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert not label or plain_label(label) in texts


def test_a_long_label_is_cut() -> None:
    assert plain_label("x" * 100) == "x" * 25 + "..."
