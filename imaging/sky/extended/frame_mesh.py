"""The mesh of a frame, its light and its masks in blocks; and that of a stack."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.planes import Planes
from imaging.pixels.dq import DQ
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
    """Return the shape of the mesh of a frame of a shape: light and masks by rows and columns."""
    size = mesh_size(shape)
    return 2, -(-shape[0] // size), -(-shape[1] // size)


def empty_mesh(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the mesh of a frame of which nothing is known."""
    return np.full(mesh_shape(shape), np.nan, np.float32)


def measure_mesh(
    before: Planes, dq: NDArray[np.uint16], mask: NDArray[np.uint8] | None, level: float
) -> NDArray[np.float32]:  # fmt: skip
    """Return the mesh of a frame.

    Parameters
    ----------
    before
        The frame before its sky was subtracted: ``sci``, electrons.
    dq
        Its quality afterwards, (ny, nx).
    mask
        1 on sources, (ny, nx), or None.
    level
        The frame's sky level, electrons.

    Returns
    -------
    numpy.ndarray
        float32 (2, rows, columns): medians of the light above the level, electrons, sources included; and the share of
        pixels masked as sources. NaN where too few pixels are usable.
    """
    size = mesh_size(dq.shape)
    step = size // _PIXELS
    out = _medians(before.every("sci", step, step // 2), dq, _NO_MASK if mask is None else mask, size)
    out[0] -= np.float32(level)
    return out


def measure_stack(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], mask: NDArray[np.uint8], *,
    first: tuple[int, int], shape: tuple[int, ...],
) -> NDArray[np.float32]:  # fmt: skip
    """Return medians of a stack in the blocks of one of its frames, so that both average the same light.

    Parameters
    ----------
    sci, dq
        The stack, electrons, and its quality, (ny, nx).
    mask
        1 on sources, (ny, nx).
    first
        Row and column of the stack at the frame's first pixel; may be outside.
    shape
        Rows and columns of the frame.

    Returns
    -------
    numpy.ndarray
        Electrons, float32 (rows, columns) of `mesh_shape`; NaN where too few pixels are usable.
    """
    size = mesh_size(shape)
    step = size // _PIXELS
    quality = np.full(shape, DQ.NO_DATA, np.uint16)
    light, masked = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    inside = [
        slice(max(0, -a), max(0, min(n, m - a))) for a, n, m in zip(first, shape, sci.shape, strict=True)
    ]
    there = tuple(slice(s.start + a, s.stop + a) for s, a in zip(inside, first, strict=True))
    if all(s.stop > s.start for s in inside):
        for plane, whole in ((quality, dq), (light, sci), (masked, mask)):
            plane[inside[0], inside[1]] = whole[there]
    return _medians(light[step // 2 :: step], quality, masked, size)[0]


def _medians(
    light: NDArray[np.float32], dq: NDArray[np.uint16], mask: NDArray[np.uint8], size: int
) -> NDArray[np.float32]:
    out = np.empty((2, -(-dq.shape[0] // size), -(-dq.shape[1] // size)), np.float32)
    step, least = size // _PIXELS, int(_SHARE * _PIXELS**2)
    mesh_kernels.mesh_medians(light, dq, mask, size, step, least, out)
    return out
