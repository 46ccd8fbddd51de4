"""``nirflow watch``: a line for each frame, and a short end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arriving_frames import electrons, write_frame

from deployments.judging import judge_arrivals
from imaging.quick_look.shown import COLUMNS

Run = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a frame and a truncated file, watched until both were reported and Ctrl-C is pressed."""
    raw = tmp_path / "raw"
    raw.mkdir()
    frame = write_frame(raw / "S20131121S0001.fits", electrons())
    (raw / "S20131121S0002.fits").write_bytes(frame.read_bytes()[:20000])
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NIRFLOW_WATCH_SETTLE", "0")
    monkeypatch.setenv("NIRFLOW_WATCH_GIVE_UP", "0.1")
    original = judge_arrivals.judge_arrivals

    def interrupted(files: Any, judge: Any, report: Callable[[Any], None], stop: Any) -> None:
        reported: list[object] = []

        def until_both(one: Any) -> None:
            report(one)
            reported.append(one)
            if len(reported) == 2:
                raise KeyboardInterrupt

        original(files, judge, until_both, stop)

    monkeypatch.setattr(judge_arrivals, "judge_arrivals", interrupted)
    return raw


def test_each_frame_has_a_line_and_ctrl_c_is_brief(folder: Path, nirflow: Run) -> None:
    result = nirflow("watch", folder, "--all", "--any-shape")
    assert result.exit_code == 130
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == " ".join(COLUMNS).split()
    assert {line.split()[0].removesuffix(":") for line in lines} == {"S20131121S0001", "S20131121S0002.fits"}
    text = " ".join(lines)
    assert "good; uncalibrated: there is no calibration store" in text
    assert "not judged: it stays incomplete: truncated" in text
    assert "Interrupted." in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder.parent / "data").exists()


def test_json_has_an_object_on_each_line(folder: Path, nirflow: Run) -> None:
    lines = [
        json.loads(line)
        for line in nirflow("watch", folder, "--all", "--any-shape", "--json").stdout.splitlines()
    ]
    found = {one["name"]: one for one in lines}
    assert found["S20131121S0001.fits"]["values"]["seeing"] == pytest.approx(0.75, rel=0.1)
    assert found["S20131121S0001.fits"]["verdict"] == "good"
    assert found["S20131121S0002.fits"]["problem"].startswith("it stays incomplete")


def test_a_missing_folder_is_an_error(tmp_path: Path, nirflow: Run) -> None:
    result = nirflow("watch", tmp_path / "none")
    assert result.exit_code == 1
    assert "no such folder" in result.stderr
