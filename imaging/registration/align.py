"""Align the frames of a group: the reference frame, and the positions of the others relative to it.

The world coordinates of a frame are accurate to an arcsecond or two, and sometimes belong to another frame.
They are therefore only the start of the search: stars decide, and an offset that could be due to chance is
refused. A frame that cannot be aligned is left out and reported.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.parameters import StepParameters, parameter
from imaging.registration import priors
from imaging.registration import star_matching as matching
from imaging.registration.brightness import odd_brightness
from imaging.registration.entries import AlignEntry, AlignInput, Alignment
from imaging.registration.flux_ratio import flux_ratio
from imaging.registration.geometry import Affine, Grid, celestial_header, make_grid
from imaging.registration.star_matching import TransformKind
from imaging.sources.detect import Flag

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3

__all__ = [
    "AlignEntry",
    "AlignInput",
    "AlignParameters",
    "Alignment",
    "align",
    "output_grid",
    "select_stars",
]

logger = logging.getLogger(__name__)

#: A source with one of these flags has no reliable position.
_UNFIT = int(Flag.SATURATED | Flag.EDGE | Flag.SHARP | Flag.UNMEASURED | Flag.BAD_PIXEL)
#: Blended and non-linear stars are used if there are fewer clean ones than this.
_ENOUGH = 20
#: Lower limit of centroid errors, regardless of the photon noise, px.
_ERROR_FLOOR = 0.01
#: The seeing of a reference is at most this many times the best.
_GOOD_SEEING = 1.15
#: Its transparency is at least this fraction of the best.
_CLEAR = 0.95
#: A match from the prior that uses a smaller fraction of the stars is compared with the full search.
_CONVINCING = 0.5
#: References that are tried before the one that aligns most frames is chosen.
_TRIES = 3


class AlignParameters(StepParameters):
    """Parameters of the alignment."""

    transform: TransformKind = parameter(
        "shift", "allowed transforms between frames: shift, shift_rotation, similarity (with scale) or affine"
    )
    reference: str = parameter("best", "reference frame: best, first, or a frame's name")
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
    min_matches: int = parameter(3, "minimum number of matched stars", ge=2)
    min_share: float = parameter(0.2, "minimum fraction of the common stars that must match", ge=0, le=1)
    max_rms: float = parameter(0.3, "largest residual of an alignment along one axis", unit="px", gt=0)
    flux_range: float = parameter(
        3.0,
        "a frame whose stars have this many times the flux of those of the other frames, or so many times less, is "
        "left out",
        unit="times", gt=1,
    )  # fmt: skip
    false_alarm: float = parameter(1e-5, "largest probability of a match by chance", gt=0, lt=1)


def align(frames: Sequence[AlignInput], parameters: AlignParameters | None = None) -> Alignment:
    """Align frames of one field.

    Parameters
    ----------
    frames
        Catalogue, header and facts of each.
    parameters
        Transform, reference and limits.

    Returns
    -------
    Alignment
        The reference, and for every frame its transform or the reason why it is missing.

    Raises
    ------
    GroupError
        Without frames, or if the requested reference is not among them.
    """
    parameters = parameters or AlignParameters()
    found = _align(frames, parameters)
    odd = odd_brightness(frames, found.entries, parameters.flux_range)
    odd.pop(parameters.reference, None)  # the user's choice
    kept = [frame for frame in frames if frame.name not in odd]
    if odd:
        entries = {entry.name: entry for entry in found.entries}
        found = _align(kept, parameters)
        entries |= {entry.name: entry for entry in found.entries}
        entries |= {
            name: entries[name].model_copy(update={"used": False, "reason": reason})
            for name, reason in odd.items()
        }
        found = Alignment(reference=found.reference, entries=tuple(entries[frame.name] for frame in frames))
    if _lies(found, parameters):
        logger.warning(
            "%s: its world coordinates, and so those of the stack, deviate by %.1f arcsec from the other frames.",
            found.reference, found.entry(found.reference).wcs_error,
        )  # fmt: skip
    for entry in found.left_out:
        logger.warning("%s is left out: %s", entry.name, entry.reason)
    return found


def _align(frames: Sequence[AlignInput], parameters: AlignParameters) -> Alignment:
    """Align frames of one field, whatever the brightness of their stars."""
    if not frames:
        raise GroupError("There are no frames to align.", remedy="Provide at least one science frame.")
    stars = [select_stars(frame, parameters) for frame in frames]
    candidates = _candidates(frames, stars, parameters)
    best: Alignment | None = None
    for candidate in candidates[:_TRIES]:
        found = _align_on(candidate, frames, stars, parameters)
        reference = found.entries[candidate]
        lies = (reference.wcs_error or 0.0) > parameters.prior_tolerance
        if best is None or (len(found.used) > len(best.used) or (_lies(best, parameters) and not lies)):
            best = found
        if not _lies(best, parameters) and 2 * len(best.used) > len(frames):
            break
    assert best is not None
    if parameters.reference == "best":
        best = _on_good_frame(best, frames, stars, candidates, parameters)
    return best


def output_grid(
    alignment: Alignment,
    frames: Sequence[AlignInput],
    mode: Literal["union", "intersection"] = "union",
) -> Grid:
    """Return the pixel grid to which the aligned frames are resampled.

    Parameters
    ----------
    alignment
        The alignment of ``frames``.
    frames
        The frames, in the same order.
    mode
        ``union`` or ``intersection`` of the fields of the frames used.

    Returns
    -------
    Grid
        Shape, origin on the reference, and the output's WCS: the reference's with CRPIX moved.
    """
    by_name = {frame.name: frame for frame in frames}
    used = alignment.used
    header = celestial_header(by_name[alignment.reference].header)
    shapes = [by_name[entry.name].shape for entry in used]
    return make_grid([entry.transform for entry in used], shapes, header, mode=mode)


def select_stars(frame: AlignInput, parameters: AlignParameters) -> NDArray[np.void]:
    """Return the brightest sources of a frame with reliable positions, brightest first."""
    table = frame.catalogue
    fit = table[(table["flags"] & _UNFIT == 0) & (table["snr"] >= parameters.min_snr)]
    clean = fit[fit["flags"] == 0]
    chosen = clean if len(clean) >= _ENOUGH else fit
    return chosen[np.argsort(-chosen["flux"], kind="stable")][: parameters.bright_limit]


def _candidates(
    frames: Sequence[AlignInput], stars: Sequence[NDArray[np.void]], parameters: AlignParameters
) -> list[int]:
    """Return the candidates for the reference, best first."""
    names = [frame.name for frame in frames]
    if parameters.reference == "first":
        return [0]
    if parameters.reference != "best":
        if parameters.reference not in names:
            raise GroupError(
                f"The reference frame {parameters.reference} is not in the group ({', '.join(names)}).",
                remedy="Name one of them, or use best.",
            )
        return [names.index(parameters.reference)]
    seeing, poor = _seeing(frames)
    # The stack has the world coordinates of the reference.
    lost = [not len(celestial_header(frame.header)) for frame in frames]
    return sorted(
        range(len(frames)), key=lambda i: (lost[i], bool(poor[i]), -len(stars[i]), seeing[i], names[i])
    )


def _seeing(frames: Sequence[AlignInput]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the seeing of each frame, and whether it is too poor for a reference."""
    seeing = np.array([frame.seeing if math.isfinite(frame.seeing) else math.inf for frame in frames])
    known = math.isfinite(seeing.min())
    return seeing, seeing > _GOOD_SEEING * seeing.min() if known else np.zeros(len(frames), bool)


