"""Which frames are no longer new after a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.run.frames_had import frames_had
from flows.run.in_progress import Night
from flows.run.options import Options
from flows.run.plan import plan_night
from flows.run.report import Failure, NightReport
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame, Survey
from tasks.support.workspace import Workspace

BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "exposure_time": 120.0, "coadds": 1,
    "read_pairs": 8, "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "109",
    "observation_id": "GS-1", "ra": 63.49, "dec": -47.84,
}  # fmt: skip


def frame(name: str, kind: str = "object", band: str = "Y", minute: int = 0) -> RawFrame:
    moment = datetime(2013, 11, 21, 2, minute, tzinfo=UTC)
    facts = FrameFacts(
        **BASE, name=name, kind=kind, filter=band, filter_id=f"{band}_G08", started=moment  # type: ignore[arg-type]
    )  # fmt: skip
    return RawFrame(path=Path(name), source=Path(name), sha256=name, facts=facts)


FRAMES = (frame("y1"), frame("y2", minute=3), frame("j", band="J", minute=6), frame("dark", "dark", minute=9))


def had(*failures: Failure, sequence: str | None = None, **options: Any) -> set[str]:
    plan = plan_night(FRAMES, ReductionParameters())
    workspace = Workspace(data_dir=Path("data"), out=Path("out"))
    night = Night(Survey(frames=FRAMES), plan, Options(data_dir=Path("data"), **options), workspace, [])
    report = NightReport(failures=failures, out=Path("out"), started=datetime.now(UTC), seconds=1.0)
    return set(frames_had(night, report, sequence))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {"y1", "y2", "j", "dark"}),
        ({"only": ("science",)}, {"y1", "y2", "j"}),
        ({"only": ("dark", "flat")}, {"dark"}),
        ({"bands": ("J",)}, {"j", "dark"}),
    ],
)
def test_a_run_of_a_night_has_what_was_requested(options: dict[str, Any], wanted: set[str]) -> None:
    assert had(**options) == wanted


def test_a_run_of_a_sequence_has_its_frames_and_no_calibrations() -> None:
    sequence = Sequence.of(FRAMES[0].facts)
    assert sequence is not None
    assert had(sequence=sequence.name, only=("science",)) == {"y1", "y2"}


def test_science_that_lacks_a_calibration_is_left_to_a_run_of_its_sequence() -> None:
    (label,) = {
        one.label for one in plan_night(FRAMES, ReductionParameters()).of("image") if "J" in one.label
    }
    waits = Failure(step="science", label=label, message="no dark serves", waits_for="dark")
    assert had(waits) == {"y1", "y2", "dark"}
    failed = waits.model_copy(update={"waits_for": None})
    assert had(failed) == {"y1", "y2", "j", "dark"}
    sequence = Sequence.of(FRAMES[2].facts)
    assert sequence is not None
    assert had(waits, sequence=sequence.name) == {"j"}
