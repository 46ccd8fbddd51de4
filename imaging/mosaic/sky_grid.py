"""The grid of a mosaic on the tangent plane, and the positions of a stack's pixels on it.

Two tangent planes with different centres, and distortions, are related by no affine transform. A polynomial of the
grid's pixels, fitted to the world coordinates of both, gives the stack's pixels; where a stack is resampled, the
polynomial is replaced by the affine transforms that agree with it within `NEGLIGIBLE`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import ARCSEC, Point, Prior, project
from imaging.errors import GroupError
from imaging.header import Header
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.registration.geometry import Affine

#: Largest distance between a position and its approximation, px.
NEGLIGIBLE: Final = 0.01
#: Order of the polynomials, and the positions along each axis to which they are fitted.
_ORDER: Final = 5
_LATTICE: Final = 25
#: A transform closer to a shift than this, anywhere in the stack, is one, px: interpolation weights do not differ.
_SHIFT: Final = 0.002

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class SkyGrid:
    """The pixels of a mosaic.

    Attributes
    ----------
    centre
        Right ascension and declination of the tangent point, deg.
    matrix
        float64 (2, 2): xi and eta, arcsec, for each pixel along x and y.
    origin
        Pixel (x, y) of the tangent point, from 0.
    shape
        (ny, nx).
    """

    centre: Point
    matrix: NDArray[np.float64]
    origin: Point
    shape: tuple[int, int]

    @property
    def scale(self) -> float:
        """Side of a pixel, arcsec."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    def pixels(self, offsets: Positions) -> Positions:
        """Return pixels (n, 2) of offsets (n, 2) from the centre, arcsec."""
        return np.asarray(np.linalg.solve(self.matrix, offsets.T).T + np.array(self.origin))

    def header(self) -> Header:
        """Return the world coordinates as header cards: RA---TAN, DEC--TAN, ICRS."""
        cards: list[tuple[Any, ...]] = [
            ("WCSAXES", 2, "Number of celestial axes"), ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"),
            ("CRPIX1", self.origin[0] + 1), ("CRPIX2", self.origin[1] + 1),
            ("CRVAL1", self.centre[0]), ("CRVAL2", self.centre[1]), ("CUNIT1", "deg"), ("CUNIT2", "deg"),
        ]  # fmt: skip
        cards += [(f"CD{i + 1}_{j + 1}", float(self.matrix[i, j]) / ARCSEC) for i in (0, 1) for j in (0, 1)]
        return Header([*cards, ("RADESYS", "ICRS")])


@dataclass(frozen=True)
class Move:
    """The correction of a stack's world coordinates: a shift, arcsec, and a rotation about its middle, rad."""

    xi: float = 0.0
    eta: float = 0.0
    turn: float = 0.0

    def __call__(self, offsets: Positions, middle: Positions) -> Positions:
        """Return corrected offsets (n, 2); ``middle`` is that of the stack, (1, 2)."""
        away = offsets - middle
        turned = np.column_stack([-away[:, 1], away[:, 0]]) * self.turn
        return offsets + turned + np.array([self.xi, self.eta])


def offsets_of(sky: Prior, x: Any, y: Any, centre: Point, move: Move) -> Positions:
    """Return the offsets (n, 2), arcsec from a centre, of pixels of a stack, corrected by its move."""
    there = project(*sky.sky(np.asarray(x, np.float64), np.asarray(y, np.float64)), centre)
    middle = project(np.array([sky.centre[0]]), np.array([sky.centre[1]]), centre)
    return move(there, middle)


