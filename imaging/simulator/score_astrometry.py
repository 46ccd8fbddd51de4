"""The world coordinates of a stack of a simulated night against the true positions of its sources."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from imaging.astrometry.tangent_plane import project
from imaging.simulator.plans.field import FIELD
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import Grid, StackProduct
from imaging.simulator.truth import NightTruth

#: The limit is this many times the error that the stack states.
SIGMAS: Final = 2.0
#: Error of the position of the field on the stack, which is measured with its bright stars, mas.
MEASURED: Final = 3.0


def score_astrometry(stack: StackProduct, truth: NightTruth, grid: Grid) -> ScoreRow:
    """Compare the world coordinates of a stack with the true positions of all sources in it.

    Parameters
    ----------
    stack
        The product.
    truth
        The night's truth.
    grid
        The position of the field on the stack (`imaging.simulator.stack_model.locate`).

    Returns
    -------
    ScoreRow
        The rms distance along one axis, mas; with a limit if the stack states the error of its world coordinates.
    """
    x, y = (np.asarray(one, np.float64) for one in grid.position(truth.sources))
    ny, nx = stack.sci.shape
    inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    ra, dec = stack.wcs.all_pix2world(x[inside], y[inside], 0)
    true = [np.asarray(truth.sources[axis])[inside] for axis in ("ra", "dec")]
    off = project(ra, dec, FIELD) - project(true[0], true[1], FIELD)
    stated = stack.astrometry_error
    return ScoreRow(
        product="stack", figure="astrometry", unit="mas",
        value=1000.0 * math.sqrt(float(np.mean(off**2))) if inside.any() else math.nan,
        high=None if stated is None else SIGMAS * math.hypot(stated, MEASURED),
        meaning="rms error of the world coordinates along one axis at the true positions of the sources",
    )  # fmt: skip