def _on_good_frame(
    best: Alignment,
    frames: Sequence[AlignInput],
    stars: Sequence[NDArray[np.void]],
    candidates: Sequence[int],
    parameters: AlignParameters,
) -> Alignment:
    """Return the alignment on a frame among the best in seeing and transparency; ``best`` if it is on one.

    The transparency is that of the matched stars: their number, by which the candidates are sorted, does not show
    thin clouds. Of frames that are good in only one of the two, the merit is the signal of a point source,
    transparency over seeing.
    """
    seeing, poor = _seeing(frames)
    located = {i for i in candidates if len(celestial_header(frames[i].header))} or {*candidates}
    fit = [i for i in candidates if best.entries[i].used and i in located and best.entries[i].flux_scale > 0]
    if not fit:
        return best
    flux = {i: best.entries[i].flux_scale / frames[i].facts.exposure for i in fit}
    clear = {i for i in fit if flux[i] >= _CLEAR * max(flux.values())}
    both = [i for i in fit if i in clear and not poor[i]]
    home = next((i for i in fit if frames[i].name == best.reference), None)
    merit = {i: flux[i] / seeing[i] for i in fit}
    target = both[0] if both else max(fit, key=lambda i: (merit[i], -i))
    if home in both or (home is not None and not both and merit[home] >= _CLEAR * merit[target]):
        return best
    found = _align_on(target, frames, stars, parameters)
    worse = len(found.used) < len(best.used) or (_lies(found, parameters) and not _lies(best, parameters))
    return best if worse else found


