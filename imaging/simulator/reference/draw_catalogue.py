"""The catalogue of reference stars of a simulated night: what a survey lists years before or after the night."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import NDArray

from imaging.reference_catalogue.at_epoch import julian_year, moved
from imaging.reference_catalogue.reference_stars import Band
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters

#: Zero point of an instrument whose table has none, mag.
_USUAL_ZERO_POINT: Final = 25.0
#: Error of a magnitude at the catalogue's depth, and the largest that is listed, mag.
_ERROR_AT_DEPTH: Final = 0.1
_LARGEST_ERROR: Final = 0.3
#: Error of the position of a star for each magnitude of error: a width of 0.8 arcsec over 2.35, mas.
_MAS_PER_MAG: Final = 340.0
#: Colours of stars, mean and rms, mag: each band minus J (plausible for field stars, not measured).
_COLOURS: Final[dict[Band, tuple[float, float]]] = {
    "Y": (0.45, 0.1), "J": (0.0, 0.0), "H": (-0.5, 0.15), "Ks": (-0.65, 0.2),
}  # fmt: skip


def band_of(filter_name: str) -> Band:
    """Return the band of a catalogue that a filter belongs to: that of its first letter; Ks for all filters of K."""
    bands: dict[str, Band] = {"Y": "Y", "J": "J", "H": "H", "K": "Ks"}
    return bands.get(filter_name[:1].upper(), "J")


def observed_epoch(parameters: NightParameters) -> float:
    """Return the mean time of a night's science frames, or of all frames without any, in Julian years."""
    plan = plan_night(parameters)
    times = [julian_year(frame.started) for frame in plan if frame.role == "science"]
    return float(
        np.mean(times or [julian_year(frame.started) for frame in plan] or [parameters.catalogue_epoch])
    )


def true_zero_point(parameters: NightParameters) -> float:
    """Return the magnitude of a star of 1 e-/s at response 1 and transparency 1, at colour 0 of the colour term."""
    if parameters.zero_point is not None:
        return parameters.zero_point
    facts = dict(parameters.camera.facts) | {"filter": parameters.band}
    nominal = parameters.camera.instrument.zero_point(facts)
    return _USUAL_ZERO_POINT if nominal is None else nominal


def true_stars(parameters: NightParameters, sources: Table) -> Table:
    """Return the true magnitudes, colours and motions of the night's stars.

    Parameters
    ----------
    parameters
        The night.
    sources
        The table of `imaging.simulator.star_field.make_sources`; galaxies are left out.

    Returns
    -------
    Table
        Columns: id, ra, dec (deg, ICRS, at the epoch of the night), magnitude (of the frames' filter), Y, J, H, Ks
        (mag, of the catalogue's bands), pm_ra, pm_dec (mas/yr, the first with cos(dec)).
    """
    rng = _random(parameters, 0)
    stars = sources[np.asarray(sources["kind"]) != "galaxy"]
    n = len(stars)
    magnitude = true_zero_point(parameters) - 2.5 * np.log10(np.asarray(stars["flux"], np.float64))
    colours = {band: mean + rms * rng.standard_normal(n) for band, (mean, rms) in _COLOURS.items()}
    here = band_of(parameters.band)
    listed = magnitude + parameters.colour_term * colours["Ks"]  # J - Ks is minus this colour
    motion = parameters.proper_motion_rms * rng.standard_normal((2, n))
    columns: dict[str, Any] = {name: stars[name] for name in ("id", "ra", "dec")}
    columns |= {"magnitude": magnitude}
    columns |= {band: listed + colour - colours[here] for band, colour in colours.items()}
    return Table(columns | {"pm_ra": motion[0], "pm_dec": motion[1]})


