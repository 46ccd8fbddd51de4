"""Pixels whose response differs from that of their neighbourhood, found by ccdproc's ccdmask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def local_deviants(
    light: NDArray[np.float32], judged: NDArray[np.bool_], level: float, sigma: float
) -> NDArray[np.bool_]:
    """Return the pixels that ccdmask finds bad: further from the local median than a multiple of the local scatter.

    Parameters
    ----------
    light
        Light of the lamp, electrons, (ny, nx).
    judged
        Pixels to test. The others get the values of these, mirrored at the edge: it must be no step, and blocks across
        it need the scatter of the others.
    level
        Level of the light, electrons.
    sigma
        The multiple, for single pixels and for sums along columns.

    Returns
    -------
    numpy.ndarray
        True on bad pixels, (ny, nx). Dead regions wider than its median box (7 pixels) are not found.
    """
    from astropy.nddata import CCDData  # late: few masks are made this way
    from ccdproc import ccdmask
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~judged, return_distances=False, return_indices=True)
    here = np.indices(light.shape)
    limits = np.array(light.shape)[:, None, None] - 1
    mirrored = np.clip(2 * nearest - here, 0, limits)
    source = np.where(judged[tuple(mirrored)], mirrored, nearest)
    filled = (light / np.float32(level))[tuple(source)]
    found = ccdmask(CCDData(filled, unit=""), byblocks=True, lsigma=sigma, hsigma=sigma)
    return np.asarray(found, bool) & judged
