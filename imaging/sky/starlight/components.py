"""The light of a crowded field as points, each spread by the profile of its stars.

As CLEAN (Hogbom 1974, A&AS 15, 417) decomposes an image: points are added at the peaks of what is left, filtered with
the profile, as long as these are significant. All peaks of a pass are added at once, between the pixels, and each pass
multiplies the fluxes by the ratio of the light at a point to that of all points (the image space reconstruction
algorithm, Daube-Witherspoon & Muehllehner 1986, IEEE Trans. Med. Imaging 5, 61), so that they stay positive. Saturated
stars and galaxies become several points.

Only significant points are used: a copy of the stack would bring its noise into the skies, and the mean of pixels that
were chosen for being bright is too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3

#: Signal to noise of a new point.
_THRESHOLD: Final = 4.0
#: Passes that may add points, those that only correct fluxes, and the share of new points that ends the former.
_PASSES: Final = 8
_CORRECTIONS: Final = 3
_LAST: Final = 0.005
#: Part of a peak that becomes a point: its neighbours' light is in it.
_GAIN: Final = 0.8
#: Least share of the profile's weight on good pixels.
_LEAST_SHARE: Final = 0.5
_TINY: Final = 1e-6
#: Limits of the factor by which a pass corrects a flux.
_FACTORS: Final = (0.2, 5.0)


class Convolution:
    """Convolutions with images of stars on one grid, by fast Fourier transforms; beyond the edges there is nothing."""

    def __init__(self, shape: tuple[int, int], reach: int, threads: int) -> None:
        from scipy import fft

        self._fft, self._threads, self._shape = fft, threads, shape
        self._size = tuple(fft.next_fast_len(n + 2 * reach, real=True) for n in shape)

    def of_plane(self, plane: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the transform of a plane, (ny, nx)."""
        return np.asarray(self._fft.rfft2(plane, s=self._size, workers=self._threads), np.complex64)

    def of_stamp(self, stamp: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the transform of a stamp with its middle at the pixel that it spreads."""
        padded = np.zeros(self._size, np.float32)
        padded[: len(stamp), : len(stamp)] = stamp
        half = len(stamp) // 2
        return self.of_plane(np.roll(padded, (-half, -half), (0, 1)))

    def back(self, transform: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Return the plane of a transform."""
        ny, nx = self._shape
        plane = self._fft.irfft2(transform, s=self._size, workers=self._threads)
        return np.asarray(plane[:ny, :nx], np.float32)


@dataclass(frozen=True)
class Points:
    """Points of light.

    Attributes
    ----------
    x, y
        Positions, px from 0 at the centre of the first pixel.
    flux
        Electrons.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]

    def plane(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return the points in the pixels of a plane, (ny, nx), as `_Places` shares them out, electrons."""
        return _Places(self.x, self.y, shape).shared_out(self.flux)


class _Places:
    """Positions between the pixels of a plane, each as the 3 x 3 pixels about the nearest.

    The weights are those of quadratic interpolation: they sum to 1 and have the position as their mean and a width of
    zero, so that a smooth profile is moved and not broadened.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]) -> None:
        self._shape = shape
        column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        steps = np.arange(-1, 2)
        rows, columns = row[:, None] + steps, column[:, None] + steps
        weights = _quadratic(y - row)[:, :, None] * _quadratic(x - column)[:, None, :]
        inside = ((rows >= 0) & (rows < shape[0]))[:, :, None] & ((columns >= 0) & (columns < shape[1]))[
            :, None, :
        ]
        self._weights = np.where(inside, weights, 0.0)
        self._index = (
            np.clip(rows, 0, shape[0] - 1)[:, :, None] * shape[1]
            + np.clip(columns, 0, shape[1] - 1)[:, None, :]
        )

    def shared_out(self, flux: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the plane of points with these fluxes."""
        parts = self._weights * flux[:, None, None]
        plane = np.bincount(self._index.ravel(), parts.ravel(), minlength=self._shape[0] * self._shape[1])
        return np.asarray(plane.reshape(self._shape), np.float32)

    def values(self, plane: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return a plane at the positions."""
        return np.asarray((plane.ravel()[self._index] * self._weights).sum(axis=(1, 2)), np.float64)


def _quadratic(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of the pixels before, at and after a position at most half a pixel from the middle one."""
    return np.stack([0.5 * at * (at - 1), 1 - at * at, 0.5 * at * (at + 1)], axis=1)


def find_points(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    good: NDArray[np.bool_],
    stamp: NDArray[np.float32],
    *,
    noise_correlation: float = 1.0,
    threads: int = 1,
) -> Points:
    """Find the points of a field.

    Parameters
    ----------
    sci, var
        The field with its empty sky at 0, and its variance, (ny, nx), electrons.
    good
        Pixels with a measurement.
    stamp
        The image of a star, with the sum 1, symmetric about its middle.
    noise_correlation
        Noise of large areas over that which ``var`` gives.
    threads
        For the transforms; the result does not depend on them.
    """
    from scipy.ndimage import maximum_filter

    shape = (sci.shape[0], sci.shape[1])
    convolution = Convolution(shape, len(stamp) // 2, threads)
    spread, squared = convolution.of_stamp(stamp), convolution.of_stamp(stamp**2)
    weight = float(np.square(stamp, dtype=np.float64).sum())

    def filtered(plane: NDArray[np.float32], by: NDArray[np.complex64]) -> NDArray[np.float32]:
        return convolution.back(convolution.of_plane(plane) * by)

    seen = good.astype(np.float32)
    share = filtered(seen, squared)
    measured = share > _LEAST_SHARE * weight
    share = np.maximum(share, np.float32(_TINY * weight))
    error = np.sqrt(np.maximum(filtered(np.where(good, var, 0).astype(np.float32), squared), 0)) / share
    limit = np.float32(_THRESHOLD * noise_correlation) * error
    light = filtered(np.where(good, sci, 0).astype(np.float32), spread) / share
    x, y, flux = np.empty(0), np.empty(0), np.empty(0)
    taken = np.zeros(shape, bool)
    last = _PASSES
    number = 0
    while True:
        places = _Places(x, y, shape)
        of_points = light * 0
        if len(flux):
            of_points = filtered(seen * filtered(places.shared_out(flux), spread), spread) / share
            ratio = places.values(light) / np.maximum(places.values(of_points), _TINY)
            flux = flux * np.clip(ratio, *_FACTORS)
        if number >= last + _CORRECTIONS:
            return Points(x, y, flux)
        if number < last:
            left = light - of_points
            new = (left > limit) & measured & ~taken & (left == maximum_filter(left, 3))
            at_x, at_y = _peaks(left, new)
            if len(at_x) <= _LAST * len(flux) or number == _PASSES - 1:
                last = number + 1
            x, y = np.concatenate([x, at_x]), np.concatenate([y, at_y])
            flux = np.concatenate([flux, _GAIN * left[new].astype(np.float64)])
            # Two stars a pixel apart are one.
            taken |= maximum_filter(new, 3)
        number += 1


def _peaks(
    plane: NDArray[np.float32], where: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of peaks between the pixels: those of parabolas through three pixels."""
    rows, columns = np.nonzero(where)

    def shift(
        before: NDArray[np.float32], middle: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        bend = np.maximum(2.0 * middle - before - after, _TINY)
        return np.clip(0.5 * (after - before) / bend, -0.5, 0.5)

    ny, nx = plane.shape
    middle = plane[rows, columns]
    dx = shift(plane[rows, np.maximum(columns - 1, 0)], middle, plane[rows, np.minimum(columns + 1, nx - 1)])
    dy = shift(plane[np.maximum(rows - 1, 0), columns], middle, plane[np.minimum(rows + 1, ny - 1), columns])
    return columns + dx, rows + dy


def spread_points(
    points: Points, shape: tuple[int, int], stamps: Sequence[NDArray[np.float32]], *, threads: int = 1
) -> list[NDArray[np.float32]]:
    """Return the light of points on a plane, (ny, nx), spread by each of some images of stars, electrons."""
    reach = max(len(stamp) for stamp in stamps) // 2
    convolution = Convolution(shape, reach, threads)
    transform = convolution.of_plane(points.plane(shape))
    return [convolution.back(transform * convolution.of_stamp(stamp)) for stamp in stamps]
