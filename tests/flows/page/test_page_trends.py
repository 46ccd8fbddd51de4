"""Trends have every figure of the last years, mark what is unusual, lead to the nights, and show texts literally."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from hostile import harmful

from calib_store.model.records import FrameRecord, Product, Run
from calib_store.store import Store
from calib_store.tables.trends.figure_history import NightMedians
from flows.page.trends import TRENDS, Trend, collect_trends
from flows.page.write import write_trends
from tasks.support.references import ProductRef

NIGHT = date(2013, 11, 21)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b]0;owned\x07"


def trend(title: str) -> Trend:
    return next(one for one in TRENDS if one.title == title)


def row(groups: dict[str, str] | None = None, **medians: float) -> NightMedians:
    usual = {
        "instrument": "F2",
        "filter": "Y",
        "exposure_time": "120.0",
        "coadds": "1",
        "zero_point_source": "2MASS",
    }
    return NightMedians(NIGHT, usual | (groups or {}), medians, 1)


@pytest.mark.parametrize(
    ("title", "given", "value"),
    [
        ("Zero point", row(zero_point=31.9, mean_airmass=2.0), 31.9 - 5.198 + 0.01),
        ("Zero point", row({"zero_point_source": "nominal"}, zero_point=31.9), None),
        ("Zero point", row({"exposure_time": "long"}, zero_point=31.9), None),
        ("Seeing", row(seeing=4.0, mean_airmass=1.0), 4.0 * 0.179),
        ("Seeing", row({"instrument": "GONE"}, seeing=4.0), None),
        ("Lamp", row({"exposure_time": "20.0", "coadds": "2"}, level=20000.0), 500.0),
        ("Stability of the lamp", row(drift=0.005), 0.5),
        ("Sky", row(sky_brightness=17.1), 17.1),
        ("Read noise", row(scatter=8.1), 8.1),
        ("Hot pixels", row(), None),
    ],
)  # fmt: skip
def test_values_are_comparable_from_night_to_night(
    title: str, given: NightMedians, value: float | None
) -> None:
    found = trend(title).value(given)
    assert found == (None if value is None else pytest.approx(value, abs=1e-3))


@pytest.fixture
def years(
    stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., Run],
    raws: Sequence[FrameRecord],
) -> None:  # fmt: skip
    """Record stacks of nine nights, of which one has a poor seeing, and one four years before."""
    record_run(ref(stack(0, seeing=4.0)))
    for n in range(1, 9):
        stack(n, days=30 * n, seeing=9.0 if n == 5 else 4.0 + 0.1 * (n % 2))
    stack(99, days=4 * 365, seeing=1.0)


def test_unusual_values_are_marked_and_points_lead_to_their_nights(
    store: Store, years: None, tmp_path: Path
) -> None:
    there = NIGHT - timedelta(days=30)
    (f2,) = collect_trends(store, {there})
    assert (f2.instrument, f2.nights) == ("F2", 9)
    seeing = next(one for one in f2.charts if one.title == "Seeing")
    ((label, _),) = seeing.legend
    assert label.startswith("Y")
    titles = re.findall(r"<path( class=.odd.)? d=[^>]*><title>([^<]*)", str(seeing.svg))
    assert len(titles) == 9
    (odd,) = [title for mark, title in titles if mark]
    assert odd == f"{NIGHT - timedelta(days=150)}, {label}: {9.0 * 0.179:.4g} arcsec"
    assert re.findall(r'<a href="([^"]*)"', str(seeing.svg)) == [f"{there}/index.html"]
    assert not any(one.title == "Zero point" for one in f2.charts), "none was measured"


def test_the_page_is_complete_and_reproducible(store: Store, years: None, tmp_path: Path) -> None:
    path = write_trends(store, tmp_path / "pages")
    assert path == tmp_path / "pages" / "trends.html"
    first = path.read_text()
    assert "<script" not in first
    assert "http" not in first.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "Seeing" in first
    assert "Median of the master dark" not in first, "no dark is in the store"
    assert write_trends(store, tmp_path / "pages").read_text() == first


def test_before_the_first_night(store: Store, tmp_path: Path) -> None:
    assert "no figures of products yet" in write_trends(store, tmp_path).read_text()


def test_any_text_is_shown_literally(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., Run],
    raws: Sequence[FrameRecord], tmp_path: Path,
) -> None:  # fmt: skip
    record_run(ref(stack(1, facts={"filter": HOSTILE, "section": HOSTILE}, seeing=4.0)))
    page = write_trends(store, tmp_path).read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert harmful(page) == set()


def test_many_configurations_are_counted_where_they_are_not_shown(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., Run],
    raws: Sequence[FrameRecord],
) -> None:  # fmt: skip
    record_run(ref(stack(0)))
    for n in range(1, 9):
        stack(n, facts={"filter": f"F{n}"}, seeing=4.0)
    (f2,) = collect_trends(store, set())
    seeing = next(one for one in f2.charts if one.title == "Seeing")
    assert len(seeing.legend) == 6
    assert seeing.note.endswith("3 configurations with fewer nights are not shown.")
