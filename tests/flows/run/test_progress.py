"""The progress of a run: the number of steps in a plan, and the updates sent to the server."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow, get_client, runtime
from prefect.client.schemas.filters import ArtifactFilter

from deployments.settings.server_settings import ServerAddress
from flows.recipes.night_plan import NightPlan
from flows.run import progress
from flows.run.progress import expected_steps, progress_shown
from imaging.frames.facts import FrameFacts
from tasks.bpm import BpmSet
from tasks.flat import FlatSet
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.science.science_set import ScienceSet
from tasks.support.references import FrameSet, RawFrame
from tasks.support.step import StepEvent, report_event

MOMENT = datetime(2013, 11, 21, 3, tzinfo=UTC)


def frames(count: int) -> FrameSet:
    made = []
    for number in range(count):
        facts = FrameFacts(
            name=f"S{number}.fits", instrument="F2", kind="object", observation_class="science", target="W",
            exposure_time=120.0, coadds=1, read_pairs=8, filter_id="Y_G0811", filter="Y", lyot="", focal_mask="Open",
            disperser="Open", detector="109", started=MOMENT + timedelta(minutes=number),
        )  # fmt: skip
        path = Path(f"/raw/{facts.name}")
        made.append(RawFrame(path=path, source=path, sha256=f"{number:064d}", facts=facts))
    return FrameSet(label="set", frames=tuple(made))


def science(objects: int, skies: int = 0) -> ScienceSet:
    every = frames(objects + skies)
    names = tuple(frame.name for frame in every.frames)
    return ScienceSet(
        label="W Y", frames=every, objects=names[:objects], skies=names[objects:], mode="offset"
    )


FLAT = FlatSet(label="flat", filter="Y", on=frames(3), off=frames(3))
MASK = BpmSet(label="bpm", flat=FLAT, short_darks=frames(3))


@pytest.mark.parametrize(
    ("plan", "steps"),
    [
        (NightPlan(), 0),
        (NightPlan({"dark": (frames(4), frames(5)), "bpm": (MASK,), "flat": (FLAT,)}), 4),
        (NightPlan({"image": (science(5),)}), 5 + 5 + 4),
        (NightPlan({"dark": (frames(4),), "image": (science(3, skies=2), science(1))}), 1 + (5 + 3 + 4) + (1 + 1 + 4)),
    ],
)  # fmt: skip
def test_the_steps_of_a_plan(plan: NightPlan, steps: int) -> None:
    assert expected_steps(plan) == steps


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the progress reported in a run, without a server and without a pause between updates."""
    messages: list[float] = []
    monkeypatch.setattr(runtime, "flow_run", SimpleNamespace(id="a run"))
    monkeypatch.setattr(
        progress, "create_progress_artifact", lambda value, description: messages.append(value)
    )
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _, progress: messages.append(progress))
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    return messages


FOUR = NightPlan({"dark": (frames(4), frames(5)), "bpm": (MASK,), "flat": (FLAT,)})


def test_each_finished_step_counts_whatever_its_outcome(reported: list[float]) -> None:
    with progress_shown(FOUR):
        report_event(StepEvent("dark", "a", "started"))
        report_event(StepEvent("dark", "a", "part"))
        report_event(StepEvent("survey", "night", "built"))
        report_event(StepEvent("choose", "W", "built"))
        assert reported == [0.0]
        for state in ("built", "reused", "failed"):
            report_event(StepEvent("dark", "a", state))  # type: ignore[arg-type]
    report_event(StepEvent("dark", "a", "built"))
    assert reported == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_more_steps_than_expected_do_not_complete_the_progress_early(reported: list[float]) -> None:
    with progress_shown(FOUR):
        for _ in range(9):
            report_event(StepEvent("dark", "a", "built"))
        assert max(reported) == 99.0
    assert reported[-1] == 100.0


def test_a_failed_run_does_not_complete_the_progress(reported: list[float]) -> None:
    def fails() -> None:
        with progress_shown(FOUR):
            report_event(StepEvent("dark", "a", "built"))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    assert reported == [0.0, 25.0]
    report_event(StepEvent("dark", "a", "built"))
    assert reported == [0.0, 25.0]


def test_the_server_is_updated_only_at_intervals(
    reported: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "_PAUSE", 2.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress_shown(FOUR):
        for _ in range(3):
            report_event(StepEvent("dark", "a", "built"))
            now[0] += 1.0
        assert reported == [0.0, 75.0]


def test_steps_that_end_simultaneously_are_all_counted(reported: list[float]) -> None:
    plan = NightPlan({"dark": tuple(frames(1) for _ in range(80))})
    with progress_shown(plan):
        threads = [
            threading.Thread(
                target=lambda: [report_event(StepEvent("dark", "a", "built")) for _ in range(10)]
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(reported) == 50.0


@pytest.mark.parametrize("plan", [NightPlan(), FOUR])
def test_outside_a_run_or_without_steps_nothing_is_reported(
    reported: list[float], monkeypatch: pytest.MonkeyPatch, plan: NightPlan
) -> None:
    if plan is FOUR:
        monkeypatch.setattr(runtime, "flow_run", SimpleNamespace(id=None))
    with progress_shown(plan):
        report_event(StepEvent("dark", "a", "built"))
    assert reported == []


def test_the_artifact_of_a_real_run(prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    seen: list[Any] = []

    def look() -> Any:
        of = ArtifactFilter.model_validate({"flow_run_id": {"any_": [runtime.flow_run.id]}})
        with get_client(sync_client=True) as client:
            (artifact,) = client.read_artifacts(artifact_filter=of)
        return artifact

    @flow(name="progresses")
    def progresses() -> None:
        with progress_shown(FOUR):
            report_event(StepEvent("dark", "a", "built"))
            seen.append(look())
        seen.append(look())

    with prompt_heartbeats(progresses) as run:
        run()
    assert [(one.type, one.data, one.description) for one in seen] == [
        ("progress", 25.0, "4 steps"),
        ("progress", 100.0, "4 steps"),
    ]
