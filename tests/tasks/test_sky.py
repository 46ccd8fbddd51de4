"""Outcomes of earlier tasks: frames are separated from errors, each with the name of its frame."""

from __future__ import annotations

from pathlib import Path

from imaging.errors import FrameError, GroupError
from tasks.sky import SkyPass, sort_out
from tasks.support.references import ScratchRef


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
