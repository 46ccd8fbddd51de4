"""What extended sources lose to the sky: against noisy pixels that are really clipped, rejected and averaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imaging.sky.extended.contamination import Pointings
from imaging.sky.extended.lost_light import find_lost_light
from tests.imaging.sky.extended.dithered import ARCSEC, SIZE, exponential, grid, observe, star_field

LIMIT, CLIP = 0.05, 3.0
PIXEL = ARCSEC / SIZE


def find(group):
    return find_lost_light(group, limit=LIMIT, clip=CLIP)


@pytest.mark.parametrize("scale", [15.0, 33.0, 60.0])
@pytest.mark.parametrize("step", [10.0, 20.0, 40.0, 80.0])
def test_the_estimated_loss_is_within_30_percent_of_the_true_one(scale, step):
    seen = observe(np.random.default_rng(int(scale + step)), grid(step), exponential(scale))
    true, found = seen.losses(scale), find(seen.group)
    if found is None:
        assert max(true) < 1.3 * LIMIT
        return
    assert max(true) > LIMIT / 1.3
    assert found.halo == 2.0
    assert found.losses.halo == pytest.approx(true[1], rel=0.3)
    # In the block of a cusp, a small loss is uncertain by more.
    assert found.losses.centre == pytest.approx(true[0], rel=0.3, abs=0.02)
    assert found.scale * PIXEL == pytest.approx(scale, rel=0.15)
    assert found.x == pytest.approx(1023.5 + grid(step)[0, 1] * SIZE, abs=20)
    assert found.y == pytest.approx(1023.5 + grid(step)[0, 0] * SIZE, abs=20)


@pytest.mark.parametrize(("peak", "differs"), [(2700.0, 0.1), (13500.0, 0.25)])
def test_what_the_stack_rejects_is_not_lost(peak, differs):
    seen = observe(np.random.default_rng(3), grid(20.0), exponential(33.0, peak))
    true, found = seen.losses(33.0), find(seen.group)
    # The sky of some frames contains the core: there the stack is that of the others.
    assert replace(seen, lost=seen.subtracted).losses(33.0)[1] > true[1] + differs
    assert found is not None
    assert found.losses == pytest.approx(true, rel=0.15)


def test_a_loss_that_the_skies_do_not_explain_is_measured_in_the_stack():
    seen = observe(np.random.default_rng(10), grid(20.0), exponential(33.0))
    n = len(seen.light)
    far = seen.group.pointings.shifts + np.array([0.0, 75.0])
    chosen = np.hstack([np.zeros((n, n), bool), np.ones((n, n), bool)])
    # By the pointings, the sky frames show nothing of the source; but half of it is missing.
    group = replace(
        seen.group,
        stack=(0.5 * seen.light).astype(np.float32),
        pointings=Pointings(np.vstack([seen.group.pointings.shifts, far]), chosen),
    )
    found = find(group)
    assert found is not None
    assert found.losses == pytest.approx((0.5, 0.5), rel=0.15)


@pytest.mark.parametrize(("scale", "step"), [(15.0, 10.0), (15.0, 20.0), (33.0, 20.0)])
def test_dithers_as_wide_as_it_names_would_do_and_narrower_ones_would_not(scale, step):
    rng = np.random.default_rng(4)
    found = find(observe(rng, grid(step), exponential(scale)).group)
    assert found is not None
    assert found.factor is not None
    assert found.dithers * PIXEL == pytest.approx(2**0.5 * step, rel=0.01)
    wider = observe(rng, grid(found.factor * step), exponential(scale))
    assert max(wider.losses(scale)) < 1.6 * LIMIT
    half = observe(rng, grid(0.5 * found.factor * step), exponential(scale))
    assert max(half.losses(scale)) > LIMIT


def test_a_source_that_fills_the_detector_needs_sky_frames_next_to_it():
    seen = observe(np.random.default_rng(5), grid(20.0), exponential(200.0, 5400.0), masked=1e9)
    found = find(seen.group)
    assert found is not None
    assert found.factor is None
    assert found.losses.centre == pytest.approx(seen.loss(0.0, 30.0), rel=0.3)
    assert found.losses.halo > 0.6
    assert found.offset * PIXEL > 400


def test_skies_next_to_the_source_lose_nothing():
    seen = observe(np.random.default_rng(6), grid(20.0), exponential(33.0))
    n = len(seen.light)
    offset = seen.group.pointings.shifts + np.array([0.0, 75.0])
    chosen = np.hstack([np.zeros((n, n), bool), np.ones((n, n), bool)])
    pointings = Pointings(np.vstack([seen.group.pointings.shifts, offset]), chosen)
    assert find(seen.group) is not None
    stack = seen.light.astype(np.float32)
    assert find(replace(seen.group, stack=stack, pointings=pointings)) is None


@pytest.mark.parametrize("lost", [0.045, 0.06, 0.4])
def test_a_loss_within_its_error_of_the_limit_is_no_alarm(lost):
    seen = observe(np.random.default_rng(11), grid(20.0), exponential(33.0))
    n = len(seen.light)
    far = seen.group.pointings.shifts + np.array([0.0, 75.0])
    chosen = np.hstack([np.zeros((n, n), bool), np.ones((n, n), bool)])
    # Sky frames far away, but a plane fitted to the wings of the source: the level is wrong everywhere.
    level = lost * 2700.0 * np.exp(-2.0)
    group = replace(
        seen.group,
        stack=(seen.light - level).astype(np.float32),
        pointings=Pointings(np.vstack([seen.group.pointings.shifts, far]), chosen),
    )
    found = find(group)
    if lost < 0.1:
        assert found is None
        return
    assert found is not None
    assert found.losses.halo == pytest.approx(lost, rel=0.3)


@pytest.mark.parametrize("seed", range(30))
def test_no_star_field_is_taken_for_an_extended_source(seed):
    rng = np.random.default_rng(seed)
    kinds = (
        {}, {"stars": 3000}, {"tilt": 0.04, "wave": 0.02}, {"stars": 20, "brightest": 1e6}, {"stars": 0},
        {"flat": 0.02, "wave": 0.02},
    )  # fmt: skip
    step = (20.0, 20.0, 10.0, 40.0, 80.0)[seed % 5]
    assert find(star_field(rng, grid(step), **kinds[seed % len(kinds)])) is None


@pytest.mark.parametrize("group", ["two frames", "no known block"])
def test_groups_that_show_too_little_have_none(group):
    seen = observe(np.random.default_rng(7), grid(20.0)[:3], exponential(33.0)).group
    if group == "two frames":
        pointings = Pointings(seen.pointings.shifts, seen.pointings.chosen[:2])
        seen = replace(seen, frames=seen.frames[:2], stack=seen.stack[:2], pointings=pointings)
    else:
        seen = replace(seen, frames=np.full_like(seen.frames, np.nan))
    assert find(seen) is None


def test_frames_of_another_field_do_not_count():
    rng = np.random.default_rng(8)
    seen = observe(rng, grid(20.0), exponential(33.0))
    alone = find(seen.group)
    blank = star_field(rng, grid(20.0), stars=0, flat=0.0)
    n = len(blank.frames)
    shifts = np.vstack([seen.group.pointings.shifts, blank.pointings.shifts + np.array([0.0, 90.0])])
    chosen = np.zeros((2 * n, 2 * n), bool)
    chosen[:n, :n] = chosen[n:, n:] = ~np.eye(n, dtype=bool)
    both = replace(
        seen.group,
        frames=np.concatenate([seen.group.frames, blank.frames]),
        stack=np.concatenate([seen.group.stack, blank.stack]),
        pointings=Pointings(shifts, chosen),
    )
    found = find(both)
    assert alone is not None
    assert found is not None
    assert found.losses == pytest.approx(alone.losses, rel=0.15)


def test_a_frame_with_its_own_smooth_background_is_one_of_the_group():
    seen = observe(np.random.default_rng(9), grid(20.0), exponential(33.0))
    usual = find(seen.group)
    chosen = seen.group.pointings.chosen.copy()
    chosen[0] = False
    found = find(replace(seen.group, pointings=Pointings(seen.group.pointings.shifts, chosen)))
    assert usual is not None
    assert found is not None
    assert found.losses.halo == pytest.approx(usual.losses.halo, rel=0.3)
