"""From a table of a catalogue to its stars in a region, at the epoch of an observation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import CatalogueError
from imaging.io.tables.table_file import TableFile
from imaging.reference_catalogue.at_epoch import SkyFrame, from_icrs, moved, to_icrs, years_of
from imaging.reference_catalogue.catalogue_columns import Columns, find_columns
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.known_surveys import SURVEYS, Survey, recognised
from imaging.reference_catalogue.quality_flags import excluded_magnitudes, excluded_rows
from imaging.reference_catalogue.reference_stars import (
    BANDS,
    Band,
    Magnitudes,
    MagnitudeSystem,
    ReferenceCatalogue,
    separation,
)

Values = NDArray[np.float64]
#: A star may move into the region from this far outside between the two epochs, deg (10 arcsec/yr in 30 years).
_MARGIN: Final = 300.0 / 3600.0
#: Magnitudes outside these are marks for missing ones.
_MAGNITUDES: Final = (-5.0, 40.0)
_ASSUMED: Final = "the zero point of the magnitudes is not declared; Vega is assumed"
#: Epoch from which the time of the proper motion is counted where none is known, Julian years.
_UNKNOWN_EPOCH: Final = 2000.0


@dataclass(frozen=True)
class Region:
    """A region of the sky and the time at which it was observed.

    Attributes
    ----------
    ra, dec
        Its centre, deg, ICRS.
    radius
        Its radius, deg.
    epoch
        Epoch of the observation, Julian years.
    """

    ra: float
    dec: float
    radius: float
    epoch: float

    @property
    def label(self) -> str:
        """The region as messages name it."""
        return f"{self.radius * 60:.1f} arcmin around {self.ra:.4f} {self.dec:+.4f} deg"


#: Errors of positions and proper motions: mas and mas/yr are not assumed, since arcsec are as usual.
_WITH_UNIT: Final = (
    "ra_error", "dec_error", "major_error", "minor_error", "position_error", "pm_ra", "pm_dec", "pm_ra_error",
    "pm_dec_error",
)  # fmt: skip


@dataclass
class _Reading:
    """What is found in one table for one region."""

    columns: Columns
    survey: Survey | None
    parameters: CatalogueParameters
    frame: SkyFrame
    region: Region
    rows: NDArray[np.intp]
    dropped: dict[str, int]
    notes: list[str]

    def numbers(self, role: str) -> Values:
        return self.columns.numbers(role)[self.rows]

    def drop(self, reason: str, excluded: NDArray[np.bool_]) -> None:
        """Leave out rows and count them."""
        if number := int(excluded.sum()):
            self.dropped[reason] = self.dropped.get(reason, 0) + number
            self.rows = self.rows[~excluded]


def interpreted(
    file: TableFile, parameters: CatalogueParameters, region: Region
) -> ReferenceCatalogue | None:
    """Return the stars that a table has in a region, with their positions at the epoch of the region.

    Parameters
    ----------
    file
        The table.
    parameters
        What its columns mean, where it does not declare it.
    region
        Region and epoch of the observation.

    Returns
    -------
    ReferenceCatalogue or None
        None if no row of the table is in the region.

    Raises
    ------
    CatalogueError
        If columns are missing or invalid, or the errors of positions are not known.
    """
    survey = survey_of(file, parameters)
    columns = find_columns(file, parameters.given_columns, survey)
    frame = frame_of(file, parameters, columns)
    longitude, latitude = positions_of(columns)
    rows = np.flatnonzero(_within(longitude, latitude, frame, region, _MARGIN))
    if not len(rows):
        return None
    reading = _Reading(columns, survey, parameters, frame, region, rows, {}, list(columns.notes))
    if nowhere := int((~(np.isfinite(longitude) & np.isfinite(latitude))).sum()):
        reading.dropped["without a valid position, anywhere in the table"] = nowhere
    for reason, mask in excluded_rows(columns).items():
        reading.drop(reason, mask[reading.rows])
    ra, dec, error = _positions(reading, longitude, latitude)
    magnitudes = dict(_magnitudes(reading))
    name = survey.name if survey is not None else file.title or file.name.rpartition("/")[2]
    stars = ReferenceCatalogue(
        name,
        file.sha256,
        ra,
        dec,
        error,
        region.epoch,
        magnitudes,
        reading.dropped,
        tuple(reading.notes),
        file.name,
    )
    return stars.in_region(region.ra, region.dec, region.radius)


def positions_of(columns: Columns) -> tuple[Values, Values]:
    """Return the longitudes and latitudes of a table in its own frame, deg; NaN where one is missing or impossible."""
    first, second = ("ra", "dec") if "ra" in columns else ("l", "b")
    longitude, latitude = columns.numbers(first), columns.numbers(second)
    with np.errstate(invalid="ignore"):
        possible = (np.abs(longitude) <= 360.0) & (np.abs(latitude) <= 90.0)
    if not possible.any():
        lon, lat = (f"{columns.name(role)} = {_first(columns.numbers(role))}" for role in (first, second))
        raise CatalogueError(
            columns.file.name, f"has no valid position in any row (first row: {lon}, {lat}; expected: degrees)",
            remedy="Name the right columns with their unit: --set 'catalogue.columns=ra=COLUMN[deg],dec=COLUMN[deg]'",
        )  # fmt: skip
    return np.where(possible, longitude, np.nan), np.where(possible, latitude, np.nan)


def frame_of(file: TableFile, parameters: CatalogueParameters, columns: Columns) -> SkyFrame:
    """Return the frame of a table's positions: as set, as declared, or ICRS.

    The known surveys are in ICRS; services declare FK5 2000 for them, which here stands for it.
    """
    known = survey_of(file, parameters) is not None and (file.equinox or 2000.0) == 2000.0
    declared = "icrs" if known and file.frame == "fk5" else file.frame
    name = parameters.frame or ("galactic" if "ra" not in columns else declared) or "icrs"
    return SkyFrame(name, parameters.equinox or file.equinox or (1950.0 if name == "fk4" else 2000.0))


def survey_of(file: TableFile, parameters: CatalogueParameters) -> Survey | None:
    """Return the survey that a table is from: as set, or recognised by its columns; None if it is not known."""
    return SURVEYS[parameters.survey] if parameters.survey else recognised(file.columns)


def _first(values: Values) -> str:
    return f"{values[0]:g}" if len(values) else "none"


def _within(
    longitude: Values, latitude: Values, frame: SkyFrame, region: Region, margin: float
) -> NDArray[np.bool_]:
    centre = from_icrs(region.ra, region.dec, frame, region.epoch)
    with np.errstate(invalid="ignore"):
        return separation(longitude, latitude, *centre) <= region.radius + margin


def other_frame(file: TableFile, parameters: CatalogueParameters, region: Region) -> tuple[SkyFrame, int]:
    """Return the frame in which most positions of a table would be in a region, and their number."""
    survey = survey_of(file, parameters)
    longitude, latitude = positions_of(find_columns(file, parameters.given_columns, survey))
    frames = (SkyFrame(), SkyFrame("fk4", 1950.0), SkyFrame("galactic"))
    counts = [int(_within(longitude, latitude, frame, region, 0.0).sum()) for frame in frames]
    best = int(np.argmax(counts))
    return frames[best], counts[best]


def _positions(reading: _Reading, longitude: Values, latitude: Values) -> tuple[Values, Values, Values]:
    """Return right ascension and declination (deg, ICRS) at the epoch of the region, and their errors (mas)."""
    columns, epoch = reading.columns, reading.region.epoch
    error = _position_errors(reading)
    if error.size:
        reading.drop("without a valid error of the position", ~(np.isfinite(error) & (error > 0)))
    error = error[np.isfinite(error) & (error > 0)]
    error = np.hypot(error, _rounding(reading))
    years = epoch - _epochs(reading)
    motion = np.full((2, len(reading.rows)), np.nan)
    motion_error = np.full(len(reading.rows), np.nan)
    if "pm_ra" in columns:
        for role in ("pm_ra", "pm_dec", "pm_ra_error", "pm_dec_error"):
            _need_unit(reading, role)
        motion = np.stack([reading.numbers("pm_ra"), reading.numbers("pm_dec")])
        motion_error = _two_axes(reading, "pm_ra_error", "pm_dec_error")
        if not np.isfinite(motion_error).any():
            motion_error = np.zeros(len(reading.rows))
            reading.notes.append("proper motions have no errors and are taken as exact")
    known = np.isfinite(motion).all(axis=0) & np.isfinite(motion_error) & (motion_error >= 0)
    if not known.all():
        reading.notes.append(
            f"{int((~known).sum())} of {len(known)} stars have no proper motion; "
            f"{reading.parameters.proper_motion_rms:g} mas/yr along each axis is part of their error"
        )
    motion = np.where(known, motion, 0.0)
    motion_error = np.where(known, motion_error, reading.parameters.proper_motion_rms)
    there = moved(longitude[reading.rows], latitude[reading.rows], motion, years)
    ra, dec = to_icrs(*there, reading.frame, epoch)
    return ra, dec, np.hypot(error, motion_error * years)


def _rounding(reading: _Reading) -> Values:
    """Return the error of positions that are stored in single precision, mas, shape (rows,); 0 for others."""
    roles = ("ra", "dec") if "ra" in reading.columns else ("l", "b")
    error = np.zeros(len(reading.rows))
    for role in roles:
        values = reading.columns.file.table[reading.columns.name(role)]
        if values.dtype.kind == "f" and values.dtype.itemsize == 4:
            step = np.spacing(np.abs(reading.numbers(role)).astype(np.float32)).astype(np.float64)
            error = np.maximum(error, step * 3.6e6 / np.sqrt(12.0))
    if error.any():
        reading.notes.append(
            f"positions are stored in single precision; up to {error.max():.0f} mas of their error are due to that"
        )
    return error


def _two_axes(reading: _Reading, first: str, second: str) -> Values:
    """Return the rms of the errors along two axes; NaN without both columns, or where one is missing or negative."""
    if first not in reading.columns or second not in reading.columns:
        return np.full(len(reading.rows), np.nan)
    a, b = reading.numbers(first), reading.numbers(second)
    with np.errstate(invalid="ignore"):
        return np.where((a >= 0) & (b >= 0), np.sqrt((a**2 + b**2) / 2), np.nan)


def _position_errors(reading: _Reading) -> Values:
    """Return the errors of the positions along each axis, mas, at the catalogue's epoch."""
    columns, parameters, rows = reading.columns, reading.parameters, reading.rows
    if parameters.position_error is not None:
        return np.full(len(rows), parameters.position_error)
    for pair in (("ra_error", "dec_error"), ("major_error", "minor_error")):
        if all(role in columns for role in pair):
            for role in pair:
                _need_unit(reading, role)
            return _two_axes(reading, *pair)
    if "position_error" in columns:
        _need_unit(reading, "position_error")
        return reading.numbers("position_error")
    if reading.survey is not None:
        typical = reading.survey.position_error
        reading.notes.append(
            f"positions have no errors; {typical:g} mas, typical of {reading.survey.name}, is assumed"
        )
        return np.full(len(rows), typical)
    raise CatalogueError(
        columns.file.name, "has no errors of its positions",
        remedy="Name their columns, catalogue.columns=ra_error=COLUMN[mas],dec_error=COLUMN[mas], or give one for all "
        "stars in mas, such as --set catalogue.position_error=100",
    )  # fmt: skip


