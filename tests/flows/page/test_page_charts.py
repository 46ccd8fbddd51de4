"""Charts show every value at its place, in the page's colours, and every text literally."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as Tree
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.page.charts import (
    Chart,
    Line,
    Point,
    Rule,
    Strip,
    chart,
    day_ticks,
    log_ticks,
    number_ticks,
    seconds,
    time_ticks,
)

START = datetime(2013, 11, 21, 3, tzinfo=UTC)


def points(*values: float, href: str = "", title: str = "t") -> tuple[Point, ...]:
    return tuple(Point(60.0 * n, value, title, href) for n, value in enumerate(values))


def drawn(made: Chart | None) -> Tree.Element:
    assert made is not None
    return Tree.fromstring(str(made.svg))


def places(made: Chart | None) -> list[tuple[float, float]]:
    marks = [node.get("d", "") for node in drawn(made).iter("path")]
    found = [re.fullmatch(r"M([\d.]+) ([\d.]+)h0", mark) for mark in marks]
    return [(float(one[1]), float(one[2])) for one in found if one]


def test_values_lie_where_the_axis_has_them() -> None:
    made = chart("Seeing", "arcsec", [Line("Y", 0, points(1.0, 3.0, 2.0))], x_ticks=time_ticks)
    (x0, y0), (x1, y1), (x2, y2) = places(made)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y2 - y1 == pytest.approx(y0 - y2, abs=0.2)
    assert y0 > y2 > y1, "large values are at the top"
    assert made is not None
    labels = {one.text: one.top for one in made.y_labels}
    assert labels["2.0"] == pytest.approx(y2 / 10, abs=0.1)
    assert made.description == "1 to 3 arcsec"


def test_magnitudes_grow_downwards() -> None:
    (_, y0), (_, y1) = places(
        chart("Sky", "mag", [Line("Y", 0, points(18, 19))], x_ticks=time_ticks, inverted=True)
    )
    assert y0 < y1


def test_gaps_are_not_bridged() -> None:
    times = [0.0, 60.0, 120.0, 4000.0, 4060.0, 9000.0]
    line = Line("Y", 0, tuple(Point(t, 1.0, "t") for t in times), joined=True)
    joined = [node.get("d", "") for node in drawn(chart("a", "b", [line], x_ticks=time_ticks)).iter("path")
              if node.get("class") == "joined"]  # fmt: skip
    assert [path.count("L") for path in joined] == [2, 1]


def test_limits_and_strips_are_drawn_in_their_colours() -> None:
    made = chart(
        "a", "b", [Line("Y", 2, points(1.0, 1.1))], x_ticks=time_ticks, rules=[Rule(0.7, 1, "limit", (0.0, 60.0))],
        strips=[Strip(-50.0, 50.0, 3)],
    )  # fmt: skip
    classes = {node.get("class"): node.get("d", "") for node in drawn(made).iter("path")}
    assert "rule k1" in classes
    assert classes["strip k3"].startswith("M0 0.0H1000V1000.0"), "a strip beyond the axis ends at it"
    assert made is not None
    assert [one.text for one in made.tags] == ["limit"]


def test_points_lead_to_their_pages_and_unusual_ones_stand_out() -> None:
    line = Line(
        "Y", 0, (Point(0, 1, "2013-11-20", "2013-11-20/index.html"), Point(9, 2, "gone", flagged=True))
    )
    root = drawn(chart("a", "b", [line], x_ticks=time_ticks))
    assert [link.get("href") for link in root.iter("a")] == ["2013-11-20/index.html"]
    assert [node.get("class") for node in root.iter("path") if node.find("title") is not None] == [
        None,
        "odd",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "$\\frac{a",
        "星団 \N{BELL}",
        "' onclick='x",
    ],
)
def test_any_text_is_shown_literally(text: str) -> None:
    line = Line(text, 0, (Point(0.0, 1.0, text, text),), tag=text)
    made = chart(text, text, [line], x_ticks=time_ticks)
    root = drawn(made)
    assert {node.tag for node in root.iter()} == {"svg", "g", "a", "path", "title"}
    (title,) = [node.text for node in root.iter("title")]
    assert title == text.replace("\x07", "\\x07")
    assert not any(name.startswith("on") for node in root.iter() for name in node.attrib)


def test_without_values_there_is_no_chart() -> None:
    assert chart("a", "b", [Line("Y", 0, ())], x_ticks=time_ticks, rules=[Rule(1.0, 0)]) is None


def test_labels_that_would_lie_on_each_other_are_left_out() -> None:
    lines = [Line(name, n, points(1.0 + n / 100, 5.0), tag=name) for n, name in enumerate("abc")]
    made = chart("a", "b", lines, x_ticks=time_ticks)
    assert made is not None
    assert [one.text for one in made.tags] == ["a"]


@given(st.floats(-1e5, 1e5), st.floats(1e-4, 1e5))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    ticks = number_ticks(low, low + width)
    assert 1 <= len(ticks) <= 7
    for value, text in ticks:
        assert low - 1e-6 * width - 1e-9 <= value <= low + width * (1 + 1e-6) + 1e-9
        assert float(text) == pytest.approx(value, abs=1e-6 * width + 1e-9)
    assert len({text for _, text in ticks}) == len(ticks)


def test_ticks_of_exposures_are_few_enough_for_a_phone() -> None:
    found = [text for _, text in log_ticks(math.log10(8), math.log10(6000))]
    assert found == ["10", "30", "100", "300", "1000", "3000"]


def test_nights_are_dates_however_few_they_are() -> None:
    midnight = datetime(2013, 11, 21, tzinfo=UTC)
    for days, expected in ((0, ["21 Nov"]), (1, ["21 Nov", "22 Nov"])):
        ticks = day_ticks(seconds(midnight) - 1, seconds(midnight + timedelta(days=days)) + 1)
        assert [text for _, text in ticks] == expected


def test_the_name_of_a_line_is_above_its_points() -> None:
    for inverted in (False, True):
        line = Line("Y", 0, points(2.0, 3.0, 1.0), tag="Y")
        made = chart("a", "b", [line], x_ticks=time_ticks, inverted=inverted)
        assert made is not None
        first, *others = places(made)
        (tag,) = made.tags
        assert tag.left == pytest.approx(first[0] / 10, abs=0.1)
        assert tag.top == pytest.approx(min(y for _, y in (first, *others)) / 10, abs=0.1)


def test_ticks_of_exposures_are_round_numbers_of_seconds() -> None:
    assert [text for _, text in log_ticks(math.log10(90), math.log10(2100))] == [
        "100",
        "200",
        "500",
        "1000",
        "2000",
    ]


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        (timedelta(minutes=40), "03:00", "03:40"), (timedelta(hours=9), "04:00", "12:00"),
        (timedelta(days=5), "22 Nov", "26 Nov"), (timedelta(days=400), "Jan 2014", "Dec 2014"),
        (timedelta(days=1100), "Jan 2014", "Jul 2016"), (timedelta(days=9000), "2015", "2035"),
    ],
)  # fmt: skip
def test_ticks_of_time_are_round_hours_days_months_or_years(span: timedelta, first: str, last: str) -> None:
    ticks = time_ticks(seconds(START), seconds(START + span))
    assert 2 <= len(ticks) <= 7
    texts = [text for _, text in ticks]
    assert texts[0] == first
    assert texts[-1] <= last if len(last) == 4 else texts[-1][-4:] <= last[-4:]
    assert [moment for moment, _ in ticks] == sorted(moment for moment, _ in ticks)
