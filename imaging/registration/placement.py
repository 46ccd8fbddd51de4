"""Place one frame on the reference: by its stars, by few stars that confirm the headers, or by the headers alone.

Stars decide wherever there are enough. With fewer, the world coordinates and the telescope's offsets must agree, and
no star may contradict them; the frame is then marked with how it was placed and how uncertain that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.registration import priors
from imaging.registration import star_matching as matching
from imaging.registration.entries import AlignEntry, AlignInput
from imaging.registration.geometry import Affine
from imaging.registration.simplest import believed, simplest_fit
from imaging.registration.star_matching import Fit, Positions, TransformChoice

#: Lower limit of centroid errors, regardless of the photon noise, px.
_ERROR_FLOOR: Final = 0.01
#: A match from the prior that uses a smaller fraction of the stars is compared with the full search.
_CONVINCING: Final = 0.5
#: Signal to noise of the stars used for a flux ratio, if there are enough.
_FLUX_SNR: Final = 30.0
#: Rotations are tried in steps that leave the stars in the corners this close to their places, px.
_SMEAR: Final = 1.5
#: Iterations of pairing and fitting; a turned field is matched from its middle outwards.
_ROUNDS: Final = 6
#: Headers alone place a frame only if neither list has more stars in common with the other's field.
_FEW: Final = 10
#: Probability by chance below which few stars confirm headers that agree with each other.
_CONFIRMED: Final = 0.01
#: A star this many times brighter than ``min_snr`` is missed in a frame that does not show it.
_SURE: Final = 2.0
#: It has to lie within this fraction of the frame's smaller side from its centre: further out there may be no light.
_WELL_INSIDE: Final = 0.45
#: Sure stars without a counterpart that contradict a position.
_CONTRADICTED: Final = 2


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
    """What the headers say about a frame's position.

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


def entry(frame: AlignInput, transform: Affine, **values: object) -> AlignEntry:
    """Return the entry of a frame, with defaults for what is not given."""
    defaults: dict[str, object] = {
        "rms": 0.0, "uncertainty": 0.0, "n_matched": 0, "flux_scale": 1.0, "found_by": "", "wcs_error": None,
        "used": True, "reason": "",
    }  # fmt: skip
    return AlignEntry.model_validate({"name": frame.name, "transform": transform, **defaults, **values})


def place_frame(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    prior: Prior,
    parameters: MatchParameters,
) -> AlignEntry:
    """Place a frame on the reference.

    Parameters
    ----------
    frame, base
        The frame and the reference.
    stars, others
        Their stars with reliable positions, brightest first.
    prior
        What the headers say.
    parameters
        Transform and limits.

    Returns
    -------
    AlignEntry
        Not used, with the reasons, if nothing places the frame reliably.
    """
    how, found = _by_stars(frame, base, stars, others, prior, parameters)
    if isinstance(found, str):
        weak = _by_headers(frame, base, stars, others, prior, parameters)
        if isinstance(weak, AlignEntry):
            return weak
        return entry(frame, Affine(), used=False, reason=f"{found}; {weak}")
    return entry(
        frame, found.transform, rms=found.rms, uncertainty=found.uncertainty, n_matched=found.n,
        flux_scale=found.flux_scale, found_by=how,
    )  # fmt: skip


@dataclass(frozen=True)
class _Match:
    transform: Affine
    rms: float
    uncertainty: float
    n: int
    share: float
    flux_scale: float


def _by_stars(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    prior: Prior,
    parameters: MatchParameters,
) -> tuple[str, _Match | str]:
    """Return what the match started from, and the match or the reasons of all failures."""
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    for who, table in ((frame.name, stars), (f"the reference {base.name}", others)):
        if len(table) < least:
            return "", f"{who} has {len(table)} stars to match, {least} are needed"
    shift_only = parameters.transform == "shift"
    near = parameters.prior_tolerance / base.facts.readout.pixel_scale
    turned = priors.without_shift(prior.wcs, frame.shape) if prior.wcs is not None else Affine()
    attempts = [("search", turned, prior.reach), ("telescope", prior.telescope, near)]
    if prior.wcs is not None:
        attempts.insert(0, ("wcs", prior.wcs, near))
    failures: list[str] = []
    best: tuple[str, _Match] | None = None
    unturned = (0.0,)
    for angles in (unturned,) if shift_only else (unturned, _rotations(frame.shape, parameters.max_rotation)):
        for how, start, distance in attempts:
            begin = priors.shift_at_centre(start, frame.shape) if shift_only else start
            found = _match(frame, stars, others, begin, turned, distance, angles, parameters)
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


