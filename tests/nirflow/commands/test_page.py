"""``nirflow report``: the page is written to the folder of the nights."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import Result

from calib_store.model.records import FrameRecord, InputRef, Product, Run
from calib_store.store import Store
from flows.run.report import NightReport
from imaging.frames.facts import FrameFacts

Nirflow = Callable[..., Result]
BEGAN = datetime(2013, 11, 21, 4, tzinfo=UTC)


@pytest.fixture
def two_nights(store: Store, own_store: None) -> None:
    """Runs over 20 and 21 November that found nothing."""
    for day in (20, 21):
        report = NightReport(out=Path("out"), started=BEGAN, seconds=1.0)
        run = Run(
            id=uuid4(), nights=(date(2013, 11, day),), flow="night", started=BEGAN, ended=BEGAN,
            report=report.model_dump(mode="json"),
        )  # fmt: skip
        store.runs.add(run)


def test_the_page_goes_into_the_folder_of_the_nights(
    nirflow: Nirflow, two_nights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("NIRFLOW_NIGHTS_DIR", str(elsewhere))
    result = nirflow("report", "20131120")
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == elsewhere / "2013-11-20" / "index.html"
    assert {page.relative_to(elsewhere).as_posix() for page in elsewhere.rglob("*.html")} == {
        "index.html",
        "trends.html",
        "2013-11-20/index.html",
    }


def test_the_page_folder_is_out_else_the_setting_else_the_data_folder(
    nirflow: Nirflow, two_nights: None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    reported = json.loads(nirflow("report", "last", "--json").stdout)
    page = tmp_path / "data" / "nights" / "2013-11-21" / "index.html"
    assert (reported["night"], reported["page"], page.is_file()) == ("2013-11-21", str(page), True)
    assert reported["index"] == str(page.parents[1] / "index.html")
    assert nirflow("report", "2013-11-21", "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "2013-11-21" / "index.html").is_file()


def test_calibrations_of_the_day_are_on_the_page_of_the_night_that_has_ended(
    nirflow: Nirflow, two_nights: None, add: Callable[..., Product], record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts], store: Store, tmp_path: Path,
) -> None:  # fmt: skip
    """15:00 UT is noon in Chile."""
    noon = facts(name="noon.fits", kind="dark", started=BEGAN.replace(hour=15))
    raw = record("noon.fits", facts=noon)
    store.frames.ingest([raw])
    dark = add(
        facts=noon,
        name="noon_dark.fits",
        inputs=[InputRef("dark", raw.sha256)],
        span=(noon.started, noon.ended),
    )
    assert nirflow("report", "2013-11-21", "--out", tmp_path / "out").exit_code == 0
    page = (tmp_path / "out" / "2013-11-21" / "index.html").read_text()
    assert dark.name in page
    assert "noon.fits" in page
    assert nirflow("report", "2013-11-22", "--out", tmp_path / "out").exit_code == 1
    assert [store.products(night=BEGAN.date() + timedelta(days=n)) for n in (-1, 0, 1)] == [(), (dark,), ()]


@pytest.mark.parametrize("night", ["2013-11-31", "yesterday", "2013"])
def test_an_invalid_night_is_refused(nirflow: Nirflow, own_store: None, night: str) -> None:
    result = nirflow("report", night)
    assert result.exit_code == 2
    assert f"NIGHT {night!r} is not a night.\nWrite 2013-11-21, 20131121, or last." in result.stderr


def test_without_a_reduction_the_last_night_is_undefined(
    nirflow: Nirflow, store: Store, own_store: None
) -> None:
    result = nirflow("report", "last")
    assert result.exit_code == 3
    assert "nirflow reduce" in result.stderr
