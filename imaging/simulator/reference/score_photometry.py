"""The zero point and the depth of a stack of a simulated night against its truth."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.calibrate import NOMINAL
from imaging.photometry.depth import SIGMAS
from imaging.simulator.reference.draw_catalogue import true_zero_point
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import StackProduct
from imaging.simulator.truth import NightTruth

#: Largest error of a zero point, in the errors that the stack states.
PULL: Final = 3.5


def score_photometry(
    stack: StackProduct, truth: NightTruth, floor: NDArray[np.float32], throughput: float
) -> list[ScoreRow]:
    """Compare the zero point of a stack, and its limiting magnitude, with the truth; nothing without a zero point.

    Parameters
    ----------
    stack
        The product.
    truth
        The night's truth.
    floor
        Variance of a plain mean of its frames over empty sky, (ny, nx); 0 where no frame has a pixel.
    throughput
        Light of the sources in the stack, relative to a complete exposure at transparency 1.
    """
    cards = stack.photometry
    if "MAGZERO" not in cards:
        return []
    exposure = float(np.mean([frame.exposure for frame in truth.science]))
    true = true_zero_point(truth.parameters) + 2.5 * math.log10(exposure * throughput)
    error = float(cards["MAGZERR"])
    measured = cards.get("MAGZSRC") != NOMINAL
    rows = [
        ScoreRow(
            product="stack", figure="zero point, measured - true", unit="mag", value=float(cards["MAGZERO"]) - true,
            low=-PULL * error if measured else None, high=PULL * error if measured else None,
            meaning=f"from {cards.get('MAGZN', 0)} stars of a catalogue; its limits are {PULL:g} of its stated errors"
            if measured else "nominal",
        )
    ]  # fmt: skip
    covered = floor > 0
    if "MAGLIM" in cards and covered.any():
        area = math.pi * float(cards["APRADIUS"]) ** 2
        flux = SIGMAS * math.sqrt(area * float(np.median(floor[covered]))) * float(cards.get("APCORR", 1.0))
        rows.append(
            ScoreRow(
                product="stack", figure="5 sigma limit - photon floor", unit="mag",
                value=float(cards["MAGLIM"]) - (true - 2.5 * math.log10(flux)),
                meaning="against the limit in the same aperture with the frames' own noise alone, for a noise-free sky",
            )
        )  # fmt: skip
    return rows
