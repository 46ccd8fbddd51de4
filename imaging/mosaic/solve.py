"""The positions and the scales of stacks that agree best with all stars in common and with a catalogue.

Both are one least-squares problem for all stacks: each pair of stacks states a difference, each catalogue the value of
one stack. A stack that no chain of pairs or catalogues connects with the reference is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import Point, project
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.mosaic.overlaps import Overlap
from imaging.mosaic.sky_grid import Move
from imaging.usual import MAD_TO_SIGMA

#: Expected error of the telescope's world coordinates: shift, arcsec, and rotation, rad (0.2 deg).
TELESCOPE_ERROR: Final = 3.0
_TELESCOPE_TURN: Final = 0.0035
#: Smallest error of world coordinates from a catalogue, arcsec.
_CATALOGUE_ERROR: Final = 0.02
#: Clipping of residuals, sigmas, and number of iterations.
_CLIP: Final = 4.0
_ROUNDS: Final = 12
#: What a catalogue states of a stack counts less if it is off by more than this, sigmas: the others outvote it.
_DOUBTED: Final = 1.5
#: Smallest error of a ratio of fluxes, and of a zero point, mag: apertures of stars of different seeing.
_RATIO_ERROR: Final = 0.005
_ZERO_POINT_ERROR: Final = 0.005
MAGNITUDES: Final = 2.5 / math.log(10)


@dataclass(frozen=True)
class Registration:
    """The positions of stacks.

    Attributes
    ----------
    moves
        The correction of each stack's world coordinates.
    rms
        Residual of each stack's stars in common along one axis, arcsec; NaN without any.
    stars
        Stars that each has in common with others.
    """

    moves: tuple[Move, ...]
    rms: NDArray[np.float64]
    stars: NDArray[np.int64]


def register(stacks: Sequence[MosaicInput], overlaps: Sequence[Overlap], centre: Point) -> Registration:
    """Fit a shift and a rotation of each stack to all stars in common.

    World coordinates from a catalogue hold their stack to within their error, those of the telescope only loosely. One
    whose catalogue is contradicted by stars in common does not pull the others with it: its distance counts, not its
    square.

    Parameters
    ----------
    stacks, overlaps
        The stacks, and their stars in common.
    centre
        Tangent point of the offsets, deg.
    """
    n = len(stacks)
    middles = np.concatenate(
        [project(np.array([s.sky.centre[0]]), np.array([s.sky.centre[1]]), centre) for s in stacks]
    )
    rows: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float64]] = []
    owner: list[NDArray[np.int64]] = []
    for number, one in enumerate(overlaps):
        for axis in (0, 1):
            design = np.zeros((one.stars, 3 * n))
            for k, places, sign in ((one.i, one.first, 1.0), (one.j, one.second, -1.0)):
                away = places - middles[k]
                design[:, 3 * k + axis] = sign
                design[:, 3 * k + 2] = sign * (-away[:, 1] if axis == 0 else away[:, 0])
            rows.append(design / one.error[:, None])
            values.append((one.second - one.first)[:, axis] / one.error)
            owner.append(np.full(one.stars, number))
    held = np.zeros((3 * n, 3 * n))
    for k, stack in enumerate(stacks):
        shift, turn = TELESCOPE_ERROR, _TELESCOPE_TURN
        if stack.position_error is not None:
            shift = max(stack.position_error, _CATALOGUE_ERROR)
            turn = shift / (0.5 * stack.sky.radius)
        held[3 * k, 3 * k] = held[3 * k + 1, 3 * k + 1] = 1 / shift
        held[3 * k + 2, 3 * k + 2] = 1 / turn
    design = np.concatenate([*rows, np.empty((0, 3 * n))])
    value = np.concatenate([*values, np.empty(0)])
    pair = np.concatenate([*owner, np.empty(0, np.int64)])
    kept = np.ones(len(value), bool)
    solution, trust = np.zeros(3 * n), np.ones(3 * n)
    for _ in range(_ROUNDS):
        whole = np.concatenate([design[kept], trust[:, None] * held])
        solution, *_ = np.linalg.lstsq(whole, np.concatenate([value[kept], np.zeros(3 * n)]), rcond=None)
        residual = value - design @ solution
        spread = max(1.0, _spread(residual[kept]))
        kept = np.abs(residual) < _CLIP * spread
        off = np.hypot(*(held @ solution).reshape(n, 3)[:, :2].T)
        trust = np.repeat(_trust(off), 3)
    rms, stars = np.full(n, np.nan), np.zeros(n, np.int64)
    error = np.concatenate([*(np.tile(one.error, 2) for one in overlaps), np.empty(0)])
    apart = (value - design @ solution) * error
    for k in range(n):
        mine = [number for number, one in enumerate(overlaps) if k in (one.i, one.j)]
        stars[k] = sum(overlaps[number].stars for number in mine)
        if stars[k]:
            # Robust, and not of the clipped residuals: pairs that do not fit are what it has to show.
            rms[k] = _spread(apart[np.isin(pair, mine)])
    moves = tuple(Move(*map(float, solution[3 * k : 3 * k + 3])) for k in range(n))
    return Registration(moves, rms, stars)


def _trust(off: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factors of statements that are off by so many sigmas, for a sum of distances beyond `_DOUBTED`."""
    return np.asarray(np.sqrt(_DOUBTED / np.maximum(np.abs(off), _DOUBTED)))


