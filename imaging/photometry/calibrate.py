"""The zero point of measured sources: from the stars of a catalogue, or nominal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.zero_point import MAGNITUDES, ZeroPoint, fit_zero_point, match_positions
from imaging.sources.detect import Flag

#: Where a zero point is from if it is not a catalogue: the table of the instrument.
NOMINAL: Final = "nominal"
#: Problems that exclude a star as a standard and from the aperture correction.
REJECTED: Final = int(
    Flag.BLENDED
    | Flag.BAD_PIXEL
    | Flag.NON_LINEAR
    | Flag.SATURATED
    | Flag.EDGE
    | Flag.SHARP
    | Flag.UNMEASURED
)
#: Stars of the catalogue are matched to sources of at least this signal to noise.
_FAINTEST: Final = 5.0
#: Largest light of another source near a standard, relative to the standard, and how near, FWHM.
_NEIGHBOUR: Final = 0.02
_NEAR: Final = 3.0
#: Largest scatter of the stars about the zero point, mag: more is that of chance matches.
_LARGEST_SCATTER: Final = 0.3
#: A zero point that differs by more from the nominal one is reported, mag.
_FAR: Final = 1.0


@dataclass(frozen=True)
class StandardStars:
    """Stars of a catalogue in the field of a stack, at their pixels.

    Attributes
    ----------
    name
        The catalogue.
    x, y
        Predicted pixels from 0, (n,).
    magnitude, error
        In the band of the stack and in the magnitude system of the zero point, (n,); NaN: unknown.
    colour
        The colour of the term that is fitted; None without one.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    error: NDArray[np.float64]
    colour: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class MeasuredSources:
    """The sources of a stack with all their light.

    Attributes
    ----------
    table
        Rows of `imaging.sources.detect.CATALOGUE`, (n,).
    positions
        x, y from 0, px, (n, 2).
    flux, error
        All light of each if it is a star, and its standard error, electrons, (n,).
    seeing
        FWHM of the stars, px.
    """

    table: NDArray[np.void]
    positions: NDArray[np.float64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    seeing: float


class KnownZeroPoint(NamedTuple):
    """A zero point that is not from the stars of the stack itself.

    Attributes
    ----------
    value, error
        For the pixels of the stack, and its standard error, mag.
    source
        Where it is from: `NOMINAL`, or a standard field.
    """

    value: float
    error: float
    source: str


@dataclass(frozen=True)
class Calibration:
    """A zero point, and where it is from.

    Attributes
    ----------
    value, error
        mag, the error without that of the aperture correction; NaN if it is unknown.
    source
        Name of the catalogue, or what else it is from; empty if it is unknown.
    standards
        The result of the stars of the catalogue; None if they were not used.
    pairs
        Index of each source's star in the catalogue; -1 without one, (n,).
    notes
        What is missing, and why.
    """

    value: float
    error: float
    source: str
    standards: ZeroPoint | None
    pairs: NDArray[np.intp]
    notes: tuple[str, ...] = ()


def calibrate(
    sources: MeasuredSources,
    reference: StandardStars | None,
    known: KnownZeroPoint | None,
    pixel_scale: float,
    parameters: PhotometryParameters,
) -> Calibration:
    """Find the zero point of measured sources.

    Parameters
    ----------
    sources
        The sources.
    reference
        Stars of a catalogue in the band of the stack; None without a catalogue.
    known
        The zero point that counts if those stars give none; None if there is no other.
    pixel_scale
        arcsec per pixel.
    parameters
        See `PhotometryParameters`.
    """
    pairs = np.full(len(sources.table), -1, np.intp)
    if reference is None:
        return _otherwise(known, pairs)
    pairs = _paired(sources, reference, pixel_scale, parameters)
    usable = _usable(sources, reference, pairs, parameters)
    standards = _fitted(sources, reference, pairs, usable, parameters)
    if standards is None:
        count, least = int(usable.sum()), parameters.least_stars
        return _otherwise(
            known,
            pairs,
            f"too few sources are stars of the catalogue {reference.name} with a good magnitude in this band "
            f"({count} of {least} that photometry.least_stars asks for): {_what(known)}",
        )
    if standards.scatter > _LARGEST_SCATTER:
        return _otherwise(
            known,
            pairs,
            f"the stars of the catalogue {reference.name} disagree with the sources by {standards.scatter:.2f} mag "
            f"rms: it is not of this field or band, and {_what(known)}",
        )
    notes: tuple[str, ...] = ()
    if known is not None and abs(standards.value - known.value) > _FAR:
        origin = "nominal one" if known.source == NOMINAL else f"one of {known.source}"
        notes = (
            f"the zero point from the catalogue differs by {standards.value - known.value:+.2f} mag from the {origin}: "
            "clouds, or another filter or exposure than the headers state",
        )
    return Calibration(standards.value, standards.error, reference.name, standards, pairs, notes)


def _otherwise(known: KnownZeroPoint | None, pairs: NDArray[np.intp], *notes: str) -> Calibration:
    """Return the zero point that is not from the stack's own stars, or none."""
    value, error, source = known or (math.nan, math.nan, "")
    return Calibration(value, error, source, None, pairs, notes)


def _what(known: KnownZeroPoint | None) -> str:
    """Return what the zero point is without stars of the catalogue, for a message."""
    if known is None:
        return "the zero point is missing"
    return f"the zero point is {NOMINAL if known.source == NOMINAL else f'that of {known.source}'}"


def _paired(
    sources: MeasuredSources, reference: StandardStars, pixel_scale: float, parameters: PhotometryParameters
) -> NDArray[np.intp]:
    """Return the index of each source's star in the catalogue, -1 without one."""
    bright = np.flatnonzero(sources.table["snr"] > _FAINTEST)
    matched = match_positions(
        sources.positions[bright],
        np.column_stack([reference.x, reference.y]),
        search=parameters.search / pixel_scale,
        radius=parameters.match_radius / pixel_scale,
    )
    pairs = np.full(len(sources.table), -1, np.intp)
    pairs[bright[matched.sources]] = matched.reference
    return pairs


def _usable(
    sources: MeasuredSources,
    reference: StandardStars,
    pairs: NDArray[np.intp],
    parameters: PhotometryParameters,
) -> NDArray[np.bool_]:
    """Return which sources are standards: measured well, listed well, and alone."""
    usable = (sources.table["flags"] & REJECTED == 0) & (pairs >= 0)
    usable &= MAGNITUDES * sources.error < parameters.star_error * sources.flux
    usable[usable] &= reference.error[pairs[usable]] <= parameters.star_error
    return np.asarray(usable & _isolated(sources.positions, sources.flux, _NEAR * sources.seeing))


def _fitted(
    sources: MeasuredSources,
    reference: StandardStars,
    pairs: NDArray[np.intp],
    usable: NDArray[np.bool_],
    parameters: PhotometryParameters,
) -> ZeroPoint | None:
    stars = pairs[usable]
    return fit_zero_point(
        sources.flux[usable],
        sources.error[usable],
        reference.magnitude[stars],
        reference.error[stars],
        None if reference.colour is None else reference.colour[stars],
        fewest=parameters.least_stars,
    )


def _isolated(positions: NDArray[np.float64], flux: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Return which sources have little light of other sources near them."""
    from scipy.spatial import cKDTree

    if not len(positions):
        return np.zeros(0, bool)
    light = np.zeros(len(positions))
    for i, j in cKDTree(positions).query_pairs(reach):
        light[i] += max(float(flux[j]), 0.0)
        light[j] += max(float(flux[i]), 0.0)
    return np.asarray(light <= _NEIGHBOUR * flux)
