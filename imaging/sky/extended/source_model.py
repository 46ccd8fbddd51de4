"""An extended source as the meshes of dithered frames show it: its place, shape and light above the sky.

The light of the frames is averaged where the stars coincide. What remains to be found is the level of the sky below
the source: a plane, and an exponential with elliptical isophotes around it, are fitted together outside the source's
core, so that the faint light far out is not taken for sky.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from imaging.sky.fixed import deposit
from imaging.sky.structure import median_of_known
from imaging.usual import MAD_TO_SIGMA

#: A place must be seen by this share of the frames, and by this many.
_SEEN: Final = 0.3
_FEWEST: Final = 2.0
#: Half the side of the square of blocks whose median finds a source: no star fills half of it.
_REACH: Final = 2
#: Share of the light that is sky, to begin with.
_SKY: Final = 20.0
#: Rounds in which the sky's level and the source's core are determined in turn.
_ROUNDS: Final = 2
#: Scale lengths that are tried, blocks, and by what factor the best is refined.
_SCALES: Final = np.geomspace(0.7, 90.0, 15)
_REFINED: Final = np.geomspace(0.75, 1.35, 7)
_FINEST: Final = np.geomspace(0.93, 1.07, 5)
_RATIOS: Final = tuple(np.linspace(0.15, 1.0, 18).tolist())
#: Turns of the major axis that are tried for sources flatter than this, rad.
_ROUND: Final = 0.9
_TURNS: Final = np.linspace(-np.pi / 4, np.pi / 4, 9)
#: Blocks that a fit uses.
_MOST: Final = 800
#: Rejection of blocks in a fit, robust sigma, and its rounds.
_LIMIT: Final = 3.0
_CLIPS: Final = 3
#: Fewest blocks of a core, and of the fit around it.
_CORE: Final = 4
_OUTSIDE: Final = 40
#: The sky is a plane as far as this many scale lengths, if that leaves so many blocks.
_REACHED: Final = 8.0
_ENOUGH: Final = 400
#: Least axis ratio of a core.
_FLATTEST: Final = 0.1


@dataclass(frozen=True)
class SkyMesh:
    """A mean over dithered frames, on a mesh fixed to the stars.

    Attributes
    ----------
    places
        Row and column of the mesh at the first block of each frame, (n, 2).
    weight
        Frames that see each place, (rows, columns).
    seen
        Places that enough frames see.
    """

    places: NDArray[np.float64]
    weight: NDArray[np.float64]
    seen: NDArray[np.bool_]

    def mean(self, planes: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the mean of the frames' blocks, (n, rows, columns), at each place; NaN where too few see it."""
        total = np.zeros(self.weight.shape)
        for plane, there, place in zip(planes, known, self.places, strict=True):
            deposit(np.where(there, plane, 0.0), there, place, total, np.zeros(total.shape))
        return np.where(self.seen, total / np.maximum(self.weight, 1e-9), np.nan)


def sky_mesh(known: NDArray[np.bool_], shifts: NDArray[np.float64]) -> SkyMesh:
    """Return the mesh on the sky that contains frames.

    Parameters
    ----------
    known
        Known blocks of the frames, (n, rows, columns).
    shifts
        How far the stars of each frame are moved, blocks (y, x), (n, 2).
    """
    extent = np.ceil(np.ptp(shifts, axis=0)).astype(int) + 4
    rows, columns = known.shape[1] + int(extent[0]), known.shape[2] + int(extent[1])
    places = shifts.max(axis=0) - shifts + 1.0
    weight, nothing = np.zeros((rows, columns)), np.zeros((rows, columns))
    for there, place in zip(known, places, strict=True):
        deposit(there.astype(np.float64), there, place, nothing, weight)
    return SkyMesh(places, weight, weight >= max(_FEWEST, _SEEN * len(known)))