def _spread(residual: NDArray[np.float64]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(residual))) if len(residual) else 0.0


def connected(n: int, links: Sequence[tuple[int, int]], anchored: Sequence[int]) -> NDArray[np.int64]:
    """Return the number of the group of each of ``n`` stacks that pairs connect; all anchored ones are one group."""
    group = np.arange(n)
    chained = [*links, *((anchored[0], k) for k in anchored[1:])] if anchored else links
    for _ in range(n):
        for i, j in chained:
            group[[i, j]] = min(group[i], group[j])
    return group


@dataclass(frozen=True)
class Scales:
    """The zero points of stacks, as far as they are known.

    Attributes
    ----------
    zero_points, errors
        mag, relative to each other within a group; absolute in the group ``absolute``. The errors are those relative to
        the reference.
    group
        Number of the group of each stack that shares its scale.
    absolute
        Number of the group whose zero points come from a catalogue; None without one.
    deviations
        Zero point of each stack from its catalogue minus that of the fit, mag; NaN without one.
    zero_point_error
        Standard error of the zero point of the reference, mag; NaN if it is not absolute.
    """

    zero_points: NDArray[np.float64]
    errors: NDArray[np.float64]
    group: NDArray[np.int64]
    absolute: int | None
    deviations: NDArray[np.float64]
    zero_point_error: float


def fit_scales(stacks: Sequence[MosaicInput], overlaps: Sequence[Overlap], reference: int) -> Scales:
    """Fit the zero point of each stack to the catalogue's and to the flux ratios of stars in common.

    Parameters
    ----------
    stacks, overlaps
        The stacks, and their stars in common.
    reference
        Index of the stack to which the errors are relative.
    """
    n = len(stacks)
    known = [k for k, one in enumerate(stacks) if one.zero_point is not None]
    rows, values, sigmas, links = [], [], [], []
    for one in overlaps:
        if one.ratio is None or one.ratio.error is None or not one.ratio.ratio > 0:
            continue
        row = np.zeros(n)
        row[one.i], row[one.j] = 1.0, -1.0
        rows.append(row)
        values.append(MAGNITUDES * math.log(one.ratio.ratio))
        sigmas.append(math.hypot(MAGNITUDES * one.ratio.error, _RATIO_ERROR))
        links.append((one.i, one.j))
    group = connected(n, links, known)
    absolute = int(group[known[0]]) if known else None
    for k in known:
        row = np.zeros(n)
        row[k] = 1.0
        rows.append(row)
        values.append(float(stacks[k].zero_point or 0.0))
        sigmas.append(math.hypot(stacks[k].zero_point_error or 0.0, _ZERO_POINT_ERROR))
    stated = len(rows) - len(known)
    for number in np.unique(group):
        if number != absolute:  # its zero points are relative to its first stack, or to the reference
            member = reference if group[reference] == number else int(np.flatnonzero(group == number)[0])
            row = np.zeros(n)
            row[member] = 1.0
            rows.append(row)
            values.append(0.0)
            sigmas.append(1e-6)
    trust = np.ones(len(rows))
    for _ in range(_ROUNDS):
        factor = trust / np.array(sigmas)
        design, value = np.array(rows) * factor[:, None], np.array(values) * factor
        covariance = np.linalg.inv(design.T @ design)
        fitted = covariance @ (design.T @ value)
        off = ((np.array(values) - np.array(rows) @ fitted) / np.array(sigmas))[stated : stated + len(known)]
        trust[stated : stated + len(known)] = _trust(off)
    difference = np.eye(n) - np.eye(n)[reference]
    errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", difference, covariance, difference), 0.0))
    deviations = np.full(n, np.nan)
    for k in known:
        deviations[k] = float(stacks[k].zero_point or 0.0) - fitted[k]
    its = math.sqrt(covariance[reference, reference]) if group[reference] == absolute else math.nan
    return Scales(fitted, errors, group, absolute, deviations, its)
