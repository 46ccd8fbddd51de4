"""The world coordinates of a stack fitted to a reference catalogue.

The stars are matched (`imaging.astrometry.match_catalogue`), and a TAN projection about the middle of the image is
fitted to all pairs, weighted by the errors of both positions and without the pairs that do not fit
(`imaging.astrometry.plane_fit`). Distortions (SIP) are added if they improve the prediction of stars that were left
out of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry import sip
from imaging.astrometry.first_guess import TRIALS, Pointing, guess_header
from imaging.astrometry.match_catalogue import (
    CatalogueMatch,
    CatalogueMatchParameters,
    match_catalogue,
    moved,
)
from imaging.astrometry.plane_fit import SIMILARITY, Frame, PlaneFit, fit_plane
from imaging.astrometry.tangent_plane import ARCSEC, Point, Prior, deproject, project
from imaging.header import Header
from imaging.listed import counted
from imaging.parameters import parameter
from imaging.registration.star_matching import pair_up
from imaging.sources.detect import Flag

#: A source with one of these flags has no reliable position.
_UNFIT: Final = int(Flag.SATURATED | Flag.EDGE | Flag.SHARP | Flag.UNMEASURED | Flag.BAD_PIXEL)
#: Blended and non-linear stars are used if there are fewer clean ones than this.
_ENOUGH: Final = 20
#: Smallest standard error of a centroid, px, and of a position in a catalogue, mas.
_CENTROID_ERROR: Final = 0.01
_CATALOGUE_ERROR: Final = 0.1
#: Error of a catalogue that states none, mas.
UNSTATED: Final = 100.0
#: With fewer stars than this, rotation and scale are fitted, and the shape of the pixels is the header's.
_LINEAR: Final = 10
#: A general linear transform is fitted to more stars if it would fit as much better by chance with this probability.
_BY_CHANCE: Final = 0.01
#: Stars of the image and of the catalogue that a fit uses, brightest first.
_MOST_STARS, _MOST_CATALOGUED = 600, 2000
#: Iterations of pairing and fitting; the last ones pair within the clipping limit of the fit.
_ROUNDS: Final = 4
MAS: Final = 1000.0


class AstrometryParameters(CatalogueMatchParameters):
    """Parameters of the world coordinates from a reference catalogue."""

    distortion: Literal["auto", "never"] = parameter(
        "auto",
        "distortion polynomials (SIP): auto (if they improve the fit by distortion_gain) or never",
    )
    distortion_gain: float = parameter(
        1.03,
        "distortion is fitted if the residuals of stars left out of the fit become smaller by this factor",
        unit="times", gt=1,
    )  # fmt: skip
    distortion_stars: int = parameter(60, "minimum number of matched stars to fit distortion", ge=30)
    distortion_order: int = parameter(3, "highest order of the distortion polynomials", ge=2, le=5)


@dataclass(frozen=True)
class CatalogueStars:
    """The stars of a catalogue, at the epoch of the observation.

    Attributes
    ----------
    name
        The catalogue's name.
    ra, dec
        float64 (n,), deg, ICRS.
    error
        float64 (n,): standard error along each axis, mas.
    brightness
        float64 (n,): a magnitude; NaN if unknown.
    """

    name: str
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    error: NDArray[np.float64]
    brightness: NDArray[np.float64]


@dataclass(frozen=True)
class WorldCoordinates:
    """World coordinates fitted to a catalogue.

    Attributes
    ----------
    header
        Their cards: RA---TAN and DEC--TAN, with SIP if distortion was fitted; ICRS.
    catalogue
        The catalogue's name.
    n
        Stars used.
    rms
        Residual of these along one axis, weighted, mas.
    error
        Standard error of a position along one axis, expected from the errors of the stars (and their scatter, if it is
        larger), mas; root mean square over the image.
    scatter
        What the residuals have in addition to the stated errors, mas.
    chance
        Probability of a match as good by chance.
    share
        Matched fraction of the stars that could match.
    distortion
        Order of the distortion polynomials; 1 without distortion.
    gain
        Factor by which distortion reduces the residuals of stars left out of the fit; None if it was not tried.
    offset
        Distance of the middle of the image from where the header had it, arcsec.
    rotation
        Rotation relative to the header, deg.
    scale
        Scale relative to the header's.
    """

    header: Header
    catalogue: str
    n: int
    rms: float
    error: float
    scatter: float
    chance: float
    share: float
    distortion: int
    gain: float | None
    offset: float
    rotation: float
    scale: float


def fit_world_coordinates(
    sources: NDArray[np.void],
    catalogue: CatalogueStars,
    header: Header,
    shape: tuple[int, int],
    parameters: AstrometryParameters | None = None,
    pointing: Pointing | None = None,
) -> WorldCoordinates | str:
    """Fit the world coordinates of an image to a reference catalogue.

    Parameters
    ----------
    sources
        Structured array with the columns of `imaging.sources.detect.CATALOGUE`, of the image.
    catalogue
        The reference catalogue; stars without finite positions are ignored.
    header
        Header with the celestial WCS of the image that the search starts from.
    shape
        (ny, nx) of the image.
    parameters
        Ranges and limits.
    pointing
        What the search starts from if the header has no valid celestial WCS; the position angle is searched then.

    Returns
    -------
    WorldCoordinates or str
        The world coordinates, or why there are no new ones.
    """
    parameters = parameters or AstrometryParameters()
    stars = reliable(sources, parameters.min_snr)
    pixels = np.column_stack([stars["x"], stars["y"]])
    trials = 1
    try:
        prior = Prior(header, shape)
    except ValueError:
        if pointing is None:
            return (
                "the header has no valid world coordinates to start from, and RA and DEC of the pointing or the pixel "
                "scale are unknown"
            )
        start = _guessed(pixels, catalogue, pointing, shape, parameters)
        if isinstance(start, str):
            return f"there are no world coordinates to start from, and {start}"
        prior, trials = Prior(start, shape), TRIALS
    known = _in_the_field(catalogue, prior, parameters.pointing_error)
    by_header = prior.offsets(*pixels.T) if len(pixels) else np.empty((0, 2))
    places = project(known.ra, known.dec, prior.centre)
    found = match_catalogue(by_header, places, prior.radius, parameters, trials=trials)
    if isinstance(found, str):
        return found
    frame = Frame(shape, prior.matrix)
    centroid = np.hypot(stars["error"], _CENTROID_ERROR) * prior.scale
    begin = deproject(moved(found.transform, by_header), prior.centre)
    fitted = _fit(frame, pixels, centroid, begin, known, parameters)
    return fitted if isinstance(fitted, str) else _described(fitted, prior, catalogue.name, found)


def _guessed(
    pixels: NDArray[np.float64],
    catalogue: CatalogueStars,
    pointing: Pointing,
    shape: tuple[int, int],
    parameters: AstrometryParameters,
) -> Header | str:
    """Return world coordinates to start from without any in the header."""
    offsets = project(catalogue.ra, catalogue.dec, pointing.centre)
    order = np.argsort(catalogue.brightness, kind="stable")  # NaN last
    order = order[np.isfinite(offsets[order]).all(axis=1)]
    return guess_header(pixels, offsets[order], pointing, shape, parameters)


def reliable(sources: NDArray[np.void], min_snr: float) -> NDArray[np.void]:
    """Return the sources with reliable positions, brightest first, at most 600."""
    fit = sources[(sources["flags"] & _UNFIT == 0) & (sources["snr"] >= min_snr)]
    fit = fit[np.isfinite(fit["x"]) & np.isfinite(fit["y"]) & np.isfinite(fit["error"])]
    clean = fit[fit["flags"] == 0]
    chosen = clean if len(clean) >= _ENOUGH else fit
    return chosen[np.argsort(-chosen["flux"], kind="stable")][:_MOST_STARS]


def _in_the_field(catalogue: CatalogueStars, prior: Prior, margin: float) -> CatalogueStars:
    """Return the stars with valid positions that may be in the image, brightest first."""
    offsets = project(catalogue.ra, catalogue.dec, prior.centre)
    inside = np.hypot(*offsets.T) <= np.sqrt(2.0) * (prior.radius + margin)  # False for NaN
    order = np.flatnonzero(inside)
    order = order[np.argsort(catalogue.brightness[order], kind="stable")][:_MOST_CATALOGUED]  # NaN last
    error = catalogue.error[order]
    error = np.where(np.isfinite(error) & (error > 0), np.maximum(error, _CATALOGUE_ERROR), UNSTATED)
    return CatalogueStars(
        catalogue.name, catalogue.ra[order], catalogue.dec[order], error, catalogue.brightness[order]
    )


@dataclass(frozen=True)
class _Fitted:
    """A fit, its tangent point, and the factor by which distortion reduces the residuals of stars left out of it."""

    fit: PlaneFit
    centre: Point
    gain: float | None


def _fit(
    frame: Frame,
    pixels: NDArray[np.float64],
    centroid: NDArray[np.float64],
    sky: tuple[NDArray[np.float64], NDArray[np.float64]],
    known: CatalogueStars,
    parameters: AstrometryParameters,
) -> _Fitted | str:
    """Pair all stars with the catalogue and fit, in turn, while the tangent point moves to the middle of the image.

    ``centroid`` are the errors of the stars, arcsec, ``sky`` their positions according to the match, deg.
    """
    centre: Point = _middle_of(sky)
    fitted: _Fitted | None = None
    for _ in range(_ROUNDS):
        places = project(known.ra, known.dec, centre)
        i, j = pair_up(project(*sky, centre), places, parameters.tolerance)
        errors = np.hypot(centroid[i], known.error[j] / MAS)
        fit, gain = _of_the_best_order(frame, pixels[i], places[j], errors, parameters)
        if fit is None or fit.n < parameters.min_matches:
            return f"{counted(len(i), 'matched star')} do not determine the world coordinates"
        fitted = _Fitted(fit, centre, gain)
        sky = deproject(fit(pixels), centre)
        (ra,), (dec,) = deproject(fit(frame.middle[None, :]), centre)
        centre = (float(ra), float(dec))
    assert fitted is not None
    return fitted


def _middle_of(sky: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Point:
    """Return the direction of the mean of positions on the sky, deg."""
    ra, dec = np.radians(sky)
    x, y, z = (np.cos(dec) * np.cos(ra)).mean(), (np.cos(dec) * np.sin(ra)).mean(), np.sin(dec).mean()
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _of_the_best_order(
    frame: Frame,
    pixels: NDArray[np.float64],
    offsets: NDArray[np.float64],
    errors: NDArray[np.float64],
    parameters: AstrometryParameters,
) -> tuple[PlaneFit | None, float | None]:
    """Fit a transform without distortion, and distortion where it predicts better.

    Returns
    -------
    tuple
        The fit, and the largest factor by which distortion reduces the residuals of stars left out of it; None if it
        was not tried.
    """
    best = _undistorted(frame, pixels, offsets, errors)
    if best is None or parameters.distortion == "never" or len(pixels) < parameters.distortion_stars:
        return best, None
    gain = None
    for order in range(2, parameters.distortion_order + 1):
        higher = fit_plane(frame, pixels, offsets, errors, order)
        if higher is None:
            continue
        # Both are judged by the same stars with the same weights.
        factors = []
        for lower in sorted({1, best.order}):
            plain = fit_plane(frame, pixels, offsets, errors, lower, among=higher.used)
            if plain is not None:
                factors.append(plain.left_out_rms(higher.errors) / higher.left_out_rms(higher.errors))
        if not factors:
            continue
        gain = max(gain or 0.0, *factors)
        if min(factors) >= parameters.distortion_gain:
            best = higher
    return best, gain


def _undistorted(
    frame: Frame, pixels: NDArray[np.float64], offsets: NDArray[np.float64], errors: NDArray[np.float64]
) -> PlaneFit | None:
    """Fit rotation and scale, or a general linear transform if it is significantly better (F test of nested models)."""
    from scipy.special import fdtrc  # imported late, and not scipy.stats, which takes half a second

    simple = fit_plane(frame, pixels, offsets, errors, SIMILARITY)
    if len(pixels) < _LINEAR:
        return simple
    general = fit_plane(frame, pixels, offsets, errors, 1)
    if general is None:
        return simple
    among = fit_plane(frame, pixels, offsets, errors, SIMILARITY, among=general.used)
    if among is None:
        return general
    freedom = 2 * general.n - 6
    ratio = (among.rms_for(general.errors) / general.rms) ** 2
    by_chance = float(fdtrc(2, freedom, max(ratio - 1.0, 0.0) * freedom / 2))
    return general if simple is None or by_chance < _BY_CHANCE else simple


def _described(fitted: _Fitted, prior: Prior, catalogue: str, match: CatalogueMatch) -> WorldCoordinates:
    """Return the world coordinates of a fit, as cards and figures."""
    fit = fitted.fit
    polynomials = fit.polynomials()
    (ra,), (dec,) = deproject(polynomials[:, 0][None, :], fitted.centre)
    linear = polynomials[:, 1:3]
    turn = linear @ np.linalg.inv(prior.matrix)
    distortion = fit.order if fit.order > 1 else 1
    header = _header((float(ra), float(dec)), polynomials, distortion, fit.frame)
    return WorldCoordinates(
        header=header,
        catalogue=catalogue,
        n=fit.n,
        rms=fit.rms * MAS,
        error=fit.error * MAS,
        scatter=fit.scatter * MAS,
        chance=match.chance,
        share=match.share,
        distortion=distortion,
        gain=fitted.gain,
        offset=float(np.hypot(*project(ra, dec, prior.centre)[0])),
        rotation=float(np.degrees(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1]))),
        scale=float(np.sqrt(abs(np.linalg.det(turn)))),
    )


def _header(centre: Point, polynomials: NDArray[np.float64], order: int, frame: Frame) -> Header:
    """Return the cards of a projection about the middle of the image."""
    kind = "-SIP" if order > 1 else ""
    crpix = (float(frame.middle[0]) + 1.0, float(frame.middle[1]) + 1.0)
    distortion: sip.Cards = {}
    linear = polynomials[:, 1:3]
    if order > 1:
        linear, distortion = sip.forward(polynomials, order)
        distortion |= sip.inverse(distortion, frame.shape, crpix)[0]
    matrix = linear / ARCSEC
    cards: list[tuple[str, str | float | int]] = [("WCSAXES", 2)]
    cards += [("CTYPE1", f"RA---TAN{kind}"), ("CTYPE2", f"DEC--TAN{kind}")]
    cards += [("CRPIX1", crpix[0]), ("CRPIX2", crpix[1]), ("CRVAL1", centre[0]), ("CRVAL2", centre[1])]
    cards += [("CUNIT1", "deg"), ("CUNIT2", "deg")]
    cards += [(f"CD{i}_{j}", float(matrix[i - 1, j - 1])) for i in (1, 2) for j in (1, 2)]
    return Header([*cards, ("RADESYS", "ICRS"), *distortion.items()])
