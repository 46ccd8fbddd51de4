"""How much a pixel scatters: read noise, shot noise without the pedestal, and rounding.

A frame is the last read minus the first, so it includes a remainder of the reset: a pedestal that never was
photons and has no shot noise. Variances that treat the total value as photons are too large (by a factor of
two in darks of 120 s). The pedestal is measured from the frames themselves: a stack of equal frames gives the
level and the scatter from frame to frame, and the scatter is the sum of known noise and the shot noise of
level - pedestal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.figures import Metrics, figure
from imaging.frames.facts import FrameFacts
from imaging.instruments.detector import Polynomial
from imaging.usual import MAD_TO_SIGMA

#: Pixels whose level is further than this from the median are warm, dark or unlit, and left out.
_LEVEL_WINDOW: Final = 3.0
#: Groups of similar level in which the scatter is averaged.
_LEVEL_BINS: Final = 8
#: Fraction of normal scatter that is kept; cosmic rays and unstable pixels are in the rest.
_KEPT: Final = 0.995
#: Fewest pixels to measure from.
_LEAST_PIXELS: Final = 1000
#: A pedestal with a larger error than this is useless for the noise of a faint pixel (electrons).
_WORST_UNCERTAINTY: Final = 5.0
#: How far the read noise of one detector channel or epoch may be below the table's, as a fraction of its
#: square.
_READ_NOISE_LEEWAY: Final = 0.15


@dataclass(frozen=True)
class NoiseModel:
    """The noise of one frame of a configuration.

    Parameters
    ----------
    read_noise
        Read noise of the frame, all coadds, electrons.
    gain
        Electrons per ADU.
    pedestal
        Part of the value that has no shot noise, all coadds, electrons.
    coadds
        Number of exposures that were added.
    nonlinearity
        Coefficients of the correction for non-linearity, on electrons per coadd.
    time_scale
        Part of the correction that scales charge to the exposure time; see `imaging.instruments.detector.Readout`.
    """

    read_noise: float
    gain: float
    pedestal: float = 0.0
    coadds: int = 1
    nonlinearity: Polynomial = (1.0, 0.0, 0.0)
    time_scale: float = 1.0

    @classmethod
    def of(cls, facts: FrameFacts, pedestal: float = 0.0) -> NoiseModel:
        """Return the model for a frame's read mode."""
        readout = facts.readout
        return cls(
            readout.read_noise, readout.gain, pedestal, facts.coadds, readout.nonlinearity, readout.time_scale
        )

    @property
    def floor(self) -> float:
        """Variance without any light: read noise and the rounding to integer ADU, electrons squared.

        A number rounded to multiples of g has the additional variance g^2 / 12. This is the rounding of the
        stored sum; earlier roundings of the reads are part of the measured read noise.
        """
        return self.read_noise**2 + self.gain**2 / 12

    def variance(self, electrons: NDArray[np.float32], *, linearised: bool) -> NDArray[np.float32]:
        """Return the variance of one frame at a given level, electrons squared.

        Parameters
        ----------
        electrons
            Level of each pixel, all coadds, preferably that of a stack, which has little noise.
        linearised
            Whether the level is corrected for non-linearity. The electrons in a pixel are Poisson, so the
            shot noise variance of a corrected value is that value (times the scale to the exposure time); noise
            added after the pixel (read noise, rounding) is stretched by the correction's slope.
        """
        shot = np.maximum(electrons - np.float32(self.pedestal), 0)
        if not linearised:
            return shot + np.float32(self.floor)
        one = electrons * np.float32(1 / self.coadds)
        c1, c2, c3 = self.nonlinearity
        slope = np.float32(c1) + np.float32(2 * c2) * one + np.float32(3 * c3) * one * one
        return shot * np.float32(self.time_scale) + np.float32(self.floor) * slope * slope


class Pedestal(Metrics):
    """A pedestal measured from the scatter between frames.

    ``value`` is 0 with a ``reason`` if it could not be measured: variances then include shot noise for every
    electron, which is too much rather than too little.
    """

    value: float = figure("electrons of a frame without shot noise", unit="electron")
    uncertainty: float = figure(
        "standard error of the pedestal, given the read noise of the table", unit="electron"
    )
    level: float = figure("mean level of the pixels used for the measurement", unit="electron")
    scatter: float = figure("standard deviation between frames of those pixels", unit="electron")
    n_pixels: int = figure("pixels that the pedestal was measured on")
    reason: str = figure("why the pedestal is 0 or was limited; empty if it is valid", default="")

    @property
    def problem(self) -> str:
        """Why it could not be measured; empty if it was."""
        return self.reason if self.value == 0 else ""


