"""Outcomes of earlier tasks: frames are separated from errors, each with the name of its frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.errors import FrameError, GroupError
from imaging.registration.align import AlignParameters
from imaging.sky.subtract import SkyParameters
from tasks.align import align_group
from tasks.sky import SkyPass
from tasks.sky_group import group_of, sort_out
from tasks.support.references import ScratchRef
from tasks.support.workspace import Workspace


def test_frames_apart_from_errors(raw_frame) -> None:
    ref = ScratchRef(frame=raw_frame("a.fits"), key="k", folder=Path("/scratch/a"))
    frames, left_out = sort_out(
        {
            "a.fits": ref,
            "b.fits": FrameError("b.fits", "it is dark", remedy="Turn on the light."),
            "c.fits": GroupError("c.fits: no two are alike."),
            "d.fits": MemoryError("none left"),
            "e.fits": None,
        }
    )
    assert frames == [ref]
    assert [(one.name, one.reason, one.remedy) for one in left_out] == [
        ("b.fits", "it is dark", "Turn on the light."),
        ("c.fits", "no two are alike", ""),
        (
            "d.fits",
            "The machine does not have enough memory",
            "Use fewer threads (--threads), a lower --memory, or a machine with more memory.",
        ),
    ]


def test_frame_of_a_sky_pass(raw_frame) -> None:
    ref = ScratchRef(frame=raw_frame("a.fits"), key="k", folder=Path("/scratch/a"))
    done = SkyPass(frames=(ref,))
    assert done.frame("a.fits") is ref
    assert done.frame("b.fits") is None


def test_a_group_without_a_usable_frame_is_named_with_each_reason() -> None:
    failed = {f"{n}.fits": FrameError(f"{n}.fits", "no usable pixel after detrending") for n in range(2)}
    with pytest.raises(GroupError, match="no frame's sky can be subtracted") as raised:
        group_of("FIELD Y", failed, tuple(failed), tuple(failed), SkyParameters())
    assert "0.fits: no usable pixel after detrending; 1.fits: no usable pixel" in raised.value.message
    assert "sky.few=use" in raised.value.remedy


def test_a_group_without_a_catalogue_is_named_with_each_reason_and_remedy(workspace: Workspace) -> None:
    failed = {
        "0.fits": FrameError("0.fits", "its sources cannot be detected", remedy="Lower detect.dilation.")
    }
    with pytest.raises(GroupError, match=r"no frame to align \(0.fits: its sources cannot") as raised:
        align_group.fn("FIELD Y", failed, AlignParameters(), workspace)
    assert raised.value.remedy == "Lower detect.dilation."


def test_marks_of_few_sky_frames_name_the_frames() -> None:
    done = SkyPass(frames=(), skies={"a": ("b",), "b": ("a",), "c": (), "d": ("a", "b")})
    one, none = done.marks(("a", "b", "c", "d"))
    assert one.startswith("sky from 1 frame: ")
    assert one.endswith(" (a, b)")
    assert none.endswith(" (c)")
    assert done.marks(("d",)) == ()
