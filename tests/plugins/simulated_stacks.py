"""Stacks of a simulated field: dithered frames with known stars, noise and background, averaged like a night's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.tangent_plane import ARCSEC, deproject, project
from imaging.header import Header
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.pixels.combine import CombineParameters, combine
from imaging.registration.geometry import Affine
from imaging.registration.resampling.interpolants import mean_squared_weights
from imaging.registration.resampling.resample import ResampleParameters, array_source, resample_rows
from imaging.simulator.star_field import add_stars
from imaging.sources.detect import detect

CENTRE = (150.0, -34.0)
SCALE = 0.18
BETA = 3.5
START = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
#: Magnitude of one electron at transparency 1.
ZERO_POINT = 27.0


@dataclass(frozen=True)
class Field:
    """Stars: offsets from `CENTRE` (n, 2), arcsec East and North, and fluxes at transparency 1, electrons."""

    offsets: NDArray[np.float64]
    flux: NDArray[np.float64]


def field(rng: np.random.Generator, width: float, n: int = 150, bright: int = 40) -> Field:
    """Return a field of ``n`` stars, ``bright`` of them well above the noise, over a square of a width in arcsec."""
    flux = np.concatenate([10 ** rng.uniform(4.3, 5.5, bright), 10 ** rng.uniform(2.5, 4.0, n - bright)])
    places = rng.uniform(-width / 2, width / 2, (8 * n, 2))
    kept: list[int] = []
    for k in range(len(places)):  # bright ones stay isolated
        apart = np.hypot(*(places[kept[:bright]] - places[k]).T)
        if not kept or len(kept) == n or (apart > (6.0 if len(kept) < bright else 3.5)).all():
            kept.append(k)
        if len(kept) == n:
            break
    return Field(places[kept], flux[: len(kept)])


def header_of(centre: tuple[float, float], size: int, turn: float, scale: float = SCALE) -> Header:
    """Return a TAN header about a centre (deg): East left, turned by an angle in degrees."""
    ra, dec = centre
    c, s = math.cos(math.radians(turn)) * scale / ARCSEC, math.sin(math.radians(turn)) * scale / ARCSEC
    return Header([
        ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRPIX1", (size + 1) / 2), ("CRPIX2", (size + 1) / 2),
        ("CRVAL1", ra), ("CRVAL2", dec), ("CUNIT1", "deg"), ("CUNIT2", "deg"),
        ("CD1_1", -c), ("CD1_2", s), ("CD2_1", s), ("CD2_2", c), ("RADESYS", "ICRS"),
    ])  # fmt: skip


def pixels_of(header: Header, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pixels from 0 of offsets from `CENTRE` by a header of `header_of`."""
    ra, dec = deproject(offsets, CENTRE)
    here = project(ra, dec, (float(header["CRVAL1"]), float(header["CRVAL2"])))
    matrix = np.array([[float(header[f"CD{i}_{j}"]) for j in (1, 2)] for i in (1, 2)]) * ARCSEC
    origin = np.array([float(header["CRPIX1"]) - 1, float(header["CRPIX2"]) - 1])
    return np.asarray(np.linalg.solve(matrix, here.T).T + origin)


def stack_of(
    stars: Field,
    name: str,
    *,
    at: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    size: int = 320,
    seeing: float = 4.0,
    transparency: float = 1.0,
    sigma: float = 40.0,
    frames: int = 6,
    level: float = 0.0,
    coordinates_off: tuple[float, float] = (0.0, 0.0),
    zero_point: float | None = None,
    position_error: float | None = 0.03,
    dither: float = 25.0,
    seed: int = 1,
    sources: Any = None,
    **more: Any,
) -> MosaicInput:
    """Return the stack of some frames that point ``at`` an offset from `CENTRE`, arcsec.

    Parameters
    ----------
    turn
        Position angle, deg.
    seeing
        FWHM, px.
    sigma
        Noise of the sky in a pixel of one frame, electrons.
    level
        What is left of the sky, electrons.
    coordinates_off
        Error of its world coordinates, arcsec.
    zero_point
        Its zero point; None for none.
    position_error
        That of its world coordinates, arcsec; None for the telescope's.
    dither
        Half the range of the frames' positions, px.
    """
    rng = np.random.default_rng(seed)
    (ra,), (dec,) = deproject(np.array([at]), CENTRE)
    true = header_of((float(ra), float(dec)), size, turn)
    places = pixels_of(true, stars.offsets)
    shape = (size, size)
    planes = []
    for _ in range(frames):
        dx, dy = rng.uniform(-dither, dither, 2)
        light = np.zeros(shape, np.float32)
        add_stars(
            light,
            places[:, 0] + dx,
            places[:, 1] + dy,
            stars.flux * transparency,
            fwhm=seeing,
            beta=BETA,
            level=0.2,
        )
        var = (sigma**2 + np.maximum(light, 0)).astype(np.float32)
        sci = (light + level + rng.normal(0.0, 1.0, shape) * np.sqrt(var)).astype(np.float32)
        source = array_source(sci, var, np.zeros(shape, np.uint16))
        planes.append(
            resample_rows(source, shape, Affine.shift(-dx, -dy), slice(0, size), size, ResampleParameters())
        )
    sci, var, dq = (np.array(one) for one in zip(*planes, strict=True))
    done = combine(sci, var, dq, CombineParameters(operation="mean", reject="none"))
    x = rng.uniform(0, 1, 4000)
    gain = mean_squared_weights("lanczos3", x[:2000], x[2000:])
    shown = detect(done.sci, done.dq)
    (ra,), (dec,) = deproject(np.array([at]) + np.array([coordinates_off]), CENTRE)
    options: dict[str, Any] = {
        "header": header_of((float(ra), float(dec)), size, turn), "exposure": 120.0 * frames,
        "started": START, "ended": START + timedelta(minutes=30), "noise_correlation": 1 / math.sqrt(gain),
        "zero_point": zero_point, "zero_point_error": None if zero_point is None else 0.01,
        "position_error": position_error, "airmass": 1.1,
    }  # fmt: skip
    return MosaicInput(
        name=name,
        rows=array_source(done.sci, done.var, done.dq),
        shape=shape,
        catalogue=shown.catalogue,
        objects=shown.object_mask,
        seeing=shown.seeing,
        **options | more,
    )
