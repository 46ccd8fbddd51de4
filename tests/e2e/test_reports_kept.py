"""A report reaches the store and the caller whatever fails after the products are made."""

from __future__ import annotations

from typing import Any

import pytest
from night_lab import Lab, Run
from observatory import NIGHT

import flows.run.run
from imaging.simulator.truth import NightTruth


def test_steps_after_the_report_may_fail(
    reduced: Run,
    reduced_lab: Lab,
    night: NightTruth,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise KeyError("coadds")

    for name in ("publish_history", "publish", "limit_temporary_files"):
        monkeypatch.setattr(flows.run.run, name, fails)
    monkeypatch.setattr("flows.run.progress.create_progress_artifact", fails)
    known = {run.id for run in reduced_lab.store().runs.of_night(NIGHT)}
    again = reduced_lab.reduce(night.folder.parent, out="whatever fails")
    assert again.report.failures == ()
    assert len(again.report.products) == len(reduced.report.products)
    (kept,) = [run for run in reduced_lab.store().runs.of_night(NIGHT) if run.id not in known]
    assert kept.report["products"] == again.report.model_dump(mode="json")["products"]
    for what in ("The summary", "The history of the figures", "Removing old scratch files", "The progress"):
        assert f"{what}" in caplog.text
    assert caplog.text.count("failed (KeyError: 'coadds'); nothing else depends on it") == 4


def test_the_tables_of_a_task_may_fail(
    reduced: Run, reduced_lab: Lab, night: NightTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the server does not answer")

    for name in ("create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(f"tasks.support.artifacts.{name}", fails)
    again = reduced_lab.reduce(night.folder.parent, out="no tables", steps={"stack": {"reject": "none"}})
    assert again.report.failures == ()
    assert not again.product("image").reused