def _need_unit(reading: _Reading, role: str) -> None:
    """Raise an error if a column has no unit; the remedy names all columns without one."""
    found = reading.columns.found
    column, unit = found.get(role, ("", ""))
    if not column or unit:
        return
    without = [one for one in _WITH_UNIT if one in found and not found[one][1]]
    columns = ",".join(
        f"{one}={found[one][0]}[{'mas/yr' if one.startswith('pm') else 'mas'}]" for one in without
    )
    raise CatalogueError(
        reading.columns.file.name, f"its column {column} ({role}) has no unit",
        remedy=f"Give it: --set 'catalogue.columns={columns}', or another in the brackets",
    )  # fmt: skip


def _epochs(reading: _Reading) -> Values:
    """Return the epochs of the positions, Julian years, shape (rows,)."""
    parameters, survey, file = reading.parameters, reading.survey, reading.columns.file
    n = len(reading.rows)
    if parameters.epoch is not None:
        return np.full(n, parameters.epoch)
    typical = file.epoch or (survey.epoch if survey is not None else None)
    if "epoch" in reading.columns:
        years = years_of(reading.numbers("epoch"))
        if not np.isfinite(years).any():
            years = np.array([_year_of(text) for text in reading.columns.texts("epoch")])[reading.rows]
        if np.isfinite(years).all():
            return years
        if np.isfinite(years).any():
            return np.where(np.isfinite(years), years, np.nanmedian(years))
    if typical is not None:
        if file.epoch is None and survey is not None:
            reading.notes.append(
                f"positions have no epoch; {typical:g}, typical of {survey.name}, is assumed"
            )
        return np.full(n, typical)
    if "pm_ra" in reading.columns:
        raise CatalogueError(
            file.name, "has proper motions but no epoch of its positions",
            remedy="Name its column, catalogue.columns=epoch=COLUMN, or give one for all stars, such as "
            "--set catalogue.epoch=2015.5",
        )  # fmt: skip
    reading.notes.append(
        f"the epoch of the positions is not known; their errors allow for proper motion since {_UNKNOWN_EPOCH:g}"
    )
    return np.full(n, _UNKNOWN_EPOCH)


