"""The expected stack: the noise-free stack and its photon noise from the truth.

The product is read here and the field is located on it, so that truth and product share a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.pixels.dq import DQ
from imaging.simulator import measure_stars as measure
from imaging.simulator.camera import SkyAxes
from imaging.simulator.plans.field import FIELD
from imaging.simulator.score_figures import read_planes
from imaging.simulator.star_field import BRIGHT_ELECTRONS, field_offsets, render_at
from imaging.simulator.truth import FrameTruth, NightTruth

#: Cards of a stack's photometry that are scored.
PHOTOMETRY: Final = ("MAGZERO", "MAGZERR", "MAGZSRC", "MAGZN", "MAGLIM", "APRADIUS", "APCORR")


@dataclass(frozen=True)
class StackProduct:
    """The planes and header facts of a stack that are scored."""

    sci: NDArray[Any]  #: electrons of one frame's exposure
    var: NDArray[Any]
    dq: NDArray[Any]
    wcs: WCS
    reference: str  #: name of the reference frame
    noise_correlation: float = 1.0  #: true sigma of a large bin's mean over the naive one from VAR
    #: Frames used: (dx, dy) or a 2 x 3 affine matrix that maps a frame's pixel to the reference frame's.
    mappings: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    #: What the frames are scaled to the reference by: stars, exposure or none.
    scaled_by: str = "exposure"
    #: Error of the world coordinates along one axis as stated, mas; None for those of the telescope.
    astrometry_error: float | None = None
    #: Relative error of the stars' fluxes in the reference, which determine the scale of the stack; 0 if they do not.
    scale_error: float = 0.0
    #: Cards of its photometry.
    photometry: Mapping[str, Any] = field(default_factory=dict)


def read_stack(path: Path) -> StackProduct:
    """Read a stack: SCI, VAR, DQ, the ALIGNMENT table, and the cards REFFRAME and NCORR.

    Raises
    ------
    FrameError
        If the table or REFFRAME is missing.
    """
    with fits.open(path, memmap=False) as hdus:
        header = hdus["SCI"].header.copy()
        if "RADECSYS" in header:  # the obsolete keyword of raw files, about which astropy warns
            header["RADESYS"] = header.pop("RADECSYS")
        cards = {**dict(hdus[0].header), **dict(header)}
        if "ALIGNMENT" not in hdus or "REFFRAME" not in cards:
            raise FrameError(
                path.name, "is not a stack: it has no ALIGNMENT table or no REFFRAME card",
                remedy="Provide the science product of this night.",
            )  # fmt: skip
        table = hdus["ALIGNMENT"].data
        used = np.asarray(table["used"], bool)
        mappings = {
            str(row["name"]).strip(): similarity(
                float(row["dx"]), float(row["dy"]), float(row["rotation"]), float(row["scale"])
            )
            for row in table[used]
        }
    sci, var, dq = read_planes(path, "SCI", "VAR", "DQ")
    reference, correlation = str(cards["REFFRAME"]), float(cards.get("NCORR", 1.0))
    scaled_by = str(cards.get("SCALEBY", "exposure")).strip()
    stated = cards.get("ASTERR")
    return StackProduct(
        sci, var, dq, WCS(header).celestial, reference, correlation, mappings, scaled_by,
        astrometry_error=None if stated is None else float(stated),
        scale_error=_scale_error(table[used]) if scaled_by == "stars" else 0.0,
        photometry={name: cards[name] for name in PHOTOMETRY if name in cards},
    )  # fmt: skip


def _scale_error(table: Any) -> float:
    """Return the relative error of the reference's fluxes: half of the variance of the frames' ratios to it."""
    errors = np.asarray(table["flux_error"], np.float64)
    errors = errors[np.isfinite(errors) & (errors > 0)]
    return float(np.median(errors)) / math.sqrt(2) if errors.size else 0.0


def similarity(dx: float, dy: float, rotation: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    """Return the 2 x 3 matrix of x' = scale R(rotation) x + (dx, dy); ``rotation`` in degrees, from x to y."""
    a = math.radians(rotation)
    c, s = scale * math.cos(a), scale * math.sin(a)
    return np.array([[c, -s, dx], [s, c, dy]])


def measured(stack: StackProduct) -> NDArray[np.bool_]:
    """Return the pixels of a stack that have a measurement."""
    no_data = int(DQ.NO_DATA | DQ.UNILLUMINATED)
    return np.asarray(((stack.dq & no_data) == 0) & np.isfinite(stack.sci) & np.isfinite(stack.var))


def pointing(frame: FrameTruth) -> tuple[float, float]:
    """Return the true offset (P, Q) of a science frame, arcsec."""
    if frame.pointing is None:
        raise FrameError(frame.file, "is not a science frame", remedy="Score a stack of science frames.")
    return frame.pointing


@dataclass(frozen=True)
class Grid:
    """Position of the field on the stack, whose grid is that of its reference frame."""

    origin: tuple[float, float]  #: stack pixel (x, y) of the field's centre
    axes: SkyAxes  #: how the sky lies on it
    rotation: float = 0.0  #: position angle of the reference frame, deg

    def position(self, sources: Any) -> tuple[Any, Any]:
        """Return the pixels (x, y) of a source or of all rows of a table."""
        x, y = field_offsets(sources, self.axes, self.rotation)
        return self.origin[0] + x, self.origin[1] + y


