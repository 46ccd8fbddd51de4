"""The planes of a frame after a step: shared where they are the same, made again when they were released."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_files import SHAPE, raw_bytes

from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.errors import FrameError, GroupError
from imaging.io.planes import Planes, open_if_intact, release, released, write_planes
from imaging.io.raw_file import open_raw
from imaging.own_steps import identity
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import OwnStepParameters
from tasks import detrend
from tasks.detrend import Detrending, apply_own_steps, with_planes
from tasks.own_steps.frame_steps import apply_to_frame
from tasks.own_steps.resolve import resolve_own_steps
from tasks.sky import SkyPass, gather_before_stack
from tasks.sky_group import SkyMasks
from tasks.support.references import Calibrations, LeftOut, RawFrame, ScratchRef
from tasks.support.scratching import folder_for, meta
from tasks.support.workspace import Workspace

SOURCE = """
def same(ccd):
    return ccd

def add(ccd, electrons=1.0):
    ccd.data += electrons
    return ccd

def mask_sources(ccd, sources):
    ccd.mask = ccd.mask | sources
    return ccd

def mask_all(ccd):
    ccd.mask[:] = True
    return ccd

def check(ccd, noise=0, text=""):
    assert noise > 1 and text == "@home", (noise, text)
    return ccd
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "framesteps.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    yield
    sys.modules.pop("framesteps", None)
    identity._seen.pop("framesteps", None)


@pytest.fixture
def frame(tmp_path: Path) -> RawFrame:
    path = tmp_path / "S20131121S0001.fits"
    path.write_bytes(raw_bytes(1))
    with open_raw(path, name=path.name, shape=SHAPE) as raw:
        return RawFrame(path=path, source=path, sha256="a" * 64, facts=raw.facts)


def planes(level: float) -> dict[str, np.ndarray]:
    sci = np.random.default_rng(2).normal(level, 10, SHAPE).astype(np.float32)
    return {
        "sci": sci,
        "var": np.full(SHAPE, 100, np.float32),
        "dq": np.zeros(SHAPE, np.uint16),
        "mesh": sci[:4],
    }


@pytest.fixture
def source(frame: RawFrame, workspace: Workspace) -> ScratchRef:
    key = "b" * 64
    metrics = {"level": 1000.0, "noise": 10.0, "saturated": 3}
    folder = folder_for(workspace, key, frame)
    write_planes(folder, planes(1000.0), meta(key, metrics))
    return ScratchRef(frame=frame, key=key, folder=folder, metrics=metrics)


def own(workspace: Workspace, **points: Any) -> Any:
    return resolve_own_steps(OwnStepParameters.model_validate(points), workspace)


def after_detrend(source: ScratchRef, workspace: Workspace, *uses: Any) -> ScratchRef:
    steps = own(workspace, after_detrend=uses)
    return apply_to_frame(steps, "after_detrend", source, Calibrations(), None, workspace)


def test_planes_that_stay_the_same_share_their_file(source: ScratchRef, workspace: Workspace) -> None:
    done = after_detrend(source, workspace, "framesteps:add(electrons=5)")
    new, old = Planes(done.folder), Planes(source.folder)
    assert open_if_intact(done.folder) is not None
    assert sorted(new.names) == ["dq", "mesh", "sci", "var"]
    same = {name: (new.folder / name).samefile(old.folder / name) for name in new.names}
    assert same == {"dq": True, "mesh": True, "sci": False, "var": True}
    np.testing.assert_array_equal(new.rows("sci"), old.rows("sci") + 5)
    # Releasing one folder leaves the other intact.
    release(source.folder)
    assert open_if_intact(done.folder) is not None


def test_level_and_noise_are_measured_again_and_other_figures_stay(
    source: ScratchRef, workspace: Workspace
) -> None:
    done = after_detrend(source, workspace, "framesteps:add(electrons=500)")
    assert done.metrics["level"] == pytest.approx(1500, abs=2)
    assert done.metrics["noise"] == pytest.approx(10, rel=0.1)
    assert done.metrics["saturated"] == 3
    with pytest.raises(FrameError, match="its own steps left no usable pixel"):
        after_detrend(source, workspace, "framesteps:mask_all")


def test_arguments_get_what_they_name(source: ScratchRef, workspace: Workspace) -> None:
    after_detrend(source, workspace, "framesteps:check(noise=@read_noise, text='@@home')")
    with pytest.raises(OwnStepError, match="the frames are reduced without a dark"):
        after_detrend(source, workspace, "framesteps:add(electrons=@dark)")


def test_steps_differ_in_key_by_arguments_and_point_and_not_by_limits(
    source: ScratchRef, workspace: Workspace
) -> None:
    texts: list[Any] = ["framesteps:add", "framesteps:add(electrons=1.0)", "framesteps:add(electrons=2)"]
    keys = [after_detrend(source, workspace, text).key for text in texts]
    assert len(set(keys)) == 3
    limited = {"function": "framesteps:add", "time_limit": 60}
    assert own(workspace, after_detrend=[limited]).key("after_detrend") == own(
        workspace, after_detrend=["framesteps:add"]
    ).key("after_detrend")