@dataclass(frozen=True)
class SourceModel:
    """An extended source on a mesh.

    Attributes
    ----------
    y, x
        Its centre, blocks.
    scale
        Scale length along the major axis, blocks.
    axis_ratio, angle
        Minor over major axis, and the angle from x to the major axis, rad.
    peak
        Light of the fitted exponential at the centre, electrons.
    scatter
        Robust scatter of the blocks about the fit, electrons.
    light
        Light above the sky, electrons, (rows, columns); NaN where not seen.
    sky
        The plane below it, electrons, (rows, columns).
    """

    y: float
    x: float
    scale: float
    axis_ratio: float
    angle: float
    peak: float
    scatter: float
    light: NDArray[np.float64]
    sky: NDArray[np.float64]

    def distance(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of places from the centre along the major axis's isophote, scale lengths."""
        return _distance(y - self.y, x - self.x, self.axis_ratio, self.angle) / self.scale

    def fitted(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the light of the fitted exponential at places, electrons."""
        return np.asarray(self.peak * np.exp(-self.distance(y, x)))

    def distances(self) -> NDArray[np.float64]:
        """Return the distance of each place of the mesh, scale lengths."""
        y, x = np.mgrid[0 : self.light.shape[0], 0 : self.light.shape[1]].astype(np.float64)
        return self.distance(y, x)

    def extended_to(self, margin: int) -> NDArray[np.float64]:
        """Return the light on a mesh that is larger by a margin on each side: where it is not measured, the fit."""
        rows, columns = self.light.shape
        y, x = np.mgrid[-margin : rows + margin, -margin : columns + margin].astype(np.float64)
        distance, out = self.distance(y, x), self.fitted(y, x)
        # Beyond, the measured light is noise and the sky's structure.
        reach = math.log(max(self.peak / (2.0 * max(self.scatter, 1e-9)), math.e))
        inner = out[margin : margin + rows, margin : margin + columns]
        near = np.isfinite(self.light) & (distance[margin : margin + rows, margin : margin + columns] < reach)
        inner[near] = self.light[near]
        return out


def find_source(image: NDArray[np.float64]) -> SourceModel | None:
    """Return the brightest extended source of a mesh; None without any that has a core and a surrounding.

    Parameters
    ----------
    image
        Mean light of the frames above their levels, electrons, (rows, columns); NaN where not seen.
    """
    calm = medians_around(image)
    if np.count_nonzero(np.isfinite(calm)) < _OUTSIDE:
        return None
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float64)
    # Compared with the usual light: a spike at the edge has no core around it.
    level = np.full(image.shape, float(np.nanpercentile(calm, _SKY)))
    found = None
    for _ in range(_ROUNDS):
        core = _core(calm - level)
        if core is None:
            return None
        cy, cx, axis, ratio, angle = core
        distance = _distance(y - cy, x - cx, ratio, angle)
        used = np.isfinite(image) & (distance > 0.5 * axis)
        if (
            found is not None
            and np.count_nonzero(near := used & (distance < _REACHED * found.scale)) > _ENOUGH
        ):
            used = near
        fitted = _fit(image, used, (cy, cx), ratio, angle)
        if fitted is None:
            return None
        fit, level = fitted
        found = SourceModel(
            cy, cx, fit.scale, fit.ratio, fit.angle, float(fit.coefficients[3]), fit.scatter, image - level, level
        )  # fmt: skip
    return found


def _core(light: NDArray[np.float64]) -> tuple[float, float, float, float, float] | None:
    """Return centre (y, x), half major axis, axis ratio and angle of the region above half of the maximum."""
    from scipy import ndimage  # late: it is slow to import

    known = np.isfinite(light)
    top = np.unravel_index(int(np.argmax(np.where(known, light, -np.inf))), light.shape)
    half = 0.5 * float(light[top])
    if not half > 0:
        return None
    numbers, _ = ndimage.label(known & (np.where(known, light, -np.inf) > half))
    y, x = np.nonzero(numbers == numbers[top])
    if len(y) < _CORE:
        return None
    weight = light[y, x] - half
    cy, cx = float(np.average(y, weights=weight)), float(np.average(x, weights=weight))
    dy, dx = y - y.mean(), x - x.mean()
    moments = np.array([[np.mean(dx * dx), np.mean(dx * dy)], [np.mean(dx * dy), np.mean(dy * dy)]])
    # A block has a variance of its own: 1/12.
    values, vectors = np.linalg.eigh(moments + np.eye(2) / 12)
    ratio = max(_FLATTEST, math.sqrt(values[0] / values[1]))
    return cy, cx, 2.0 * math.sqrt(values[1]), ratio, math.atan2(vectors[1, 1], vectors[0, 1])


class _Fit(NamedTuple):
    """An exponential on a plane, and how badly it fits."""

    badness: float
    scale: float
    ratio: float
    angle: float
    coefficients: NDArray[np.float64]
    scatter: float


def _badness(fit: _Fit) -> float:
    return fit.badness


def _fit(
    image: NDArray[np.float64], used: NDArray[np.bool_], centre: tuple[float, float], ratio: float, angle: float
) -> tuple[_Fit, NDArray[np.float64]] | None:  # fmt: skip
    """Return the best exponential, and its plane; None if none fits.

    Scale length, axis ratio and angle are refined in turn, from those of the core, which medians made rounder.
    """
    if np.count_nonzero(used) < _OUTSIDE:
        return None
    rows, columns = image.shape
    y, x = np.mgrid[-0.5 : 0.5 : rows * 1j, -0.5 : 0.5 : columns * 1j]
    plane = np.stack([np.ones(image.size), x.ravel(), y.ravel()], axis=1)
    inside = np.flatnonzero(used)
    inside = inside[:: max(1, len(inside) // _MOST)]
    data = _Data(
        image.ravel()[inside], plane[inside], inside // columns - centre[0], inside % columns - centre[1]
    )
    best = data.best(None, _SCALES, [ratio], [angle])
    if best is None:
        return None
    for factors in (_REFINED, _FINEST):
        best = data.best(best, best.scale * factors, [best.ratio], [best.angle])
        best = data.best(best, [best.scale], _RATIOS, [best.angle])
        if best.ratio < _ROUND:
            best = data.best(best, [best.scale], [best.ratio], best.angle + _TURNS)
    return best, (plane @ best.coefficients[:3]).reshape(image.shape)


class _Data(NamedTuple):
    """Blocks to fit: their values, the terms of a plane there, and their places relative to the centre."""

    values: NDArray[np.float64]
    plane: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]

    @overload
    def best(
        self, so_far: _Fit, scales: Iterable[float], ratios: Iterable[float], angles: Iterable[float]
    ) -> _Fit: ...

    @overload
    def best(
        self, so_far: None, scales: Iterable[float], ratios: Iterable[float], angles: Iterable[float]
    ) -> _Fit | None: ...

    def best(
        self, so_far: _Fit | None, scales: Iterable[float], ratios: Iterable[float], angles: Iterable[float]
    ) -> _Fit | None:
        """Return the best fit with a positive peak of some shapes; the best so far without any."""
        limit = None if so_far is None else _LIMIT * so_far.scatter
        fits = [
            _exponential(self.values, _distance(self.y, self.x, q, a), self.plane, s, limit)._replace(
                ratio=q, angle=a
            )
            for s, q, a in product(scales, ratios, angles)
        ]
        return min((one for one in fits if one.coefficients[3] > 0), key=_badness, default=so_far)


def _exponential(
    values: NDArray[np.float64],
    radii: NDArray[np.float64],
    plane: NDArray[np.float64],
    scale: float,
    limit: float | None,
) -> _Fit:
    """Return the plane and the exponential of a scale that fit best, outliers left out; ``limit``: those that count."""
    design = np.column_stack([plane, np.exp(-radii / scale)])
    kept = np.ones(len(values), bool)
    away, scatter, solution = np.abs(values), 0.0, np.zeros(4)
    for _ in range(_CLIPS):
        part = design[kept]
        normal = part.T @ part
        normal[np.diag_indices(4)] += 1e-9 * normal[0, 0]
        solution = np.linalg.solve(normal, part.T @ values[kept])
        away = np.abs(values - design @ solution)
        scatter = MAD_TO_SIGMA * float(np.median(away))
        kept = away <= _LIMIT * scatter
    bounded = away if limit is None else np.minimum(away, limit)
    badness = scatter if limit is None else float(np.mean(bounded**2))
    return _Fit(badness, scale, 1.0, 0.0, solution, scatter)


def medians_around(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the medians of squares of blocks, NaN where less than half of a square is known."""
    side = 2 * _REACH + 1
    padded = np.pad(image, _REACH, constant_values=np.nan)
    rows, columns = image.shape
    squares = np.stack(
        [padded[j : j + rows, i : i + columns] for j in range(side) for i in range(side)]
    )  # fmt: skip
    enough = np.isfinite(squares).sum(axis=0) * 2 > side * side
    return np.where(enough & np.isfinite(image), median_of_known(squares), np.nan)


def _distance(
    y: NDArray[np.float64], x: NDArray[np.float64], ratio: float, angle: float
) -> NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    return np.asarray(np.hypot(x * c + y * s, (y * c - x * s) / ratio))