def _lies(alignment: Alignment, parameters: AlignParameters) -> bool:
    return (alignment.entry(alignment.reference).wcs_error or 0.0) > parameters.prior_tolerance


def _align_on(
    reference: int,
    frames: Sequence[AlignInput],
    stars: Sequence[NDArray[np.void]],
    parameters: AlignParameters,
) -> Alignment:
    base = frames[reference]
    predicted_by_wcs = [priors.prior_from_wcs(frame, base) for frame in frames]
    reach = priors.search_range(frames, parameters.max_search)
    entries = []
    for i, frame in enumerate(frames):
        if i == reference:
            entries.append(
                _entry(frame, Affine(), found_by="reference", n_matched=len(stars[i]), flux_error=0.0)
            )
        else:
            entries.append(
                _align_one(frame, base, stars[i], stars[reference], predicted_by_wcs[i], reach, parameters)
            )
    # A single WCS is inconclusive; those of the group together reveal the wrong ones.
    centre = np.array([(base.shape[1] - 1) / 2, (base.shape[0] - 1) / 2])
    known = [i for i, entry in enumerate(entries) if entry.used and predicted_by_wcs[i] is not None]
    if len(known) > 2:
        off = []
        for i in known:
            prior = predicted_by_wcs[i]
            assert prior is not None
            measured, predicted = entries[i].transform(*centre), prior(*centre)
            off.append((measured[0] - predicted[0], measured[1] - predicted[1]))
        error = np.hypot(*(np.array(off) - np.median(off, axis=0)).T) * base.facts.readout.pixel_scale
        for i, e in zip(known, error, strict=True):
            odd = f"its world coordinates are {e:.1f} arcsec off" if e > parameters.prior_tolerance else ""
            entries[i] = entries[i].model_copy(update={"wcs_error": float(e), "reason": odd})
    return Alignment(reference=base.name, entries=tuple(entries))


def _entry(frame: AlignInput, transform: Affine, **values: object) -> AlignEntry:
    defaults: dict[str, object] = {
        "rms": 0.0, "uncertainty": 0.0, "n_matched": 0, "flux_scale": 1.0, "flux_error": None, "found_by": "",
        "wcs_error": None, "used": True, "reason": "",
    }  # fmt: skip
    return AlignEntry.model_validate({"name": frame.name, "transform": transform, **defaults, **values})