def _positions(table: NDArray[np.void]) -> Positions:
    return np.column_stack([table["x"], table["y"]])


def _moved(transform: Affine, a: Positions) -> Positions:
    return np.column_stack(transform(a[:, 0], a[:, 1]))


def _best_vote(
    a: Positions, b: Positions, start: Affine, shape: tuple[int, int], reach: float, angles: Sequence[float]
) -> tuple[matching.Vote, Affine, float]:
    """Return the winning vote of all rotations, what it started from, and the probability of a false alarm."""
    votes = []
    for angle in angles:
        begin = Affine.turn(angle, (shape[1] - 1) / 2, (shape[0] - 1) / 2).then(start) if angle else start
        votes.append((matching.vote(_moved(begin, a), b, reach), begin))
    won, begin = max(votes, key=lambda one: one[0].count)  # the first, and so the least rotation, of equals
    return won, begin, min(1.0, won.false_alarm * len(angles))


def _match(
    frame: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    start: Affine,
    turned: Affine,
    reach: float,
    angles: Sequence[float],
    parameters: MatchParameters,
) -> _Match | str:
    """Match from ``start``, at most ``reach`` px away; return the match or the reason for its failure."""
    a, b = _positions(stars), _positions(others)
    won, begin, false_alarm = _best_vote(a, b, start, frame.shape, reach, angles)
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    if won.count < least or false_alarm > parameters.false_alarm or won.runner_up > 0.7 * won.count:
        return (
            f"no offset is significant ({won.count} stars agree, {won.runner_up} on another, "
            f"probability by chance {false_alarm:.1g})"
        )
    transform = begin.then(Affine.shift(won.dx, won.dy))
    errors = np.hypot(stars["error"], _ERROR_FLOOR), np.hypot(others["error"], _ERROR_FLOOR)
    # A rotated field is first matched near the peak of the vote, then everywhere.
    pairs = 0
    for k in range(_ROUNDS):
        tolerance = (2 if k == 0 else 1) * parameters.tolerance
        i, j = matching.pair_up(_moved(transform, a), b, tolerance)
        if len(i) < least:
            return f"{len(i)} stars match, {least} are needed"
        fitted = _fit(a[i], b[j], np.hypot(errors[0][i], errors[1][j]), turned, frame.shape, parameters)
        transform = fitted.transform
        if k > 1 and len(i) == pairs:
            break
        pairs = len(i)
    n = int(fitted.used.sum())
    moved = _moved(transform, a)
    common = min(_inside(moved, b), _inside(b, moved))
    share = n / max(common, 1)
    if n < least or matching.chance_of(n, moved, b, parameters.tolerance) > parameters.false_alarm:
        return f"{n} matched stars could be due to chance"
    if share < parameters.min_share:
        return f"{n} of {common} stars in common match"
    if fitted.rms > parameters.max_rms:
        turn = " (is the field rotated? try transform = auto)" * (parameters.transform == "shift")
        return f"{n} stars match with residuals of {fitted.rms:.2f} px rms{turn}"
    flux_scale = _flux_scale(stars[i[fitted.used]], others[j[fitted.used]])
    return _Match(transform, fitted.rms, fitted.uncertainty, n, share, flux_scale)


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


def _flux_scale(stars: NDArray[np.void], others: NDArray[np.void]) -> float:
    ratio = stars["flux"] / others["flux"]
    bright = np.minimum(stars["snr"], others["snr"]) > _FLUX_SNR
    return float(np.median(ratio[bright] if bright.sum() >= 3 else ratio))


def _inside(a: Positions, b: Positions) -> int:
    """Return the positions of ``a`` within the box of ``b``."""
    return int(((a >= b.min(axis=0)) & (a <= b.max(axis=0))).all(axis=1).sum())


