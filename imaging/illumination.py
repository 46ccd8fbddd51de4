"""The circle of light on the detector, measured from a flat."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging import f2

#: Directions in which the edge is looked for.
_RAYS: Final = 720
#: Where on a ray, around the expected edge, the profile is taken (fractions of the radius).
_SEARCH: Final = (0.80, 1.12)
#: Pixels along a ray over which the light inside the edge is averaged, and how far it stays off the edge.
_INSIDE: Final = (60, 8)
#: Half width in pixels of the median across a ray, against bad pixels.
_ACROSS: Final = 2
#: Fewest edge points, and the fewest eighths of the full turn that they lie in.
_LEAST_POINTS: Final = 60
_LEAST_OCTANTS: Final = 3
#: Edge points that are further than this from a circle, in pixels, mean that the edge is none.
_WORST_RMS: Final = 3.0


class Circle(BaseModel):
    """The circle of light, in pixels counted from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float = Field(description="column of the centre")
    y: float = Field(description="row of the centre")
    radius: float = Field(description="radius at half the light, pixels")
    measured: bool = Field(description="measured from a flat, not the instrument's constant")
    n_points: int = Field(default=0, description="edge points that the circle was fitted to")
    rms: float = Field(default=0.0, description="rms of those points about the circle, pixels")
    reason: str = Field(default="", description="why it was not measured")

    def mask(self, shape: tuple[int, int], *, margin: float = 0.0) -> NDArray[np.uint8]:
        """1 where a pixel's centre is inside the circle (by ``margin`` pixels or more), else 0, uint8 (ny, nx)."""
        dy = (np.arange(shape[0], dtype=np.float32) - np.float32(self.y))[:, None]
        dx = np.arange(shape[1], dtype=np.float32) - np.float32(self.x)
        radius = max(0.0, self.radius - margin)
        return (dx * dx + dy * dy <= np.float32(radius * radius)).view(np.uint8)


def default_circle(shape: tuple[int, int], reason: str) -> Circle:
    """The instrument's constant, for a full frame; for another shape a circle that leaves nothing out."""
    if shape == f2.SHAPE:
        (x, y), radius = f2.ILLUMINATED_CENTRE, f2.ILLUMINATED_RADIUS
    else:
        x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        radius = float(np.hypot(*shape))
    return Circle(x=x, y=y, radius=radius, measured=False, reason=reason)


def measure_circle(flat: NDArray[np.floating[Any]]) -> Circle:
    """Fit a circle to the edge of the light.

    From a first centre, rays go out in all directions; on each the edge is where the light falls to half of what it
    is further in. A circle is fitted to the edges (least squares, outliers clipped), and rays and fit
    are repeated from the better centre. Rays that leave the frame before the light ends give no point.

    Parameters
    ----------
    flat
        A flat or a difference of lamp frames, (ny, nx): any positive level inside, about 0 outside. Single bad
        pixels and values that are not finite do no harm.

    Returns
    -------
    Circle
        The instrument's constant (``measured`` False) with a reason, where no circular edge is found.
    """
    shape = (flat.shape[0], flat.shape[1])
    guess = _first_guess(flat)
    if guess is None:
        return default_circle(shape, "the flat has no light")
    x, y, radius = guess
    rms, n_points = np.inf, 0
    for _ in range(4):
        px, py = _edge_points(flat, x, y, radius)
        octants = np.unique(np.floor(np.arctan2(py - y, px - x) / (np.pi / 4)))
        if len(px) < _LEAST_POINTS or len(octants) < _LEAST_OCTANTS:
            return default_circle(
                shape, f"the light ends inside the frame at {len(px)} of {_RAYS} points only"
            )
        (x, y, radius), rms, n_points = _fit(px, py)
    if rms > _WORST_RMS:
        return default_circle(
            shape, f"the edge of the light is no circle: {rms:.1f} px rms about the best one"
        )
    return Circle(x=x, y=y, radius=radius, measured=True, n_points=n_points, rms=rms)


