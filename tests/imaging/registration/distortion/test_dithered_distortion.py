"""Distortion measured from dithered frames: as accurate as stated, and refused where it is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.distortion.distortion_parameters import DistortionParameters
from imaging.registration.distortion.dithered_distortion import (
    FrameStars,
    MeasuredDistortion,
    SkyStars,
    measure_distortion,
)
from imaging.registration.geometry import Affine

SHAPE = (2048, 2048)


def dithered(
    seed: int,
    fraction: float,
    *,
    stars: int = 120,
    step: float = 110.0,
    error: float = 0.03,
    wrong: float = 0.0,
) -> list[FrameStars]:
    """Return nine frames on a grid of dithers, aligned by shifts as if there were no distortion."""
    rng = np.random.default_rng(seed)
    true = Distortion.radial(SHAPE, fraction)
    sky = rng.uniform(-200, SHAPE[0] + 200, (stars, 2))
    frames = []
    for i in range(9):
        dx, dy = step * (i % 3 - 1), step * (i // 3 - 1)
        turn = Affine.turn(0.01 * rng.normal(), 1023.5, 1023.5)
        x, y = true.inverse(*turn(sky[:, 0] + dx, sky[:, 1] + dy))
        x, y = x + rng.normal(0, error, stars), y + rng.normal(0, error, stars)
        bad = rng.random(stars) < wrong
        x[bad] += rng.uniform(0.5, 2.0, bad.sum())
        seen = (x > 5) & (x < SHAPE[1] - 5) & (y > 5) & (y < SHAPE[0] - 5)
        frames.append(FrameStars(x[seen], y[seen], np.full(seen.sum(), error), Affine.shift(-dx, -dy)))
    # The first frame defines the orientation.
    return frames


def measured(frames: list[FrameStars], **changes: Any) -> MeasuredDistortion:
    found = measure_distortion(frames, SHAPE, DistortionParameters(**changes))
    assert isinstance(found, MeasuredDistortion), found
    return found


def edge_error(found: MeasuredDistortion, fraction: float) -> float:
    """Return the rms error of the displacement over the frame along one axis, px, beyond a linear transform."""
    true = Distortion.radial(SHAPE, fraction)
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 2047, 21), np.linspace(0, 2047, 21)))
    off = np.column_stack(found.distortion(x, y)) - np.column_stack(true(x, y))
    linear = np.column_stack([np.ones_like(x), x, y])
    off -= linear @ np.linalg.lstsq(linear, off, rcond=None)[0]
    outer = np.maximum(abs(x - 1023.5), abs(y - 1023.5)) > 900
    return float(np.sqrt((off[outer] ** 2).mean()))


@pytest.mark.parametrize("wrong", [0.0, 0.05])
def test_three_parts_in_a_thousand_are_measured_to_a_tenth_of_a_pixel(wrong: float) -> None:
    pulls = []
    for seed in range(4):
        found = measured(dithered(seed, 0.003, wrong=wrong))
        assert found.gain > 3
        assert found.rms < 0.05
        assert found.error < 0.15
        assert found.frames == 9
        pulls.append(edge_error(found, 0.003) / found.error)
        # 50 mas at 0.18 arcsec
        assert edge_error(found, 0.003) < 0.27
    assert 0.2 < np.sqrt(np.mean(np.square(pulls))) < 1.6


def test_a_catalogue_makes_small_dithers_do() -> None:
    """Its stars have another scale and rotation, and errors of their own."""
    rng = np.random.default_rng(3)
    frames = dithered(1, 0.003, step=8.0)[:4]
    alone = measure_distortion(frames, SHAPE)
    assert isinstance(alone, str)
    assert "dithers of 16 px along x and 8 px along y" in alone
    sky = np.random.default_rng(1).uniform(-200, SHAPE[0] + 200, (120, 2))  # as in `dithered`
    to_first = frames[0].transform
    there = np.column_stack(to_first(*(sky - 8.0).T))
    seen = np.column_stack(Distortion.radial(SHAPE, 0.003).inverse(*there.T))
    scaled = 1.002 * there + rng.normal(0, 0.05, there.shape) + 3.0
    stars = SkyStars(*scaled.T, *(seen + rng.normal(0, 0.3, seen.shape)).T, np.full(len(sky), 0.05))
    found = measure_distortion(frames, SHAPE, DistortionParameters(), stars)
    assert isinstance(found, MeasuredDistortion), found
    assert found.frames == 4
    assert found.error < 0.08
    assert edge_error(found, 0.003) < 2.5 * found.error


def test_without_distortion_none_is_found() -> None:
    for seed in range(6):
        reason = measure_distortion(dithered(seed, 0.0), SHAPE)
        assert isinstance(reason, str)
        assert "stars left out of the fit" in reason


def test_it_says_what_is_missing() -> None:
    few = measure_distortion(dithered(1, 0.003, stars=20), SHAPE)
    assert isinstance(few, str)
    assert "30 are needed (distortion.min_stars)" in few
    small = measure_distortion(dithered(1, 0.003, step=0.5), SHAPE)
    assert isinstance(small, str)
    poor = measure_distortion(dithered(1, 0.02, error=0.5), SHAPE, DistortionParameters(max_error=0.01))
    assert isinstance(poor, str)
    assert "distortion.max_error" in poor
    assert isinstance(measure_distortion([dithered(1, 0.003)[0]] * 2, SHAPE), str)