def corners(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pixels (x, y) of the middles of the corner pixels."""
    ny, nx = shape
    return np.array([0.0, nx - 1, 0, nx - 1]), np.array([0.0, 0, ny - 1, ny - 1])


def middle_of(stacks: Sequence[MosaicInput]) -> Point:
    """Return the middle of the fields of stacks: right ascension and declination, deg."""
    first = stacks[0].sky.centre
    there = np.concatenate([project(*one.sky.sky(*corners(one.shape)), first) for one in stacks])
    if not np.isfinite(there).all():
        raise GroupError(
            "The stacks are too far apart for one plane: more than 60 degrees.",
            remedy="Select those of one field: --observation, --nights.",
        )
    from imaging.astrometry.tangent_plane import deproject

    half = (there.min(axis=0) + there.max(axis=0)) / 2
    (ra,), (dec,) = deproject(half[None, :], first)
    return float(ra), float(dec)


def make_sky_grid(
    stacks: Sequence[MosaicInput],
    moves: Sequence[Move],
    reference: int,
    *,
    north: bool = False,
    max_side: int = 12000,
) -> SkyGrid:
    """Return the grid that contains all stacks.

    Parameters
    ----------
    stacks, moves
        The stacks, and the corrections of their world coordinates.
    reference
        Index of the stack whose scale the grid has; also its axes, unless ``north``. Its pixels are then those of the
        grid, moved by a whole number.
    north
        North up and East left.
    max_side
        Largest side, px.

    Raises
    ------
    GroupError
        If the grid would be larger; the message names the farthest stack.
    """
    base = stacks[reference]
    if north:
        centre, matrix = middle_of(stacks), np.diag([-base.sky.scale, base.sky.scale])
        middle = np.zeros(2)
    else:
        # The plane of the reference itself, so that its pixels need no interpolation.
        centre, turn = base.sky.centre, moves[reference].turn
        matrix = np.array([[1.0, -turn], [turn, 1.0]]) @ base.sky.matrix
        middle = np.array(base.sky.middle)
        (home,) = offsets_of(base.sky, [middle[0]], [middle[1]], centre, moves[reference])
        middle = middle - np.linalg.solve(matrix, home)
    there = [
        np.linalg.solve(matrix, offsets_of(one.sky, *corners(one.shape), centre, move).T).T + middle
        for one, move in zip(stacks, moves, strict=True)
    ]
    every = np.concatenate(there)
    first, last = np.floor(every.min(axis=0) + NEGLIGIBLE), np.ceil(every.max(axis=0) - NEGLIGIBLE)
    nx, ny = (int(n) for n in last - first + 1)
    if max(nx, ny) > max_side:
        middles = np.array([one.mean(axis=0) for one in there])
        far = int(np.abs(middles - np.median(middles, axis=0)).max(axis=1).argmax())
        raise GroupError(
            f"The mosaic would have {nx} x {ny} pixels, and mosaic.max_side is {max_side}: {stacks[far].name} is far "
            "from the others.",
            remedy="Select the stacks of one field (--observation, --nights), or raise it: "
            f"--set mosaic.max_side={max(nx, ny)}",
        )
    origin = middle - first
    return SkyGrid(centre, matrix, (float(origin[0]), float(origin[1])), (ny, nx))


def _powers(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms of the polynomials at positions: (n, terms)."""
    of_x, of_y = [np.ones_like(x)], [np.ones_like(y)]
    for _ in range(_ORDER):
        of_x.append(of_x[-1] * x)
        of_y.append(of_y[-1] * y)
    return np.column_stack([of_x[i] * of_y[n - i] for n in range(_ORDER + 1) for i in range(n, -1, -1)])


@dataclass(frozen=True)
class Placed:
    """Where the pixels of a stack are on the grid.

    Attributes
    ----------
    box
        Rows and columns of the grid that it reaches.
    affine
        Stack pixel to grid pixel, if one transform serves everywhere; otherwise None.
    coefficients
        float64 (terms, 2): the stack's pixels as polynomials of the grid's, of normalised coordinates.
    middle, half
        The normalisation: pixel of the grid, and half the side of the box.
    """

    box: tuple[slice, slice]
    affine: Affine | None
    coefficients: NDArray[np.float64]
    middle: Point
    half: float

    def back(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the stack's pixels (x, y) of pixels of the grid."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if self.affine is not None:
            return self.affine.inverse()(x, y)
        u, v = (x.ravel() - self.middle[0]) / self.half, (y.ravel() - self.middle[1]) / self.half
        there = _powers(u, v) @ self.coefficients
        return there[:, 0].reshape(x.shape), there[:, 1].reshape(x.shape)

    def local(self, rows: slice, columns: slice) -> tuple[Affine, float]:
        """Return the affine transform (stack to grid) near a box of the grid, and its largest error there, px."""
        xs = np.linspace(columns.start, columns.stop - 1, 3)
        ys = np.linspace(rows.start, rows.stop - 1, 3)
        x, y = (one.ravel() for one in np.meshgrid(xs, ys))
        there = np.column_stack(self.back(x, y))
        affine, error = _affine(np.column_stack([x, y]), there)
        return affine.inverse(), error

    @cached_property
    def area(self) -> float:
        """Pixels of the stack that a pixel of the grid covers, in the middle."""
        x, y = self.middle
        affine, _ = self.local(slice(int(y) - 8, int(y) + 9), slice(int(x) - 8, int(x) + 9))
        return abs(affine.inverse().determinant)


def _affine(there: Positions, here: Positions) -> tuple[Affine, float]:
    """Return the affine transform that fits best, and its largest error."""
    middle = there.mean(axis=0)
    design = np.column_stack([there - middle, np.ones(len(there))])
    solution, *_ = np.linalg.lstsq(design, here, rcond=None)
    error = float(np.abs(design @ solution - here).max())
    (a, c), (b, d), (e, f) = solution
    x0, y0 = e - a * middle[0] - b * middle[1], f - c * middle[0] - d * middle[1]
    return Affine(float(a), float(b), float(c), float(d), float(x0), float(y0)), error


def place(stack: MosaicInput, move: Move, grid: SkyGrid) -> Placed:
    """Return where the pixels of a stack are on the grid.

    Raises
    ------
    GroupError
        If no polynomial describes its world coordinates.
    """
    ny, nx = stack.shape
    x, y = (
        one.ravel()
        for one in np.meshgrid(np.linspace(-4, nx + 3, _LATTICE), np.linspace(-4, ny + 3, _LATTICE))
    )
    there = grid.pixels(offsets_of(stack.sky, x, y, grid.centre, move))
    here = np.column_stack([x, y])
    low, high = there.min(axis=0), there.max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    powers = _powers(*((there - middle) / half).T)
    coefficients = np.asarray(np.linalg.lstsq(powers, here, rcond=None)[0], np.float64)
    error = float(np.abs(powers @ coefficients - here).max())
    if not error < NEGLIGIBLE:
        raise GroupError(
            f"{stack.name}: its world coordinates are too distorted to be followed: a polynomial of order {_ORDER} is "
            f"wrong by {error:.2g} px.",
            remedy="Reduce its night again with a reference catalogue, and astrometry.distortion_order=3.",
        )
    gny, gnx = grid.shape
    at = grid.pixels(offsets_of(stack.sky, *_edge(stack.shape), grid.centre, move))
    first = np.floor(at.min(axis=0) + NEGLIGIBLE).astype(int)
    last = np.ceil(at.max(axis=0) - NEGLIGIBLE).astype(int)
    box = (
        slice(max(int(first[1]), 0), min(int(last[1]) + 1, gny)),
        slice(max(int(first[0]), 0), min(int(last[0]) + 1, gnx)),
    )
    affine, wrong = _affine(here, there)
    whole = _as_shift(affine, stack.shape) if wrong < NEGLIGIBLE else None
    return Placed(box, whole, coefficients, (float(middle[0]), float(middle[1])), half)


def _edge(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels along the edges of a stack."""
    ny, nx = shape
    along, up = np.linspace(0, nx - 1, 9), np.linspace(0, ny - 1, 9)
    x = np.concatenate([along, along, np.zeros(9), np.full(9, nx - 1.0)])
    y = np.concatenate([np.zeros(9), np.full(9, ny - 1.0), up, up])
    return x, y


def _as_shift(affine: Affine, shape: tuple[int, int]) -> Affine:
    """Return a shift if a transform differs from it by nothing that matters, otherwise the transform."""
    x, y = corners(shape)
    dx, dy = (there - here for there, here in zip(affine(x, y), (x, y), strict=True))
    if max(np.ptp(dx), np.ptp(dy)) > 2 * _SHIFT:
        return affine
    mx, my = float(dx.mean()), float(dy.mean())
    near = (round(mx), round(my))
    if max(abs(mx - near[0]), abs(my - near[1])) < _SHIFT:
        mx, my = near
    return Affine.shift(mx, my)
