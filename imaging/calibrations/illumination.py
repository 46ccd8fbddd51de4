"""The circle of light on the detector, measured from a flat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.figures import Metrics, figure
from imaging.instruments.detector import Detector
from imaging.usual import MAD_TO_SIGMA

#: Directions in which the edge is searched for: at first, and for the final fit.
_COARSE_RAYS: Final = 180
_RAYS: Final = 720
#: Where the coarse rays search for the last light, as fractions of the guessed radius.
_COARSE: Final = (0.75, 1.15)
#: Where the fine rays search, in pixels from the coarse radius: full light is measured up to the first, and
#: the length of the light from there to the second gives the edge. A soft edge (some 10 px) lies in between.
_FINE: Final = (-15.0, 9.0)
#: Pixels of full light on a fine ray.
_INSIDE: Final = 30.0
#: Step along a ray in pixels, and half width of the median across it, against bad pixels.
_STEP: Final = 0.5
_ACROSS: Final = 2
#: Minimum fraction of directions with an edge, and minimum number of octants that contain them.
_LEAST_POINTS: Final = 0.08
_LEAST_OCTANTS: Final = 3
#: If the edge points are further than this from a circle, in pixels, the edge is not a circle.
_WORST_RMS: Final = 3.0


class Circle(Metrics):
    """The circle of light, in pixels counted from 0."""

    x: float = figure("column of the centre of the circle of light", unit="px")
    y: float = figure("row of the centre of the circle of light", unit="px")
    radius: float = figure("radius at half the light", "circle of light, radius", unit="px")
    measured: bool = figure("the circle was measured from a flat; otherwise it is the instrument's constant")
    n_points: int = figure("edge points that the circle was fitted to", default=0)
    rms: float = figure("rms of those points about the circle", unit="px", default=0.0)
    reason: str = figure("why the circle was not measured", default="")

    def mask(self, shape: tuple[int, int], *, margin: float = 0.0) -> NDArray[np.uint8]:
        """Return 1 where a pixel's centre is at least ``margin`` pixels inside the circle, else 0, uint8 (ny, nx)."""
        dy = (np.arange(shape[0], dtype=np.float32) - np.float32(self.y))[:, None]
        dx = np.arange(shape[1], dtype=np.float32) - np.float32(self.x)
        radius = max(0.0, self.radius - margin)
        return (dx * dx + dy * dy <= np.float32(radius * radius)).view(np.uint8)


#: Cards of a mask's header with the circle of light: centre, counted from 1 as in FITS, and radius.
_CARDS: Final = {
    "LITX": "[pixel] column of the centre of the light",
    "LITY": "[pixel] row of the centre of the light",
    "LITRAD": "[pixel] radius of the circle of light",
}


def circle_cards(circle: Circle) -> dict[str, tuple[float, str]]:
    """Return the header cards of a circle; empty if it was not measured."""
    if not circle.measured:
        return {}
    values = (circle.x + 1, circle.y + 1, circle.radius)
    return {name: (round(value, 3), text) for (name, text), value in zip(_CARDS.items(), values, strict=True)}


def circle_of(header: Mapping[str, Any]) -> Circle | None:
    """Return the circle that `circle_cards` wrote into a header, or None."""
    values = [header.get(name) for name in _CARDS]
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    x, y, radius = (float(value) for value in values if value is not None)
    return Circle(x=x - 1, y=y - 1, radius=radius, measured=True)


def default_circle(shape: tuple[int, int], reason: str, detector: Detector | None = None) -> Circle:
    """Return the constant of a detector for a full frame, otherwise a circle that contains all pixels."""
    if detector is not None and detector.illuminated is not None and shape == detector.shape:
        (x, y), radius = detector.illuminated.centre, detector.illuminated.radius
    else:
        x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        radius = float(np.hypot(*shape))
    return Circle(x=x, y=y, radius=radius, measured=False, reason=reason)