def draw_catalogue(parameters: NightParameters, sources: Table) -> Table:
    """Draw what a survey lists of a night's stars at its own epoch, from the seed of the field.

    Returns
    -------
    Table
        Columns: id (of the source; -1 for an entry that is no star), ra, dec (deg, ICRS, at ref_epoch), ra_error,
        dec_error (mas), ref_epoch (yr), for each of y, j, h, ks the magnitude and its error (mag, NaN where it is not
        measured), and, if the catalogue has them, pmra, pmdec and their errors (mas/yr).
    """
    rng = _random(parameters, 1)
    stars = true_stars(parameters, sources)
    stars = stars[rng.uniform(size=len(stars)) >= parameters.catalogue_missing]
    if parameters.catalogue_gap and len(stars):
        xi = np.asarray(sources["xi"])[np.searchsorted(np.asarray(sources["id"]), np.asarray(stars["id"]))]
        stars = stars[np.abs(xi) > parameters.catalogue_gap / 2]
    columns, listed = _measured(rng, parameters, stars)
    catalogue = Table(columns)[listed]
    spurious = _spurious(rng, parameters, catalogue)
    rows = np.concatenate([np.arange(len(catalogue)), spurious])
    entries = catalogue[rows]
    entries["id"][len(catalogue) :] = -1
    for axis in ("ra", "dec"):
        false = slice(len(catalogue), None)
        entries[axis][false] = entries[axis][false] + rng.normal(0.0, 0.01, len(spurious))
    order = np.argsort(np.asarray(entries["dec"]), kind="stable")
    entries = entries[order]
    for name, unit in _units(entries.colnames).items():
        entries[name].unit = unit
    entries.meta |= {"EXTNAME": "simulated", "RADESYS": "ICRS"}
    return entries


def catalogue_bytes(catalogue: Table) -> bytes:
    """Return the catalogue as the bytes of a FITS file."""
    stream = BytesIO()
    catalogue.write(stream, format="fits")
    return stream.getvalue()


def _random(parameters: NightParameters, part: int) -> np.random.Generator:
    seed = parameters.seed if parameters.field_seed is None else parameters.field_seed
    return np.random.Generator(np.random.PCG64([seed, 11, part]))


def _measured(
    rng: np.random.Generator, parameters: NightParameters, stars: Table
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Return the columns that a survey measures, and which stars are bright enough in at least one band."""
    p, n = parameters, len(stars)
    columns: dict[str, Any] = {"id": np.asarray(stars["id"], np.int64)}
    best = np.full(n, np.inf)
    photometry: dict[str, Any] = {}
    for band in _COLOURS:
        true = np.asarray(stars[band], np.float64)
        error = np.hypot(
            p.catalogue_magnitude_error, _ERROR_AT_DEPTH * 10 ** (0.4 * (true - p.catalogue_depth))
        )
        value = true + np.minimum(error, 1.0) * rng.standard_normal(n)
        there = error <= _LARGEST_ERROR
        best = np.minimum(best, error)
        photometry |= {
            band.lower(): np.where(there, value, np.nan),
            f"{band.lower()}_err": np.where(there, error, np.nan),
        }
    years = p.catalogue_epoch - observed_epoch(p)
    motion = np.stack([np.asarray(stars["pm_ra"]), np.asarray(stars["pm_dec"])])
    error = np.hypot(p.catalogue_position_error, _MAS_PER_MAG * np.minimum(best, 1.0))
    # A position that the survey measures is off by its error: a motion of one year by that amount.
    ra, dec = moved(np.asarray(stars["ra"]), np.asarray(stars["dec"]), motion, years)
    ra, dec = moved(ra, dec, error * rng.standard_normal((2, n)), 1.0)
    columns |= {"ra": ra, "dec": dec, "ra_error": error, "dec_error": error}
    columns |= {"ref_epoch": np.full(n, p.catalogue_epoch), **photometry}
    if p.catalogue_motions:
        listed = motion + p.catalogue_motion_error * rng.standard_normal((2, n))
        columns |= {"pmra": listed[0], "pmdec": listed[1]}
        columns |= {f"{name}_error": np.full(n, p.catalogue_motion_error) for name in ("pmra", "pmdec")}
    return columns, best <= _LARGEST_ERROR


def _spurious(rng: np.random.Generator, parameters: NightParameters, catalogue: Table) -> NDArray[np.intp]:
    """Return the rows whose measurements also appear at a place without a star."""
    number = round(parameters.catalogue_spurious * len(catalogue))
    return rng.integers(0, len(catalogue), number) if number else np.zeros(0, np.intp)


def _units(names: list[str]) -> dict[str, Any]:
    known = {
        "ra": units.deg, "dec": units.deg, "ra_error": units.mas, "dec_error": units.mas, "ref_epoch": units.yr,
        **dict.fromkeys(("pmra", "pmdec", "pmra_error", "pmdec_error"), units.mas / units.yr),
    }  # fmt: skip
    return {name: known.get(name, units.mag) for name in names if name != "id"}
