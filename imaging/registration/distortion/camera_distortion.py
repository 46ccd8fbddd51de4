"""The distortion of a camera: where its pixels would be if the projection onto the sky had no distortion.

It belongs to the optics, not to a frame: all frames of an instrument and filter share it. It is a polynomial of the
pixels without constant and linear terms, which are those of pointing, scale and rotation. A distorted frame is moved
onto the output in the one interpolation that it has anyway (`imaging.registration.resampling`), with a polynomial from
output to frame pixels; the output is free of distortion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.registration.geometry import Affine

#: Order of the polynomial from output to frame pixels, and the largest error that it may have, px.
_PATH_ORDER: Final = 5
_PATH_ERROR: Final = 0.01
#: Positions along each axis that it is fitted to, and the margin around the frame, in its sides.
_GRID: Final = 21
_MARGIN: Final = 0.03
#: Iterations of the inverse, each of which reduces the error by the derivative of the distortion.
_ITERATIONS: Final = 30
_CONVERGED: Final = 1e-6


def distortion_terms(order: int) -> list[tuple[int, int]]:
    """Return the powers of x and y of the terms of a distortion: total orders from 2."""
    return [(total - q, q) for total in range(2, order + 1) for q in range(total + 1)]


@dataclass(frozen=True)
class Distortion:
    """The distortion of a camera.

    Attributes
    ----------
    shape
        (ny, nx) of its frames.
    order
        Order of the polynomial.
    x, y
        Coefficients, px, of what is added to x and y, by the terms of `distortion_terms`, for powers of the distance
        from the middle of the frame in units of half its longer side.
    """

    shape: tuple[int, int]
    order: int
    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def radial(cls, shape: tuple[int, int], fraction: float) -> Distortion:
        """Create the distortion that moves pixels outwards by a fraction of the radius in the middle of an edge.

        It grows with the cube of the radius (third-order or Seidel distortion).
        """
        half = max(shape) / 2
        at = {(3, 0): 1.0, (1, 2): 1.0}, {(0, 3): 1.0, (2, 1): 1.0}
        x, y = (tuple(fraction * half * one.get(term, 0.0) for term in distortion_terms(3)) for one in at)
        return cls(shape, 3, x, y)

    @property
    def middle(self) -> tuple[float, float]:
        """Middle of the frame, x and y, px from 0."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    @property
    def half(self) -> float:
        """Half of the longer side, px."""
        return max(self.shape) / 2

    def __call__(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the positions without distortion of positions in a frame, px from 0."""
        powers = self.powers(x, y)
        return x + powers @ np.array(self.x), y + powers @ np.array(self.y)

    def powers(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of the terms at positions, (..., terms)."""
        u, v = (np.asarray(x) - self.middle[0]) / self.half, (np.asarray(y) - self.middle[1]) / self.half
        return np.stack([u**i * v**j for i, j in distortion_terms(self.order)], axis=-1)

    def expanded(self) -> NDArray[np.float64]:
        """Return what is added to x and y as polynomials of the pixels: (2, n, n), by the powers of y and x."""
        n = self.order + 1
        out = np.zeros((2, n, n))
        shifts = tuple(_expansion(c, self.half, n) for c in self.middle)
        for (i, j), x, y in zip(distortion_terms(self.order), self.x, self.y, strict=True):
            out += np.array([x, y])[:, None, None] * (shifts[1][j][:, None] * shifts[0][i][None, :])
        return out

    def inverse(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the positions in a frame of positions without distortion.

        Raises
        ------
        GroupError
            If the distortion is so strong that it has no inverse on the frame.
        """
        px, py = np.array(x, np.float64), np.array(y, np.float64)
        for _ in range(_ITERATIONS):
            with np.errstate(over="ignore", invalid="ignore"):  # it diverges: refused below
                there_x, there_y = self(px, py)
                off_x, off_y = there_x - x, there_y - y
                px, py = px - off_x, py - off_y
            if max(np.abs(off_x).max(initial=0.0), np.abs(off_y).max(initial=0.0)) < _CONVERGED:
                return px, py
        raise GroupError(
            f"A distortion of up to {self.largest:.3g} px has no inverse on its frame.",
            remedy="Check its coefficients; distortions of up to 1 per cent are supported.",
        )

    def area(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the area on the sky that a pixel of the frame covers at positions, relative to one in the middle.

        A flat field divides by it, so that a star's flux in a frame is too small by it; what is resampled without the
        distortion has the true flux.
        """
        step = 0.5
        right, left, down, up = (
            np.stack(self(x + dx, y + dy)) for dx, dy in ((step, 0), (-step, 0), (0, step), (0, -step))
        )
        (xx, yx), (xy, yy) = right - left, down - up
        return np.asarray(np.abs(xx * yy - xy * yx), np.float64)

    @property
    def largest(self) -> float:
        """Largest displacement on the frame, px."""
        ny, nx = self.shape
        x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, _GRID), np.linspace(0, ny - 1, _GRID)))
        there_x, there_y = self(x, y)
        return float(np.hypot(there_x - x, there_y - y).max())