def locate(stack: StackProduct, truth: NightTruth, frames: Sequence[FrameTruth]) -> Grid:
    """Find the field's centre on the stack: from its WCS, then from the bright stars themselves if there are any.

    Raises
    ------
    FrameError
        If no stars are found near their expected positions.
    """
    stars, axes = landmarks(truth), truth.parameters.axes
    if not len(stars):
        x, y = stack.wcs.all_world2pix(*FIELD, 0)
        return Grid((float(x), float(y)), axes, truth.frame(stack.reference).disturbance.rotation)
    expected = np.stack(stack.wcs.all_world2pix(stars["ra"], stars["dec"], 0), axis=1)
    mask = ~measured(stack)
    image = np.where(mask, 0, stack.sci).astype(np.float32)
    level = sep.Background(image, mask=mask)
    found = sep.extract(image - level.back(), 20 * level.globalrms, mask=mask, minarea=6)
    places = np.stack([found["x"], found["y"]], axis=1)
    fwhm = float(np.mean([f.fwhm for f in frames]))
    reach = 10.0 + 2.0 * truth.parameters.dither_step / axes.scale
    shift = measure.common_shift(places, expected, reach=reach)
    if shift is None:
        raise FrameError(
            "stack", "shows none of the night's bright stars", remedy="Is it this night's stack?"
        )
    rotation = truth.frame(stack.reference).disturbance.rotation
    near = []
    for x, y, star in zip(*(expected + shift).T, stars, strict=True):
        shape = measure.measure_star(image, x, y, fwhm=fwhm)
        if shape is not None:
            dx, dy = field_offsets(star, axes, rotation)
            near.append((shape.x - dx, shape.y - dy))
    if not near:
        raise FrameError("stack", "has no measurable bright star", remedy="Inspect the stack.")
    x, y = np.median(near, axis=0)
    return Grid((float(x), float(y)), axes, rotation)


def landmarks(truth: NightTruth) -> Table:
    """Return the night's bright stars; in a field without such, the brightest that do not saturate."""
    bright = truth.sources[truth.sources["kind"] == "bright"]
    if len(bright):
        return bright
    others = truth.sources[truth.sources["kind"] == "star"]
    electrons = np.asarray(others["flux"]) * truth.parameters.exposure_time
    others = others[(electrons > BRIGHT_ELECTRONS[0]) & (electrons < BRIGHT_ELECTRONS[1])]
    return others[np.argsort(-np.asarray(others["flux"]))[:100]]


def model_stack(
    truth: NightTruth,
    frames: Sequence[FrameTruth],
    grid: Grid,
    shape: tuple[int, ...],
    *,
    factor: float = 1.0,
) -> NDArray[np.float32]:
    """Return the noise-free stack: the mean of the perfectly aligned frames' sources, in electrons of one frame."""
    plane = np.zeros(shape, np.float32)
    x, y = grid.position(truth.sources)
    for frame in frames:
        render_at(
            plane,
            truth.sources,
            x,
            y,
            axes=truth.parameters.axes,
            fwhm=float(frame.fwhm or truth.parameters.fwhm),
            beta=truth.parameters.moffat_beta,
            exposure_time=frame.exposure,
            factor=factor * frame.throughput * frame.exposure / len(frames),
        )
    return plane


def noise_floor(
    truth: NightTruth,
    frames: Sequence[FrameTruth],
    grid: Grid,
    shape: tuple[int, ...],
    *,
    transparency: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return the variance of a plain mean of the frames over empty sky, and the number of good pixels in it.

    Shot noise of sky and dark current, read noise and rounding of each frame, divided by its response
    squared; frames are placed on the stack to the nearest pixel. Zero where no frame has a good pixel. If the frames
    are scaled to a ``transparency``, so is their noise.
    """
    response, dark = truth.plane("RESPONSE"), truth.plane("DARK")
    good = truth.plane("ILLUMINATED") & (truth.plane("BPM") == 0) & (response > 0.1)
    squared = np.where(good, response**2, 1).astype(np.float32)
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
    u = np.linspace(-1, 1, truth.parameters.size, dtype=np.float32)
    for frame in frames:
        light = np.float32(frame.level) * (
            1 + np.float32(frame.slope_x) * u[None, :] + np.float32(frame.slope_y) * u[:, None]
        )
        electrons = (dark + response * light) * np.float32(frame.exposure)
        scale = frame.time_scale
        corrected = np.float32(scale) * electrons + np.float32(scale**2 * frame.read_variance)
        factor = 1.0 if transparency is None else transparency / frame.throughput
        variance = np.where(good, np.float32(factor**2) * corrected / squared, 0)
        centre = frame.field_centre or (0.0, 0.0)
        here, there = _overlap(shape, good.shape, grid.origin[0] - centre[0], grid.origin[1] - centre[1])
        total[here] += variance[there]
        count[here] += good[there]
    return total / np.maximum(count, 1).astype(np.float32) ** 2, count


def _overlap(
    big: tuple[int, ...], small: tuple[int, ...], dx: float, dy: float
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    here, there = [], []
    for n_big, n_small, d in ((big[0], small[0], round(dy)), (big[1], small[1], round(dx))):
        first, last = max(0, d), min(n_big, n_small + d)
        last = max(first, last)
        here.append(slice(first, last))
        there.append(slice(first - d, last - d))
    return (here[0], here[1]), (there[0], there[1])
