"""The stars that pairs of stacks have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import Point
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import Move, Positions, corners, offsets_of
from imaging.registration import star_matching as matching
from imaging.registration.flux_ratio import FluxRatio, flux_ratio
from imaging.sources.detect import Flag

#: Sources without a reliable position.
_UNFIT: Final = int(Flag.SATURATED | Flag.EDGE | Flag.SHARP | Flag.UNMEASURED | Flag.BAD_PIXEL)
#: Stars of a stack that are matched, brightest first.
_MOST: Final = 400
#: Largest distance between matched stars after the vote, px; and how far the vote's offset may be off.
_TOLERANCE: Final = 1.5
#: Stars of two stacks with world coordinates from a catalogue are searched within this distance first, arcsec, or
#: within so many of their errors.
_NEAR: Final = 1.0
_SURE: Final = 5.0
#: A vote is refused if another offset has more than this fraction of its pairs.
_RIVAL: Final = 0.7
#: Floor of the error of a position, px.
_CENTROID_ERROR: Final = 0.02


@dataclass(frozen=True)
class Overlap:
    """The stars that two stacks have in common.

    Attributes
    ----------
    i, j
        Indices of the stacks.
    first, second
        float64 (n, 2): offsets of the stars by the world coordinates of each, arcsec from the common centre.
    error
        float64 (n,): standard error of their difference along one axis, arcsec.
    expected
        Stars of the stack with fewer of them that are within the field of the other.
    ratio
        Flux in the first over flux in the second; None without stars.
    """

    i: int
    j: int
    first: Positions
    second: Positions
    error: NDArray[np.float64]
    expected: int
    ratio: FluxRatio | None

    @property
    def stars(self) -> int:
        """Number of stars in common."""
        return len(self.error)


def find_overlaps(
    stacks: Sequence[MosaicInput], centre: Point, parameters: MosaicParameters
) -> tuple[Overlap, ...]:
    """Match the stars of every pair of stacks whose fields overlap.

    Parameters
    ----------
    stacks
        The stacks, all with world coordinates.
    centre
        Tangent point of the common plane, deg.
    parameters
        Search range, and what makes a match significant.

    Returns
    -------
    tuple of Overlap
        One for each pair with stars in the field that both share; without stars in common it has none, and the number
        that was expected.
    """
    stars = [_stars(one, parameters) for one in stacks]
    places = [
        offsets_of(one.sky, table["x"], table["y"], centre, Move())
        for one, table in zip(stacks, stars, strict=True)
    ]
    fields = [offsets_of(one.sky, *corners(one.shape), centre, Move()) for one in stacks]
    found = []
    for i, j in combinations(range(len(stacks)), 2):
        in_j, in_i = _within(places[i], fields[j]), _within(places[j], fields[i])
        if not in_j.any() or not in_i.any():
            continue
        found.append(
            _matched(
                (i, j),
                (stacks[i], stacks[j]),
                (places[i][in_j], places[j][in_i]),
                (stars[i][in_j], stars[j][in_i]),
                parameters,
            )
        )
    return tuple(found)


def _stars(stack: MosaicInput, parameters: MosaicParameters) -> NDArray[np.void]:
    table = stack.catalogue
    fit = table[(table["flags"] & _UNFIT == 0) & (table["snr"] >= parameters.min_snr)]
    return fit[np.argsort(-fit["flux"], kind="stable")][:_MOST]


def _within(places: Positions, field: Positions) -> NDArray[np.bool_]:
    """Return which positions are within the field of a stack.

    The field is the parallelogram of its corners: distortions move its edges by less than matters here.
    """
    origin, right, up = field[0], field[1] - field[0], field[2] - field[0]
    matrix = np.column_stack([right, up])
    inside = np.linalg.solve(matrix, (places - origin).T).T if len(places) else np.empty((0, 2))
    margin = 0.02
    kept = ((inside > -margin) & (inside < 1 + margin)).all(axis=1)
    return np.asarray(kept)


def _matched(
    numbers: tuple[int, int],
    pair: tuple[MosaicInput, MosaicInput],
    places: tuple[Positions, Positions],
    stars: tuple[NDArray[np.void], NDArray[np.void]],
    parameters: MosaicParameters,
) -> Overlap:
    """Match the stars of two stacks in the field that they share, near their places first."""
    scale = pair[0].sky.scale
    a, b = places[0] / scale, places[1] / scale
    expected = min(len(a), len(b))
    none = Overlap(*numbers, np.empty((0, 2)), np.empty((0, 2)), np.empty(0), expected, None)
    if expected < parameters.min_matches:
        return none
    reaches = [parameters.search]
    if all(one.position_error is not None for one in pair):
        stated = math.hypot(*(one.position_error or 0.0 for one in pair))
        reaches.insert(0, min(max(_NEAR, _SURE * stated), parameters.search))
    for reach in reaches:
        won = matching.vote(a, b, reach / scale)
        if (
            won.count >= parameters.min_matches
            and won.false_alarm <= parameters.false_alarm
            and won.runner_up <= _RIVAL * won.count
        ):
            break
    else:
        return none
    shift = np.array([won.dx, won.dy])
    for _ in range(3):
        k, m = matching.pair_up(a + shift, b, _TOLERANCE)
        if len(k) < parameters.min_matches:
            return none
        shift = np.median(b[m] - a[k], axis=0)
    errors: list[NDArray[np.float64]] = [
        np.hypot(table["error"][chosen], _CENTROID_ERROR) * stack.sky.scale
        for table, chosen, stack in zip(stars, (k, m), pair, strict=True)
    ]
    ratio = flux_ratio(stars[0][k], stars[1][m])
    return Overlap(*numbers, places[0][k], places[1][m], np.hypot(errors[0], errors[1]), expected, ratio)