def without_distortion(catalogue: NDArray[np.void], distortion: Distortion) -> NDArray[np.void]:
    """Return the sources of a frame where they would be without distortion, with the fluxes that they would have.

    Parameters
    ----------
    catalogue
        Structured array of `imaging.sources.detect.CATALOGUE`.
    distortion
        That of the frame.
    """
    out = catalogue.copy()
    out["x"], out["y"] = distortion(catalogue["x"], catalogue["y"])
    area = distortion.area(catalogue["x"], catalogue["y"])
    for column in ("flux", "flux_err", "neighbours"):
        out[column] = catalogue[column] * area
    return out


@lru_cache(maxsize=256)
def path_of(transform: Affine, distortion: Distortion | None) -> NDArray[np.float64]:
    """Return the polynomial from output to frame pixels.

    Parameters
    ----------
    transform
        Frame pixel, without distortion, to output pixel.
    distortion
        That of the frame; None without.

    Returns
    -------
    ndarray
        float64 (2, n, n): coefficients of x and y in the frame, by the powers of y and x of the output. n is 2 without
        distortion.

    Raises
    ------
    GroupError
        If the polynomial is not accurate to 0.01 px.
    """
    back = transform.inverse()
    if distortion is None:
        out = np.array([[[back.x0, back.xx], [back.xy, 0.0]], [[back.y0, back.yx], [back.yy, 0.0]]])
        out.flags.writeable = False
        return out
    ny, nx = distortion.shape
    # Positions of the output that the frame covers: those of a grid of the frame.
    steps = np.linspace(-_MARGIN, 1 + _MARGIN, _GRID)
    px, py = (a.ravel() for a in np.meshgrid(steps * nx - 0.5, steps * ny - 0.5))
    x, y = transform(*distortion(px, py))
    cx, cy = (float(c) for c in transform(*(np.array(c) for c in distortion.middle)))
    half = distortion.half * transform.scale
    u, v = (x - cx) / half, (y - cy) / half
    powers = [(j, i) for j in range(_PATH_ORDER + 1) for i in range(_PATH_ORDER + 1 - j)]
    design = np.column_stack([v**j * u**i for j, i in powers])
    there = np.column_stack([px, py])
    solution, *_ = np.linalg.lstsq(design, there, rcond=None)
    error = float(np.hypot(*(design @ solution - there).T).max())
    if error > _PATH_ERROR:
        raise GroupError(
            f"The inverse of a distortion of up to {distortion.largest:.3g} px is accurate to {error:.2g} px "
            f"(limit {_PATH_ERROR:g}).",
            remedy="Check its coefficients; distortions of up to 1 per cent are supported.",
        )
    found = np.zeros((2, _PATH_ORDER + 1, _PATH_ORDER + 1))
    shifts = _expansion(cx, half), _expansion(cy, half)
    for (j, i), coefficients in zip(powers, solution, strict=True):
        found += coefficients[:, None, None] * (shifts[1][j][:, None] * shifts[0][i][None, :])
    found.flags.writeable = False
    return found


def _expansion(centre: float, half: float, n: int = _PATH_ORDER + 1) -> NDArray[np.float64]:
    """Return the coefficients of ((x - centre) / half)^i by the powers of x, for each i below n."""
    out = np.zeros((n, n))
    for i in range(n):
        for m in range(i + 1):
            out[i, m] = math.comb(i, m) * (-centre) ** (i - m) / half**i
    return out
