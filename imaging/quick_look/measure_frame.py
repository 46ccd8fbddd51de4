"""Figures of one raw frame, alone: level, sky, stars and saturation.

A frame of the sky is detrended as for a reduction, but without cosmic rays and persistence, with the calibrations that
there are; its stars are found on the sky as it is. Darks and flats have a level only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.illumination import default_circle
from imaging.detrend.detrend import CalibrationFile, DetrendParameters, MaskFile, detrend, sky_level
from imaging.detrend.prepare import prepare
from imaging.frames.facts import FrameFacts
from imaging.instruments.requested_conditions import at_zenith
from imaging.io.raw_file import RawFile
from imaging.kinds import STACK
from imaging.pixels.bands import bands
from imaging.pixels.dq import DQ
from imaging.quick_look.frame_figures import FrameValues
from imaging.sources.detect import CATALOGUE, DetectParameters, detect

#: Calibrations that a frame of the sky is detrended with.
NEEDED: Final = STACK.needs
#: Detrending that does without any of them. Displaced rows are looked for: such a frame is not measurable.
_DETREND: Final = DetrendParameters(allow_missing=NEEDED, cosmic_rays="never", persistence=None)
#: Sources are looked for well above the noise: faint ones add nothing to the seeing and take time.
_DETECT: Final = DetectParameters(threshold=5.0)
#: Stars that give the ellipticity, as for the seeing: signal to noise, and width about the seeing (logarithm).
_STAR_SNR, _STAR_WIDTH = 30.0, 0.15
#: Stars that are matched with those of other frames.
_MATCHED_SNR, _MOST_MATCHED = 15.0, 150
_BAND: Final = 256
#: Side of the frame with which kernels are loaded, px.
_WARM: Final = 128


@dataclass(frozen=True)
class Calibrations:
    """The calibrations of a frame, open for reading; None for one that is missing.

    Attributes
    ----------
    dark, flat, bpm
        The files.
    names
        Their names.
    missing
        Which calibrations are missing and why; empty if none.
    """

    dark: CalibrationFile | None = None
    flat: CalibrationFile | None = None
    bpm: MaskFile | None = None
    names: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Measurement:
    """The figures of a frame, and its stars.

    Attributes
    ----------
    facts
        The frame.
    values
        Its figures, without those that compare it with others.
    stars
        Its clean stars, as `imaging.sources.detect.CATALOGUE`, the brightest first; at most 150.
    reasons
        Why figures are missing, by name.
    """

    facts: FrameFacts
    values: FrameValues
    stars: NDArray[np.void]
    reasons: dict[str, str] = field(default_factory=dict)


def measure_frame(
    raw: RawFile, calibrations: Calibrations = Calibrations(), *, threads: int | None = None
) -> Measurement:
    """Measure one raw frame.

    Parameters
    ----------
    raw
        The frame, open.
    calibrations
        Its calibrations; those that are missing are done without.
    threads
        Threads; the result does not depend on them.

    Returns
    -------
    Measurement
        Figures, stars, and why figures are missing.

    Raises
    ------
    FrameError
        If no pixel is usable, or rows are displaced.
    """
    facts = raw.facts
    if facts.kind != "object" or facts.spectroscopic:
        return _without_stars(raw)
    found = detrend(
        raw, dark=calibrations.dark, flat=calibrations.flat, bpm=calibrations.bpm, parameters=_DETREND, threads=threads
    )  # fmt: skip
    sci, dq, level = found.sci, found.dq, found.level
    if calibrations.flat is None and (dark_part := _unlit(raw)) is not None:
        dq[dark_part] |= np.uint16(DQ.UNILLUMINATED)
        level, _ = sky_level(sci, dq)
    values = FrameValues(
        level=level, sky=level / facts.exposure if facts.exposure > 0 else None,
        saturated=found.metrics.saturated / sci.size,
    )  # fmt: skip
    reasons: dict[str, str] = {}
    brightness, why = _brightness(values.sky, calibrations, facts)
    reasons |= {"sky_brightness": why} if why else {}
    try:
        detection = detect(sci, dq, _DETECT)
    except ValueError as error:
        return Measurement(facts, values, np.empty(0, CATALOGUE), {"seeing": str(error)})
    table = detection.catalogue
    clean = table["flags"] == 0
    alike = clean & (table["snr"] > _STAR_SNR)
    values = values.model_copy(update={"sky_brightness": brightness, "stars": int(np.count_nonzero(alike))})
    if math.isnan(detection.seeing):
        reasons["seeing"] = f"only {values.stars} stars with a signal to noise of {_STAR_SNR:g}"
    else:
        alike &= np.abs(np.log(np.maximum(table["fwhm"], 1e-3) / detection.seeing)) < _STAR_WIDTH
        seeing = detection.seeing * facts.readout.pixel_scale
        values = values.model_copy(
            update={
                "seeing": seeing,
                "seeing_at_zenith": at_zenith(seeing, facts.airmass),
                "ellipticity": float(np.median(table["ellipticity"][alike])),
            }
        )
    stars = table[clean & (table["snr"] > _MATCHED_SNR)][:_MOST_MATCHED]
    return Measurement(facts, values, stars, reasons)


def _without_stars(raw: RawFile) -> Measurement:
    """Measure a frame that does not show the sky: its level and its saturated pixels, without calibrations."""
    facts = raw.facts
    sci, dq = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.uint16)
    var = np.empty((min(_BAND, raw.shape[0]), raw.shape[1]), np.float32)
    for rows in bands(raw.shape[0], _BAND):
        planes = sci[rows], var[: rows.stop - rows.start], dq[rows]
        prepare(raw.rows(rows), facts, out=planes)
    saturated = float(np.count_nonzero(dq & np.uint16(DQ.SATURATED))) / dq.size
    level, _ = sky_level(sci, dq)
    what = "spectroscopy" if facts.spectroscopic else f"a {facts.kind} shows no sky"
    return Measurement(
        facts,
        FrameValues(level=None if math.isnan(level) else level, saturated=saturated),
        np.empty(0, CATALOGUE),
        dict.fromkeys(("seeing", "ellipticity", "sky", "transparency", "pointing_error", "guiding"), what),
    )


def _unlit(raw: RawFile) -> NDArray[np.bool_] | None:
    """Return the pixels outside the circle of light of the detector's table; None without such a circle."""
    detector = raw.facts.table.detector
    circle = default_circle(raw.shape, "", detector)
    if detector.illuminated is None or raw.shape != detector.shape:
        return None
    y, x = np.ogrid[: raw.shape[0], : raw.shape[1]]
    outside: NDArray[np.bool_] = (x - circle.x) ** 2 + (y - circle.y) ** 2 > circle.radius**2
    return outside


def _brightness(sky: float | None, calibrations: Calibrations, facts: FrameFacts) -> tuple[float | None, str]:
    """Return the sky in mag per square arcsec by the nominal zero point, or why it is unknown."""
    zero_point = facts.table.zero_point(facts.values)
    if calibrations.dark is None:
        return None, "no dark was subtracted"
    if zero_point is None:
        return None, f"the table of {facts.instrument} has no zero point for {facts.filter}"
    if sky is None or sky <= 0:
        return None, "the level is not above that of the dark"
    return zero_point - 2.5 * math.log10(sky / facts.readout.pixel_scale**2), ""


def warm_up() -> None:
    """Load the kernels that find stars, or compile them, so that the first frame does not wait for this."""
    y, x = np.mgrid[:_WARM, :_WARM].astype(np.float32)
    sci = np.sin(1.7 * x) * np.cos(2.3 * y)
    for place in (20, 44, 76, 108):
        sci += 1e4 * np.exp(-0.2 * ((x - place) ** 2 + (y - place) ** 2))
    detect(sci.astype(np.float32), np.zeros(sci.shape, np.uint16), _DETECT)
