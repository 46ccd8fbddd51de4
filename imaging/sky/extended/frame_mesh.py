"""The mesh of a frame: its light, the sky that was subtracted from it, and its masks, in blocks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.planes import Planes
from imaging.sky.extended import mesh_kernels

#: Name of the plane of a sky-subtracted frame that holds its mesh.
MESH: Final = "mesh"
#: Blocks along the longer side of a frame, and their least side, pixels.
_BLOCKS: Final = 64
_LEAST_SIDE: Final = 16
#: Pixels used along each axis of a block, and the share of them that must be usable.
_PIXELS: Final = 8
_SHARE: Final = 0.25
_NO_MASK: Final = np.empty((0, 0), np.uint8)


def mesh_size(shape: tuple[int, ...]) -> int:
    """Return the side of the blocks of a frame, pixels: a multiple of eight."""
    side = max(_LEAST_SIDE, max(shape) // _BLOCKS)
    return side - side % _PIXELS


def mesh_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of the mesh of a frame of a shape: light, sky and masks by rows and columns."""
    size = mesh_size(shape)
    return 3, -(-shape[0] // size), -(-shape[1] // size)


def empty_mesh(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the mesh of a frame of which nothing is known."""
    return np.full(mesh_shape(shape), np.nan, np.float32)


def measure_mesh(
    before: Planes, left: NDArray[np.float32], dq: NDArray[np.uint16], mask: NDArray[np.uint8] | None, level: float
) -> NDArray[np.float32]:  # fmt: skip
    """Return the mesh of a frame.

    Parameters
    ----------
    before
        The frame before its sky was subtracted: ``sci``, electrons.
    left, dq
        The frame without its sky, electrons, and its quality, (ny, nx).
    mask
        1 on sources, (ny, nx), or None.
    level
        The frame's sky level, electrons.

    Returns
    -------
    numpy.ndarray
        float32 (3, rows, columns): medians of the light and of the sky that was subtracted, both above the level,
        electrons, sources included; and the share of pixels masked as sources. NaN where too few pixels are usable.
    """
    size = mesh_size(left.shape)
    step = size // _PIXELS
    light = before.every("sci", step, step // 2)
    out = np.empty(mesh_shape(left.shape), np.float32)
    mesh_kernels.mesh_medians(
        light, left, dq, _NO_MASK if mask is None else mask, size, step, int(_SHARE * _PIXELS**2), out
    )
    out[:2] -= np.float32(level)
    return out
