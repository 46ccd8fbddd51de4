"""Persistence of earlier exposures: what a frame is expected to contain, checked on the frame's own pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.instruments.detector import Persistence, Readout
from imaging.pixels.bright_pixels import BrightPixels
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.usual import MAD_TO_SIGMA

#: A source keeps its pixel if it is this many times brighter than the expected persistence.
_FAINT: Final = 0.1
#: Pixels without a measurement of the sky, where nothing has to be flagged.
_UNUSABLE: Final = np.uint16(UNUSABLE | DQ.NON_LINEAR)
#: Distances of the ring in which a pixel's surroundings are measured, pixels, and the points on it.
_RING: Final = 11.0
_POINTS: Final = 16
#: Fewest pixels on which the persistence is measured, and their smallest expectation in sigma.
_FEWEST: Final = 30
_MEASURED_FROM: Final = 0.3
#: The measured strength replaces that of the table only as far as they differ by more than this many errors.
_CERTAIN: Final = 3.0
#: Below this part of the table's strength, persistence is absent.
_ABSENT: Final = 0.2
#: Largest strength that is believed: sources that stay on their pixels look like very strong persistence.
_STRONGEST: Final = 5.0
#: Standard error of a weighted median over that of a mean, for normal errors.
_MEDIAN_ERROR: Final = math.sqrt(math.pi / 2)


class Earlier(NamedTuple):
    """An earlier exposure.

    Attributes
    ----------
    bright
        Its bright pixels.
    age
        Time from its end to the start of the frame, s.
    """

    bright: BrightPixels
    age: float


@dataclass(frozen=True)
class Expected:
    """The persistence that a frame is expected to contain.

    Attributes
    ----------
    pixels
        Flat indices, ascending.
    electrons
        Released during the frame, of all earlier exposures.
    least
        The same if saturated pixels had received no more than a full well.
    known
        The charge of all earlier exposures of the pixel is known: it was never saturated or non-linear.
    """

    pixels: NDArray[np.int64]
    electrons: NDArray[np.float32]
    least: NDArray[np.float32]
    known: NDArray[np.bool_]

    def seen_with(self, response: NDArray[np.float32]) -> Expected:
        """Return the same after division by the pixels' response; 0 where that is not positive."""
        inverse = np.divide(1, response, out=np.zeros_like(self.electrons), where=response > 0)
        return Expected(self.pixels, self.electrons * inverse, self.least * inverse, self.known)


@dataclass(frozen=True)
class Found:
    """The persistence found in a frame.

    Attributes
    ----------
    pixels
        Flat indices of the pixels to flag.
    strength, error
        Measured over expected persistence, and its standard error; None if too few pixels show it.
    """

    pixels: NDArray[np.int64]
    strength: float | None
    error: float | None


def expected(
    earlier: Iterable[Earlier], law: Persistence, readout: Readout, *, shape: tuple[int, int], exposure: float
) -> Expected:
    """Return the sum of what earlier exposures release during a frame.

    Each releases a part of its charge above the threshold, which falls exponentially from its end and is integrated
    over the frame. Non-linear pixels count as full wells, saturated ones as `Persistence.saturated` full wells.

    Parameters
    ----------
    earlier
        Exposures that ended before the frame began, in any order; those of another shape, or longer ago than the
        horizon, release nothing.
    law, readout
        The detector's persistence, and its numbers for the frame.
    shape
        Rows and columns of the frame.
    exposure
        Length of the frame, all coadds, s.
    """
    parts = []
    for one in earlier:
        if one.bright.shape != shape or not 0 <= one.age <= law.horizon:
            continue
        part, charge = law.released(one.age, exposure), _charge(one.bright, law, readout)
        least = np.minimum(charge, max(readout.saturation_electrons - one.bright.base, 0.0))
        beyond = one.bright.charge > _linear(one.bright, readout)
        parts.append((one.bright.pixels, part * charge, part * least, beyond))
    if not parts:
        none = np.empty(0, np.float32)
        return Expected(np.empty(0, np.int64), none, none, np.empty(0, bool))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    pixels, place = np.unique(columns[0], return_inverse=True)
    electrons, least, unknown = (np.bincount(place, column) for column in columns[1:])
    return Expected(pixels, electrons.astype(np.float32), least.astype(np.float32), unknown == 0)


def largest_charge(
    bright: BrightPixels, law: Persistence, readout: Readout, ignored: NDArray[np.bool_] | None = None
) -> float:
    """Return the largest charge of an exposure's pixels, as `expected` counts it, electrons; 0 without a pixel.

    Parameters
    ----------
    bright
        Its bright pixels.
    law, readout
        As of `expected`.
    ignored
        Pixels that do not count, bool (ny, nx), or None.
    """
    charge = _charge(bright, law, readout)
    if ignored is not None:
        if ignored.shape != bright.shape:
            return 0.0
        charge = charge[~ignored.ravel()[bright.pixels]]
    return float(charge.max(initial=0.0))


