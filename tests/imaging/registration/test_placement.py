"""Turned fields, few stars and none: catalogues with a known truth, and headers that are right or wrong."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from imaging.header import Header
from imaging.registration.align import AlignParameters, align, output_grid
from imaging.registration.geometry import Affine
from imaging.registration.priors import prior_from_telescope, prior_from_wcs
from imaging.simulator.parameters import NightParameters
from imaging.sources.detect import Flag
from tests.imaging.registration.test_align import DITHER, Sky, header

camera = NightParameters().camera

CENTRE = 499.5
SCALE = camera.pixel_scale


def turned_header(p, q, degrees, error=(0.0, 0.0)):
    """The header of a frame whose axes are turned: stars move by ``degrees`` from +x (North) towards +y (East)."""
    c, s, step = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), SCALE / 3600
    cards = header(p, q, error=error)
    # North is CD2, East CD1; a star at (north, east) lies at R (north, east) / step.
    return Header(dict(cards) | {"CD1_1": -s * step, "CD1_2": c * step, "CD2_1": c * step, "CD2_2": s * step})


def turned_frame(sky, name, p, q, degrees, *, stated=None):
    """A frame whose offsets P and Q are along its turned axes."""
    turn = Affine.turn(degrees, CENTRE, CENTRE)
    xy = sky.xy
    straight = dataclasses.replace(
        sky.frame(name, header_of=(0, 0), facts_of=(p, q), turn=math.radians(degrees)),
    )
    sky.xy = xy
    dx, dy = sky.place(p, q)
    table = straight.catalogue.copy()
    table["x"] += dx
    table["y"] += dy
    table = table[(table["x"] > 5) & (table["x"] < 994) & (table["y"] > 5) & (table["y"] < 994)]
    degrees_stated = degrees if stated is None else stated
    # The pointing in the unturned axes.
    c, s = math.cos(math.radians(degrees_stated)), math.sin(math.radians(degrees_stated))
    north, east = c * q + s * p, -s * q + c * p
    frame = dataclasses.replace(straight, catalogue=table, header=turned_header(east, north, degrees_stated))
    return frame, turn.then(Affine.shift(dx, dy))


def corner_errors(found, truths):
    base = truths[found.reference]
    x, y = np.meshgrid([0.0, 999.0], [0.0, 999.0])
    off = []
    for one in found.used:
        wanted = truths[one.name].inverse().then(base)
        (u, v), (s, t) = one.transform(x, y), wanted(x, y)
        off.append([u - s, v - t])
    return np.array(off)


def half_turned(sky, degrees, stated=None):
    frames, truths = [], {}
    for k, (p, q) in enumerate(DITHER):
        angle = degrees if k >= 3 else 0.0
        by_header = None if stated is None else (stated if k >= 3 else 0.0)
        frame, truth = turned_frame(sky, f"S{k}.fits", p, q, angle, stated=by_header)
        frames.append(frame)
        truths[frame.name] = truth
    return frames, truths


def test_the_priors_of_a_turned_frame_are_its_transform():
    frames, truths = half_turned(Sky(n=80, seed=60), 1.5)
    base, other = frames[0], frames[5]
    wanted = truths[other.name].inverse().then(truths[base.name])
    wcs = prior_from_wcs(other, base)
    turned = Affine(wcs.xx, wcs.xy, wcs.yx, wcs.yy)
    for prior in (wcs, prior_from_telescope(other, base, turned)):
        assert prior(CENTRE, CENTRE) == pytest.approx(wanted(CENTRE, CENTRE), abs=0.3)
        # At this declination, North turns by 0.02 degrees over a dither of 80 arcsec.
        assert prior.rotation == pytest.approx(wanted.rotation, abs=0.02)


@pytest.mark.parametrize("seed", [61, 62, 63])
@pytest.mark.parametrize(
    ("degrees", "stated"), [(1.5, None), (-12.0, None), (0.25, 0.0), (-0.3, 0.0), (1.5, 1.25)]
)
def test_a_field_that_turns_half_way_is_aligned(seed, degrees, stated):
    frames, truths = half_turned(Sky(n=160, seed=seed), degrees, stated)
    found = align(frames)
    assert len(found.used) == 6, [e.reason for e in found.left_out]
    off = corner_errors(found, truths)
    assert np.sqrt(np.mean(off**2)) < 0.05
    assert all(e.transform.is_shift for e in found.entries[:3]) or found.reference in {
        f"S{k}.fits" for k in (3, 4, 5)
    }
    assert all(e.scale == pytest.approx(1, abs=1e-4) for e in found.entries)


def test_calm_frames_keep_pure_shifts():
    for seed in range(64, 72):
        sky = Sky(n=80, seed=seed)
        frames = [sky.frame(f"S{k}.fits", *DITHER[k], error=sky.rng.normal(0, 0.4, 2)) for k in range(6)]
        assert all(e.transform.is_shift for e in align(frames).used)


def test_the_field_of_a_turned_stack_is_that_of_all_frames():
    frames, _ = half_turned(Sky(n=80, seed=73), 1.5)
    found = align(frames)
    grid = output_grid(found, frames)
    for one in found.used:
        u, v = grid.place(one.transform)(*np.meshgrid([0.0, 999.0], [0.0, 999.0]))
        assert min(u.min(), v.min()) > -0.01
        assert u.max() < grid.shape[1] - 0.99
        assert v.max() < grid.shape[0] - 0.99


def test_a_distorted_field_gets_a_scale_and_an_affine():
    sky = Sky(n=200, seed=74)
    a, b = sky.frame("a.fits"), sky.frame("b.fits", 5, 5)
    for linear, kind in ((np.eye(2) * 1.0005, "scale"), (np.array([[1.0006, 0], [0, 1.0]]), "affine")):
        table = b.catalogue.copy()
        xy = (np.column_stack([table["x"], table["y"]]) - CENTRE) @ linear + CENTRE
        table["x"], table["y"] = xy.T
        found = align(
            [a, dataclasses.replace(b, catalogue=table)], AlignParameters(reference="a.fits")
        ).entries[1]
        assert found.used
        assert found.rms < 0.05
        assert (abs(found.transform.xx - found.transform.yy) > 3e-4) == (kind == "affine")


def sparse(n, seed=80):
    """Frames of a field with ``n`` stars near its middle."""
    sky = Sky(n=max(n, 1), seed=seed)
    sky.xy = np.array([[410.0, 560], [600, 640], [520, 420], [480, 700]])[: max(n, 1)]
    sky.flux = np.full(max(n, 1), 3e4)
    frames = [
        sky.frame(f"S{k}.fits", *DITHER[k], strangers=0, error=sky.rng.normal(0, 0.2, 2)) for k in range(4)
    ]
    if n == 0:
        frames = [dataclasses.replace(f, catalogue=f.catalogue[:0]) for f in frames]
    return sky, frames


@pytest.mark.parametrize("n", [1, 2])
def test_few_stars_place_a_frame_whose_headers_agree(n, caplog):
    sky, frames = sparse(n)
    found = align(frames)
    assert len(found.used) == 4
    assert {e.found_by for e in found.entries} == {"reference", "few stars"}
    base = next(f for f in frames if f.name == found.reference)
    for frame, one in zip(frames, found.entries, strict=True):
        there = sky.place(base.facts.poffset, base.facts.qoffset)
        wanted = there - sky.place(frame.facts.poffset, frame.facts.qoffset)
        assert (one.dx, one.dy) == pytest.approx(wanted, abs=0.15)
        assert one.found_by == "reference" or 0 < one.uncertainty < 0.2
    assert "without enough stars" in caplog.text


def test_without_stars_the_world_coordinates_place_a_frame_and_it_is_marked(caplog):
    _, frames = sparse(0)
    found = align(frames)
    assert len(found.used) == 4
    placed = [e for e in found.entries if e.found_by != "reference"]
    assert {e.found_by for e in placed} == {"wcs only"}
    assert all(0.2 / SCALE <= e.uncertainty < 3 / SCALE for e in placed)
    assert all("telescope's offsets" in e.reason for e in placed)
    assert "without enough stars" in caplog.text
    assert len(found.weak) == 3


def test_one_frame_without_stars_is_unlike_the_others_and_left_out(caplog):
    sky = Sky(n=40, seed=82)
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], strangers=0) for k in range(4)]
    for frame in frames:
        frame.catalogue["snr"] = 20.0  # none is so bright that it has to be in another frame
    frames[2].catalogue["flags"] = int(Flag.BAD_PIXEL)
    found = align(frames)
    assert [one.name for one in found.left_out] == ["S2.fits"]
    assert "no stars to match, although most of the frames have" in found.left_out[0].reason
    assert "align.max_rms" in found.left_out[0].reason
    assert "S2.fits is left out" in caplog.text
    assert len(align(frames, AlignParameters(max_rms=2.0)).used) == 4


def test_without_stars_and_world_coordinates_the_offsets_place_a_frame():
    _, frames = sparse(0)
    found = align([dataclasses.replace(f, header=Header()) for f in frames])
    assert {e.found_by for e in found.entries} == {"reference", "offsets only"}


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("liar", [0, 1, 3])
def test_a_wrong_header_is_not_believed_where_stars_are_few(n, liar):
    _, frames = sparse(n)
    frames[liar] = dataclasses.replace(frames[liar], header=frames[liar - 1].header)
    found = align(frames)
    assert [e.name for e in found.left_out] == [frames[liar].name]
    assert "disagree by" in found.left_out[0].reason


def test_stars_that_are_missing_contradict_the_headers():
    sky = Sky(n=4, seed=81)
    sky.xy = np.array([[410.0, 560], [600, 640], [520, 420], [480, 600]])
    sky.flux[:] = 1e5
    frames = [sky.frame(f"S{k}.fits", *DITHER[k], strangers=0) for k in range(3)]
    bare = dataclasses.replace(frames[1], catalogue=frames[1].catalogue[:0])
    elsewhere = frames[2].catalogue.copy()
    elsewhere["x"] = 999 - elsewhere["x"]
    found = align([frames[0], bare, dataclasses.replace(frames[2], catalogue=elsewhere)])
    reasons = {e.name: e.reason for e in found.left_out}
    assert len(reasons) == 2
    assert all("contradict" in reason for reason in reasons.values())
