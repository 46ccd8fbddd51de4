"""The zero point of an image from stars of a reference catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.robust_fit import CLIPPED, robust_fit
from imaging.registration.star_matching import pair_up

#: Scatter of the stars of a catalogue beyond their stated errors that is expected, mag.
USUAL_SCATTER: Final = 0.02
#: Magnitudes per relative flux.
MAGNITUDES: Final = 2.5 / math.log(10.0)


class Matches(NamedTuple):
    """Sources and their reference stars.

    Attributes
    ----------
    sources, reference
        Indices, (n,).
    shift
        Mean position of the sources minus that of the reference stars (x, y), in the unit of the positions.
    """

    sources: NDArray[np.intp]
    reference: NDArray[np.intp]
    shift: tuple[float, float]


@dataclass(frozen=True)
class ZeroPoint:
    """The magnitude of a source of one electron in the pixels of an image.

    Attributes
    ----------
    value, error
        The zero point and its standard error, mag; without that of the aperture correction.
    scatter
        Weighted rms of the stars about the zero point, mag.
    stars, outliers
        Stars that count, and others that were too far off.
    colour_term, colour_error
        Change with the colour of a star, mag per mag, if it was fitted; the zero point is that of the colour 0.
    """

    value: float
    error: float
    scatter: float
    stars: int
    outliers: int
    colour_term: float | None = None
    colour_error: float | None = None


def fit_zero_point(
    flux: NDArray[np.float64],
    flux_error: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    magnitude_error: NDArray[np.float64],
    colour: NDArray[np.float64] | None = None,
    *,
    fewest: int = 3,
) -> ZeroPoint | None:
    """Return the robust weighted mean of magnitude + 2.5 log10(flux), or a line in the colour.

    Parameters
    ----------
    flux, flux_error
        All light of the stars and its error, electrons, (n,).
    magnitude, magnitude_error
        Of the same stars in the catalogue, (n,); NaN: unknown.
    colour
        Fit a term in this colour, mag.
    fewest
        Stars that a zero point needs.

    Returns
    -------
    ZeroPoint or None
        None with too few stars.
    """
    known = np.isfinite(flux) & (flux > 0) & np.isfinite(magnitude) & np.isfinite(magnitude_error)
    safe = np.where(known, flux, 1.0)
    values = np.where(known, magnitude + 2.5 * np.log10(safe), np.nan)
    errors = np.hypot(MAGNITUDES * flux_error / safe, magnitude_error)
    design = None if colour is None else np.column_stack([np.ones(len(values)), colour])
    fit = robust_fit(values, errors, USUAL_SCATTER, design)
    if fit is None or fit.number < fewest:
        return None
    usable = known if colour is None else known & np.isfinite(colour)
    term: tuple[float | None, float | None] = (None, None)
    if colour is not None:
        term = float(fit.values[1]), math.sqrt(float(fit.covariance[1, 1]))
    weights = 1.0 / (errors[fit.kept] ** 2 + fit.scatter**2)
    model = np.full(len(values), fit.value) if design is None else design @ fit.values
    squares = (values - model)[fit.kept] ** 2
    free = (fit.number - len(fit.values)) / fit.number
    scatter = math.sqrt(float((weights * squares).sum() / weights.sum()) / (free * CLIPPED))
    return ZeroPoint(fit.value, fit.error, scatter, fit.number, int(usable.sum()) - fit.number, *term)


def match_positions(
    sources: NDArray[np.float64], reference: NDArray[np.float64], *, search: float, radius: float
) -> Matches:
    """Match positions that may be shifted against each other.

    The shift is that of the most pairs within ``search``: the densest place of their differences. A pair counts if each
    of the two is the nearest of the other.

    Parameters
    ----------
    sources, reference
        x, y on a plane, (n, 2) and (m, 2).
    search
        Largest shift, in the unit of the positions.
    radius
        Largest distance of a pair after the shift.
    """
    from scipy.spatial import cKDTree

    nothing = Matches(np.zeros(0, np.intp), np.zeros(0, np.intp), (0.0, 0.0))
    if not len(sources) or not len(reference):
        return nothing
    theirs = cKDTree(reference)
    near = theirs.query_ball_point(sources, search)
    first = np.repeat(np.arange(len(sources)), [len(n) for n in near])
    if not len(first):
        return nothing
    second = np.concatenate([np.array(n, np.intp) for n in near])
    differences = sources[first] - reference[second]
    tree = cKDTree(differences)
    votes = tree.query_ball_point(differences, radius, return_length=True)
    densest = differences[int(np.argmax(votes))]
    shift = np.median(differences[tree.query_ball_point(densest, radius)], axis=0)
    paired, nearest = pair_up(sources, reference + shift, radius)
    return Matches(paired, nearest, (float(shift[0]), float(shift[1])))


def frame_zero_points(
    zero_point: float,
    error: float,
    fluxes: Mapping[str, tuple[float, float | None]],
    scales: Mapping[str, float],
    weights: Mapping[str, float],
) -> dict[str, tuple[float, float]]:
    """Return the zero point of each frame of a stack, and its error, mag; NaN if it is unknown.

    With the flux f of a star in the reference, its flux in the stack is f times the sum of weight, scale and flux
    relative to the reference over all frames.

    Parameters
    ----------
    zero_point, error
        Of the stack.
    fluxes
        Flux of the stars of each frame over that in the reference, and its relative error (None: unknown, or the
        reference, which has none).
    scales, weights
        Factor and weight of each frame in the stack; the sum of the weights is 1.
    """
    total = math.fsum(
        weight * scales[name] * fluxes[name][0] for name, weight in weights.items() if name in fluxes
    )
    if not total > 0 or not math.isfinite(zero_point):
        return dict.fromkeys(fluxes, (math.nan, math.nan))
    of_reference = zero_point - 2.5 * math.log10(total)
    return {
        name: (
            (of_reference + 2.5 * math.log10(flux), math.hypot(error, MAGNITUDES * (relative or 0.0)))
            if flux > 0 and math.isfinite(flux)
            else (math.nan, math.nan)
        )
        for name, (flux, relative) in fluxes.items()
    }