def test_a_file_is_refused_when_it_changed_after_the_run_began(
    source: ScratchRef, workspace: Workspace, tmp_path: Path
) -> None:
    table = tmp_path / "table.txt"
    with pytest.raises(OwnStepError, match=r"table.txt, which the step framesteps:add uses, cannot be read"):
        own(workspace, after_detrend=[f"framesteps:add(electrons=@{table})"])
    table.write_text("1")
    steps = own(workspace, after_detrend=[f"framesteps:add(electrons=@{table})"])
    table.write_text("2")
    with pytest.raises(OwnStepError, match="has changed since the run began"):
        apply_to_frame(steps, "after_detrend", source, Calibrations(), None, workspace)


@pytest.fixture
def chain(
    frame: RawFrame, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> tuple[ScratchRef, Detrending, list[str]]:
    """A detrended frame, what it was made with, and the keys of the frames that were detrended again."""
    steps = own(
        workspace,
        after_detrend=["framesteps:add(electrons=7)"],
        before_sky=["framesteps:mask_sources(sources=@object_mask)"],
    )
    how = Detrending(
        calibrations=Calibrations(), prepare=PrepareParameters(), parameters=DetrendParameters(), own=steps
    )
    made: list[str] = []

    def detrended(one: RawFrame, key: str, how: Detrending, workspace: Workspace) -> ScratchRef:
        made.append(key)
        folder = folder_for(workspace, key, one)
        metrics = {"level": 1000.0, "noise": 10.0}
        write_planes(folder, planes(1000.0), meta(key, metrics))
        return ScratchRef(frame=one, key=key, folder=folder, metrics=metrics)

    monkeypatch.setattr(detrend, "_detrended", detrended)
    key = detrend._key(frame, detrend._for_frame(how, frame))
    return detrended(frame, key, how, workspace), how, made


def test_released_planes_are_made_again_through_all_points(
    chain: tuple[ScratchRef, Detrending, list[str]], workspace: Workspace
) -> None:
    first, how, made = chain
    frame = first.frame
    sources = np.zeros(SHAPE, np.uint8)
    sources[3, 3] = 1
    mask = ScratchRef(frame=frame, key="c" * 64, folder=folder_for(workspace, "c" * 64, frame))
    write_planes(mask.folder, {"objmask": sources}, meta(mask.key, {}))
    masks = SkyMasks(frames=(mask,))

    def apply(one: Any, point: Any, how: Detrending, masks: Any = None, space: Workspace = workspace) -> Any:
        state = apply_own_steps.fn("names", frame.name, one, point, how, 9, space, masks)
        return state if isinstance(state, ScratchRef) else state.data

    second = apply(first, "after_detrend", how)
    after = how.after("after_detrend")
    brief = workspace.model_copy(update={"scratch_limit": 1})
    third = apply(second, "before_sky", after, masks, brief)
    assert released(second.folder) is not None  # a long sequence keeps what is needed and no more
    assert apply(second, "before_sky", after, masks, brief).reused
    expected = {name: Planes(third.folder).rows(name) for name in ("sci", "dq")}
    np.testing.assert_array_equal(expected["sci"], planes(1000.0)["sci"] + 7)
    assert expected["dq"][3, 3] == 1
    assert np.count_nonzero(expected["dq"]) == 1

    complete = after.after("before_sky", {frame.name: mask})
    for lost in ((third,), (third, first)):
        for one in lost:
            release(one.folder)
        del made[:]
        again = with_planes(third, complete, workspace)
        assert again.key == third.key
        np.testing.assert_array_equal(Planes(again.folder).rows("sci"), expected["sci"])
        np.testing.assert_array_equal(Planes(again.folder).rows("dq"), expected["dq"])
        assert made == ([first.key] if first in lost else [])
        release(second.folder)


def test_a_frame_without_object_mask_is_refused_with_the_reason(
    chain: tuple[ScratchRef, Detrending, list[str]], workspace: Workspace
) -> None:
    first, how, _ = chain
    name = first.name
    lost = SkyMasks(frames=(), left_out=(LeftOut(name=name, reason="no background", remedy="Look at it."),))
    for masks, reason in (
        (lost, "no background"),
        (SkyMasks(frames=()), "needs its object mask, and it has none"),
    ):
        with pytest.raises(FrameError, match=reason):
            apply_own_steps.fn("names", name, first, "before_sky", how, 9, workspace, masks)


def test_a_group_without_a_frame_after_the_steps_names_step_and_frames(
    chain: tuple[ScratchRef, Detrending, list[str]],
) -> None:
    frame, _, _ = chain
    sky = SkyPass(frames=(frame,))
    lost: Any = {
        frame.name: FrameError(frame.name, "the step glow failed with Stop: enough", remedy="Omit it.")
    }
    with pytest.raises(
        GroupError, match=rf"M 1: no frame is left .*\({frame.name}: the step glow failed with"
    ) as caught:
        gather_before_stack.fn("M 1", sky, lost)
    assert caught.value.remedy == "Omit it."


def test_the_error_of_an_earlier_task_is_passed_on(
    chain: tuple[ScratchRef, Detrending, list[str]], workspace: Workspace
) -> None:
    first, how, _ = chain
    with pytest.raises(FrameError, match="no light"):
        apply_own_steps.fn(
            "n", first.name, FrameError(first.name, "no light"), "after_detrend", how, 9, workspace
        )