def _charge(bright: BrightPixels, law: Persistence, readout: Readout) -> NDArray[np.float64]:
    well = readout.saturation_electrons
    full, beyond = (max(one - bright.base, 0.0) for one in (well, law.saturated * well))
    linear = bright.charge <= _linear(bright, readout)
    return np.where(linear, bright.charge, np.where(np.isinf(bright.charge), beyond, full))


def _linear(bright: BrightPixels, readout: Readout) -> float:
    """Return the charge above the base up to which values are trusted, electrons."""
    return readout.linear_fraction * readout.saturation_electrons - bright.base


def find_persistence(
    sci: NDArray[np.float32],
    var: NDArray[np.float32],
    dq: NDArray[np.uint16],
    latent: Expected,
    *,
    level: float,
    limit: float,
) -> Found:
    """Return the pixels of a detrended frame in which persistence matters.

    A pixel is flagged where the expectation exceeds a limit in units of its noise, unless its own source is fifty times
    brighter. The expectation is corrected first by what the pixels show: persistence and expectation are compared in
    the pixels of known charge, against rings around them, by the median of their ratio (weighted with the expectation
    over the noise). The strength nearest to that of the table is used which this measurement allows within three
    standard errors, so that what is measurably absent is not flagged and what is stronger is. Saturated pixels, whose
    charge is at least a full well, limit it from above in the same way.

    Parameters
    ----------
    sci, var, dq
        Electrons, variance and quality, (ny, nx). Not changed.
    latent
        The expectation on the scale of ``sci``: divided by the flat.
    level
        Sky level, electrons.
    limit
        Expectation from which a pixel is flagged, in units of the noise.
    """
    usable = (dq.ravel()[latent.pixels] & _UNUSABLE) == 0
    usable &= latent.electrons > 0
    pixels, electrons, known = latent.pixels[usable], latent.electrons[usable], latent.known[usable]
    if not pixels.size:
        return Found(pixels, None, None)
    sigma = np.sqrt(np.maximum(var.ravel()[pixels], np.float32(1e-6)))
    around = _around(sci, dq, latent.pixels, pixels)
    excess = sci.ravel()[pixels] - around
    measured = _strength(excess[known], electrons[known], sigma[known])
    at_most = _strength(excess[~known], latent.least[usable][~known], sigma[~known])
    strength, error = measured or (None, None)
    lowest, highest = 0.0, math.inf
    for one in filter(None, (measured, at_most)):
        highest = min(highest, one[0] + _CERTAIN * one[1])
    if measured is not None:
        lowest = max(lowest, measured[0] - _CERTAIN * measured[1])
    used = max(min(1.0, highest), min(lowest, _STRONGEST))
    if highest < _ABSENT:
        used = 0.0
    matters = used * electrons > limit * sigma
    own = sci.ravel()[pixels] - np.float32(level) - used * electrons
    matters &= electrons > _FAINT * own
    return Found(pixels[matters], strength, error)


def _strength(
    excess: NDArray[np.float32], electrons: NDArray[np.float32], sigma: NDArray[np.float32]
) -> tuple[float, float] | None:
    """Return the ratio of measured to expected persistence and its standard error; None for too few pixels."""
    own_source = excess * _FAINT > electrons
    counts = np.flatnonzero(np.isfinite(excess) & ~own_source & (electrons > _MEASURED_FROM * sigma))
    if len(counts) < _FEWEST:
        return None
    excess, electrons, sigma = excess[counts], electrons[counts], sigma[counts]
    ratio, weight = excess / electrons, electrons / sigma
    order = np.argsort(ratio, kind="stable")
    total = np.cumsum(weight[order], dtype=np.float64)
    strength = float(ratio[order][np.searchsorted(total, total[-1] / 2)])
    left = (excess - strength * electrons) / sigma
    scatter = max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(left - np.median(left)))))
    error = scatter * _MEDIAN_ERROR / math.sqrt(float(np.sum(weight.astype(np.float64) ** 2)))
    return strength, error


def _around(
    sci: NDArray[np.float32], dq: NDArray[np.uint16], affected: NDArray[np.int64], pixels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the median of usable and unaffected pixels on a ring around each pixel; NaN without half of them."""
    ny, nx = sci.shape
    bad = (dq & _UNUSABLE) != 0
    bad.ravel()[affected] = True
    y, x = np.divmod(pixels, nx)
    values = np.full((_POINTS, len(pixels)), np.nan, np.float32)
    for k in range(_POINTS):
        angle = 2 * math.pi * k / _POINTS
        there_y, there_x = y + round(_RING * math.sin(angle)), x + round(_RING * math.cos(angle))
        inside = (there_y >= 0) & (there_y < ny) & (there_x >= 0) & (there_x < nx)
        there = there_y[inside] * nx + there_x[inside]
        values[k, inside] = np.where(bad.ravel()[there], np.nan, sci.ravel()[there])
    enough = np.count_nonzero(np.isfinite(values), axis=0) >= _POINTS // 2
    result = np.full(len(pixels), np.nan, np.float32)
    if enough.any():
        result[enough] = np.nanmedian(values[:, enough], axis=0)
    return result
