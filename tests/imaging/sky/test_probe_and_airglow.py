"""The guide probe under an unstable sky: neither the surfaces follow its glow, nor does the glow follow the sky."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.io.planes import Planes, write_planes
from imaging.pixels.dq import DQ
from imaging.sky.flatten import flatten
from imaging.sky.structure import median_of_known
from imaging.sky.subtract import SkyInput, SkyParameters

SIZE, LEVEL, FRAMES, RADIUS, BLOCK = 512, 5400.0, 9, 36.0, 32
#: Noise of a block of 16 pixels here is that of 32 pixels in an array twice as large.
NOISE = 0.5


def night(folder, rng, *, unstable):
    """Frames, and the sky and the glow of each, electrons.

    An unstable sky has gradients of 4 % and a wave of 2 %, and the probe moves over the array; otherwise it moves with
    the field.
    """
    tilt, amplitude = (0.04, 0.02) if unstable else (0.005, 0.0)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    frames, skies, glows = [], [], []
    for i in range(FRAMES):
        level = LEVEL * rng.uniform(0.7, 1.3)
        a, b, turn, phase = rng.uniform(-1, 1, 4)
        along = (x * np.cos(np.pi * turn) + y * np.sin(np.pi * turn)) / SIZE
        wave = amplitude * np.sin(2 * np.pi * along + np.pi * phase)
        skies.append(level * (1 + tilt * (a * (2 * x / SIZE - 1) + b * (2 * y / SIZE - 1)) + wave))
        moved = 20.0 * (i % 3), 20.0 * (i // 3)
        places = SIZE * rng.uniform(0.25, 0.75, 2) if unstable else np.array([0.64, 0.56]) * SIZE + moved
        beyond = np.hypot(x - places[0], y - places[1]) - RADIUS
        glows.append(level * 0.03 * np.exp(-np.maximum(beyond, 0) / (0.6 * RADIUS)))
        shadow = 1 - 0.35 / (1 + np.exp(np.clip(beyond / 2.5, -80, 80)))
        light = skies[-1] * shadow + glows[-1]
        sci = light + NOISE * np.sqrt(light) * rng.standard_normal(x.shape)
        planes = {
            "sci": sci.astype(np.float32), "var": (NOISE**2 * light).astype(np.float32),
            "dq": np.zeros(x.shape, np.uint16),
        }  # fmt: skip
        frames.append(
            SkyInput(
                f"f{i}", Planes(write_planes(folder / f"f{i}", planes)), float(np.median(sci)), moved=moved
            )
        )  # fmt: skip
    return frames, skies, glows


# Electrons of a sky of 5400: the noise of the surfaces, and what is left of the glow.
@pytest.mark.parametrize(("unstable", "most"), [(True, 1.35), (False, 0.8)])
def test_what_is_taken_is_the_sky_and_the_glow(tmp_path, unstable, most):
    frames, skies, glows = night(tmp_path, np.random.default_rng(1), unstable=unstable)
    found = flatten(frames, np.ones(FRAMES, bool), SkyParameters(), channels=32)
    errors = []
    for frame, one, sky, glow in zip(frames, found, skies, glows, strict=True):
        taken, dq = np.zeros(sky.shape, np.float32), np.zeros(sky.shape, np.uint16)
        one.apply(taken, dq, 0)
        open_sky = (dq & DQ.UNILLUMINATED) == 0
        errors.append(np.where(open_sky, (sky + glow + taken) / frame.level, np.nan))
    # What all frames share is left in all of them.
    errors = (np.stack(errors) - median_of_known(errors)) * LEVEL
    n = SIZE // BLOCK
    blocks = errors.reshape(FRAMES, n, BLOCK, n, BLOCK).swapaxes(2, 3).reshape(FRAMES, n, n, -1)
    counts = np.isfinite(blocks).sum(axis=-1)
    left = np.where(counts > BLOCK**2 // 2, np.nan_to_num(blocks).sum(axis=-1) / np.maximum(counts, 1), 0.0)
    left -= left.mean(axis=(1, 2), keepdims=True)
    assert float(np.sqrt(np.mean(left**2))) < most
