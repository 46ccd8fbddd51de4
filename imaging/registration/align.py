"""Align the frames of a group: the reference frame, and the positions of the others relative to it.

The world coordinates of a frame are accurate to an arcsecond or two, and sometimes belong to another frame.
They are therefore only the start of the search: stars decide, and an offset that could be due to chance is
refused. With too few stars a frame is placed by its headers if they agree with each other and with the stars
(`imaging.registration.placement`), and marked. A frame that cannot be aligned is left out and reported.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.parameters import parameter
from imaging.registration import priors
from imaging.registration.brightness import odd_brightness
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.entries import AlignEntry, AlignInput, Alignment, entry
from imaging.registration.geometry import Affine, Grid, celestial_header, make_grid
from imaging.registration.match_stars import MatchParameters, Prior
from imaging.registration.placement import place_frame
from imaging.sources.detect import Flag

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 6

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
#: The seeing of a reference is at most this many times the best.
_GOOD_SEEING = 1.15
#: Its transparency is at least this fraction of the best.
_CLEAR = 0.95
#: Smallest standard error of the headers' positions along one axis, arcsec.
_HEADER_ERROR = 0.2
#: References that are tried before the one that aligns most frames is chosen.
_TRIES = 3


class AlignParameters(MatchParameters):
    """Parameters of the alignment."""

    reference: str = parameter("best", "reference frame: best, first, or a frame's name")


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
        entries = {one.name: one for one in found.entries}
        found = _align(kept, parameters)
        entries |= {one.name: one for one in found.entries}
        entries |= {
            name: entries[name].model_copy(update={"used": False, "reason": reason})
            for name, reason in odd.items()
        }
        found = Alignment(reference=found.reference, entries=tuple(entries[frame.name] for frame in frames))
    found = _without_lonely(found, parameters)
    if _lies(found, parameters):
        logger.warning(
            "%s: its world coordinates, and so those of the stack, deviate by %.1f arcsec from the other frames.",
            found.reference, found.entry(found.reference).wcs_error,
        )  # fmt: skip
    for one in found.weak:
        logger.warning(
            "%s is aligned without enough stars, to %.2f px: %s", one.name, one.uncertainty, one.reason
        )
    for one in found.left_out:
        logger.warning("%s is left out: %s", one.name, one.reason)
    return found


def _without_lonely(found: Alignment, parameters: AlignParameters) -> Alignment:
    """Return the alignment without frames that only their headers place, if stars place most of the others.

    Such a frame is unlike the others, and would blur the stack by the error of its headers.
    """
    by_headers = [one for one in found.weak if one.n_matched == 0 and one.uncertainty > parameters.max_rms]
    if not by_headers or 2 * (len(found.used) - len(found.weak)) <= len(found.used):
        return found
    lonely = {one.name for one in by_headers}
    entries = tuple(
        one.model_copy(update={
            "used": False,
            "reason": f"it has no stars to match, although most of the frames have: its headers alone place it to "
            f"{one.uncertainty:.1f} px (limit {parameters.max_rms:g}, align.max_rms); {one.reason}",
        }) if one.name in lonely else one
        for one in found.entries
    )  # fmt: skip
    return Alignment(reference=found.reference, entries=entries)


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
    distortion: Distortion | None = None,
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
    distortion
        That of the frames, which the output is without.

    Returns
    -------
    Grid
        Shape, origin on the reference, and the output's WCS: the reference's with CRPIX moved.
    """
    by_name = {frame.name: frame for frame in frames}
    used = alignment.used
    header = celestial_header(by_name[alignment.reference].header)
    shapes = [by_name[one.name].shape for one in used]
    return make_grid([one.transform for one in used], shapes, header, mode=mode, undistorted=distortion)


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
    placed = _priors(frames, base, parameters)
    predicted_by_wcs = [prior.wcs for prior in placed]
    entries = []
    for i, frame in enumerate(frames):
        if i == reference:
            entries.append(
                entry(frame, Affine(), found_by="reference", n_matched=len(stars[i]), flux_error=0.0)
            )
        else:
            entries.append(place_frame(frame, base, stars[i], stars[reference], placed[i], parameters))
    # A single WCS is inconclusive; those of the group together reveal the wrong ones.
    centre = np.array([(base.shape[1] - 1) / 2, (base.shape[0] - 1) / 2])
    known = [i for i, one in enumerate(entries) if one.used and predicted_by_wcs[i] is not None]
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
            remarks = "; ".join(filter(None, (entries[i].reason, odd)))
            entries[i] = entries[i].model_copy(update={"wcs_error": float(e), "reason": remarks})
    return Alignment(reference=base.name, entries=tuple(entries))


def _priors(frames: Sequence[AlignInput], base: AlignInput, parameters: AlignParameters) -> list[Prior]:
    """Return what the headers record of each frame's position on the reference."""
    reach = priors.search_range(frames, parameters.max_search)
    moved = any(frame.facts.poffset or frame.facts.qoffset for frame in frames)
    scale = base.facts.readout.pixel_scale
    by_wcs = [priors.prior_from_wcs(frame, base) for frame in frames]
    by_telescope = [
        priors.prior_from_telescope(frame, base, priors.without_shift(wcs, frame.shape) if wcs else None)
        for frame, wcs in zip(frames, by_wcs, strict=True)
    ]
    apart = [
        priors.distance_at_centre(wcs, telescope, frame.shape) * scale
        for frame, wcs, telescope in zip(frames, by_wcs, by_telescope, strict=True)
        if frame is not base and wcs is not None
    ]
    agree = [distance for distance in apart if distance <= parameters.prior_tolerance]
    # Along one axis. Headers that agree too well may have one origin.
    error = max(_HEADER_ERROR, math.sqrt(math.fsum(d * d for d in agree) / max(2 * len(agree), 1))) / scale
    return [Prior(w, t, moved, reach, error) for w, t in zip(by_wcs, by_telescope, strict=True)]
