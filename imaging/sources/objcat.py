"""The catalogue of a stack, OBJCAT, with the columns that other software reads.

The names and conventions are those of SExtractor, which DRAGONS uses: positions count from 1, sizes are along
the axes of an ellipse, angles count from the x axis. The columns of `imaging.sources.detect.CATALOGUE`, which
count from 0, follow. FITS does not distinguish capitals, so two of those have other names here: `flags` is
`problems`, and `ellipticity` is only there as ELLIPTICITY.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.header import Header
from imaging.pixels.dq import UNUSABLE
from imaging.pixels.wcs import celestial_wcs
from imaging.sources.background import level_at
from imaging.sources.detect import Detection, Flag
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.sources.profile_kernels import flagged_pixels, light_profiles, source_shapes

#: Value of a column that other software fills in.
_UNSET: Final = -999
#: Magnitude, and its error, of a source without a positive flux.
_NO_MAGNITUDE: Final = 99.0
#: Scatter of ln(FWHM) of stars in addition to their noise: the seeing varies over the field.
_STAR_SCATTER: Final = 0.1
#: CLASS_STAR where the seeing is unknown.
_UNDECIDED: Final = 0.5
#: Bits of FLAGS in SExtractor, and the flags of `imaging.sources.detect` that set them: neighbours or bad
#: pixels bias the photometry, it was blended, a pixel is saturated, it is cut by the edge, its aperture is
#: incomplete.
_FLAGS: Final[Mapping[int, Flag]] = {
    1: Flag.BAD_PIXEL, 2: Flag.BLENDED, 4: Flag.SATURATED, 8: Flag.EDGE, 16: Flag.UNMEASURED | Flag.SHARP,
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of OBJCAT: its name, its type, its unit, and what it is."""

    name: str
    dtype: str
    unit: str
    meaning: str


COLUMNS: Final = (
    Column("NUMBER", "i4", "", "running number, brightest first"),
    Column("X_IMAGE", "f8", "pix", "centroid; the centre of the first pixel is 1"),
    Column("Y_IMAGE", "f8", "pix", "centroid; the centre of the first pixel is 1"),
    Column("ERRX2_IMAGE", "f4", "pix2", "variance of X_IMAGE"),
    Column("ERRY2_IMAGE", "f4", "pix2", "variance of Y_IMAGE"),
    Column("ERRXY_IMAGE", "f4", "pix2", "their covariance"),
    Column("X_WORLD", "f8", "deg", "right ascension"),
    Column("Y_WORLD", "f8", "deg", "declination"),
    Column("ERRX2_WORLD", "f4", "deg2", "variance along the first axis"),
    Column("ERRY2_WORLD", "f4", "deg2", "variance along the second axis"),
    Column("ERRXY_WORLD", "f4", "deg2", "their covariance"),
    Column("A_IMAGE", "f4", "pix", "rms along the major axis"),
    Column("B_IMAGE", "f4", "pix", "rms along the minor axis"),
    Column("THETA_IMAGE", "f4", "deg", "major axis from x, counter-clockwise"),
    Column("ERRA_IMAGE", "f4", "pix", "rms error along the major axis"),
    Column("ERRB_IMAGE", "f4", "pix", "rms error along the minor axis"),
    Column("ERRTHETA_IMAGE", "f4", "deg", "major axis of the error"),
    Column("A_WORLD", "f4", "deg", "rms along the major axis"),
    Column("B_WORLD", "f4", "deg", "rms along the minor axis"),
    Column("THETA_WORLD", "f4", "deg", "major axis from the first world axis"),
    Column("ERRA_WORLD", "f4", "deg", "rms error along the major axis"),
    Column("ERRB_WORLD", "f4", "deg", "rms error along the minor axis"),
    Column("ERRTHETA_WORLD", "f4", "deg", "major axis of the error"),
    Column("FWHM_IMAGE", "f4", "pix", "FWHM of the best Gaussian"),
    Column("FWHM_WORLD", "f4", "deg", "FWHM of the best Gaussian"),
    Column("FLUX_RADIUS", "f4", "pix", "radius with half of the flux"),
    Column("ELLIPTICITY", "f4", "", "1 - minor axis / major axis"),
    Column("FLUX_AUTO", "f8", "", "all light if it is a star [electron]"),
    Column("FLUXERR_AUTO", "f8", "", "its standard error [electron]"),
    Column("MAG_AUTO", "f4", "mag", "MAGZERO-2.5 log10 FLUX_AUTO; 99: none"),
    Column("MAGERR_AUTO", "f4", "mag", "its error without that of MAGZERO"),
    Column("FLUX_MAX", "f4", "", "highest pixel [electron]"),
    Column("CLASS_STAR", "f4", "", "1 the width of a star, 0 not"),
    Column("ISOAREA_IMAGE", "i4", "pix2", "pixels above the threshold"),
    Column("FLAGS", "i2", "", "flags with SExtractor's meanings"),
    Column("IMAFLAGS_ISO", "i4", "", "DQ bits within ISOAREA_IMAGE"),
    Column("NIMAFLAGS_ISO", "i4", "", "flagged pixels within ISOAREA_IMAGE"),
    Column("BACKGROUND", "f4", "", "background at the source [electron]"),
    Column("REF_NUMBER", "i4", "", "star of the reference catalogue; -999: none"),
    Column("REF_MAG", "f4", "mag", "its magnitude there; -999: none"),
    Column("REF_MAG_ERR", "f4", "mag", "its error there; -999: none"),
    Column("PROFILE_FWHM", "f4", "pix", "diameter of the area above half peak"),
    Column("PROFILE_EE50", "f4", "pix", "diameter with half of the flux"),
    Column("x", "f8", "pix", "centroid; the centre of the first pixel is 0"),
    Column("y", "f8", "pix", "centroid; the centre of the first pixel is 0"),
    Column("error", "f8", "pix", "standard error of x and of y"),
    Column("flux", "f8", "", "in the aperture of the detection [electron]"),
    Column("flux_err", "f8", "", "its error by uncorrelated noise [electron]"),
    Column("snr", "f8", "", "flux / flux_err"),
    Column("peak", "f8", "", "highest pixel in the window [electron]"),
    Column("fwhm", "f8", "pix", "FWHM_IMAGE"),
    Column("area", "i4", "pix2", "ISOAREA_IMAGE"),
    Column("problems", "i4", "", "flags with nirflow's meanings"),
    Column("ra", "f8", "deg", "X_WORLD"),
    Column("dec", "f8", "deg", "Y_WORLD"),
)


