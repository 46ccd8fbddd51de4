"""Match the stars of an image with a catalogue: a vote for offset and rotation, pairs, and their probability by chance.

Everything is in the tangent plane, arcsec. The header's world coordinates are only the start of the search: they may be
off by an arcminute and turned by degrees. The offset on which most pairs agree is found by vote
(`imaging.registration.star_matching`) for each rotation in steps, and a result that unrelated lists could give by
chance is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from imaging.listed import counted
from imaging.parameters import StepParameters, parameter
from imaging.registration import star_matching as matching
from imaging.registration.geometry import Affine
from imaging.registration.star_matching import Positions

#: Side of the cells of the vote, in the tolerance of a match; a peak spreads over three cells.
CELL: Final = 0.4
#: The first, cheap search is for a header as good as usual: offset in arcsec, no rotation.
_NEAR: Final = 3.0
#: A match that contains this fraction of the stars in common ends the search.
_CONVINCING: Final = 0.5
#: A peak is refused if another offset has more than this fraction of its pairs.
_RIVAL: Final = 0.7
#: Iterations of pairing and fitting; a field of another scale is matched from its middle outwards.
_ROUNDS: Final = 8
#: Pairs with which a general linear transform is fitted; fewer give rotation and scale.
_ENOUGH: Final = 12
#: Displacements, in the tolerance of a match, that leave only pairs by chance, and their number.
_DISPLACEMENT: Final = 3.0
_DISPLACED: Final = 8
#: Floor of the errors of positions in the fits between the rounds, arcsec: all pairs count alike.
_EVEN: Final = 0.05


class CatalogueMatchParameters(StepParameters):
    """Parameters of the match of an image with a catalogue."""

    pointing_error: float = parameter(
        60.0, "largest error of the header's world coordinates along each axis to search", unit="arcsec", gt=0
    )
    max_rotation: float = parameter(
        5.0, "largest error of the rotation in the header to search", unit="deg", ge=0, le=45
    )
    tolerance: float = parameter(
        1.0, "largest distance of a star from its position in the catalogue", unit="arcsec", gt=0
    )
    min_snr: float = parameter(10.0, "minimum signal to noise of a matched star", gt=0)
    bright_limit: int = parameter(
        150, "stars of the image whose match with the catalogue is searched, brightest first", ge=5
    )
    min_matches: int = parameter(5, "minimum number of matched stars", ge=4)
    min_share: float = parameter(
        0.2, "minimum fraction of the stars within both the image and the catalogue's area that must match",
        ge=0, le=1,
    )  # fmt: skip
    false_alarm: float = parameter(1e-5, "largest probability of a match by chance", gt=0, lt=1)


@dataclass(frozen=True)
class CatalogueMatch:
    """A match of an image with a catalogue.

    Attributes
    ----------
    transform
        From the header's tangent plane to the catalogue's, arcsec.
    n
        Matched stars.
    share
        Their fraction of the stars that could match.
    chance
        Probability that unrelated lists match as well anywhere in the range that was searched.
    """

    transform: Affine
    n: int
    share: float
    chance: float


def match_catalogue(
    stars: Positions,
    catalogue: Positions,
    radius: float,
    parameters: CatalogueMatchParameters,
    *,
    trials: int = 1,
) -> CatalogueMatch | str:
    """Find the transform from the positions of an image to those of a catalogue.

    Parameters
    ----------
    stars
        float64 (n, 2): the image's stars by its header, arcsec from the middle of the image, brightest first.
    catalogue
        float64 (m, 2): the catalogue's positions in the same plane, brightest first.
    radius
        Distance of the image's farthest corner from its middle, arcsec.
    parameters
        Ranges and limits.
    trials
        Starts that ``stars`` were chosen from, for the probability by chance.

    Returns
    -------
    CatalogueMatch or str
        The match, or why it failed.
    """
    least = parameters.min_matches
    a = stars[: parameters.bright_limit]
    if len(a) < least:
        return f"the stack has {counted(len(a), 'star')} to match, {least} are needed"
    near = (np.abs(catalogue) <= radius + parameters.pointing_error).all(axis=1)
    if near.sum() < least:
        return f"the catalogue has {counted(int(near.sum()), 'star')} in the field, {least} are needed"
    area = (1.0 + parameters.pointing_error / radius) ** 2
    b = catalogue[near][: math.ceil(2 * area * parameters.bright_limit)]
    searches: list[tuple[float, Sequence[float]]] = [
        (min(_NEAR, parameters.pointing_error), (0.0,)),
        (parameters.pointing_error, rotations(radius, parameters)),
    ]
    best: CatalogueMatch | None = None
    failure = ""
    for reach, angles in searches:
        found = _search(a, b, reach, angles, parameters, trials)
        if isinstance(found, str):
            failure = found
            continue
        if best is None or found.n > best.n:
            best = found
        if best.share >= _CONVINCING:
            break
    return best or failure


def rotations(radius: float, parameters: CatalogueMatchParameters) -> Sequence[float]:
    """Return the rotations to try, degrees, the smallest first.

    Steps leave the stars in the corners within one and a half cells of their places, half the width of a peak.
    """
    step = math.degrees(2 * 1.5 * CELL * parameters.tolerance / radius)
    n = math.ceil(parameters.max_rotation / step - 0.5)
    return sorted((k * step for k in range(-n, n + 1)), key=lambda angle: (abs(angle), angle))


def moved(transform: Affine, a: Positions) -> Positions:
    """Return transformed positions."""
    return np.column_stack(transform(a[:, 0], a[:, 1]))


def _search(
    a: Positions,
    b: Positions,
    reach: float,
    angles: Sequence[float],
    parameters: CatalogueMatchParameters,
    trials: int,
) -> CatalogueMatch | str:
    """Match within an offset and among rotations."""
    cell = CELL * parameters.tolerance
    reach += 2 * parameters.tolerance  # an offset at the limit, with its errors, is within it
    votes = []
    for angle in angles:
        begin = Affine.turn(angle, 0.0, 0.0)
        votes.append((matching.vote(moved(begin, a), b, reach, cell=cell), begin))
    won, begin = max(votes, key=lambda one: one[0].count)  # the first, and so the least rotation, of equals
    chance = min(1.0, won.false_alarm * len(angles) * trials)
    least = parameters.min_matches
    if won.count < least or chance > parameters.false_alarm or won.runner_up > _RIVAL * won.count:
        return (
            f"no offset is significant ({won.count} stars agree, {won.runner_up} on another; "
            f"probability by chance {chance:.1g}, limit {parameters.false_alarm:g})"
        )
    transform = begin.then(Affine.shift(won.dx, won.dy))
    for k in range(_ROUNDS):
        i, j = matching.pair_up(moved(transform, a), b, (2 if k == 0 else 1) * parameters.tolerance)
        if len(i) < least:
            return f"{len(i)} of the {least} stars that are needed match"
        kind: matching.TransformKind = "affine" if k > 1 and len(i) >= _ENOUGH else "similarity"
        fitted = matching.robust_fit(a[i], b[j], np.full(len(i), _EVEN), kind, (2, 2))
        before, transform = transform, fitted.transform
        if k > 2 and np.allclose(moved(before, a), moved(transform, a), rtol=0, atol=1e-6):
            break
    there = moved(transform, a)
    i, _ = matching.pair_up(there, b, parameters.tolerance)
    trials *= len(angles) * math.ceil((2 * reach / cell) ** 2)
    chance = max(chance, min(1.0, trials * _by_chance(len(i), there, b, parameters.tolerance)))
    common = min(_inside(there, b), _inside(b, there))
    share = min(1.0, len(i) / max(common, 1))
    if len(i) < least or chance > parameters.false_alarm:
        return (
            f"{counted(len(i), 'matched star')} could be due to chance "
            f"(probability {chance:.1g}, limit {parameters.false_alarm:g})"
        )
    if share < parameters.min_share:
        return f"{len(i)} of {common} stars in common match (limit {parameters.min_share:g})"
    return CatalogueMatch(transform, len(i), share, chance)


def _by_chance(n: int, a: Positions, b: Positions, tolerance: float) -> float:
    """Return the probability of ``n`` pairs by chance, for one offset.

    Expected are the pairs of uniform lists or, in a cluster, those that are left if the lists are displaced by a
    little: the larger of the two.
    """
    angles = np.arange(_DISPLACED) * 2 * np.pi / _DISPLACED
    away = _DISPLACEMENT * tolerance * np.column_stack([np.cos(angles), np.sin(angles)])
    pairs = float(np.mean([len(matching.pair_up(a + one, b, tolerance)[0]) for one in away]))
    return max(matching.at_least(n, pairs), matching.chance_of(n, a, b, tolerance))


def _inside(a: Positions, b: Positions) -> int:
    """Return how many positions of ``a`` are within the box of ``b``."""
    return int(((a >= b.min(axis=0)) & (a <= b.max(axis=0))).all(axis=1).sum())