def _align_one(
    frame: AlignInput,
    base: AlignInput,
    stars: NDArray[np.void],
    others: NDArray[np.void],
    prior: Affine | None,
    reach: float,
    parameters: AlignParameters,
) -> AlignEntry:
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    for who, table in ((frame.name, stars), (f"the reference {base.name}", others)):
        if len(table) < least:
            problem = f"{who} has {len(table)} stars to match, {least} are needed"
            return _entry(frame, Affine(), used=False, reason=problem)
    near = parameters.prior_tolerance / base.facts.readout.pixel_scale
    turned = priors.without_shift(prior, frame.shape) if prior is not None else Affine()
    attempts = [("search", turned, reach), ("telescope", priors.prior_from_telescope(frame, base), near)]
    if prior is not None:
        start = prior if parameters.transform != "shift" else priors.shift_at_centre(prior, frame.shape)
        attempts.insert(0, ("wcs", start, near))
    failures, best = [], None
    for how, start, distance in attempts:
        if how != "wcs" and parameters.transform == "shift":
            start = priors.shift_at_centre(start, frame.shape)
        found = _match(stars, others, start, distance, parameters)
        if isinstance(found, str):
            failures.append(f"{how}: {found}")
            continue
        if best is None or found.n > best[1].n:
            best = (how, found)
        if best[1].share >= _CONVINCING or how == "search":
            break
    if best is None:
        return _entry(frame, Affine(), used=False, reason="; ".join(failures))
    how, found = best
    return _entry(
        frame, found.transform, rms=found.rms, uncertainty=found.uncertainty, n_matched=found.n,
        flux_scale=found.flux_scale, flux_error=found.flux_error, found_by=how,
    )  # fmt: skip


@dataclass(frozen=True)
class _Match:
    transform: Affine
    rms: float
    uncertainty: float
    n: int
    share: float
    flux_scale: float
    flux_error: float | None


def _match(
    stars: NDArray[np.void],
    others: NDArray[np.void],
    start: Affine,
    reach: float,
    parameters: AlignParameters,
) -> _Match | str:
    """Match from ``start``, at most ``reach`` px away; return the match or the reason for its failure."""
    a, b = (np.column_stack([t["x"], t["y"]]) for t in (stars, others))
    moved = np.column_stack(start(a[:, 0], a[:, 1]))
    won = matching.vote(moved, b, reach)
    least = max(parameters.min_matches, matching.LEAST_STARS[parameters.transform])
    if won.count < least or won.false_alarm > parameters.false_alarm or won.runner_up > 0.7 * won.count:
        return (
            f"no offset is significant ({won.count} stars agree, {won.runner_up} on another, "
            f"probability by chance {won.false_alarm:.1g})"
        )
    transform = start.then(Affine.shift(won.dx, won.dy))
    errors = np.hypot(stars["error"], _ERROR_FLOOR), np.hypot(others["error"], _ERROR_FLOOR)
    # A rotated field is first matched near the peak of the vote, then everywhere.
    for tolerance in (2 * parameters.tolerance, parameters.tolerance, parameters.tolerance):
        moved = np.column_stack(transform(a[:, 0], a[:, 1]))
        i, j = matching.pair_up(moved, b, tolerance)
        if len(i) < least:
            return f"{len(i)} stars match, {least} are needed"
        fitted = matching.robust_fit(a[i], b[j], np.hypot(errors[0][i], errors[1][j]), parameters.transform)
        transform = fitted.transform
    n = int(fitted.used.sum())
    moved = np.column_stack(transform(a[:, 0], a[:, 1]))
    common = min(_inside(moved, b), _inside(b, moved))
    share = n / max(common, 1)
    if n < least or matching.chance_of(n, moved, b, parameters.tolerance) > parameters.false_alarm:
        return f"{n} matched stars could be due to chance"
    if share < parameters.min_share:
        return f"{n} of {common} stars in common match"
    if fitted.rms > parameters.max_rms:
        turn = " (is the field rotated? try transform = shift_rotation)" * (parameters.transform == "shift")
        return f"{n} stars match with residuals of {fitted.rms:.2f} px rms{turn}"
    i, j = i[fitted.used], j[fitted.used]
    ratio = flux_ratio(stars[i], others[j])
    return _Match(transform, fitted.rms, fitted.uncertainty, n, share, ratio.ratio, ratio.error)


def _inside(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    """Return the positions of ``a`` within the box of ``b``."""
    return int(((a >= b.min(axis=0)) & (a <= b.max(axis=0))).all(axis=1).sum())
