"""The extended source of a stack: what it is found from, where it is, and how it is reported."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.header import Header
from imaging.io.planes import write_planes
from imaging.registration.entries import AlignEntry
from imaging.registration.geometry import Affine, Grid
from imaging.sky.choice import SkyParameters
from imaging.sky.extended.frame_mesh import MESH
from imaging.sky.extended.lost_light import Losses, LostLight
from tasks import extended_source
from tasks.extended_source import ExtendedSource, Stacked, find_extended_source
from tasks.sky import SkyPass
from tasks.support.references import ScratchRef

LOST = LostLight(
    x=100.0, y=40.0, scale=180.0, axis_ratio=0.8, losses=Losses(0.321, 0.843), halo=2.0, factor=7.5, dithers=160.0,
    offset=1250.0,
)  # fmt: skip
SOURCE = ExtendedSource(LOST, x=110.0, y=60.0, position=(63.49171, -47.84432), pixel_scale=0.18, limit=0.05)
NAMES = ("a.fits", "b.fits", "c.fits")


def test_the_warning_names_place_extent_losses_and_throw():
    assert SOURCE.warning() == (
        "an extended source at RA 63.4917, Dec -47.8443 (x 111, y 61) with a scale length of 32 arcsec loses 32 % of "
        "its light at the centre and 84 % at 2 scale lengths (limit 5 %, sky.loss), because its sky frames contain "
        "it: its frames are a median of 29 arcsec from their sky frames; dithers 7.5 times as wide, a median of "
        "216 arcsec, would do"
    )


def test_where_no_dithers_do_it_names_the_distance_of_offset_skies():
    source = replace(SOURCE, lost=replace(LOST, factor=None), position=None)
    assert source.warning().startswith("an extended source at x 111, y 61 with")
    assert source.warning().endswith(
        "no dithers on this detector would do; take frames of the sky at least 225 arcsec away"
    )
    assert source.throw == pytest.approx(225)
    assert set(source.cards()) == {"XSRCX", "XSRCY", "XSRCSIZE"}


def test_figures_and_cards_are_those_of_the_source():
    assert SOURCE.figures == {
        "lost_at_centre": 0.321, "lost_in_halo": 0.843, "needed_throw": pytest.approx(216),
    }  # fmt: skip
    values = {name: value[0] for name, value in SOURCE.cards().items()}
    assert values == {
        "XSRCX": 111.0, "XSRCY": 61.0, "XSRCSIZE": 32.4, "XSRCRA": 63.49171, "XSRCDEC": -47.84432,
    }  # fmt: skip


@pytest.fixture
def sky(raw_frame, tmp_path: Path) -> SkyPass:
    frames = []
    for i, name in enumerate(NAMES):
        folder = tmp_path / name
        planes = {"sci": np.zeros((128, 128), np.float32), MESH: np.full((2, 8, 8), i, np.float32)}
        frame = raw_frame(name, kind="object", poffset=10.0 * i)
        metrics = {"level": 5000.0 + i}
        ref = ScratchRef(
            frame=frame, key="k", folder=write_planes(folder, planes, {"key": "k"}), metrics=metrics
        )
        frames.append(ref)
    skies = {name: tuple(n for n in NAMES if n != name) for name in NAMES}
    return SkyPass(frames=tuple(frames), skies=skies)


def entry(name: str, dx: float, dy: float) -> AlignEntry:
    return AlignEntry(
        name=name, transform=Affine.shift(dx, dy), rms=0.1, uncertainty=0.1, n_matched=9, flux_scale=1.0,
        found_by="wcs", wcs_error=None, used=True, reason="",
    )  # fmt: skip


def find(sky: SkyPass, names=NAMES, extra=()):
    entries = [entry(name, -16.0 * i, 8.0 * i) for i, name in enumerate(NAMES) if name in names]
    facts = {f.name: f.frame.facts for f in (*sky.frames, *extra)}
    measured = {name: {"rms": 75.0 + i} for i, name in enumerate(NAMES)}
    y, x = np.mgrid[0:200, 0:220].astype(np.float32)
    stacked = Stacked(
        sci=1000 * y + x, dq=np.zeros(y.shape, np.uint16), mask=np.zeros(y.shape, np.uint8),
        grid=Grid((200, 220), (-10, -20), Header()), entries=entries, scales=dict.fromkeys(NAMES, 0.5),
    )  # fmt: skip
    return find_extended_source("FIELD J", sky, stacked, measured, facts, SkyParameters(loss=0.1))


def test_a_group_is_judged_from_its_meshes_and_its_alignment_and_the_warning_is_logged(
    sky, monkeypatch, caplog
):
    seen = {}

    def found(group, **limits):
        seen.update(group=group, **limits)
        return LOST

    monkeypatch.setattr(extended_source, "find_lost_light", found)
    with caplog.at_level(logging.WARNING):
        source = find(sky)
    group = seen["group"]
    assert (seen["limit"], seen["clip"], group.size, group.level, group.noise) == (0.1, 3.0, 16, 5001.0, 76.0)
    assert [mesh[0, 0, 0] for mesh in group.frames] == [0, 1, 2]
    # A frame whose pixels are 16 px to the right of the reference's has its stars there.
    assert group.pointings.shifts.tolist() == [[0, 0], [-0.5, 1], [-1, 2]]
    # Pixel (0, 0) of the reference is (10, 20) of the stack, for which the frames were halved.
    middle = 3 * 16 + 8
    assert group.stack[:, 3, 3].tolist() == [
        2 * (1000 * (20 + 8 * i + middle) + 10 - 16 * i + middle) for i in range(3)
    ]
    assert group.pointings.chosen.tolist() == (~np.eye(3, dtype=bool)).tolist()
    assert (source.x, source.y, source.position, source.limit) == (110, 60, None, 0.1)
    assert f"FIELD J: {source.warning()}" in caplog.text


def test_sky_frames_that_are_not_stacked_are_placed_by_the_telescopes_offsets(sky, raw_frame, monkeypatch):
    seen = []
    monkeypatch.setattr(extended_source, "find_lost_light", lambda group, **_: seen.append(group))
    offset = ScratchRef(
        frame=raw_frame("sky.fits", kind="object", poffset=100.0), key="k", folder=Path("/none")
    )
    skies = dict.fromkeys(NAMES, ("sky.fits",))
    assert find(sky.model_copy(update={"skies": skies}), extra=(offset,)) is None
    pointings = seen[0].pointings
    assert pointings.chosen.tolist() == [[False, False, False, True]] * 3
    scale = offset.frame.facts.readout.pixel_scale
    assert np.hypot(*(pointings.shifts[3] - pointings.shifts[0])) == pytest.approx(100 / scale / 16)


@pytest.mark.parametrize("case", ["two frames", "own backgrounds", "planes of an earlier version"])
def test_groups_without_dithered_skies_are_not_judged(sky, monkeypatch, case):
    monkeypatch.setattr(extended_source, "find_lost_light", lambda *_, **__: pytest.fail("it was judged"))
    if case == "two frames":
        assert find(sky, NAMES[:2]) is None
    elif case == "own backgrounds":
        assert find(sky.model_copy(update={"skies": dict.fromkeys(NAMES, ())})) is None
    else:
        for frame in sky.frames:
            write_planes(frame.folder, {"sci": np.zeros((128, 128), np.float32)}, {"key": "k"})
        assert find(sky) is None
