"""A long sequence is masked and subtracted in portions, and its detrended planes go when nothing needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.io.planes import Planes, open_if_intact, released, write_planes
from imaging.pixels.dq import DQ
from imaging.sky.choice import SkyParameters
from imaging.sources.detect import DetectParameters
from tasks import sky_group, sky_planes
from tasks.detrend import Detrending
from tasks.masks import find_masks
from tasks.sky import SkyMasks, subtract_group_sky
from tasks.support.references import Calibrations, ScratchRef
from tasks.support.scratching import folder_for, meta
from tasks.support.workspace import Workspace

SHAPE = (128, 128)
COUNT = 20
#: Frames are flattened together with those of their portion: without that, portions change nothing.
PARAMETERS = SkyParameters(maximum=6, residual="plane", patterns=False, probe=False)
DETRENDING = Detrending(
    calibrations=Calibrations(), prepare=PrepareParameters(), parameters=DetrendParameters()
)


def planes(number: int, *, dead: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    sci = rng.normal(1000.0, 30.0, SHAPE).astype(np.float32)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for at in ((30, 40), (90, 80)):
        sci += 3000 * np.exp(-((x - at[0] - 3 * (number % 3)) ** 2 + (y - at[1]) ** 2) / 8).astype(np.float32)
    dq = np.full(SHAPE, DQ.UNILLUMINATED if dead else 0, np.uint16)
    return {"sci": sci, "var": np.full(SHAPE, 900, np.float32), "dq": dq}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(data_dir=tmp_path / "data", out=tmp_path / "out", threads=2)


@pytest.fixture
def frames(raw_frame, workspace):
    start, made = datetime(2020, 1, 4, 1, tzinfo=UTC), {}
    for i in range(COUNT):
        frame = raw_frame(
            f"S20200104S{i:04d}.fits", kind="object", poffset=10.0 * (i % 3), started=start + timedelta(seconds=17 * i)
        )  # fmt: skip
        metrics = {"level": 1000.0, "noise": 30.0}
        folder = folder_for(workspace, f"{i:064d}", frame)
        write_planes(folder, planes(i), meta(f"{i:064d}", metrics))
        made[frame.name] = ScratchRef(frame=frame, key=f"{i:064d}", folder=folder, metrics=metrics)
    return made


def in_portions_of(monkeypatch, frames):
    monkeypatch.setattr(sky_group, "AT_ONCE", 1)
    monkeypatch.setattr(sky_group, "PORTION", frames)


def subtracted(frames, workspace):
    names = tuple(frames)
    return subtract_group_sky.fn(
        "W", frames, names, names, DETRENDING, PARAMETERS, workspace, SkyMasks(frames=())
    )


def identities(done) -> dict[str, str]:
    return {one.name: Planes(one.folder).sha256() for one in done.frames}


def test_portions_change_no_pixel_and_short_groups_keep_their_planes(frames, workspace, monkeypatch):
    in_portions_of(monkeypatch, 5)
    small = identities(subtracted(frames, workspace))
    assert all(open_if_intact(one.folder) for one in frames.values())
    monkeypatch.setattr(sky_group, "AT_ONCE", COUNT)
    whole = workspace.model_copy(update={"data_dir": workspace.data_dir.parent / "other"})
    assert identities(subtracted(frames, whole)) == small
    assert len(small) == COUNT


def test_a_portion_of_one_frame_is_flattened_like_the_others(frames, workspace, monkeypatch):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0] - 0.5
    for i, one in enumerate(frames.values()):
        sci = planes(i)["sci"] + (300.0 * np.sin(i) * (x * x - y * y)).astype(np.float32)
        write_planes(one.folder, planes(i) | {"sci": sci}, meta(one.key, one.metrics))
    in_portions_of(monkeypatch, 1)
    names = tuple(frames)
    done = subtract_group_sky.fn(
        "W", frames, names, names, DETRENDING, SkyParameters(maximum=6), workspace, SkyMasks(frames=())
    )
    assert {one.metrics["surface_terms"] for one in done.frames} == {6}


def test_released_planes_are_made_again_only_where_a_lost_portion_needs_them(frames, workspace, monkeypatch):
    in_portions_of(monkeypatch, 5)
    done = subtracted(frames, workspace.model_copy(update={"scratch_limit": 2**20}))
    assert all(released(one.folder) for one in frames.values())
    before = identities(done)

    brief, again = workspace.model_copy(update={"scratch_limit": 2**20}), []

    def made_again(one, *_):
        if released(one.folder):
            again.append(one.name)
            number = int(one.name[10:14])
            write_planes(one.folder, planes(number), meta(one.key, one.metrics))
        return one

    monkeypatch.setattr(sky_planes, "with_planes", made_again)
    assert subtracted(frames, brief).name == "Reused"
    assert again == []
    (done.frames[0].folder / "sci").unlink()
    assert identities(subtracted(frames, brief)) == before
    assert 5 <= len(again) < COUNT
    assert all(released(one.folder) for one in frames.values())


def test_planes_that_another_group_releases_meanwhile_are_made_again(frames, workspace, monkeypatch):
    real, calls = sky_planes.subtract_sky, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise FileNotFoundError("sci")
        return real(*arguments, **options)

    monkeypatch.setattr(sky_planes, "subtract_sky", interrupted)
    assert len(subtracted(frames, workspace).frames) == COUNT
    monkeypatch.setattr(
        sky_planes, "subtract_sky", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("sci"))
    )
    other = workspace.model_copy(update={"data_dir": workspace.data_dir.parent / "other"})
    with pytest.raises(FileNotFoundError):
        subtracted(frames, other)


def test_masks_cover_the_sources_and_a_frame_without_good_pixels_is_left_out(frames, workspace):
    name = next(iter(frames))
    one = frames[name]
    write_planes(one.folder, planes(0, dead=True), meta(one.key, one.metrics))
    names = tuple(frames)
    parameters = DetectParameters(background_mesh=32)
    masks = find_masks.fn("W", frames, names, DETRENDING, PARAMETERS, parameters, workspace)
    assert [lost.name for lost in masks.left_out] == [name]
    assert "no part of the frame has enough good pixels" in masks.left_out[0].reason
    assert len(masks.frames) == COUNT - 1
    for ref in masks.frames:
        mask = Planes(ref.folder).rows("objmask")
        assert mask[40, 30 + 3 * (int(ref.name[10:14]) % 3)] == 1
        assert mask.mean() < 0.2
    # The planes of the first pass are gone.
    assert len(list(workspace.scratch.iterdir())) == 2 * COUNT - 1
