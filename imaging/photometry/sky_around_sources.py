"""The sky of a stack for photometry: without the faint outskirts of its sources.

The detection needs a background before it knows the sources. The light of their wings raises it by some per cent of a
pixel's noise, which in an aperture of a hundred pixels is a quarter of the noise of the sum: every faint star would be
measured too faint. Here the sources are known, and the sky is measured without them and what is around them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.sources.background import Background, measure_background
from imaging.sources.detect import Detection

#: Radius around a source that is left out, in that of the circle with the area above the detection's threshold: a
#: Moffat profile with the exponent 3.5 falls to a thirtieth out there, one with 2.5 to a tenth.
_WIDER: Final = 1.6
#: In addition, FWHM of the seeing.
_MARGIN: Final = 0.5
#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0
#: One in this many pixels of a row is used: neighbours of a resampled image are correlated.
_EVERY: Final = 2
#: Cells with less sky than this share get their level from all pixels that are on no source.
_LEAST_SHARE: Final = 0.25


def surroundings(found: Detection) -> NDArray[np.uint8]:
    """Return the mask of sources and of their surroundings, uint8 (ny, nx): 1 where their light matters.

    Parameters
    ----------
    found
        The sources; in cells of the background that would have too little sky left, their own mask counts.
    """
    mask = found.object_mask.copy()
    ny, nx = mask.shape
    seeing = found.seeing if np.isfinite(found.seeing) else _USUAL_FWHM
    sources = found.catalogue
    radii = _WIDER * np.sqrt(sources["area"] / np.pi) + _MARGIN * seeing
    for x, y, radius in zip(sources["x"], sources["y"], radii, strict=True):
        top, bottom = max(0, int(y - radius)), min(ny, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(nx, int(x + radius) + 2)
        away = (np.arange(left, right) - x) ** 2 + (np.arange(top, bottom)[:, None] - y) ** 2
        mask[top:bottom, left:right][away <= radius**2] = 1
    cell = found.background.cell
    for top in range(0, ny, cell):
        for left in range(0, nx, cell):
            box = np.s_[top : top + cell, left : left + cell]
            if 1.0 - mask[box].mean() < _LEAST_SHARE:
                mask[box] = found.object_mask[box]
    return mask


def sky_around_sources(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], found: Detection
) -> tuple[Background, NDArray[np.uint8]]:
    """Measure the sky around the sources of an image, and return it with the mask of what was left out.

    Parameters
    ----------
    sci, dq
        The image, (ny, nx).
    found
        Its sources.

    Raises
    ------
    ValueError
        If it has no good pixels.
    """
    mask = surroundings(found)
    return measure_background(sci, dq, cell=found.background.cell, objects=mask, every=_EVERY), mask
