"""Frames of an extended source in blocks of noisy pixels, and what the steps of sky and stack really leave of it.

Independent of the module under test: the pixels are drawn with their noise, clipped or rejected one by one, and
averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from imaging.sky.extended.contamination import Pointings
from imaging.sky.extended.lost_light import GroupMesh

BLOCKS = 64
SIZE = 32  # pixels of a block
ARCSEC = 0.1792 * SIZE
LEVEL = 5400.0
NOISE = LEVEL**0.5
PIXELS = 9  # simulated in a block
LIMIT = 3.0
REJECTED = 4.5  # of the stack, sigma


@dataclass(frozen=True)
class Dithered:
    """A group, and the truth: the light, what the stack lacks of it, and distances from the centre, arcsec.

    All are in the blocks of each frame; ``subtracted`` is what its own sky contains of the light.
    """

    group: GroupMesh
    light: np.ndarray
    lost: np.ndarray
    distance: np.ndarray
    subtracted: np.ndarray

    def loss(self, low, high):
        ring = (self.distance >= low) & (self.distance < high) & np.isfinite(self.lost)
        return float(np.sum(self.lost[ring]) / np.sum(self.light[ring]))

    def losses(self, scale):
        """True losses at the centre and at two scale lengths."""
        return self.loss(0.0, max(0.15 * scale, ARCSEC)), self.loss(1.8 * scale, 2.2 * scale)


def grid(step):
    """Shifts of a 3 x 3 grid of dithers of a step, arcsec, as blocks (y, x)."""
    return np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]) * step / ARCSEC


def exponential(scale, peak=2700.0):
    """An exponential disc of a scale length, arcsec, and axis ratio 0.8, as a function of y and x, blocks."""

    def light(y, x):
        return peak * np.exp(-np.hypot(x, y / 0.8) * ARCSEC / scale)

    return light


def observe(rng, shifts, light, *, masked=1100.0):
    """Subtract the sky of frames of a source from each other; pixels with more light than ``masked`` are masked."""
    n = len(shifts)
    y, x = np.mgrid[0:BLOCKS, 0:BLOCKS].astype(float)
    lit = np.hypot(x - 31.5, y - 31.5) < 33
    inner = (np.arange(3) - 1) / 3  # places of the pixels in a block
    true = np.stack(
        [
            np.stack([light(y + a - 31.5 - s[0], x + b - 31.5 - s[1]) for a in inner for b in inner], axis=-1)
            for s in shifts
        ]
    )
    levels = np.array([np.median(one[lit]) for one in true])[:, None, None, None]
    masks = true > masked
    values = true - levels + NOISE * rng.standard_normal(true.shape)
    taken = np.stack([_sky(np.delete(values, i, 0), np.delete(masks, i, 0)) for i in range(n)])
    design = np.stack([np.ones(y.size), x.ravel(), y.ravel()], axis=1)
    for i in range(n):
        taken[i] += (design @ _plane(values[i] - taken[i], masks[i], lit)).reshape(BLOCKS, BLOCKS)[..., None]
    kept, subtracted = true.mean(axis=-1), np.where(lit, np.mean(taken + levels, axis=-1), np.nan)
    stack = stack_of(rng, kept, subtracted, shifts)
    return Dithered(
        _group(np.median(values, axis=-1), stack, masks.mean(axis=-1), shifts, lit),
        kept,
        kept - stack,
        np.stack([np.hypot(x - 31.5 - s[1], (y - 31.5 - s[0]) / 0.8) * ARCSEC for s in shifts]),
        subtracted,
    )


def stack_of(rng, light, subtracted, shifts):
    """Stack frames, whose pixels have noise and of which outliers are rejected; return it in the blocks of each."""
    y, x = np.mgrid[0:BLOCKS, 0:BLOCKS].astype(float)
    stack = np.full(light.shape, np.nan)
    for own, here, shift in zip(stack, light, shifts, strict=True):
        apart = np.asarray(shifts) - shift
        skies = np.stack([
            map_coordinates(one, [y + a, x + b], order=1, cval=np.nan)
            for one, (a, b) in zip(subtracted, apart, strict=True)
        ])  # fmt: skip
        seen = np.isfinite(skies).any(axis=0)
        frames = (here - skies)[:, seen, None]
        frames = frames + NOISE * rng.standard_normal((*frames.shape[:2], PIXELS))
        count = np.isfinite(frames[..., :1]).sum(axis=0, keepdims=True)
        ordered = np.sort(frames, axis=0)  # what is missing comes last
        low, high = (np.take_along_axis(ordered, k, axis=0) for k in ((count - 1) // 2, count // 2))
        used = np.abs(frames - 0.5 * (low + high)) <= REJECTED * NOISE
        own[seen] = (np.where(used, frames, 0.0).sum(axis=0) / used.sum(axis=0)).mean(axis=-1)
    return stack


def star_field(rng, shifts, *, stars=150, flat=0.005, tilt=0.0, wave=0.0, brightest=3e4):
    """Frames of stars, whose sky has a gradient and a wave of its own in each, and whose flat is wrong by ``flat``."""
    n = len(shifts)
    y, x = np.mgrid[0:BLOCKS, 0:BLOCKS] / BLOCKS
    a, b, c = rng.uniform(0, 2 * np.pi, 3)
    pattern = flat * LEVEL * (np.sin(4 * x + a) + np.cos(3 * y + b) + np.sin(3 * (x + y) + c))
    places = rng.uniform(-3, BLOCKS + 3, (stars, 2))
    fluxes = np.minimum(30.0 * rng.pareto(0.6, stars), brightest)
    light, sources = np.zeros((n, BLOCKS, BLOCKS)), np.zeros((n, BLOCKS, BLOCKS))
    for i, shift in enumerate(shifts):
        slope_x, slope_y, turn, phase = rng.uniform(-1, 1, 4)
        along = x * np.cos(np.pi * turn) + y * np.sin(np.pi * turn)
        own = tilt * (slope_x * (2 * x - 1) + slope_y * (2 * y - 1)) + wave * np.sin(
            2 * np.pi * along + np.pi * phase
        )
        for (sy, sx), flux in zip(places + shift, fluxes, strict=True):
            sources[i] += flux * (1 + ((BLOCKS * y - sy) ** 2 + (BLOCKS * x - sx) ** 2) / 0.5) ** -3.5
        light[i] = pattern + LEVEL * own + NOISE / 6 * rng.standard_normal(x.shape)
    # The flattened sky of the others is that of the frame itself; masks and clipping leave the stars out.
    lit = np.hypot(x - 0.5, y - 0.5) < 0.52
    subtracted = np.where(lit, NOISE / 20 * rng.standard_normal(light.shape), np.nan)
    masks = np.clip(sources / NOISE, 0.0, 1.0)
    return _group(light + sources, stack_of(rng, sources, subtracted, shifts), masks, shifts, lit)


def _group(light, stack, masks, shifts, lit):
    meshes = np.stack([light, masks], axis=1).astype(np.float32)
    meshes[:, :, ~lit] = np.nan
    pointings = Pointings(np.asarray(shifts), ~np.eye(len(shifts), dtype=bool))
    return GroupMesh(meshes, pointings, SIZE, LEVEL, NOISE, stack.astype(np.float32))


def _plane(left, masked, lit, side=4):
    """The plane of what is left outside the masks, from large blocks, whose noise is small."""
    free = (lit[..., None] & ~masked).astype(float)
    y, x = np.mgrid[0:BLOCKS, 0:BLOCKS].astype(float)

    def coarse(values):
        return values.reshape(BLOCKS // side, side, BLOCKS // side, side).sum(axis=(1, 3)).ravel()

    count = coarse(free.sum(axis=-1))
    used = count > 0.2 * 9 * side * side
    blocks = coarse((free * left).sum(axis=-1)) / np.maximum(count, 1)
    terms = np.stack([np.ones(len(count)), coarse(x) / side**2, coarse(y) / side**2], axis=1)
    for _ in range(9):
        plane = np.linalg.lstsq(terms[used], blocks[used], rcond=None)[0]
        away = blocks - terms @ plane
        used &= np.abs(away) < 3 * 1.4826 * np.median(np.abs(away[used]))
    return plane


def _sky(values, masks):
    """The clipped mean of the unmasked values of each pixel; the median where all are masked."""
    kept = ~masks
    everywhere = ~kept.any(axis=0)
    for _ in range(len(values)):
        shown = np.where(kept, values, np.nan)
        middle = np.nanmedian(np.where(everywhere, values, shown), axis=0)
        away = np.where(kept, np.abs(values - middle), 0.0)
        worst = away.max(axis=0)
        gone = (worst > LIMIT * NOISE) & (kept.sum(axis=0) > 2)
        if not gone.any():
            break
        kept &= ~(gone & (away == worst))
    mean = np.where(kept, values, 0.0).sum(axis=0) / np.maximum(kept.sum(axis=0), 1)
    return np.where(everywhere, np.median(values, axis=0), mean)