def measure_circle(flat: NDArray[np.floating[Any]], detector: Detector | None = None) -> Circle:
    """Fit a circle to the edge of the light.

    From a first centre, rays go out in all directions; on each, the edge is where the light falls to half of
    its level further in. A circle is fitted to the edges (least squares, outliers clipped), first to coarse
    ones, then to fine ones from the improved centre. Rays that leave the frame before the light ends are ignored.

    Parameters
    ----------
    flat
        A flat or a difference of lamp frames, (ny, nx): any positive level inside, about 0 outside. Single
        bad pixels and values that are not finite are harmless.
    detector
        The detector, for its constant; one without a circle of light is fully illuminated, and nothing is
        measured.

    Returns
    -------
    Circle
        The detector's constant (``measured`` False) with a reason, where no circular edge is found.
    """
    shape = (flat.shape[0], flat.shape[1])
    if detector is not None and detector.illuminated is None:
        return default_circle(shape, "")
    guess = _first_guess(flat)
    if guess is None:
        return default_circle(shape, "the flat has no light", detector)
    x, y, radius = guess
    rms, n_points = np.inf, 0
    coarse, fine = (_coarse_edges, _COARSE_RAYS), (_fine_edges, _RAYS)
    for edges, rays in (coarse, coarse, fine, fine):
        angle = np.linspace(0, 2 * np.pi, rays, endpoint=False)
        reach = edges(flat, x, y, radius, angle)
        found = np.isfinite(reach)
        px, py = x + reach[found] * np.cos(angle[found]), y + reach[found] * np.sin(angle[found])
        octants = np.unique(np.floor(angle[found] / (np.pi / 4)))
        if len(px) < rays * _LEAST_POINTS or len(octants) < _LEAST_OCTANTS:
            return default_circle(
                shape, f"the light ends on the frame in only {len(px)} of {rays} directions", detector
            )
        (x, y, radius), rms, n_points = _fit(px, py)
    if rms > _WORST_RMS:
        return default_circle(
            shape, f"the edge of the light is not a circle: {rms:.1f} px rms about the best one", detector
        )
    return Circle(x=x, y=y, radius=radius, measured=True, n_points=n_points, rms=rms)


def _first_guess(flat: NDArray[np.floating[Any]]) -> tuple[float, float, float] | None:
    """Return centre and radius from the extent of the light in a coarse image, or None without any light."""
    step = max(1, min(flat.shape) // 128)
    coarse = np.nan_to_num(flat[::step, ::step].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = np.percentile(coarse, 90)
    if not top > 0:
        return None
    lit = coarse > 0.4 * top
    rows, columns = lit.sum(axis=1), lit.sum(axis=0)
    y = float(np.average(np.arange(len(rows)), weights=rows)) * step
    x = float(np.average(np.arange(len(columns)), weights=columns)) * step
    return x, y, max(rows.max(), columns.max()) * step / 2


def _profiles(
    flat: NDArray[np.floating[Any]],
    x: float,
    y: float,
    angle: NDArray[np.float64],
    along: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the light along the rays, (rays, steps), and whether each point is on the frame."""
    ny, nx = flat.shape
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    across = np.arange(-_ACROSS, _ACROSS + 1)
    column = np.rint(x + along[:, None] * cos - across * sin).astype(np.int32)
    row = np.rint(y + along[:, None] * sin + across * cos).astype(np.int32)
    there = ((column >= 0) & (column < nx) & (row >= 0) & (row < ny)).all(axis=2)
    value = flat[np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)]
    return np.median(np.nan_to_num(value.astype(np.float64)), axis=2), there


def _coarse_edges(
    flat: NDArray[np.floating[Any]], x: float, y: float, radius: float, angle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the radius of the last half-lit pixel in each direction; NaN where the frame ends first."""
    along = np.arange(_COARSE[0] * radius, _COARSE[1] * radius)
    profile, there = _profiles(flat, x, y, angle, along)
    level = np.median(profile[:, : max(1, len(along) // 8)], axis=1)
    lit = (profile > 0.5 * level[:, None]) & there
    last = len(along) - 1 - np.argmax(lit[:, ::-1], axis=1)
    ended = (last < len(along) - 2) & there[np.arange(len(angle)), np.minimum(last + 2, len(along) - 1)]
    return np.where((level > 0) & lit.any(axis=1) & ended, along[last], np.nan)


def _fine_edges(
    flat: NDArray[np.floating[Any]], x: float, y: float, radius: float, angle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the radius at half light in each direction, from the length of the light; NaN without an edge.

    For a steep, pixelated edge, the last lit pixel would be half a pixel too far out.
    """
    start = radius + _FINE[0]
    along = np.arange(start - _INSIDE, radius + _FINE[1], _STEP) + _STEP / 2
    profile, there = _profiles(flat, x, y, angle, along)
    level = np.median(profile[:, along < start], axis=1)
    safe = np.where(level > 0, level, 1)[:, None]
    share = np.clip(profile[:, along > start] / safe, 0, 1)
    reach = start + _STEP * share.sum(axis=1)
    ended = share[:, -4:].max(axis=1) < 0.5
    return np.where((level > 0) & there.all(axis=1) & ended, reach, np.nan)


def _fit(px: NDArray[np.float64], py: NDArray[np.float64]) -> tuple[tuple[float, float, float], float, int]:
    """Fit a circle (Kasa 1976: linear in x, y and r^2 - x^2 - y^2) with clipping; return circle, rms and n."""
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
        spread = MAD_TO_SIGMA * float(np.median(np.abs(off[keep] - np.median(off[keep]))))
        better = np.abs(off) <= max(3 * spread, 0.3)
        if (better == keep).all() or better.sum() < 3:
            break
        keep = better
    return (x, y, radius), float(np.sqrt(np.mean(off[keep] ** 2))), int(keep.sum())
