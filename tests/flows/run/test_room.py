"""The room that a run needs is compared with what is free before it starts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.model.records import FrameRecord, InputRef, Product
from calib_store.store import Store
from flows.recipes.night_plan import NightPlan
from flows.run import room
from flows.run.plan import plan_night
from flows.run.room import Room, require_room, space_for
from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from imaging.machine import size_text
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame
from tasks.support.workspace import Workspace

#: Pixels of the detector of the frames.
PIXELS = 2048**2
BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "exposure_time": 120.0, "coadds": 1,
    "read_pairs": 8, "filter_id": "Y_G0811", "filter": "Y", "lyot": "f/16_G5830", "focal_mask": "Open",
    "disperser": "Open", "detector": "109", "program": "GS-2013B-Q-15", "observation_id": "GS-2013B-Q-15-39",
    "ra": 63.49, "dec": -47.84,
}  # fmt: skip


def several(prefix: str, count: int, kind: str) -> list[RawFrame]:
    """Return frames whose files are missing."""
    started = datetime(2013, 11, 21, 2, tzinfo=UTC)
    return [
        RawFrame(
            path=Path(f"/raw/{prefix}{n}.fits"), source=Path(f"/raw/{prefix}{n}.fits"),
            sha256=f"{prefix}{n}".encode().hex().ljust(64, "0"),
            facts=FrameFacts(
                **BASE, name=f"{prefix}{n}.fits", kind=kind, started=started + timedelta(minutes=3 * n)
            ),
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def plan() -> NightPlan:
    """A dark of five frames and a stack of six."""
    frames = several("D", 5, "dark") + several("S", 6, "object")
    made = plan_night(frames, ReductionParameters())
    assert (len(made.of("dark")), [len(one.frames.frames) for one in made.of("image")]) == (1, [6])
    return made


@pytest.fixture
def workspace(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Data and products on one disk."""
    monkeypatch.setattr(Workspace, "store", lambda _: store)
    for name in ("data", "out"):
        (tmp_path / name).mkdir()
    return Workspace(data_dir=tmp_path / "data", out=tmp_path / "out")


def with_free(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda _: free)


def test_enough_room_is_no_matter(
    plan: NightPlan, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 2 * 10**9)
    assert require_room(plan, workspace) == Room((), scarce=False)
    with_free(monkeypatch, None)
    assert require_room(plan, workspace) == Room((), scarce=False)


def test_a_warning_states_what_is_needed_and_free(
    plan: NightPlan, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 500 * 10**6)
    needed = (6 * 18 + 2 * (10 + 16)) * PIXELS + 64 * 10**6
    (warning,) = require_room(plan, workspace).warnings
    assert f"the disk of {workspace.data_dir} may become full" in warning
    assert f"up to {size_text(needed)} needed, 500.0 MB free" in warning
    assert "NIRFLOW_DATA_DIR" in warning
    # Scratch of an earlier run is used again, or makes room.
    workspace.scratch.mkdir()
    with (workspace.scratch / "planes").open("wb") as file:
        file.truncate(needed)
    assert require_room(plan, workspace) == Room((), scarce=False)


def test_a_disk_without_room_for_one_product_is_refused(
    plan: NightPlan, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 16 * PIXELS - 1)
    with pytest.raises(
        NirflowError, match=r"no room for a product: 67\.1 MB needed, 67\.1 MB free"
    ) as caught:
        require_room(plan, workspace)
    assert "another disk" in caught.value.remedy
    assert require_room(NightPlan(), workspace) == Room((), scarce=False)  # nothing to make
    workspace.scratch.mkdir()
    with (workspace.scratch / "planes").open("wb") as file:
        file.truncate(1000)  # which is used again, or removed
    (warning,) = require_room(plan, workspace).warnings
    assert "may become full" in warning


def test_products_that_may_be_in_the_store_need_no_room(
    plan: NightPlan,
    workspace: Workspace,
    store: Store,
    record: Callable[..., FrameRecord],
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_free(monkeypatch, 0)
    dark, image = plan.of("dark")[0].frames[0], plan.of("image")[0].frames.frames[0]
    for kind, frame, refused in (("dark", dark, r"67\.1 MB needed"), ("image", image, None)):
        store.frames.ingest([record(frame.name, sha256=frame.sha256)])
        add(kind, inputs=[InputRef(kind, frame.sha256)])
        if refused:
            with pytest.raises(NirflowError, match=refused):
                require_room(plan, workspace)
    (warning,) = require_room(plan, workspace).warnings
    assert "may become full" in warning


def test_the_space_for_a_further_attempt_is_that_of_what_is_missing(
    plan: NightPlan,
    workspace: Workspace,
    store: Store,
    record: Callable[..., FrameRecord],
    add: Callable[..., Product],
) -> None:
    rest = 64 * 10**6
    assert space_for(plan, workspace) == (2 * (10 + 16) + 6 * 18) * PIXELS + rest
    dark = plan.of("dark")[0].frames[0]
    store.frames.ingest([record(dark.name, sha256=dark.sha256)])
    add("dark", inputs=[InputRef("dark", dark.sha256)])
    assert space_for(plan, workspace) == (2 * 16 + 6 * 18) * PIXELS + rest
    assert space_for(NightPlan(), workspace) == rest


def test_a_part_of_a_detector_needs_less(plan: NightPlan, workspace: Workspace, tmp_path: Path) -> None:
    frame = plan.of("dark")[0].frames[0]
    small = tmp_path / "small.fits"
    small.write_bytes(bytes(2000))
    assert room._pixels([frame]) == PIXELS
    assert room._pixels([frame.model_copy(update={"path": small})]) == 1000


def test_planes_of_groups_that_do_not_fit_are_made_in_turn(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups at a time take the scratch of two, whatever the number of groups."""
    frames = [
        frame.model_copy(update={"facts": frame.facts.model_copy(update={"ra": ra})})
        for ra in (10.0, 20.0, 30.0, 40.0)
        for frame in several(f"S{ra:.0f}", 6, "object")
    ]
    plan = plan_night(frames, ReductionParameters())
    assert len(plan.of("image")) == 4
    planes, stack = 6 * 18 * PIXELS, 2 * 16 * PIXELS
    with_free(monkeypatch, 10 * planes)
    assert not require_room(plan, workspace).scarce
    kept = workspace.model_copy(update={"scratch_limit": 4 * planes - 1})
    assert require_room(plan, kept).scarce
    with_free(monkeypatch, 2 * planes + 4 * stack + 64 * 10**6)
    assert require_room(plan, workspace) == Room((), scarce=True)
    with_free(monkeypatch, 2 * planes + 4 * stack + 64 * 10**6 - 1)
    assert require_room(plan, workspace).warnings