@dataclass(frozen=True)
class SourceLight:
    """All light of each source, and its calibration.

    Attributes
    ----------
    flux, error
        Electrons, (n,).
    zero_point
        Magnitude of a source of one electron; 0 if it is unknown.
    reference
        Number, from 1, of each source's star in a reference catalogue, 0 without one, (n,).
    reference_magnitude, reference_error
        Its magnitude there, and the error, (n,); NaN if unknown.
    """

    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    zero_point: float
    reference: NDArray[np.intp]
    reference_magnitude: NDArray[np.float64]
    reference_error: NDArray[np.float64]


_DTYPE: Final = np.dtype([(column.name, column.dtype) for column in COLUMNS])


def object_catalogue(
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    found: Detection,
    header: Header,
    aperture: float,
    light: SourceLight | None = None,
) -> NDArray[np.void]:
    """Return OBJCAT: the sources found in an image, with the columns `COLUMNS`.

    Parameters
    ----------
    sci
        float32 (ny, nx), electrons: the image in which they were found.
    dq
        uint16 (ny, nx).
    found
        The sources.
    header
        Header with the celestial WCS of the image; without one, world coordinates are NaN.
    aperture
        Radius of the aperture of the detection's fluxes, in FWHM of the seeing.
    light
        All light of the sources; default: the detection's fluxes, with the zero point 0.

    Returns
    -------
    structured array
        One row per source, in the order of ``found``.
    """
    table = found.catalogue
    rows = np.zeros(len(table), _DTYPE)
    if not len(rows):
        return rows
    for name in ("x", "y", "error", "flux", "flux_err", "snr", "peak", "fwhm", "area"):
        rows[name] = table[name]
    rows["problems"] = table["flags"]
    rows["NUMBER"] = np.arange(1, len(rows) + 1)
    rows["X_IMAGE"], rows["Y_IMAGE"] = rows["x"] + 1, rows["y"] + 1
    rows["ERRX2_IMAGE"] = rows["ERRY2_IMAGE"] = rows["error"] ** 2
    rows["ERRA_IMAGE"] = rows["ERRB_IMAGE"] = rows["error"]
    rows["FWHM_IMAGE"], rows["ISOAREA_IMAGE"] = rows["fwhm"], rows["area"]
    for bit, flag in _FLAGS.items():
        rows["FLAGS"] |= np.where(rows["problems"] & int(flag), bit, 0).astype(np.int16)
    for name in ("REF_NUMBER", "REF_MAG", "REF_MAG_ERR"):
        rows[name] = _UNSET
    _add_fluxes(rows, light)
    _add_shapes(rows, sci, dq, found, aperture)
    rows["CLASS_STAR"] = _star_class(rows, found.seeing)
    _add_world(rows, header, sci.shape)
    return rows


