"""The light that stars have outside the masks of a frame, and the frame without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.planes import Planes
from imaging.pixels.bands import bands
from imaging.pixels.dq import DQ, UNUSABLE

#: Name of the plane with a frame's starlight, float32, electrons, 0 in its mask.
LIGHT: Final = "light"
#: Rows of a distorted frame that are placed at a time.
_BAND: Final = 128
#: Function from pixels of a frame to those that it would have without distortion.
Undistorted = Callable[
    [NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]
]


def crowding(sources: int, seeing: float, shape: tuple[int, int]) -> float:
    """Return the sources of a frame on the area of one FWHM squared.

    Parameters
    ----------
    sources
        Number of detected sources.
    seeing
        FWHM of its stars, px; NaN gives NaN.
    shape
        Rows and columns of the frame.
    """
    return sources * seeing**2 / (shape[0] * shape[1])


def light_on_frame(
    light: NDArray[np.float32],
    to_grid: Sequence[float],
    shape: tuple[int, int],
    factor: float,
    mask: NDArray[np.uint8] | None,
    undistorted: Undistorted | None = None,
) -> NDArray[np.float32]:
    """Return the light of a field in the pixels of a frame, outside its mask.

    Parameters
    ----------
    light
        On the grid of the stack, (ny, nx), electrons; 0 beyond it.
    to_grid
        xx, xy, yx, yy, x0, y0 from the frame's pixels, without distortion, to the grid's.
    shape
        Rows and columns of the frame.
    factor
        From the electrons of the stack to those of the frame.
    mask
        1 on sources of the frame; None: nothing is masked.
    undistorted
        Function from pixels of the frame to those that it would have without distortion; None without distortion.

    Returns
    -------
    ndarray of float32
        Interpolated linearly: it is as smooth as stars are.
    """
    from scipy.ndimage import affine_transform, map_coordinates

    xx, xy, yx, yy, x0, y0 = to_grid
    how: dict[str, Any] = {"order": 1, "mode": "constant", "cval": 0.0}
    if undistorted is None:
        placed = affine_transform(
            light,
            np.array([[yy, yx], [xy, xx]]),
            offset=(y0, x0),
            output_shape=shape,
            output=np.float32,
            **how,
        )
    else:
        placed = np.empty(shape, np.float32)
        for rows in bands(shape[0], _BAND):
            y, x = np.mgrid[rows, : shape[1]].astype(np.float64)
            x, y = undistorted(x, y)
            there = np.stack([yx * x + yy * y + y0, xx * x + xy * y + x0])
            map_coordinates(light, there, output=placed[rows], **how)
    placed *= np.float32(factor)
    if mask is not None:
        placed[mask > 0] = 0.0
    return np.asarray(placed)


class PlanesWithoutLight(Planes):
    """The planes of a frame, with its starlight subtracted from ``sci`` as it is read."""

    def __init__(self, planes: Planes, light: Planes) -> None:
        super().__init__(planes.folder)
        self._light = light

    def read_into(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Fill ``out`` with rows starting at ``first``."""
        super().read_into(name, first, out)
        if name == "sci":
            out -= self._light.rows(LIGHT, slice(first, first + len(out)))

    def every(self, name: str, step: int, first: int = 0) -> NDArray[Any]:
        """Return every ``step``-th row of a plane from ``first``, as a new array."""
        out = super().every(name, step, first)
        if name == "sci":
            out -= self._light.every(LIGHT, step, first)
        return out


def give_back(
    light: Planes, sci: NDArray[np.float32], dq: NDArray[np.uint16], mask: NDArray[np.uint8] | None
) -> float:
    """Add the light that was kept out of the sky to a sky-subtracted frame.

    Parameters
    ----------
    light
        Planes with the frame's starlight.
    sci
        The frame, (ny, nx), electrons; changed where it has data.
    dq
        Its data quality.
    mask
        1 on its sources; None: nothing is masked.

    Returns
    -------
    float
        Mean of the light on its usable pixels outside the mask, electrons.
    """
    added = light.rows(LIGHT)
    seen = (dq & np.uint16(DQ.NO_DATA)) == 0
    sci[seen] += added[seen]
    empty = (dq & np.uint16(UNUSABLE)) == 0
    if mask is not None:
        empty &= mask == 0
    return float(added[empty].mean(dtype=np.float64)) if empty.any() else 0.0
