"""The guide probe in the field: the part that it vignettes, and its glow.

A probe takes a good part of the light from a compact part of the field. Nothing on the sky does: sources only add
light. It is therefore sought as a deep deficit of a frame's own level; its exact outline, and the glow around it, are
then measured in small cells of the frame about the sky that the other frames have. The shadow is lost; the glow is
subtracted, and its pixels, flagged, remain useful.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.sky import flatten_kernels
from imaging.sky.glow import glow_surface

#: Largest share of the lit blocks that a probe vignettes; more is another fault.
_MOST: Final = 0.12
#: Fewest blocks of a deficit.
_FEWEST: Final = 2
#: Share of the depth that the blocks around a shadow may be darker.
_EDGE: Final = 0.5
#: Cells of the outline: pixels, and those that a cell needs.
CELL: Final = 8
_LEAST: Final = 16
#: Blocks around the deficit in which the glow is sought, in widths of the deficit and at least this many.
_AROUND: Final = 3.0
#: Distance, in radii of the deficit, to which blocks do not count until the outline is known.
_NEAR: Final = 2.0
#: Limits of the core and the glow relative to the sky.
_CORE: Final = 0.02
_GLOW: Final = 0.0015
#: Margin in cells around the core.
_CORE_MARGIN: Final = 1


class Probe(NamedTuple):
    """The bits and the light of a part of a frame that the guide probe affects.

    Attributes
    ----------
    first_y, first_x
        First pixel of the part.
    bits
        `DQ.UNILLUMINATED` in the core, `DQ.GLOW` in the glow, uint16 (rows, columns).
    light
        The glow at the centres of cells of `CELL` pixels, electrons.
    """

    first_y: int
    first_x: int
    bits: NDArray[np.uint16]
    light: NDArray[np.float64]

    @property
    def vignetted(self) -> int:
        """Pixels of the core."""
        return int(np.count_nonzero(self.bits & np.uint16(DQ.UNILLUMINATED)))

    @property
    def glow(self) -> int:
        """Pixels of the glow."""
        return int(np.count_nonzero(self.bits & np.uint16(DQ.GLOW)))

    def remove(self, sci: NDArray[np.float32], dq: NDArray[np.uint16], first: int) -> None:
        """Subtract the glow from, and set the bits in, the rows of a frame from ``first``, in place."""
        top, bottom = max(first, self.first_y), min(first + len(dq), self.first_y + len(self.bits))
        if top < bottom:
            part = slice(top - first, bottom - first), slice(self.first_x, self.first_x + self.bits.shape[1])
            flatten_kernels.subtract_cells(sci[part], top - self.first_y, self.light, CELL)
            dq[part] |= self.bits[top - self.first_y : bottom - self.first_y]


def find_deficit(relative: NDArray[np.float64], depth: float) -> NDArray[np.bool_] | None:
    """Return the blocks of a compact deep deficit of light; None without one.

    Parameters
    ----------
    relative
        Block medians over the frame's level, minus 1, (rows, columns); NaN if missing.
    depth
        Least deficit.
    """
    lit = np.isfinite(relative)
    dark = lit & (np.where(lit, relative, 0.0) < -depth)
    if np.count_nonzero(dark) < _FEWEST:
        return None
    from scipy import ndimage  # late: few frames have a probe

    regions, count = ndimage.label(dark, structure=np.ones((3, 3), int))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = int(sizes.argmax())
    if sizes[largest] < _FEWEST or np.count_nonzero(dark) > _MOST * np.count_nonzero(lit):
        return None
    deficit = np.asarray(regions == largest)
    once = ndimage.binary_dilation(deficit, np.ones((3, 3)))
    ring = ndimage.binary_dilation(once, np.ones((3, 3))) & ~once & lit
    # A shadow has an edge. Where the level is that of a large source, the sky around it is darker too, but gradually.
    return deficit if ring.any() and float(np.median(relative[ring])) > -_EDGE * depth else None


def around(deficit: NDArray[np.bool_], widths: float = _AROUND) -> tuple[slice, slice]:
    """Return the blocks around a deficit in which its glow may be."""
    rows, columns = np.nonzero(deficit)
    reach = int(np.ceil(widths * (np.sqrt(len(rows) / np.pi) + 0.5)))
    return (
        slice(max(0, int(rows.min()) - reach), min(deficit.shape[0], int(rows.max()) + reach + 1)),
        slice(max(0, int(columns.min()) - reach), min(deficit.shape[1], int(columns.max()) + reach + 1)),
    )


def near(deficit: NDArray[np.bool_], widths: float = _NEAR) -> NDArray[np.bool_]:
    """Return the blocks that the glow around a deficit may affect much."""
    from scipy import ndimage

    radius = np.sqrt(np.count_nonzero(deficit) / np.pi) + 0.5
    return np.asarray(ndimage.distance_transform_edt(~deficit) <= widths * radius)


def outline(
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    deficit: NDArray[np.bool_],
    size: int,
    level: float,
    mask: NDArray[np.uint8] | None = None,
) -> Probe:
    """Return the pixels that a probe vignettes or lights, and its glow.

    Parameters
    ----------
    sci, dq
        The frame minus the sky that the others have, electrons, and its quality, (ny, nx).
    deficit
        Blocks of ``size`` pixels, from `find_deficit`.
    size, level
        Side of the blocks, pixels; the frame's sky, electrons.
    mask
        1 on sources, which do not count in the glow, (ny, nx), or None.
    """
    from scipy import ndimage

    part = around(deficit)
    y0, x0 = part[0].start * size, part[1].start * size
    y1, x1 = min(part[0].stop * size, sci.shape[0]), min(part[1].stop * size, sci.shape[1])
    cells = np.empty((-(-(y1 - y0) // CELL), -(-(x1 - x0) // CELL)))
    flatten_kernels.cell_medians(sci, dq, y0, x0, CELL, _LEAST, cells)
    cells /= level
    known = np.isfinite(cells)
    filled = np.where(known, cells, 0.0)
    if mask is not None:  # stars have no part in the glow, but are behind the shadow
        flatten_kernels.cell_medians(
            sci, np.where(mask > 0, np.uint16(DQ.NO_DATA), dq), y0, x0, CELL, _LEAST, cells
        )
        cells /= level
    seed = np.zeros(cells.shape, bool)
    rows, columns = np.nonzero(deficit)
    for row, column in zip(rows, columns, strict=True):
        y, x = (row * size - y0) // CELL, (column * size - x0) // CELL
        seed[max(0, y) : y + -(-size // CELL), max(0, x) : x + -(-size // CELL)] = True
    core = _touching(known & (filled < -_CORE), seed)
    core = np.asarray(ndimage.binary_fill_holes(ndimage.binary_dilation(core, iterations=_CORE_MARGIN)), bool)
    known = np.isfinite(cells)
    light = glow_surface(np.where(known, cells, 0.0), known, core, _GLOW)
    glows = (np.abs(light) > _GLOW) & ~core
    bits = np.where(core, np.uint16(DQ.UNILLUMINATED), np.where(glows, np.uint16(DQ.GLOW), np.uint16(0)))
    pixels = np.repeat(np.repeat(bits, CELL, axis=0), CELL, axis=1)[: y1 - y0, : x1 - x0]
    return Probe(y0, x0, np.ascontiguousarray(pixels, np.uint16), light * level)


def _touching(region: NDArray[np.bool_], seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts of a region that touch a seed."""
    from scipy import ndimage

    numbers, _ = ndimage.label(region, structure=np.ones((3, 3), int))
    wanted = np.unique(numbers[seed & region])
    return np.asarray(np.isin(numbers, wanted[wanted > 0]))
