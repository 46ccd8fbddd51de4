"""Headers of raw frames: the cards that real FLAMINGOS-2 files have, with consistent values."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from astropy.io import fits

from imaging.simulator.plans.field import FIELD
from imaging.simulator.plans.frame import DARKS, Card, PlannedFrame, Written, on_sky
from imaging.simulator.plans.plan_model import Headers, Plan

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Names of the read modes by their read pairs.
_READ_MODES = {1: "Bright", 4: "Medium", 6: "Dark", 8: "Dark"}
#: The lamp of the flats with its beam at full strength.
_LAMP = "IRhigh"


def raw_headers(plan: Plan, parameters: Written, frame: PlannedFrame) -> Headers:
    """Return the primary header and the header of the image extension of one raw frame.

    The world coordinate system is like that of real files: x runs North and y runs East where the position angle
    is 0, and CRVAL moves with the telescope by P in RA and Q in Dec.
    """
    primary = fits.Header()
    primary["SIMPLE"] = (True, "conforms to FITS standard")
    primary["BITPIX"], primary["NAXIS"], primary["EXTEND"] = 8, 0, True
    for cards in (
        _identity(parameters, frame),
        _telescope(frame),
        _instrument(parameters, frame),
        _calibration_unit(frame),
        _time(frame),
    ):
        for keyword, value, comment in cards:
            primary[keyword] = (value, comment)
    return primary, _extension(frame, parameters.size, parameters.camera.axes.scale)


def _identity(parameters: Written, frame: PlannedFrame) -> list[Card]:
    day, number = frame.root[1:9], int(frame.root[10:])
    dark = frame.role in DARKS
    if frame.role == "science":
        program = f"GS-{day[:4]}B-Q-15"
        observation, label = f"{program}-39", f"{program}-39-{frame.number + 1:03d}"
        obstype, obsclass, target = "OBJECT", "science", "WISE J041358.14-475039.3"
    else:
        program = f"GS-CAL{day}"
        sequence = {"dark": 1, "short_dark": 2, "flat_dark": 3, "lamp_on": 4, "lamp_off": 5}[frame.role]
        observation, label = f"{program}-{sequence}", f"{program}-{sequence}-{number:04d}"
        obstype, obsclass = ("DARK", "dayCal") if dark else ("FLAT", "partnerCal")
        target = "Dark" if dark else "GCALflat"
    return [
        ("INSTRUME", "F2", "Instrument used to acquire data"),
        ("OBJECT", target, "Object Name"),
        ("OBSTYPE", obstype, "Observation type"),
        ("OBSCLASS", obsclass, "Observe class"),
        ("GEMPRGID", program, "Gemini programme ID"),
        ("OBSID", observation, "Observation ID / Data label"),
        ("DATALAB", label, "DHS data label"),
        ("OBSERVER", "nirflow simulator", "Observer"),
        ("OBSERVAT", "Gemini-South", "Name of telescope"),
        ("TELESCOP", "Gemini-South", "Name of telescope"),
        ("SIMSEED", parameters.seed, "Simulated frame: seed of its night"),
        ("SSA", "simulated", "SSA"),
        ("RAWIQ", "70-percentile", "Raw Image Quality"),
        ("RAWCC", "50-percentile", "Raw Cloud Cover"),
        ("RAWWV", "80-percentile", "Raw Water Vapour/Transparency"),
        ("RAWBG", "50-percentile", "Raw Background"),
        ("RAWPIREQ", "YES" if frame.role == "science" else "UNKNOWN", "PI Requirements Met"),
        ("RAWGEMQA", "USABLE", "Gemini Quality Assessment"),
        ("RELEASE", f"{int(day[:4]) + 1}-{day[4:6]}-{day[6:]}", "End of proprietary period YYYY-MM-DD"),
    ]


def _telescope(frame: PlannedFrame) -> list[Card]:
    science = frame.role == "science"
    ra, dec = FIELD if science else (0.0, 0.0)
    p, q = frame.offset
    east, north = on_sky(frame.offset, frame.rotation)
    airmass = 1.05 + 0.002 * frame.number if science else 1.0
    return [
        ("PARALLAX", 0.0, "Parallax of Target"),
        ("RADVEL", 0.0, "Heliocentric Radial Velocity"),
        ("EPOCH", 2000.0, "Target Coordinate Epoch"),
        ("EQUINOX", 2000.0, "Target Coordinate Equinox"),
        ("TRKEQUIN", 2000.0, "Tracking equinox"),
        ("FRAME", "FK5", "Target coordinate system"),
        ("TRKFRAME", "FK5", "Tracking co-ordinate"),
        # Without these two other software takes the target for a moving one, and its coordinates for apparent ones.
        ("RATRACK", 0.0, "Differential tracking rate RA"),
        ("DECTRACK", 0.0, "Differential tracking rate Dec"),
        (
            "TRKEPOCH",
            round((frame.started - _MJD_EPOCH) / timedelta(days=1), 5),
            "Differential tracking epoch",
        ),
        ("RA", ra, "Target Right Ascension"),
        ("DEC", dec, "Target Declination"),
        ("ELEVATIO", 72.0 if science else 90.0, "Current Elevation"),
        ("AZIMUTH", 170.0 if science else 0.0, "Current Azimuth"),
        ("CRPA", frame.rotation, "Current Cass Rotator Position Angle"),
        ("HA", "+00:05:00.00", "Telescope hour angle"),
        ("PMDEC", 0.0, "Proper Motion in Declination"),
        ("PMRA", 0.0, "Proper Motion in RA"),
        ("XOFFSET", -p, "Telescope offset in x in arcsec"),
        ("YOFFSET", -q, "Telescope offset in y in arcsec"),
        ("POFFSET", p, "Telescope offset in p in arcsec"),
        ("QOFFSET", q, "Telescope offset in q in arcsec"),
        ("RAOFFSET", east, "Telescope offset in RA in arcsec"),
        ("DECOFFSE", north, "Telescope offset in DEC in arcsec"),
        ("RATRGOFF", 0.0, "Target offset in RA in arcsec"),
        ("DECTRGOF", 0.0, "Target offset in DEC in arcsec"),
        ("PA", frame.rotation, "Sky Position Angle at start of exposure"),
        ("IAA", 0.0, "Instrument Alignment Angle"),
        ("M2BAFFLE", "VISIBLE", "Position of M2 baffle"),
        ("M2CENBAF", "OPEN", "Position of M2 central hole baffle"),
        ("AOFOLD", "park-pos.", "AO fold position"),
        ("PWFS1_ST", "parked", "PWFS1 probe state"),
        ("PWFS2_ST", "parked", "PWFS2 probe state"),
        ("OIWFS_ST", "guiding" if science else "parked", "OIWFS probe state"),
        ("AOWFS_ST", "parked", "AOWFS probe state"),
        ("INPORT", 3, "Number of ISS port where F2 was located"),
        ("AIRMASS", round(airmass, 4), "Mean airmass for the observation"),
        ("AMSTART", round(airmass - 0.001, 4), "Airmass at start of exposure"),
        ("AMEND", round(airmass + 0.001, 4), "Airmass at end of exposure"),
    ]


def _instrument(parameters: Written, frame: PlannedFrame) -> list[Card]:
    dark = frame.role in DARKS
    filter_id = "DK_G0807" if dark else parameters.defaults.filter_id
    return [
        ("PREIMAGE", False, "Pre-imaging for MOS"),
        ("READMODE", _READ_MODES[frame.read_pairs], "Detector read mode"),
        ("NREADS", frame.read_pairs, "Number of low noise reads"),
        ("LNRS", frame.read_pairs, "Number of low noise reads"),
        ("COADDS", frame.coadds, "Number of coadds"),
        ("EXPTIME", frame.exposure_time, "Exposure time in seconds"),
        ("GAIN", 4.44, "Detector gain of one read [e-/ADU]"),
        ("RDNOISE", 0.0, "Detector read noise"),
        ("PIXSCALE", parameters.camera.axes.scale, "Pixel scale in arcsec/pixel"),
        ("GRORDER", 0, "Grism order"),
        ("GRWLEN", 0.0, "Grism wavelength"),
        ("WAVELENG", parameters.defaults.wavelength, "Effective wavelength [Angstrom]"),
        ("DECKER", "Open", "Decker position"),
        ("DETGRADE", "Science", "Detector grade"),
        ("DETID", "109", "Detector ID"),
        ("DETTYPE", "Hawaii-2 2048", "Detector type"),
        ("FILTER", filter_id, "Filter name"),
        ("FILTER1", "Open", "Filter wheel 1 position"),
        ("FILTER2", filter_id, "Filter wheel 2 position"),
        ("FOCUS", "f/16", "Focus position"),
        ("GRISM", "Open", "Grism position"),
        ("LYOT", "f/16_G5830", "Lyot wheel position"),
        ("MASKNAME", "None", "Mask name"),
        ("MASKTYPE", 0, "Mask type"),
        ("MOSPOS", "Open", "MOS wheel position"),
        ("WINDOW", "Closed" if dark else "Open", "Window cover position"),
    ]


def _calibration_unit(frame: PlannedFrame) -> list[Card]:
    if frame.role not in ("lamp_on", "lamp_off"):
        return []
    return [
        ("GCALLAMP", _LAMP, "GCAL lamp"),
        ("GCALFILT", "ND4.0", "GCAL filter"),
        ("GCALDIFF", "IR", "GCAL diffuser"),
        ("GCALSHUT", "OPEN" if frame.role == "lamp_on" else "CLOSED", "GCAL shutter"),
    ]


def _time(frame: PlannedFrame) -> list[Card]:
    day, clock = frame.started.date().isoformat(), f"{frame.started:%H:%M:%S}.0"
    # The real UTEND was late by the overhead before December 2015.
    ended = frame.started + timedelta(seconds=math.ceil(frame.exposure_time * frame.coadds) + 1)
    mjd = (frame.started - _MJD_EPOCH) / timedelta(days=1)
    return [
        ("DATE", day, "UT date of the file"),
        ("DATE-OBS", day, "UT date at observation start"),
        ("TIMESYS", "UTC", "Time system used"),
        ("UT", clock, "UT at observation start"),
        ("TIME-OBS", clock, "UT at observation start"),
        ("UTSTART", f"{frame.started:%H:%M:%S}.000", "UT at observation start"),
        ("UTEND", f"{ended:%H:%M:%S}.000", "UT at observation end"),
        ("MJD-OBS", float(np.float32(mjd)), "MJD of observation start (single precision)"),
        ("OBSEPOCH", round(2000 + (mjd - 51544.5) / 365.25, 1), "Epoch at start of exposure"),
    ]


def _extension(frame: PlannedFrame, size: int, scale: float) -> fits.Header:
    ra, dec = FIELD
    east, north = on_sky(frame.wcs, frame.rotation)
    step = scale / 3600.0
    c, s = step * math.cos(math.radians(frame.rotation)), step * math.sin(math.radians(frame.rotation))
    header = fits.Header()
    for keyword, value in (
        ("CD1_1", s), ("CD1_2", c), ("CD2_1", c), ("CD2_2", -s if s else 0.0), ("CD3_3", 1.0),
        ("CRPIX1", (size + 1) / 2), ("CRPIX2", (size + 1) / 2),
        ("CRVAL1", ra + east / 3600.0 / math.cos(math.radians(dec))), ("CRVAL2", dec + north / 3600.0),
        ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("RADECSYS", "FK5"), ("INHERIT", False),
    ):  # fmt: skip
        header[keyword] = value
    return header
