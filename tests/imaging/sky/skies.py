"""Simulated blocks and frames of a group's skies."""

from __future__ import annotations

import numpy as np

from imaging.sky.structure import Blocks

SIZE = 32
LEVEL = 5400.0
NOISE = 2.0
DITHERS = np.array([(y, x) for y in (-1.75, 0, 1.75) for x in (-1.75, 0, 1.75)])


def coordinates(size=SIZE):
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    return x, y


def group(rng, sky, *, field=None, serving=None, levels=None, size=SIZE):
    """Blocks of nine frames: ``sky(i)`` relative to the level, and ``field(x, y)`` electrons at dithered blocks."""
    n = len(DITHERS)
    levels = LEVEL * np.ones(n) if levels is None else levels
    y, x = np.mgrid[0:size, 0:size].astype(float)
    lit = np.hypot(x - size / 2, y - size / 2) < size / 2
    pattern = 0.01 * np.cos(x / 7) * np.cos(y / 5)
    medians = []
    for i in range(n):
        plane = levels[i] * (1 + pattern + sky(i)) + NOISE * rng.standard_normal((size, size))
        if field is not None:
            plane += field(x - DITHERS[i, 1], y - DITHERS[i, 0])
        medians.append(np.where(lit, plane, np.nan))
    counts = np.where(lit, 2048, 0) * np.ones((n, 1, 1), int)
    return Blocks(
        np.stack(medians), counts, levels, levels, DITHERS,
        np.ones(n, bool) if serving is None else serving, (float(size), float(size)),
    )  # fmt: skip


def airglow(rng, *, tilt=0.04, wave=0.02):
    """Return a function of the frame: gradients and a wave of one width of the array."""
    x, y = coordinates()
    draws = rng.uniform(-1, 1, (len(DITHERS), 4))

    def sky(i):
        a, b, turn, phase = draws[i]
        along = x * np.cos(np.pi * turn) + y * np.sin(np.pi * turn)
        slopes = tilt * (a * (2 * x - 1) + b * (2 * y - 1))
        return slopes + wave * np.sin(2 * np.pi * along + np.pi * phase)

    return sky
