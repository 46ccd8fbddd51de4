"""Match the stars of a frame with those of the reference, from the headers' position, and judge the match."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.listed import counted
from imaging.parameters import StepParameters, parameter
from imaging.registration import priors
from imaging.registration import star_matching as matching
from imaging.registration.entries import AlignInput
from imaging.registration.flux_ratio import FluxRatio, fainter_pairs, flux_ratio
from imaging.registration.geometry import Affine
from imaging.registration.simplest import simplest_fit
from imaging.registration.star_matching import Fit, Positions, TransformChoice

#: Lower limit of centroid errors, regardless of the photon noise, px.
ERROR_FLOOR: Final = 0.01
#: A match from the prior that uses a smaller fraction of the stars is compared with the full search.
_CONVINCING: Final = 0.5
#: Rotations are tried in steps that leave the stars in the corners this close to their places, px.
_SMEAR: Final = 1.5
#: Iterations of pairing and fitting; a turned field is matched from its middle outwards.
_ROUNDS: Final = 6


class MatchParameters(StepParameters):
    """Parameters of the position of one frame on the reference."""

    transform: TransformChoice = parameter(
        "auto",
        "transform between frames: auto (the simplest that serves), shift, shift_rotation, similarity (with scale) or "
        "affine",
    )
    least_move: float = parameter(
        0.05, "a rotation, scale or shear is fitted (auto) if it is significant and moves a corner by more than this",
        unit="px", gt=0,
    )  # fmt: skip
    max_rotation: float = parameter(
        0.5, "largest rotation that the world coordinates do not show, to search (not for transform=shift)",
        unit="deg", ge=0, le=5,
    )  # fmt: skip
    prior_tolerance: float = parameter(
        3.0,
        "maximum error of the header's world coordinates and the telescope's offsets",
        unit="arcsec",
        gt=0,
    )
    max_search: float = parameter(
        120.0, "largest offset between frames to search if the header is wrong", unit="arcsec", gt=0
    )
    tolerance: float = parameter(1.5, "largest distance between matched stars", unit="px", gt=0)
    min_snr: float = parameter(15.0, "minimum signal to noise of a matched star", gt=0)
    bright_limit: int = parameter(150, "maximum number of stars of a frame, brightest first", ge=3)
    min_matches: int = parameter(
        3, "minimum number of matched stars; fewer only confirm headers that agree with each other", ge=2
    )
    min_share: float = parameter(0.2, "minimum fraction of the common stars that must match", ge=0, le=1)
    max_rms: float = parameter(0.3, "largest residual of an alignment along one axis", unit="px", gt=0)
    flux_range: float = parameter(
        3.0,
        "a frame whose stars have this many times the flux of those of the other frames, or so many times less, is "
        "left out",
        unit="times", gt=1,
    )  # fmt: skip
    false_alarm: float = parameter(1e-5, "largest probability of a match by chance", gt=0, lt=1)
    without_stars: bool = parameter(
        True, "place a frame with too few stars by its world coordinates and the telescope's offsets"
    )


@dataclass(frozen=True)
class Prior:
    """What the headers record of a frame's position.

    Attributes
    ----------
    wcs
        Transform from frame to reference by the world coordinates; None without them.
    telescope
        The same by the telescope's offsets, with the rotation and scale of ``wcs``.
    moved
        Whether any frame of the group has an offset.
    reach
        How far frames may be apart, px.
    error
        Standard error of ``wcs`` along one axis, px.
    """

    wcs: Affine | None
    telescope: Affine
    moved: bool
    reach: float
    error: float


@dataclass(frozen=True)
class Match:
    """A match: its transform, residuals and standard error (px), stars, their share, and the ratio of fluxes."""

    transform: Affine
    rms: float
    uncertainty: float
    n: int
    share: float
    flux: FluxRatio


def match_stars(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    prior: Prior,
    parameters: MatchParameters,
) -> tuple[str, Match | str]:
    """Return what the match started from, and the match or the reasons of all failures."""
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    for who, table in ((frame.name, stars), (f"the reference {base.name}", others)):
        if len(table) < least:
            return "", f"{who} has {counted(len(table), 'star')} to match, {least} are needed"
    shift_only = parameters.transform == "shift"
    near = parameters.prior_tolerance / base.facts.readout.pixel_scale
    turned = priors.without_shift(prior.wcs, frame.shape) if prior.wcs is not None else Affine()
    attempts = [("search", turned, prior.reach), ("telescope", prior.telescope, near)]
    if prior.wcs is not None:
        attempts.insert(0, ("wcs", prior.wcs, near))
    failures: list[str] = []
    best: tuple[str, Match] | None = None
    unturned = (0.0,)
    for angles in (unturned,) if shift_only else (unturned, _rotations(frame.shape, parameters.max_rotation)):
        for how, start, distance in attempts:
            begin = priors.shift_at_centre(start, frame.shape) if shift_only else start
            found = _match(frame, base, stars, others, begin, turned, distance, angles, parameters)
            if isinstance(found, str):
                failures += [f"{how}: {found}"] if angles is unturned else []
                continue
            if best is None or found.n > best[1].n:
                best = (how, found)
            if best[1].share >= _CONVINCING or how == "search":
                break
        if best is not None and best[1].share >= _CONVINCING:
            break
    return best or ("", "; ".join(failures))


def _rotations(shape: tuple[int, int], largest: float) -> Sequence[float]:
    """Return the rotations to try, degrees, the smallest first."""
    step = math.degrees(2 * _SMEAR / (0.5 * math.hypot(*shape)))
    n = math.ceil(largest / step - 0.5)
    return sorted((k * step for k in range(-n, n + 1)), key=lambda angle: (abs(angle), angle))


def positions_of(table: NDArray[np.void]) -> Positions:
    """Return the positions of a catalogue, (n, 2)."""
    return np.column_stack([table["x"], table["y"]])


def moved_by(transform: Affine, a: Positions) -> Positions:
    """Return transformed positions."""
    return np.column_stack(transform(a[:, 0], a[:, 1]))


def _best_vote(
    a: Positions, b: Positions, start: Affine, shape: tuple[int, int], reach: float, angles: Sequence[float]
) -> tuple[matching.Vote, Affine, float]:
    """Return the winning vote of all rotations, what it started from, and the probability of a false alarm."""
    votes = []
    for angle in angles:
        begin = Affine.turn(angle, (shape[1] - 1) / 2, (shape[0] - 1) / 2).then(start) if angle else start
        votes.append((matching.vote(moved_by(begin, a), b, reach), begin))
    won, begin = max(votes, key=lambda one: one[0].count)  # the first, and so the least rotation, of equals
    return won, begin, min(1.0, won.false_alarm * len(angles))


def _match(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    start: Affine,
    turned: Affine,
    reach: float,
    angles: Sequence[float],
    parameters: MatchParameters,
) -> Match | str:
    """Match from ``start``, at most ``reach`` px away; return the match or the reason for its failure."""
    a, b = positions_of(stars), positions_of(others)
    won, begin, false_alarm = _best_vote(a, b, start, frame.shape, reach, angles)
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    if won.count < least or false_alarm > parameters.false_alarm or won.runner_up > 0.7 * won.count:
        return (
            f"no offset is significant ({won.count} stars agree, {won.runner_up} on another, "
            f"probability by chance {false_alarm:.1g})"
        )
    transform = begin.then(Affine.shift(won.dx, won.dy))
    errors = np.hypot(stars["error"], ERROR_FLOOR), np.hypot(others["error"], ERROR_FLOOR)
    # A rotated field is first matched near the peak of the vote, then everywhere.
    pairs = 0
    for k in range(_ROUNDS):
        tolerance = (2 if k == 0 else 1) * parameters.tolerance
        i, j = matching.pair_up(moved_by(transform, a), b, tolerance)
        if len(i) < least:
            return f"{len(i)} of the {least} stars that are needed match"
        fitted = _fit(a[i], b[j], np.hypot(errors[0][i], errors[1][j]), turned, frame.shape, parameters)
        transform = fitted.transform
        if k > 1 and len(i) == pairs:
            break
        pairs = len(i)
    n = int(fitted.used.sum())
    moved = moved_by(transform, a)
    common = min(_inside(moved, b), _inside(b, moved))
    share = n / max(common, 1)
    if n < least or matching.chance_of(n, moved, b, parameters.tolerance) > parameters.false_alarm:
        return f"{n} matched stars could be due to chance"
    if share < parameters.min_share:
        return f"{n} of {common} stars in common match"
    if fitted.rms > parameters.max_rms:
        turn = " (is the field rotated? try transform = auto)" * (parameters.transform == "shift")
        return f"{n} stars match with residuals of {fitted.rms:.2f} px rms{turn}"
    fainter = fainter_pairs(
        frame.catalogue, base.catalogue, transform, float(stars["flux"].min()), parameters.tolerance
    )
    flux = flux_ratio(
        np.concatenate([stars[i[fitted.used]], fainter[0]]),
        np.concatenate([others[j[fitted.used]], fainter[1]]),
    )
    return Match(transform, fitted.rms, fitted.uncertainty, n, share, flux)


def _fit(
    a: Positions,
    b: Positions,
    errors: NDArray[np.float64],
    turned: Affine,
    shape: tuple[int, int],
    parameters: MatchParameters,
) -> Fit:
    if parameters.transform == "auto":
        return simplest_fit(a, b, errors, turned, shape, parameters.least_move)
    return matching.robust_fit(a, b, errors, parameters.transform, shape)


def _inside(a: Positions, b: Positions) -> int:
    """Return the positions of ``a`` within the box of ``b``."""
    return int(((a >= b.min(axis=0)) & (a <= b.max(axis=0))).all(axis=1).sum())
