"""Place one frame on the reference: by its stars, by few stars that confirm the headers, or by the headers alone.

Stars decide wherever there are enough. With fewer, the world coordinates and the telescope's offsets must agree, and
no star may contradict them; the frame is then marked with how it was placed and how uncertain that is.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.listed import counted
from imaging.registration import priors
from imaging.registration import star_matching as matching
from imaging.registration.entries import AlignEntry, AlignInput, entry
from imaging.registration.flux_ratio import flux_ratio
from imaging.registration.geometry import Affine
from imaging.registration.match_stars import (
    ERROR_FLOOR,
    Match,
    MatchParameters,
    Prior,
    match_stars,
    moved_by,
    positions_of,
)
from imaging.registration.simplest import believed
from imaging.registration.star_matching import Positions

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
        What the headers record.
    parameters
        Transform and limits.

    Returns
    -------
    AlignEntry
        Not used, with the reasons, if nothing places the frame reliably.
    """
    how, found = match_stars(frame, base, stars, others, prior, parameters)
    if isinstance(found, str):
        weak = _by_headers(frame, base, stars, others, prior, parameters)
        if isinstance(weak, AlignEntry):
            return weak
        return entry(frame, Affine(), used=False, reason=f"{found}; {weak}")
    return entry(
        frame, found.transform, rms=found.rms, uncertainty=found.uncertainty, n_matched=found.n,
        flux_scale=found.flux.ratio, flux_error=found.flux.error, found_by=how,
    )  # fmt: skip


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
    few = _few_stars(frame, stars, others, start, near, parameters)
    transform, reach = (few.transform, 2 * parameters.tolerance) if few else (start, near)
    if few and priors.distance_at_centre(few.transform, prior.telescope, frame.shape) > near:
        return "its few stars agree with its world coordinates, but not with the telescope's offsets"
    a, b = positions_of(frame.catalogue), positions_of(base.catalogue)
    if problem := _contradiction(frame, base, a, b, transform, reach, parameters):
        return problem
    present = f"{counted(len(stars), 'star')} to match, {len(others)} in the reference"
    if few:
        both = "its world coordinates and the telescope's offsets"
        headers = both if prior.wcs is not None else "the telescope's offsets"
        return entry(
            frame, transform, rms=few.rms, uncertainty=few.uncertainty, n_matched=few.n,
            flux_scale=few.flux.ratio, flux_error=few.flux.error, found_by="few stars",
            reason=f"only {counted(few.n, 'star')} to match, but {headers} agree",
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
) -> Match | None:
    """Return the shift from ``start`` of stars too few to be convincing alone, if it is unique and plausible."""
    if not len(stars) or not len(others):
        return None
    a, b = moved_by(start, positions_of(stars)), positions_of(others)
    won = matching.vote(a, b, reach)
    if not won.count or won.runner_up >= won.count:
        return None
    # The level by chance over the complete frame: the box of few stars has no meaning.
    level = len(a) * len(b) * matching.WINDOW**2 / (frame.shape[0] * frame.shape[1])
    windows = max(1.0, (2 * reach / matching.WINDOW) ** 2)
    if matching.at_least(won.count, level) * windows > _CONFIRMED:
        return None
    i, j = matching.pair_up(a + np.array([won.dx, won.dy]), b, 2 * parameters.tolerance)
    if not len(i):
        return None
    errors = np.hypot(np.hypot(stars["error"][i], others["error"][j]), ERROR_FLOOR)
    fitted = matching.robust_fit(a[i], b[j], errors, "shift", frame.shape)
    flux = flux_ratio(stars[i[fitted.used]], others[j[fitted.used]])
    if not 1 / parameters.flux_range < flux.ratio < parameters.flux_range or fitted.rms > parameters.max_rms:
        return None
    n = int(fitted.used.sum())
    return Match(start.then(fitted.transform), fitted.rms, fitted.uncertainty, n, 1.0, flux)


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
        at = moved_by(to, positions_of(sure))
        centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
        at = at[np.hypot(*(at - centre).T) < _WELL_INSIDE * min(shape)]
        expected += len(at)
        missing += sum(not len(other) or np.hypot(*(other - p).T).min() > reach for p in at)
    if missing >= _CONTRADICTED and 2 * missing > expected:
        return f"{missing} of {expected} bright stars contradict its world coordinates and the telescope's offsets"
    return ""
