"""Positions of frames relative to each other according to world coordinates or the telescope's offsets.

Either may be wrong; they are starting points of a search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from imaging.pixels.wcs import wcs_of
from imaging.registration.entries import AlignInput
from imaging.registration.geometry import Affine, celestial_header

#: Margin beyond the dither's range in the search, arcsec.
_MARGIN: Final = 10.0


def prior_from_wcs(frame: AlignInput, base: AlignInput) -> Affine | None:
    """Return the transform from frame to reference pixels from the headers, linear about the frame's centre."""
    here, there = celestial_header(frame.header), celestial_header(base.header)
    if not len(here) or not len(there):
        return None
    ny, nx = frame.shape
    x = np.array([0.5, 0.25, 0.75, 0.5, 0.5]) * (nx - 1)
    y = np.array([0.5, 0.5, 0.5, 0.25, 0.75]) * (ny - 1)
    u, v = wcs_of(there).all_world2pix(*wcs_of(here).all_pix2world(x, y, 0), 0)
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        return None
    xx, yx = (u[2] - u[1]) / (x[2] - x[1]), (v[2] - v[1]) / (x[2] - x[1])
    xy, yy = (u[4] - u[3]) / (y[4] - y[3]), (v[4] - v[3]) / (y[4] - y[3])
    return Affine(xx, xy, yx, yy, u[0] - xx * x[0] - xy * y[0], v[0] - yx * x[0] - yy * y[0])


def prior_from_telescope(frame: AlignInput, base: AlignInput, turned: Affine | None = None) -> Affine:
    """Return the transform from the telescope's offsets, using the instrument's table.

    The offsets are along the axes of the instrument, and place the same point of the sky on each frame; ``turned`` is
    the rotation and scale from frame to reference, none by default.
    """
    here, there = _target(frame, base), _target(base, base)
    turned = turned or Affine()
    x, y = turned(np.float64(here[0]), np.float64(here[1]))  # type: ignore[arg-type]
    return turned.then(Affine.shift(float(there[0] - x), float(there[1] - y)))


def _target(frame: AlignInput, base: AlignInput) -> tuple[float, float]:
    """Return where the point to which the offsets refer lies on a frame, px."""
    offsets, scale = frame.facts.table.offsets, base.facts.readout.pixel_scale
    moved = {"p": frame.facts.poffset, "q": frame.facts.qoffset}
    # A star moves on the detector by the offsets.
    sx, sy = offsets.signs(frame.facts.values)
    return (
        (frame.shape[1] - 1) / 2 + sx * moved[offsets.x[-1]] / scale,
        (frame.shape[0] - 1) / 2 + sy * moved[offsets.y[-1]] / scale,
    )


def shift_at_centre(prior: Affine, shape: tuple[int, int]) -> Affine:
    """Return the shift of a transform at a frame's centre."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    u, v = prior(np.float64(x), np.float64(y))  # type: ignore[arg-type]
    return Affine.shift(float(u - x), float(v - y))


def without_shift(prior: Affine, shape: tuple[int, int]) -> Affine:
    """Return the same rotation about the frame's centre, without a shift there."""
    shift = shift_at_centre(prior, shape)
    return prior.then(Affine.shift(-shift.x0, -shift.y0))


def distance_at_centre(one: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Return how far two transforms place a frame's centre apart, px."""
    a, b = shift_at_centre(one, shape), shift_at_centre(other, shape)
    return math.hypot(a.x0 - b.x0, a.y0 - b.y0)


def search_range(frames: Sequence[AlignInput], limit: float) -> float:
    """Return how far frames can be apart, px: the range of the telescope's offsets plus a margin."""
    p = [frame.facts.poffset for frame in frames]
    q = [frame.facts.qoffset for frame in frames]
    dither = max(max(p) - min(p), max(q) - min(q))
    if dither == 0:  # no offsets in the headers
        dither = limit
    return min(dither + _MARGIN, limit) / frames[0].facts.readout.pixel_scale
