"""``nirflow report``: the night as named by a user, and the printed paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from calib_store.model.records import Run
from calib_store.store import Store
from imaging.errors import NirflowError
from nirflow.commands import page
from nirflow.exits import UsageError


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on the test's store."""

    @contextmanager
    def opened(*_: Any) -> Iterator[Store]:
        yield store

    monkeypatch.setattr(Store, "open", opened)
    return invoke


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(page.report)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.parametrize("night", ["20131121", " LAST "])
def test_a_night_by_any_of_its_names(
    run: Callable[..., Result], record_run: Callable[..., Run], tmp_path: Path, night: str
) -> None:
    record_run()
    result = run(night, "--out", tmp_path / "pages")
    assert result.exit_code == 0, result.exception
    assert result.stdout.strip() == str(tmp_path / "pages" / "2013-11-21" / "index.html")
    assert (tmp_path / "pages" / "index.html").is_file()
    assert (tmp_path / "pages" / "trends.html").is_file()


def test_json_and_the_folder_without_one(
    run: Callable[..., Result],
    record_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_run()
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    reported = json.loads(run("2013-11-21", "--json").stdout)
    folder = tmp_path / "data" / "nights"
    assert reported == {
        "night": "2013-11-21", "page": str(folder / "2013-11-21" / "index.html"), "index": str(folder / "index.html"),
        "trends": str(folder / "trends.html"),
    }  # fmt: skip


@pytest.mark.parametrize("night", ["2013-13-21", "yesterday", "2013-11", ""])
def test_invalid_nights(night: str) -> None:
    assert isinstance(invoke(night).exception, UsageError)


def test_missing_nights(run: Callable[..., Result]) -> None:
    assert run("last").exit_code == 3
    missing = run("2013-11-21").exception
    assert isinstance(missing, NirflowError)
    assert "2013-11-21" in missing.message
