"""The table of the frames as they arrived, in the Prefect UI, from the record in the folder of the night."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imaging.quick_look.frame_figures import FrameFigures, FrameValues
from imaging.quick_look.night_record import NightRecord, write_record
from tasks.support import verdicts
from tasks.support.workspace import Workspace

NIGHT = date(2013, 11, 21)


def judged(name: str, seeing: float) -> FrameFigures:
    return FrameFigures(
        name=name,
        sha256=name,
        night=NIGHT,
        started=datetime(2013, 11, 21, 2, tzinfo=UTC),
        values=FrameValues(seeing=seeing),
    )


def sent(name: str) -> Any:
    return SimpleNamespace(frame=SimpleNamespace(sha256=name, facts=SimpleNamespace(night=NIGHT)))


@pytest.mark.parametrize("by_night", [False, True])
def test_the_frames_of_a_group_are_shown_as_they_were_judged(
    by_night: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, list[dict[str, Any]]]] = []
    monkeypatch.setattr(verdicts, "publish_table", lambda key, rows, about: shown.append((key, rows)))
    monkeypatch.setattr(verdicts, "runtime", SimpleNamespace(task_run=SimpleNamespace(id="1")))
    write_record(tmp_path, NightRecord(night=NIGHT, frames=(judged("S1", 0.61), judged("S2", 0.83))))
    # A run over one night writes into its folder, one over several into the folder above.
    out = tmp_path if by_night else tmp_path / str(NIGHT)
    workspace = Workspace(data_dir=tmp_path, out=out, by_night=by_night)
    verdicts.publish_verdicts("FIELD Y", [sent("S2"), sent("S3")], workspace)
    ((key, (row,)),) = shown
    assert key == "arrived-field-y"
    assert "S2" in row.values()
    assert "0.83" in " ".join(row.values())
    verdicts.publish_verdicts("FIELD Y", [sent("S3")], workspace)
    assert len(shown) == 1
