"""Frames that no working detector could give, whatever the other frames of their set are."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.raw_stack import RawStack

#: Pixels brighter than this fraction of the bright ones are lit.
_LIT: Final = 0.5


def implausible_dim(stack: RawStack, frames: NDArray[np.float32]) -> dict[int, str]:
    """Return the frames without lamp light whose level is outside the range of the instrument's table.

    Parameters
    ----------
    stack
        The frames.
    frames
        Some of their pixels, electrons, (n, pixels).

    Returns
    -------
    dict
        Index of a frame to the reason; empty if the table has no such range.
    """
    facts = stack.facts
    plausible = facts.table.detector.plausible
    if plausible is None:
        return {}
    low = plausible.dark[0] * facts.coadds
    if facts.kind == "dark":
        high = (plausible.dark[1] + plausible.dark_current * facts.exposure_time) * facts.coadds
    else:  # the frame of a lamp that is off has the light of a warm calibration unit
        high = _linear_limit(stack)
    levels = np.median(frames, axis=1)
    return {
        int(k): f"level {levels[k]:.1f} e-, a working detector gives {low:.0f} to {high:.0f} e- "
        f"([detector.plausible] in the table of {facts.instrument})"
        for k in np.flatnonzero(~((levels >= low) & (levels <= high)))
    }


def implausible_lit(
    stack: RawStack, frames: NDArray[np.float32], without: NDArray[np.float32], most: float
) -> dict[int, str]:
    """Return the lamp frames in which too many lit pixels are beyond the linear range of the detector.

    Parameters
    ----------
    stack, frames
        As for `implausible_dim`.
    without
        The same pixels without lamp light, (pixels,).
    most
        Largest fraction of the lit pixels beyond the linear range.
    """
    limit = _linear_limit(stack)
    light = np.median(frames, axis=0) - without
    lit = light > max(_LIT * float(np.percentile(light, 75)), 0.0)
    if not lit.any():
        return {}
    shares = (frames[:, lit] > limit).mean(axis=1)
    return {
        int(k): f"{shares[k]:.0%} of its lit pixels are beyond the linear range of {limit:.0f} e-, "
        f"at most {most:.0%} (peer_nonlinear)"
        for k in np.flatnonzero(shares > most)
    }


def _linear_limit(stack: RawStack) -> float:
    """Return the electrons of a frame, all coadds, above which it is not linear."""
    readout = stack.facts.readout
    return float(readout.linear_fraction * readout.saturation * readout.gain)