def _by_headers(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    prior: Prior,
    parameters: MatchParameters,
) -> AlignEntry | str:
    """Place a frame by its headers, and by few stars if they confirm them; return the reason if that is not safe."""
    scale = base.facts.readout.pixel_scale
    near = parameters.prior_tolerance / scale
    if not parameters.without_stars:
        return "it is not placed by its headers (align.without_stars=false)"
    start, error = prior.telescope, near / 2  # the tolerance as two standard errors
    if prior.wcs is None and not prior.moved:
        return "it has neither world coordinates nor telescope offsets"
    if prior.wcs is not None:
        apart = priors.distance_at_centre(prior.wcs, prior.telescope, frame.shape)
        if apart > near:
            return (
                f"its world coordinates and the telescope's offsets disagree by {apart * scale:.1f} arcsec "
                f"(limit {parameters.prior_tolerance:g}, align.prior_tolerance)"
            )
        start, error = prior.wcs, prior.error
    turned = priors.without_shift(start, frame.shape)
    # The transform of the headers, without a rotation or scale that moves no corner noticeably.
    shift = priors.shift_at_centre(start, frame.shape)
    start = believed(turned, frame.shape).then(shift)
    few = _few_stars(frame, stars, others, start, near, parameters) if prior.wcs is not None else None
    transform, reach = (few.transform, 2 * parameters.tolerance) if few else (start, near)
    if few and priors.distance_at_centre(few.transform, prior.telescope, frame.shape) > near:
        return "its few stars agree with its world coordinates, but not with the telescope's offsets"
    a, b = _positions(frame.catalogue), _positions(base.catalogue)
    if problem := _contradiction(frame, base, a, b, transform, reach, parameters):
        return problem
    present = f"{len(stars)} stars to match, {len(others)} in the reference"
    if few:
        return entry(
            frame, transform, rms=few.rms, uncertainty=few.uncertainty, n_matched=few.n,
            flux_scale=few.flux_scale, found_by="few stars",
            reason=f"only {few.n} stars match, but its world coordinates and the telescope's offsets agree with them",
        )  # fmt: skip
    if min(len(stars), len(others)) > _FEW:
        return "its many stars do not confirm its headers"
    by = "its world coordinates, confirmed by the telescope's offsets" if prior.wcs is not None else (
        "the telescope's offsets alone"
    )  # fmt: skip
    return entry(
        frame, transform, uncertainty=error, found_by="wcs only" if prior.wcs is not None else "offsets only",
        reason=f"placed by {by}, to {error * scale:.1f} arcsec: {present}",
    )  # fmt: skip


def _few_stars(
    frame: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    start: Affine,
    reach: float,
    parameters: MatchParameters,
) -> _Match | None:
    """Return the shift from ``start`` of stars too few to be convincing alone, if it is unique and plausible."""
    if not len(stars) or not len(others):
        return None
    a, b = _moved(start, _positions(stars)), _positions(others)
    won = matching.vote(a, b, reach)
    if not won.count or won.runner_up >= won.count:
        return None
    # The level by chance over the complete frame: the box of few stars says nothing.
    level = len(a) * len(b) * matching.WINDOW**2 / (frame.shape[0] * frame.shape[1])
    windows = max(1.0, (2 * reach / matching.WINDOW) ** 2)
    if matching.at_least(won.count, level) * windows > _CONFIRMED:
        return None
    i, j = matching.pair_up(a + np.array([won.dx, won.dy]), b, 2 * parameters.tolerance)
    if not len(i):
        return None
    errors = np.hypot(np.hypot(stars["error"][i], others["error"][j]), _ERROR_FLOOR)
    fitted = matching.robust_fit(a[i], b[j], errors, "shift", frame.shape)
    scale = _flux_scale(stars[i[fitted.used]], others[j[fitted.used]])
    if not 1 / parameters.flux_range < scale < parameters.flux_range or fitted.rms > parameters.max_rms:
        return None
    n = int(fitted.used.sum())
    return _Match(start.then(fitted.transform), fitted.rms, fitted.uncertainty, n, 1.0, scale)


def _contradiction(
    frame: AlignInput,
    base: AlignInput,
    a: Positions,
    b: Positions,
    transform: Affine,
    reach: float,
    parameters: MatchParameters,
) -> str:
    """Return why the stars contradict a position: bright ones of one frame that the other should show, but does not."""
    back = transform.inverse()
    missing = expected = 0
    for table, to, other, shape in (
        (frame.catalogue, transform, b, base.shape),
        (base.catalogue, back, a, frame.shape),
    ):
        sure = table[(table["snr"] >= _SURE * parameters.min_snr) & (table["flags"] == 0)]
        at = _moved(to, _positions(sure))
        centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
        at = at[np.hypot(*(at - centre).T) < _WELL_INSIDE * min(shape)]
        expected += len(at)
        missing += sum(not len(other) or np.hypot(*(other - p).T).min() > reach for p in at)
    if missing >= _CONTRADICTED and 2 * missing > expected:
        return f"{missing} of {expected} bright stars contradict its world coordinates and the telescope's offsets"
    return ""