def _year_of(text: str) -> float:
    """Return the Julian year of a date such as 1999-11-04; NaN of any other text."""
    try:
        day = np.datetime64(text[:10], "D")
    except ValueError:
        return float("nan")
    return float(2000.0 + ((day - np.datetime64("2000-01-01", "D")).astype(float) - 0.5) / 365.25)


def _magnitudes(reading: _Reading) -> Iterator[tuple[Band, Magnitudes]]:
    columns, parameters, survey = reading.columns, reading.parameters, reading.survey
    flagged = excluded_magnitudes(columns)
    usual: MagnitudeSystem = survey.magnitude_system if survey is not None else "Vega"
    passbands = survey.photometric_system if survey is not None else columns.file.title or "unknown"
    for band in BANDS:
        if band not in columns:
            continue
        value = reading.numbers(band)
        low, high = _MAGNITUDES
        with np.errstate(invalid="ignore"):
            value = np.where((value > low) & (value < high), value, np.nan)
        error = _magnitude_errors(reading, band)
        if error is None:
            continue
        there = np.isfinite(value)
        excluded = flagged[band][reading.rows] & there if band in flagged else np.zeros_like(there)
        with np.errstate(invalid="ignore"):
            invalid = there & ~excluded & ~(np.isfinite(error) & (error > 0) & (error < 10))
        for reason, mask in (
            (f"{band} magnitudes with a flag", excluded),
            (f"{band} magnitudes without a valid error", invalid),
        ):
            if mask.any():
                reading.dropped[reason] = int(mask.sum())
        usable = there & ~excluded & ~invalid
        in_ab = "AB" in columns.found[band][1]
        zero = parameters.magnitude_system or ("AB" if in_ab else usual)
        if (
            parameters.magnitude_system is None
            and survey is None
            and not in_ab
            and _ASSUMED not in reading.notes
        ):
            reading.notes.append(_ASSUMED)
        value, error = (np.where(usable, one, np.nan) for one in (value, error))
        yield band, Magnitudes(value, error, passbands, zero)


def _magnitude_errors(reading: _Reading, band: Band) -> Values | None:
    """Return the errors of magnitudes; None, with a note, where the table has no such column."""
    if reading.parameters.magnitude_error is not None:
        return np.full(len(reading.rows), reading.parameters.magnitude_error)
    if f"{band}_error" in reading.columns:
        return reading.numbers(f"{band}_error")
    reading.notes.append(
        f"{band}: its magnitudes have no errors; name their column, catalogue.columns={band.lower()}_err=COLUMN, or "
        "give catalogue.magnitude_error"
    )
    return None