def measure_pedestal(frames: NDArray[np.float32], model: NoiseModel) -> Pedestal:
    """Measure the pedestal of frames of one configuration.

    pedestal = level - (scatter^2 - read noise^2 - rounding), averaged over the pixels near the median level,
    in groups of similar level. In each group the sample variances follow a chi-squared distribution; values
    above its 99.5 % point (cosmic rays, unstable pixels) are cut off, and the mean of the rest is corrected
    for the cut. Shifts of complete frames relative to each other are removed first.

    Parameters
    ----------
    frames
        A few thousand pixels or more of n frames, (n, ...), electrons, not corrected for non-linearity.
    model
        Read noise and gain of the frames; its pedestal is not used.

    Returns
    -------
    Pedestal
        With value 0 and a reason if there are fewer than two frames or too few pixels, or the numbers are
        inconsistent.
    """
    x = frames.reshape(len(frames), -1)
    n = len(x)
    if n < 2:
        return _unknown(f"the scatter between frames needs two frames or more, but there is {n}", x)
    level = x.mean(axis=0)
    middle = np.median(level)
    width = _LEVEL_WINDOW * MAD_TO_SIGMA * np.median(np.abs(level - middle))
    usual = np.abs(level - middle) <= max(width, model.gain)
    if np.count_nonzero(usual) < _LEAST_PIXELS:
        return _unknown(f"{np.count_nonzero(usual)} pixels are too few, {_LEAST_PIXELS} are needed", x)
    level = level[usual]
    # Frame by frame, to use the memory of one frame only: the deviations from the mean minus the frame's
    # shift equal the deviations of the unshifted frames from their mean, except for the mean shift.
    shifts = np.array([_shift(one[usual] - level) for one in x], dtype=np.float32)
    shifts -= shifts.mean()
    square = np.zeros(level.size)
    for one, shift in zip(x, shifts, strict=True):
        square += (one[usual] - level - shift) ** 2
    variance = square / (n - 1)

    edges = np.quantile(level, np.linspace(0, 1, _LEVEL_BINS + 1)[1:-1])
    group = np.searchsorted(edges, level)
    total = sum(
        _chi2_mean(variance[group == k], n - 1) * np.count_nonzero(group == k)
        for k in range(_LEVEL_BINS)
        if (group == k).any()
    )
    scatter2 = float(total / level.size)
    mean_level = float(level.mean(dtype=np.float64))
    uncertainty = scatter2 * float(np.sqrt(2 / ((n - 1) * level.size)))
    return _judged(mean_level, scatter2, uncertainty, level.size, model)


def _judged(level: float, scatter2: float, uncertainty: float, n_pixels: int, model: NoiseModel) -> Pedestal:
    shot = scatter2 - model.floor
    value, reason = level - shot, ""
    if uncertainty > _WORST_UNCERTAINTY:
        value, reason = 0.0, f"at a level of {level:.0f} e- it is only known to {uncertainty:.1f} e-"
    elif shot < -_READ_NOISE_LEEWAY * model.floor - 3 * uncertainty:
        value = 0.0
        reason = (
            f"frames scatter by {scatter2**0.5:.2f} e-, less than the read noise of {model.read_noise:.2f} e-: "
            "the read mode in the header is wrong, or the frames are copies"
        )
    elif shot < 0:
        value = level
        if shot < -3 * uncertainty:
            reason = "frames scatter a little less than the read noise: the entire level is taken as pedestal"
    elif value < min(0.0, level) - 3 * uncertainty:
        value = 0.0
        reason = (
            f"frames scatter by {scatter2**0.5:.2f} e-, more than read noise and the shot noise of their total "
            f"level of {level:.1f} e- explain"
        )
    return Pedestal(
        value=value, uncertainty=uncertainty, level=level, scatter=scatter2**0.5, n_pixels=n_pixels, reason=reason
    )  # fmt: skip


def _unknown(reason: str, x: NDArray[np.float32]) -> Pedestal:
    level = float(np.median(x)) if x.size else 0.0
    return Pedestal(value=0.0, uncertainty=0.0, level=level, scatter=0.0, n_pixels=0, reason=reason)


def _shift(off: NDArray[np.float32]) -> np.float32:
    """Return the mean of a frame's deviations from the stack, without their extremes."""
    some = off[:: max(1, off.size // 20000)]
    middle = np.median(some)
    limit = max(5 * MAD_TO_SIGMA * np.median(np.abs(some - middle)), 1.0)
    return np.float32(off[np.abs(off - middle) <= limit].mean())


def _chi2_mean(variance: NDArray[np.float64], freedom: int) -> float:
    """Return the population variance from many sample variances, cut at the tail of the chi-squared distribution."""
    # Imported here, because most runs measure no pedestal; scipy.stats would take ten times as long to
    # import.
    from scipy.special import chdtr, chdtri

    limit = float(chdtri(freedom, 1 - _KEPT))
    # mean of a chi-squared variable below the limit, over its mean (the density of k times x is that of k +
    # 2)
    lost = float(chdtr(freedom + 2, limit)) / _KEPT
    estimate = float(np.median(variance)) * freedom / float(chdtri(freedom, 0.5))
    for _ in range(20):
        kept = variance[variance * freedom <= limit * estimate]
        if kept.size == 0:
            return estimate
        better = float(kept.mean()) / lost
        if abs(better - estimate) <= 1e-6 * estimate:
            break
        estimate = better
    return estimate
