"""Positions of a frame's pixels: plane transforms, and the common pixel grid of resampled frames.

Pixel positions count from 0 at the centre of the first pixel, x along a row, throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.header import Header
from imaging.pixels.wcs import DISTORTION, celestial_cards

#: Function from pixels of a frame to those that it would have without distortion.
Undistorted = Callable[
    [NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]
]

#: Positions along an edge of a distorted frame that determine the grid.
_ALONG_AN_EDGE: Final = 33
#: A linear part closer to the identity than this moves no pixel of a frame of two thousand pixels by 1e-6 px.
_SHIFT_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Affine:
    """The transform x' = xx x + xy y + x0, y' = yx x + yy y + y0, in pixels."""

    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    x0: float = 0.0
    y0: float = 0.0

    @classmethod
    def shift(cls, dx: float, dy: float) -> Affine:
        """Create a shift by (dx, dy)."""
        return cls(x0=float(dx), y0=float(dy))

    @classmethod
    def turn(cls, degrees: float, x: float, y: float) -> Affine:
        """Create a rotation about (x, y), from +x towards +y."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(c, -s, s, c, x - c * x + s * y, y - s * x - c * y)

    def __call__(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Transform positions (arrays or numbers)."""
        return self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0

    def then(self, after: Affine) -> Affine:
        """Return this transform followed by ``after``."""
        return Affine(
            after.xx * self.xx + after.xy * self.yx,
            after.xx * self.xy + after.xy * self.yy,
            after.yx * self.xx + after.yy * self.yx,
            after.yx * self.xy + after.yy * self.yy,
            after.xx * self.x0 + after.xy * self.y0 + after.x0,
            after.yx * self.x0 + after.yy * self.y0 + after.y0,
        )

    def inverse(self) -> Affine:
        """Return the inverse transform."""
        if self.is_shift:
            return Affine.shift(-self.x0, -self.y0)
        d = self.determinant
        xx, xy, yx, yy = self.yy / d, -self.xy / d, -self.yx / d, self.xx / d
        return Affine(xx, xy, yx, yy, -(xx * self.x0 + xy * self.y0), -(yx * self.x0 + yy * self.y0))

    @property
    def determinant(self) -> float:
        """Factor by which areas grow; negative for a mirror image."""
        return self.xx * self.yy - self.xy * self.yx

    @property
    def is_shift(self) -> bool:
        """Whether it is a pure shift."""
        linear = (self.xx - 1, self.xy, self.yx, self.yy - 1)
        return max(abs(v) for v in linear) < _SHIFT_TOLERANCE

    @property
    def rotation(self) -> float:
        """Rotation in degrees, from +x towards +y."""
        return math.degrees(math.atan2(self.yx - self.xy, self.xx + self.yy))

    @property
    def scale(self) -> float:
        """Linear scale."""
        return math.sqrt(abs(self.determinant))


@dataclass(frozen=True)
class Grid:
    """The output's pixel grid.

    Attributes
    ----------
    shape
        (ny, nx) of the output.
    origin
        (x, y) in pixels of the reference frame of the output's pixel (0, 0); whole numbers, so that the
        reference is moved without interpolation.
    header
        Celestial WCS of the output, two axes; empty if the reference has none.
    """

    shape: tuple[int, int]
    origin: tuple[int, int]
    header: Header

    def place(self, transform: Affine) -> Affine:
        """Return the transform from frame to output pixels, given that from frame to reference pixels."""
        return transform.then(Affine.shift(-self.origin[0], -self.origin[1]))


def make_grid(
    transforms: Sequence[Affine],
    shapes: Sequence[tuple[int, int]],
    header: Header,
    *,
    mode: Literal["union", "intersection"] = "union",
    undistorted: Undistorted | None = None,
) -> Grid:
    """Return the grid that contains all frames, or the field that all of them share.

    Parameters
    ----------
    transforms
        Frame pixel to reference pixel, one for each frame.
    shapes
        (ny, nx) of each frame.
    header
        Celestial header of the reference (see `celestial_header`).
    mode
        ``union`` or ``intersection`` of the frames.
    undistorted
        Function from pixels of a frame to those that it would have without distortion; None without distortion.

    Returns
    -------
    Grid
        Pixels of the reference's scale and orientation.

    Raises
    ------
    GroupError
        If the frames have no field in common.
    """
    low, high = [], []
    for transform, (ny, nx) in zip(transforms, shapes, strict=True):
        # Pixel centres: a frame moved by a whole number of pixels keeps its size.
        if undistorted is None:
            x, y = transform(np.array([0.0, nx - 1, 0, nx - 1]), np.array([0.0, 0, ny - 1, ny - 1]))
            inner = np.sort(x)[1:3], np.sort(y)[1:3]
        else:
            x, y = (a.reshape(4, -1) for a in transform(*undistorted(*_edges((ny, nx)))))
            inner = _between(x), _between(y)
        if mode == "union":
            low.append((x.min(), y.min()))
            high.append((x.max(), y.max()))
        else:
            # The largest upright box inside the (slightly rotated) frame.
            low.append((inner[0][0], inner[1][0]))
            high.append((inner[0][1], inner[1][1]))
    if mode == "union":
        first, last = np.floor(np.min(low, axis=0) + 1e-6), np.ceil(np.max(high, axis=0) - 1e-6)
    else:
        first, last = np.ceil(np.max(low, axis=0) - 1e-6), np.floor(np.min(high, axis=0) + 1e-6)
    nx, ny = (int(n) for n in last - first + 1)
    if nx < 1 or ny < 1:
        raise GroupError("The frames have no field in common.", remedy="Stack their union instead.")
    out = header.copy()
    if "CRPIX1" in out:
        out["CRPIX1"] -= float(first[0])
        out["CRPIX2"] -= float(first[1])
    return Grid((ny, nx), (int(first[0]), int(first[1])), out)


def _edges(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions along the edges of a frame, one edge after the other."""
    along_x, along_y = (np.linspace(0, n - 1.0, _ALONG_AN_EDGE) for n in shape[::-1])
    x = [along_x, along_x, np.zeros(_ALONG_AN_EDGE), np.full(_ALONG_AN_EDGE, shape[1] - 1.0)]
    y = [np.zeros(_ALONG_AN_EDGE), np.full(_ALONG_AN_EDGE, shape[0] - 1.0), along_y, along_y]
    return np.concatenate(x), np.concatenate(y)


def _between(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the range between the two edges (of four) that are outermost along an axis: the part that none cuts."""
    order = np.argsort(sides.mean(axis=1))
    return np.array([sides[order[0]].max(), sides[order[-1]].min()])


def celestial_header(header: Header) -> Header:
    """Return the celestial WCS of a frame's image as a header of two axes, without distortions.

    Empty if the header has no valid celestial WCS (`imaging.pixels.wcs`).
    """
    return Header(card for card in celestial_cards(header) if not DISTORTION.fullmatch(card[0]))
