"""Find the sources of a sky-subtracted frame: a catalogue, an object mask, and the seeing.

The frame is smoothed with a small Gaussian, pixels above a multiple of the local noise are joined into
components, blends are split at their saddles, and each source is measured: a centroid in an adaptive Gaussian
window, a flux in an aperture of a fixed number of FWHM. What pixels add to the FWHM does not count for the
aperture, so that it holds the same fraction of a star's light in any seeing. Bad pixels are filled from their
neighbours first, so that they neither create nor split sources; so are hot pixels and cosmic rays of one or two
pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import DQ
from imaging.pixels.fill import NOT_MEASURED, fill_in_place, find_gaps, remove_spikes
from imaging.sources import measure, segmentation
from imaging.sources.background import Background, measure_background
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.sources.neighbours import light_of_neighbours

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3


class Flag(IntFlag):
    """Possible problems of a source in a catalogue."""

    BLENDED = 1
    BAD_PIXEL = 2
    NON_LINEAR = 4
    SATURATED = 8
    EDGE = 16
    SHARP = 32
    UNMEASURED = 64


#: Columns of a catalogue. Positions count from 0 at the centre of the first pixel.
CATALOGUE: Final = np.dtype(
    [
        ("x", "f8"),  # windowed centroid, px
        ("y", "f8"),
        ("error", "f8"),  # standard error of x and of y, px
        ("flux", "f8"),  # in an aperture of a fixed number of FWHM, electrons
        ("flux_err", "f8"),
        ("snr", "f8"),  # flux / flux_err
        ("neighbours", "f8"),  # part of the flux that is light of other sources, electrons
        ("peak", "f8"),  # highest pixel above the background, electrons
        ("fwhm", "f8"),  # of the best Gaussian, px
        ("ellipticity", "f8"),  # 1 - minor axis / major axis
        ("area", "i4"),  # pixels above the threshold
        ("flags", "i4"),  # Flag
    ]
)

#: Sources used to measure the seeing: minimum signal to noise, and minimum number.
_SEEING_SNR: Final = 30.0
_SEEING_SOURCES: Final = 3
#: A source narrower than this fraction of the seeing is not a star but a hot pixel or cosmic ray.
_SHARP: Final = 0.7
#: A single pixel this many sigmas above the background, whose second highest neighbour has less than this
#: fraction of it, is not a source: for a star of 2.5 px FWHM that neighbour has 0.5 of the highest pixel, or
#: more.
_SPIKE, _SPIKE_SHARE = 10.0, 0.35
#: Part of the aperture that may be without data; a source that lacks more is cut by an edge.
_AT_THE_EDGE: Final = 0.05
#: Assumed seeing if no star allows a measurement, px.
_FALLBACK_FWHM: Final = 4.0
#: Variance that pixels add to the image of a star along one axis, that of a uniform square, px^2.
_PIXEL_VARIANCE: Final = 1 / 12
#: A blend is split if the lower peak is this many (smoothed) sigmas above the saddle.
_PROMINENCE: Final = 3.0


class DetectParameters(StepParameters):
    """Parameters of the detection of sources."""

    threshold: float = parameter(
        2.0, "level above which a pixel of the smoothed frame belongs to a source, in the frame's own noise",
        unit="sigma", gt=0,
    )  # fmt: skip
    min_area: int = parameter(8, "minimum number of connected pixels of a source", unit="px", ge=1)
    filter_fwhm: float = parameter(2.0, "FWHM of the smoothing filter", unit="px", gt=0.5, le=3.5)
    background_mesh: int = parameter(64, "side of the cells of the background", unit="px", ge=16)
    deblend_contrast: float = parameter(
        0.005, "minimum fraction of a blend's flux above the saddle for a separate source", ge=0, lt=1
    )
    dilation: int = parameter(2, "margin of the object mask around sources", unit="px", ge=0)
    aperture: float = parameter(2.0, "radius of the aperture for fluxes, in FWHM of the seeing", gt=0.5)


@dataclass(frozen=True)
class Detection:
    """The result of the detection in a frame.

    Attributes
    ----------
    catalogue
        Structured array of `CATALOGUE`, brightest first; empty if no catalogue was requested.
    object_mask
        uint8 (ny, nx), 1 on sources and their margin; independent of the data quality plane.
    background
        The mesh of the background.
    seeing
        FWHM of the stars in pixels; NaN with too few stars.
    """

    catalogue: NDArray[np.void]
    object_mask: NDArray[np.uint8]
    background: Background
    seeing: float

    @property
    def level(self) -> float:
        """Median background, electrons."""
        return self.background.level

    @property
    def rms(self) -> float:
        """Median standard deviation of one pixel of the background, electrons."""
        return self.background.rms


def detect(
    sci: NDArray[np.float32],
    dq: NDArray[np.uint16],
    parameters: DetectParameters | None = None,
    *,
    deblend: bool = True,
    catalogue: bool = True,
    overwrite: bool = False,
) -> Detection:
    """Find and measure the sources of a frame.

    Parameters
    ----------
    sci
        float32 (ny, nx), electrons, C order; the sky subtracted or not.
    dq
        uint16 (ny, nx).
    parameters
        Thresholds and sizes.
    deblend
        Split blends. The object mask does not need it.
    catalogue
        Measure the sources; otherwise only the mask and the background are made.
    overwrite
        ``sci`` is no longer needed, and is used as memory.

    Returns
    -------
    Detection
        Catalogue, mask, background and seeing.

    Raises
    ------
    ValueError
        If the frame has no good pixels.
    """
    parameters = parameters or DetectParameters()
    sci = np.ascontiguousarray(sci, np.float32)
    dq = np.ascontiguousarray(dq, np.uint16)
    cell = parameters.background_mesh
    background = measure_background(sci, dq, cell=cell)
    gaps = find_gaps(sci, sci, dq, NOT_MEASURED)
    filled = sci if overwrite else sci.copy()
    segmentation.subtract_mesh(filled, background.level_mesh, cell)
    fill_in_place(filled, gaps)
    remove_spikes(filled, gaps, np.float32(_SPIKE * background.rms), np.float32(_SPIKE_SHARE))
    taps = _taps(parameters.filter_fwhm)
    smooth = np.empty(sci.shape, np.float32)
    segmentation.smooth_plane(filled, taps, smooth)
    runs, component = segmentation.find_runs(
        smooth, background.rms_mesh, cell, np.float32(parameters.threshold)
    )
    numbers, count = segmentation.large_components(runs, component, parameters.min_area)
    mask = np.zeros(sci.shape, np.uint8)
    segmentation.paint_mask(runs, numbers, parameters.dilation, mask)
    if not catalogue:
        return Detection(np.empty(0, CATALOGUE), mask, background, float("nan"))
    sources = segmentation.split_components(
        filled, smooth, runs, numbers, count, deblend, parameters.deblend_contrast,
        _PROMINENCE * background.rms * _smoothed_sigma(taps), parameters.min_area,
    )  # fmt: skip
    table, seeing = _measure(filled, dq, sources, background, parameters)
    return Detection(table, mask, background, seeing)


def _taps(fwhm: float) -> NDArray[np.float32]:
    """Return centre, first and second neighbour of a sampled Gaussian with the sum 1."""
    taps = np.exp(-0.5 * (np.arange(3) * FWHM_PER_SIGMA / fwhm) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def _smoothed_sigma(taps: NDArray[np.float32]) -> float:
    """Return the noise of the smoothed frame in units of that of the frame."""
    return float(taps[0] ** 2 + 2 * (taps[1:] ** 2).sum())


def _measure(
    plane: NDArray[np.float32],
    dq: NDArray[np.uint16],
    sources: NDArray[np.float64],
    background: Background,
    parameters: DetectParameters,
) -> tuple[NDArray[np.void], float]:
    table = np.zeros(len(sources), CATALOGUE)
    if not len(sources):
        return table, float("nan")
    # Members of a blend start at their own peaks, others at their barycentres.
    blended = sources[:, 6] > 0
    first = np.where(blended[:, None], sources[:, 4:6], sources[:, 0:2])
    moments = np.empty((len(sources), 6))
    measure.windowed_moments(plane, np.ascontiguousarray(first), _FALLBACK_FWHM / FWHM_PER_SIGMA, moments)
    # A window that moved away from its source measured another one.
    lost = np.hypot(*(moments[:, :2] - first).T) > np.maximum(4.0, np.sqrt(sources[:, 3]))
    failed = lost | (moments[:, 5] == 0)
    table["x"], table["y"] = np.where(failed[:, None], first, moments[:, :2]).T
    table["fwhm"], table["ellipticity"], table["peak"] = moments[:, 2:5].T
    table["area"] = sources[:, 3]
    table["flags"] = np.where(failed, Flag.UNMEASURED, 0) | np.where(blended, Flag.BLENDED, 0)
    rough = _photometry(plane, dq, table, background, 2.0 * _FALLBACK_FWHM, _FALLBACK_FWHM)
    seeing = _seeing(rough)
    fwhm = seeing if np.isfinite(seeing) else _FALLBACK_FWHM
    radius = parameters.aperture * _width_of_light(fwhm)
    table = _photometry(plane, dq, table, background, radius, fwhm)
    table["neighbours"] = light_of_neighbours(table["x"], table["y"], table["flux"], radius, fwhm)
    table["flags"] |= np.where(table["fwhm"] < _SHARP * fwhm, Flag.SHARP, 0)
    order = np.lexsort((table["x"], table["y"], -table["flux"]))
    return table[order], seeing


def _width_of_light(fwhm: float) -> float:
    """Return the FWHM of stars without what the pixels add to it."""
    return math.sqrt(max(fwhm**2 - _PIXEL_VARIANCE * FWHM_PER_SIGMA**2, 0.25 * fwhm**2))


def _photometry(
    plane: NDArray[np.float32],
    dq: NDArray[np.uint16],
    table: NDArray[np.void],
    background: Background,
    radius: float,
    core: float,
) -> NDArray[np.void]:
    """Return the table with fluxes, errors and the flags from the data quality."""
    out, n = table.copy(), len(table)
    flux, area = np.empty(n), np.empty(n)
    bits, core_bits = np.empty(n, np.uint16), np.empty(n, np.uint16)
    positions = np.column_stack([table["x"], table["y"]])
    lost, outside = np.empty(n), int(DQ.NO_DATA | DQ.UNILLUMINATED)
    measure.aperture_sums(plane, dq, positions, radius, core, outside, flux, area, bits, core_bits, lost)
    rms = _at(background, positions)
    light = np.maximum(flux, 0.0)
    out["flux"] = flux
    # Noise of the sky in the aperture and of the source itself; the gain of a prepared frame is 1.
    out["flux_err"] = np.sqrt(area * rms**2 + light)
    out["snr"] = out["flux"] / out["flux_err"]
    # A Gaussian's least-squares position: shot noise of the source and of the background beneath it
    # (King 1983, PASP 95, 163).
    sigma = np.maximum(table["fwhm"], 1.0) / FWHM_PER_SIGMA
    safe = np.maximum(light, 1e-9)
    out["error"] = sigma * np.sqrt(1.0 / safe + 8.0 * np.pi * (sigma * rms / safe) ** 2)
    # Single pixels without data are like bad pixels: those in the wings are interpolated well.
    bad = outside | int(DQ.BAD_PIXEL | DQ.COSMIC_RAY | DQ.OVERLAP)
    out["flags"] |= np.where(lost > _AT_THE_EDGE, Flag.EDGE, 0)
    out["flags"] |= np.where(core_bits & bad, Flag.BAD_PIXEL, 0)
    out["flags"] |= np.where(bits & int(DQ.NON_LINEAR), Flag.NON_LINEAR, 0)
    out["flags"] |= np.where(bits & int(DQ.SATURATED), Flag.SATURATED, 0)
    return out


def _at(background: Background, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the background noise at positions, from the cell of each."""
    rows, columns = background.rms_mesh.shape
    i = np.clip(positions[:, 0] // background.cell, 0, columns - 1).astype(int)
    j = np.clip(positions[:, 1] // background.cell, 0, rows - 1).astype(int)
    return background.rms_mesh[j, i].astype(np.float64)


def _seeing(table: NDArray[np.void]) -> float:
    """Return the FWHM of the stars: bright, clean sources cluster there, galaxies and cosmic rays scatter."""
    clean = table[(table["flags"] == 0) & (table["snr"] > _SEEING_SNR)]
    if len(clean) < _SEEING_SOURCES:
        return float("nan")
    sizes = np.sort(np.log(clean["fwhm"]))
    # Half-sample mode (Robertson & Cryer 1974): reduce the sample to its densest half until few are left.
    while len(sizes) > _SEEING_SOURCES:
        half = (len(sizes) + 1) // 2
        first = int(np.argmin(sizes[half - 1 :] - sizes[: len(sizes) - half + 1]))
        sizes = sizes[first : first + half]
    mode = float(np.exp(np.median(sizes)))
    stars = clean["fwhm"][np.abs(np.log(clean["fwhm"] / mode)) < 0.15]
    return float(np.median(stars))
