"""Which earlier exposures matter to a group, and how they enter the identity of what is made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from calib_store.exchange.recipe_check import expected_key
from calib_store.model.records import FrameRecord
from calib_store.model.values import exposures_in, packed_exposures, problem_of
from imaging.detrend.detrend import DetrendParameters
from imaging.pixels.bright_pixels import BrightPixels
from tasks.earlier_exposures import Exposures, earlier_of, find_exposures
from tasks.science.science_set import ScienceSet
from tasks.stack import science_recipe
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, FrameSet, RawFrame
from tasks.support.workspace import Workspace

EPOCH = datetime(2013, 11, 21, 3, tzinfo=UTC)


def bright(charge: float = 80000.0) -> BrightPixels:
    return BrightPixels((2048, 2048), 60000.0, np.array([5], np.int64), np.array([charge], np.float32))


@pytest.fixture
def seen(workspace: Workspace, raw_frame: Callable[..., RawFrame]) -> Callable[..., RawFrame]:
    """Record an exposure that began some seconds after the epoch."""

    def make(name: str, seconds: float, pixels: BrightPixels | None = None, **changes: Any) -> RawFrame:
        values: dict[str, Any] = {
            "kind": "object",
            "exposure_time": 60.0,
            "filter": "J",
            "filter_id": "J_G0802",
        }
        frame = raw_frame(name, started=EPOCH + timedelta(seconds=seconds), **values | changes)
        workspace.store().frames.ingest(
            [FrameRecord(frame.source, frame.sha256, 1, 1, frame.facts, bright=pixels or bright())]
        )
        return frame

    return make


def found(workspace: Workspace, *frames: RawFrame, **parameters: Any) -> Exposures:
    group = FrameSet(label="FIELD J", frames=frames)
    return find_exposures.fn("FIELD J", group, Calibrations(), DetrendParameters(**parameters), workspace)


def names(exposures: Exposures, frame: RawFrame) -> list[str]:
    return [one.name for one in exposures.of(frame)]


def test_frames_of_every_kind_before_each_frame(workspace: Workspace, seen: Callable[..., RawFrame]) -> None:
    seen("S1.fits", -80, kind="flat", filter_id="H_G0803", target="Lamp")
    first, second = seen("S2.fits", 0), seen("S3.fits", 72)
    exposures = found(workspace, first, second)
    assert names(exposures, first) == ["S1.fits"]
    assert names(exposures, second) == ["S1.fits", "S2.fits"]
    assert [one.age for one in exposures.of(second)] == pytest.approx([92.0, 12.0])
    assert exposures.notes == ()
    earlier = earlier_of(exposures.of(second), workspace)
    assert [one.age for one in earlier] == pytest.approx([92.0, 12.0])
    assert earlier[0].bright.charge.tolist() == pytest.approx([80000.0])


def test_exposures_too_weak_or_too_long_ago_do_not_matter(
    workspace: Workspace, seen: Callable[..., RawFrame]
) -> None:
    frame = seen("S9.fits", 0)
    seen("S1.fits", -2000)
    seen("S2.fits", -700)  # 80000 electrons are forgotten by then
    seen("S3.fits", -690, bright(np.inf))
    seen("S4.fits", -80, bright(400.0))
    assert names(found(workspace, frame), frame) == ["S3.fits"]
    assert found(workspace, frame, persistence=0.01).of(frame)[-1].name == "S4.fits"
    assert found(workspace, frame, persistence=None) == Exposures()


def test_an_exposure_whose_times_overlap_is_noted_and_not_used(
    workspace: Workspace, seen: Callable[..., RawFrame]
) -> None:
    frame = seen("S2.fits", 0)
    seen("S1.fits", -59.5)  # times are rounded
    assert found(workspace, frame).notes == ()
    assert names(found(workspace, frame), frame) == ["S1.fits"]
    seen("S3.fits", 30)
    exposures = found(workspace, frame)
    assert names(exposures, frame) == ["S1.fits"]
    (note,) = exposures.notes
    assert note.startswith("S2.fits and S3.fits overlap in time")


def test_several_files_of_one_exposure_count_once(
    workspace: Workspace, seen: Callable[..., RawFrame]
) -> None:
    frame, other = seen("S2.fits", 0), seen("S1.fits", -72)
    seen("A1.fits", -72)
    seen("A2.fits", 0)
    assert names(found(workspace, frame), frame) == ["S1.fits"]
    copy = seen("A0.fits", -144)
    seen("S0.fits", -144)
    assert names(found(workspace, frame, other, copy), frame) == ["A0.fits", "S1.fits"]


def recipe_of(frame: RawFrame, exposures: Exposures) -> Any:
    group = ScienceSet(
        label="FIELD J", frames=FrameSet(label="FIELD J", frames=(frame,)), objects=(frame.name,),
        skies=(frame.name,), mode="dither",
    )  # fmt: skip
    return science_recipe(group, Calibrations(), ReductionParameters(), exposures)


def test_another_history_is_another_product_and_an_unrelated_arrival_is_not(
    workspace: Workspace, seen: Callable[..., RawFrame]
) -> None:
    frame = seen("S9.fits", 0)
    without = recipe_of(frame, found(workspace, frame)).key
    assert without == recipe_of(frame, Exposures()).key
    seen("S1.fits", -80)
    key = recipe_of(frame, found(workspace, frame)).key
    assert key != without
    seen("S2.fits", -2000)
    seen("S3.fits", 80)
    seen("S4.fits", -70, detector="110")
    seen("S5.fits", -300, bright(10.0))
    assert recipe_of(frame, found(workspace, frame)).key == key
    seen("S6.fits", -200)
    assert recipe_of(frame, found(workspace, frame)).key != key


def test_the_key_follows_from_what_is_recorded(workspace: Workspace, seen: Callable[..., RawFrame]) -> None:
    frame = seen("S9.fits", 0)
    seen("S1.fits", -80)
    recipe = recipe_of(frame, found(workspace, frame))
    recorded = {"exposed_before": packed_exposures(recipe.exposed_before)}
    assert exposures_in(recorded) == recipe.exposed_before

    def key(metrics: dict[str, Any]) -> str | None:
        return expected_key(
            "image", "0" * 64, recipe.inputs, {}, recipe.values, recipe.algorithm_version,
            metrics=metrics, provisional=None,
        )  # fmt: skip

    assert key(recorded) == recipe.key
    assert key({}) == replace(recipe, exposed_before={}).key


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        ([1], "metrics have a wrong exposed_before"),
        ({"frames": {"a": ["x"]}}, "metrics have a wrong exposed_before.frames"),
        ({"exposures": ["x"], "frames": {"a": [1]}}, "name an exposure that they do not list"),
    ],
)
def test_a_record_of_another_store_is_checked(
    recorded: Any, problem: str, raw_frame: Callable[..., RawFrame]
) -> None:
    facts = raw_frame().facts
    found = problem_of(facts=facts, metrics={"exposed_before": recorded}, parameters={}, gate=None)
    assert found is not None
    assert problem in found
