"""Cosmic rays in one detrended frame, found by their sharp edges: for groups too small to reject them in the stack.

The method is van Dokkum's (2001, PASP 113, 1420) in astroscrappy's implementation, called through ccdproc. It runs on
the frame with its sky, in strips of fixed height, so that memory stays small and the result does not depend on it.

Pixels without a measurement are filled from their neighbours instead of being handed over as a mask: astroscrappy
grows a mask by a pixel, and would find no hit next to a bad pixel. A filled pixel inside a star is only an estimate,
which may make its neighbours look sharp, and then theirs; what is found on a source and reaches a filled pixel is
therefore dropped. A hit on the core of a star takes some pixels of the star around it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.instruments.detector import Readout
from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import DQ
from imaging.pixels.fill import FILLABLE, GOOD, NOT_MEASURED, REACH, find_gaps

#: Rows of a strip, and those added on each side: more than the reach of the filters in four iterations.
_STRIP: Final = 512
_MARGIN: Final = 32
#: Width of the neighbourhood of a pixel, and the places in it of the eight nearest neighbours.
_WIDTH: Final = 2 * REACH + 1
_NEAR: Final = [j * _WIDTH + i for j in (1, 2, 3) for i in (1, 2, 3) if (j, i) != (REACH, REACH)]
#: Noise of the sky by which the surroundings of a filled pixel exceed it where there is a source.
_ON_SOURCE: Final = 5.0


class CosmicRayParameters(StepParameters):
    """Limits of the detection of cosmic rays in a single frame."""

    cosmic_sigma: float = parameter(
        5.0, "a pixel is a cosmic ray from this contrast to its neighbours", unit="sigma", gt=0
    )
    cosmic_neighbours: float = parameter(
        0.3, "the same next to a cosmic ray", unit="cosmic_sigma", gt=0, le=1
    )
    cosmic_sharpness: float = parameter(
        5.0,
        "least contrast of a cosmic ray to the fine structure of sources; raise it if the cores of stars are flagged",
        gt=0,
    )


def find_cosmic_rays(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    readout: Readout,
    parameters: CosmicRayParameters | None = None,
) -> NDArray[np.bool_]:
    """Return the measured pixels of a frame that a cosmic ray hit.

    Parameters
    ----------
    sci, var, dq
        A detrended frame with its sky, electrons and electrons squared, (ny, nx). Not changed.
    readout
        Numbers of the detector for the frame.
    parameters
        See `CosmicRayParameters`.

    Returns
    -------
    numpy.ndarray
        True on cosmic rays, (ny, nx). Pixels without a measurement are False.
    """
    parameters = parameters or CosmicRayParameters()
    gaps = find_gaps(sci, var, dq, NOT_MEASURED)
    found = np.zeros(sci.shape, bool)
    good = gaps == GOOD
    if not good.any():
        return found
    level, noise2 = float(np.median(sci[good])), float(np.median(var[good]))
    full = readout.saturation * readout.gain
    ny = sci.shape[0]
    for start in range(0, ny, _STRIP):
        stop = min(ny, start + _STRIP)
        first, last = max(0, start - _MARGIN), min(ny, stop + _MARGIN)
        part = slice(first, last)
        filled = _filled(sci[part], gaps[part], level)
        # The core of a blown star reads low, and a saturated one less than the limit once the dark is subtracted.
        saturated = good[part] & ((dq[part] & np.uint16(DQ.SATURATED)) != 0)
        filled[saturated] = np.maximum(filled[saturated], np.float32(full))
        hits = _lacosmic(filled, _filled(var[part], gaps[part], noise2), full, readout.read_noise, parameters)
        found[start:stop] = hits[start - first : stop - first]
    found &= good
    _drop_on_sources(found, sci, gaps, level + _ON_SOURCE * noise2**0.5)
    return found


def _lacosmic(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    full: float,
    read_noise: float,
    parameters: CosmicRayParameters,
) -> NDArray[np.bool_]:
    from ccdproc import cosmicray_lacosmic  # slow to import, and few groups are this small

    _, hits = cosmicray_lacosmic(
        sci,
        sigclip=parameters.cosmic_sigma,
        sigfrac=parameters.cosmic_neighbours,
        objlim=parameters.cosmic_sharpness,
        gain=1.0,
        gain_apply=False,
        readnoise=read_noise,
        satlevel=full,
        sepmed=False,  # the faster median takes faint stars next to bright ones for cosmic rays
        invar=var,
    )
    return np.asarray(hits, bool)


def _filled(plane: NDArray[np.float32], gaps: NDArray[np.uint8], level: float) -> NDArray[np.float32]:
    """Return a plane with gaps filled from the good pixels around them; hopeless ones by ``level``.

    The value is the median of the means of opposite neighbours, which follows the slope of a star and ignores a hit
    on one of them; without such a pair, the median of the good pixels around.
    """
    out = plane.copy()
    out[gaps != GOOD] = level
    rows, columns = np.nonzero(gaps == FILLABLE)
    if not rows.size:
        return out
    values = _around(plane, gaps, rows, columns)
    near = [values[:, k] for k in _NEAR]
    pairs = np.stack([(one + other) / 2 for one, other in zip(near, reversed(near), strict=True)][:4], axis=1)
    for some in (values, pairs):
        known = np.isfinite(some).any(axis=1)
        out[rows[known], columns[known]] = np.nanmedian(some[known], axis=1)
    return out


def _around(
    plane: NDArray[np.float32], gaps: NDArray[np.uint8], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the good values within `REACH` of some pixels, row by row, (pixels, 25); NaN for the others."""
    good = np.pad(np.where(gaps == GOOD, plane, np.float32(np.nan)), REACH, constant_values=np.nan)
    span = range(_WIDTH)
    return np.stack([good[rows + j, columns + i] for j in span for i in span], axis=1)


def _drop_on_sources(
    found: NDArray[np.bool_], sci: NDArray[np.float32], gaps: NDArray[np.uint8], limit: float
) -> None:
    """Remove, in place, the hits that reach a filled pixel whose surroundings are brighter than ``limit``."""
    rows, columns = np.nonzero(found)
    if not rows.size:
        return
    from scipy import ndimage  # late: few runs search for cosmic rays

    padded = np.pad(gaps == FILLABLE, REACH)
    span = range(_WIDTH)
    near = np.any([padded[rows + j, columns + i] for j in span for i in span], axis=0)
    rows, columns = rows[near], columns[near]
    if not rows.size:
        return
    bright = np.nanmedian(_around(sci, gaps, rows, columns), axis=1) > limit
    connected, _ = ndimage.label(found, structure=np.ones((3, 3), int))
    dropped = np.unique(connected[rows[bright], columns[bright]])
    found[found] = ~np.isin(connected[found], dropped)