def _first_guess(flat: NDArray[np.floating[Any]]) -> tuple[float, float, float] | None:
    """Centre and radius from the extent of the light in a coarse picture, or None without any light."""
    step = max(1, min(flat.shape) // 128)
    coarse = np.nan_to_num(flat[::step, ::step].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = np.percentile(coarse, 90)
    if not top > 0:
        return None
    lit = coarse > 0.4 * top
    # The chords through the circle are longest at its centre: half of the light lies on either side of it, also
    # where the frame cuts a little off.
    rows, columns = lit.sum(axis=1), lit.sum(axis=0)
    y = float(np.average(np.arange(len(rows)), weights=rows)) * step
    x = float(np.average(np.arange(len(columns)), weights=columns)) * step
    radius = max(rows.max(), columns.max()) * step / 2
    # A light that is cut on all sides is wider than its chords: its area tells no more, the corners do.
    corner = np.hypot(max(x, flat.shape[1] - x), max(y, flat.shape[0] - y))
    filled = lit.mean()
    if filled > 0.99:
        return None if radius <= 0 else (x, y, float(corner))
    return x, y, float(radius)


def _edge_points(
    flat: NDArray[np.floating[Any]], x: float, y: float, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-light points of all rays that have one: columns and rows."""
    ny, nx = flat.shape
    angle = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)[:, None, None]
    inside, gap = (min(k, max(1, int(f * radius))) for k, f in zip(_INSIDE, (0.06, 0.01), strict=True))
    along = np.arange(_SEARCH[0] * radius - inside - gap, _SEARCH[1] * radius, 0.5)[None, :, None]
    across = np.arange(-_ACROSS, _ACROSS + 1)[None, None, :]
    column = np.rint(x + along * np.cos(angle) - across * np.sin(angle)).astype(np.int32)
    row = np.rint(y + along * np.sin(angle) + across * np.cos(angle)).astype(np.int32)
    there = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    value = np.where(there, flat[np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)], 0)
    profile = np.median(np.nan_to_num(value), axis=2)
    there = there.all(axis=2)

    lead = 2 * (inside + gap)
    px, py = [], []
    for k in range(_RAYS):
        whole = len(profile[k]) if there[k].all() else int(np.argmin(there[k]))
        line = profile[k, :whole]
        if whole <= lead:
            continue
        half = _half_light(line, 2 * inside, lead)
        if half is not None:
            r = along[0, 0, 0] + 0.5 * half
            px.append(x + r * float(np.cos(angle[k, 0, 0])))
            py.append(y + r * float(np.sin(angle[k, 0, 0])))
    return np.array(px), np.array(py)


def _half_light(line: NDArray[np.floating[Any]], inside: int, lead: int) -> float | None:
    """Where, in steps, a profile falls for good from its level to nothing; None if it does not.

    The length of the light about the last fall through half of the level: for a steep, jagged edge the last pixel
    above half would be too far out by the roughness of the edge.
    """
    level = float(np.median(line[:inside]))
    if not level > 0:
        return None
    last = _last_above(line, 0.5 * level)
    if last >= len(line) - lead // 8 or last < lead:
        return None  # lit to the end of the ray, or all but unlit
    level = float(np.median(line[last - lead : last - lead + inside]))
    last = _last_above(line, 0.5 * level)
    if last >= len(line) - lead // 8 or last < lead:
        return None
    first = last - lead // 8
    share = np.clip(line[first : last + lead // 8] / level, 0, 1)
    return first - 0.5 + float(share.sum())


def _last_above(line: NDArray[np.floating[Any]], limit: float) -> int:
    above = np.flatnonzero(line > limit)
    return int(above[-1]) if above.size else -1


def _fit(px: NDArray[np.float64], py: NDArray[np.float64]) -> tuple[tuple[float, float, float], float, int]:
    """Least-squares circle (Kasa 1976: linear in x, y and r^2 - x^2 - y^2), outliers clipped: circle, rms, n."""
    keep = np.ones(len(px), bool)
    x = y = radius = 0.0
    off = np.zeros(len(px))
    for _ in range(6):
        ox, oy = px[keep].mean(), py[keep].mean()
        dx, dy = px[keep] - ox, py[keep] - oy
        matrix = np.column_stack([2 * dx, 2 * dy, np.ones(len(dx))])
        (cx, cy, c), *_ = np.linalg.lstsq(matrix, dx * dx + dy * dy, rcond=None)
        x, y, radius = float(ox + cx), float(oy + cy), float(np.sqrt(c + cx * cx + cy * cy))
        off = np.hypot(px - x, py - y) - radius
        spread = 1.4826 * float(np.median(np.abs(off[keep] - np.median(off[keep]))))
        better = np.abs(off) <= max(3 * spread, 0.3)
        if (better == keep).all() or better.sum() < _LEAST_POINTS:
            break
        keep = better
    return (x, y, radius), float(np.sqrt(np.mean(off[keep] ** 2))), int(keep.sum())
