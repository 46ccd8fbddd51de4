"""The sky of a stack without the outskirts of its sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.photometry.synthetic import BETA, Scene, SyntheticStack
from imaging.photometry.measured_image import MeasuredImage, circle_sums
from imaging.photometry.sky_around_sources import sky_around_sources, surroundings
from imaging.simulator.star_field import add_stars
from imaging.sources.background import level_at
from imaging.sources.detect import Detection

SCENE = Scene()
Observed = tuple[SyntheticStack, Detection, MeasuredImage]


def test_wings_of_stars_do_not_raise_the_sky(stack: Observed) -> None:
    made, found, _ = stack
    places = np.column_stack([made.stars.x, made.stars.y])
    light = np.zeros(made.sci.shape, np.float32)
    add_stars(light, made.stars.x, made.stars.y, made.stars.flux, fwhm=SCENE.fwhm, beta=BETA, level=0.02)
    sky, mask = sky_around_sources(made.sci, made.dq, found)
    empty = (mask == 0) & (made.dq == 0)
    true = float((made.sci - light)[empty].mean())
    before, now = (
        float(level_at(mesh, places).mean() - true) / found.rms for mesh in (found.background, sky)
    )
    assert before > 0.025  # what the detection leaves: a quarter of the noise of an aperture of 100 px
    assert abs(now) < 0.012  # and stars too faint to be found


def test_fluxes_of_faint_stars_are_not_too_low(stack: Observed) -> None:
    made, _, image = stack
    radius = 1.5 * 3.9
    alone = made.stars
    distance = np.hypot(alone.x[:, None] - alone.x, alone.y[:, None] - alone.y)
    np.fill_diagonal(distance, np.inf)
    noise = np.sqrt(np.pi * radius**2 * float(np.median(image.var[image.empty])))
    faint = (distance.min(axis=1) > 30) & (alone.flux < 30 * noise)
    assert faint.sum() >= 20
    sums = circle_sums(image.sky_subtracted, np.column_stack([alone.x, alone.y])[faint], radius)
    off = (sums - 0.94 * alone.flux[faint]) / noise
    assert abs(np.median(off)) < 0.25 + 1.25 / np.sqrt(faint.sum())


def test_the_surroundings_contain_the_sources_and_leave_sky(stack: Observed) -> None:
    _, found, _ = stack
    mask = surroundings(found)
    assert (mask >= found.object_mask).all()
    assert found.object_mask.mean() < mask.mean() < 0.5
    bright = found.catalogue[0]
    assert mask[round(bright["y"]), round(bright["x"])] == 1


def test_a_crowded_cell_keeps_its_sky(stack: Observed) -> None:
    made, found, _ = stack
    rng = np.random.default_rng(1)
    many = np.repeat(found.catalogue[:1], 60)
    many["x"], many["y"] = rng.uniform(320, 384, (2, 60))
    many["area"] = 200
    crowded = replace(found, catalogue=np.concatenate([found.catalogue, many]))
    box = np.s_[320:384, 320:384]
    assert (surroundings(crowded)[box] == found.object_mask[box]).all()
    sky, _ = sky_around_sources(made.sci, made.dq, crowded)
    assert np.isfinite(sky.level_mesh).all()


def test_without_stars_the_sky_is_that_of_all_pixels(stack: Observed) -> None:
    made, found, _ = stack
    none = replace(
        found,
        catalogue=found.catalogue[:0],
        object_mask=np.zeros_like(found.object_mask),
        seeing=float("nan"),
    )
    sky, mask = sky_around_sources(made.sci, made.dq, none)
    assert not mask.any()
    assert sky.level == pytest.approx(found.level, abs=0.05 * found.rms)