def _add_fluxes(rows: NDArray[np.void], light: SourceLight | None) -> None:
    flux, error = (rows["flux"], rows["flux_err"]) if light is None else (light.flux, light.error)
    rows["FLUX_AUTO"], rows["FLUXERR_AUTO"] = flux, error
    bright = flux > 0
    safe = np.where(bright, flux, 1.0)
    zero_point = 0.0 if light is None else light.zero_point
    rows["MAG_AUTO"] = np.where(bright, zero_point - 2.5 * np.log10(safe), _NO_MAGNITUDE)
    relative = 2.5 / np.log(10.0) * error / safe
    rows["MAGERR_AUTO"] = np.where(bright, np.minimum(relative, _NO_MAGNITUDE), _NO_MAGNITUDE)
    if light is None:
        return
    known = (light.reference > 0) & np.isfinite(light.reference_magnitude)
    rows["REF_NUMBER"][known] = light.reference[known]
    rows["REF_MAG"][known] = light.reference_magnitude[known]
    rows["REF_MAG_ERR"][known] = light.reference_error[known]


def _add_shapes(
    rows: NDArray[np.void],
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    found: Detection,
    aperture: float,
) -> None:
    n = len(rows)
    positions = np.column_stack([rows["x"], rows["y"]])
    unusable = (dq & np.uint16(UNUSABLE)) != 0
    levels = level_at(found.background, positions)
    seeing = found.seeing if np.isfinite(found.seeing) else float(np.median(rows["fwhm"]))
    sigmas = np.maximum(rows["fwhm"], 1.0) / FWHM_PER_SIGMA
    moments, profiles = np.empty((n, 3)), np.empty((n, 3))
    source_shapes(sci, unusable, positions, levels, sigmas, moments)
    light_profiles(sci, unusable, positions, levels, rows["flux"].copy(), aperture * seeing, profiles)
    bits, counts = np.empty(n, np.int32), np.empty(n, np.int32)
    flagged_pixels(dq, positions, rows["area"].astype(np.float64), bits, counts)
    xx, yy, xy = moments.T
    mean, half = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    rows["A_IMAGE"], rows["B_IMAGE"] = np.sqrt(mean + half), np.sqrt(np.maximum(mean - half, 0.0))
    rows["THETA_IMAGE"] = np.degrees(0.5 * np.arctan2(2.0 * xy, xx - yy))
    rows["ELLIPTICITY"] = 1.0 - rows["B_IMAGE"] / rows["A_IMAGE"]
    rows["BACKGROUND"] = levels
    rows["FLUX_MAX"], rows["FLUX_RADIUS"], rows["PROFILE_FWHM"] = profiles.T
    rows["PROFILE_EE50"] = 2.0 * rows["FLUX_RADIUS"]
    for name in ("FLUX_RADIUS", "PROFILE_FWHM", "PROFILE_EE50"):
        rows[name][~np.isfinite(rows[name])] = _UNSET
    rows["IMAFLAGS_ISO"], rows["NIMAFLAGS_ISO"] = bits, counts


def _star_class(rows: NDArray[np.void], seeing: float) -> NDArray[np.float64]:
    """Return how well the width of each source is that of a star: 1 at the seeing, 0 far from it."""
    if not np.isfinite(seeing):
        return np.full(len(rows), _UNDECIDED)
    # The relative error of a width is about that of the flux.
    error = np.hypot(_STAR_SCATTER, 1.0 / np.maximum(rows["snr"], 1.0))
    off = np.log(np.maximum(rows["fwhm"], 1e-3) / seeing) / error
    likeness: NDArray[np.float64] = np.exp(-0.5 * (off / 3.0) ** 2)
    return np.where(rows["problems"] & int(Flag.SHARP | Flag.UNMEASURED), 0.0, likeness)


def _add_world(rows: NDArray[np.void], header: Header, shape: Any) -> None:
    wcs = celestial_wcs(header, shape)
    names = [column.name for column in COLUMNS if column.name.endswith("_WORLD")]
    if wcs is None:
        for name in (*names, "ra", "dec"):
            rows[name] = np.nan
        return
    from astropy.wcs.utils import proj_plane_pixel_scales

    rows["ra"], rows["dec"] = wcs.all_pix2world(rows["x"], rows["y"], 0)
    rows["X_WORLD"], rows["Y_WORLD"] = rows["ra"], rows["dec"]
    first, second = proj_plane_pixel_scales(wcs)
    scale = float(np.sqrt(first * second))
    rows["ERRX2_WORLD"] = rows["ERRY2_WORLD"] = (rows["error"] * scale) ** 2
    for name in ("A", "B", "ERRA", "ERRB", "FWHM"):
        rows[f"{name}_WORLD"] = rows[f"{name}_IMAGE"] * scale
    angle = np.radians(rows["THETA_IMAGE"].astype(np.float64))
    east, north = wcs.pixel_scale_matrix @ np.array([np.cos(angle), np.sin(angle)])
    rows["THETA_WORLD"] = (np.degrees(np.arctan2(north, east)) + 90.0) % 180.0 - 90.0
