"""The array: its defects, dark current and response, and its readout of light."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.simulator.camera import Camera
from imaging.simulator.noise import normal, poisson, start
from imaging.simulator.parameters import NightParameters

#: Scale of the logistic decrease of light over the edge of the circle, pixels.
EDGE_SCALE: Final = 1.2
#: Edge scales inside the circle's radius where the full light begins.
FULL_LIGHT: Final = 5.0


@dataclass(frozen=True)
class Well:
    """Levels at which a pixel saturates, electrons of one coadd."""

    clip: float  #: reported level where the readout stops counting; the saturation level lies below it
    full: float  #: collected electrons that are certainly beyond that
    blown: float  #: collected electrons above which the reset level is raised too, so that the difference is small
    blown_level: float  #: reported level of such a pixel

    @classmethod
    def of(cls, camera: Camera) -> Well:
        """Return the levels of a camera."""
        depth = camera.well_depth
        clip = 1.016 * depth
        c1, c2, c3 = camera.nonlinearity
        full = max(1.1 * clip, 1.02 * ((c3 * clip + c2) * clip + c1) * clip)
        return cls(clip, full, 12.0 * depth, 0.35 * depth)


class Defect(IntFlag):
    """Kinds of defective pixels that the simulator plants, over a bad pixel mask's limits or not."""

    NONE = 0
    DEAD = 1
    LOW = 2
    HIGH = 4
    HOT = 8
    WARM = 16
    COLD = 32


@dataclass(frozen=True)
class Detector:
    """The true state of the array. Planes have the shape (size, size)."""

    dark: NDArray[np.float32]  #: dark current, e-/s
    offset: NDArray[np.float32]  #: level without shot noise, e-; the pedestal and the cold pixels
    response: NDArray[np.float32]  #: relative response, median 1 over the good illuminated pixels
    illuminated: NDArray[np.bool_]  #: inside the circle, where the decrease at its edge is below 1 %
    defect: NDArray[np.uint8]  #: `Defect` bits


def make_detector(parameters: NightParameters) -> Detector:
    """Create the array of a night from its seed."""
    seed = parameters.seed if parameters.detector_seed is None else parameters.detector_seed
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    size = parameters.size
    defect = np.zeros((size, size), np.uint8)
    x0, y0, radius = parameters.circle
    axis = np.arange(size, dtype=np.float32)
    from_centre = np.hypot(axis[None, :] - np.float32(x0), axis[:, None] - np.float32(y0))
    illuminated = from_centre < radius - FULL_LIGHT * EDGE_SCALE

    dark = rng.standard_normal((size, size), np.float32)
    dark *= 0.15
    np.exp(dark, out=dark)
    dark *= np.float32(parameters.dark_current)
    offset = np.full((size, size), parameters.pedestal, np.float32)
    response = _smooth_response(rng, size, parameters.large_scale_flat)
    response *= 1 + np.float32(parameters.pixel_flat_rms) * rng.standard_normal((size, size), np.float32)

    clusters = round(parameters.defects * 24 * size / parameters.camera.shape[0])
    _plant_defects(rng, parameters.defects, dark, offset, response, defect)
    _plant_dead_clusters(rng, clusters, response, defect)
    response /= 1 + np.exp(np.minimum((from_centre - np.float32(radius)) / EDGE_SCALE, 80.0))
    response /= np.median(response[illuminated & (defect == 0)])
    return Detector(dark, offset, response.astype(np.float32), illuminated, defect)


def _smooth_response(rng: np.random.Generator, size: int, amplitude: float) -> NDArray[np.float32]:
    u = np.linspace(-1, 1, size, dtype=np.float32)
    a = rng.uniform(-1, 1, 6).astype(np.float32)
    plane = a[0] * u[None, :] + a[1] * u[:, None] + a[2] * u[None, :] * u[:, None]
    plane += a[3] * np.cos(2.1 * u[None, :] + a[4]) * np.cos(1.7 * u[:, None] + a[5])
    plane -= plane.mean()
    return (1 + amplitude * plane / max(np.abs(plane).max(), 1e-6)).astype(np.float32)


def _plant_defects(
    rng: np.random.Generator,
    relative: float,
    dark: NDArray[np.float32],
    offset: NDArray[np.float32],
    response: NDArray[np.float32],
    defect: NDArray[np.uint8],
) -> None:
    """Plant defects into the planes: on both sides of the usual limits of a bad pixel mask."""
    # Usual limits: short dark of 2 s outside [-150, 3050] e-, normalised flat outside [0.68, 1.28].
    for kind, fraction, low, high in (
        (Defect.WARM, 5e-3, 1.0, 60.0),
        (Defect.WARM, 5e-4, 60.0, 1300.0),
        (Defect.HOT, 1e-3, 1650.0, 12000.0),
        (Defect.LOW, 1e-3, 0.30, 0.92),
        (Defect.HIGH, 4e-4, 1.08, 1.60),
        (Defect.DEAD, 1.5e-3, 0.0, 0.05),
        (Defect.COLD, 2e-4, -1500.0, -300.0),
    ):
        where = rng.integers(0, defect.size, round(relative * fraction * defect.size))
        value = rng.uniform(low, high, where.size)
        if kind in (Defect.WARM, Defect.HOT):
            dark.flat[where] = np.exp(rng.uniform(np.log(low), np.log(high), where.size))
        elif kind is Defect.COLD:
            offset.flat[where] = value
        else:
            response.flat[where] = value
        defect.flat[where] |= np.uint8(kind)


def _plant_dead_clusters(
    rng: np.random.Generator, count: int, response: NDArray[np.float32], defect: NDArray[np.uint8]
) -> None:
    size = defect.shape[0]
    for _ in range(count):
        x, y, r = rng.integers(0, size), rng.integers(0, size), rng.uniform(1.5, 5.0)
        reach = int(np.ceil(r))
        rows, columns = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
        yy, xx = np.ogrid[rows.start : min(size, rows.stop), columns.start : min(size, columns.stop)]
        inside = np.hypot(xx - x, yy - y) <= r
        response[rows, columns][inside] = 0.02
        defect[rows, columns][inside] |= np.uint8(Defect.DEAD)


@njit(cache=True, nogil=True)
def delinearise(electrons: float, c1: float, c2: float, c3: float) -> float:
    """Return the electrons that the array reports for incident ``electrons``: the inverse of the cubic.

    Newton's method on c1 N + c2 N^2 + c3 N^3 = electrons. The cubic is monotonic, and the start at ``electrons`` is
    within 20 % of the root below the well, so that few steps reach the last bits of a double.
    """
    n = electrons
    for _ in range(20):
        step = (((c3 * n + c2) * n + c1) * n - electrons) / ((3.0 * c3 * n + 2.0 * c2) * n + c1)
        n -= step
        if abs(step) < 1e-9:
            break
    return n


@njit(cache=True, nogil=True)
def report(electrons: float, array: NDArray[np.float64]) -> float:
    """Return the electrons that the array reports, with saturation: the non-linear level, clipped or collapsed.

    ``array`` is that of `array_numbers`.
    """
    if electrons > array[5]:
        return float(array[6])
    if electrons > array[4]:
        return float(array[3])
    return min(delinearise(electrons, array[0], array[1], array[2]), array[3])


def array_numbers(camera: Camera) -> NDArray[np.float64]:
    """Return c1, c2, c3 of the non-linearity, and clip, full, blown and blown_level of `Well`."""
    well = Well.of(camera)
    c1, c2, c3 = camera.nonlinearity
    return np.array([c1, c2, c3, well.clip, well.full, well.blown, well.blown_level], np.float64)


@njit(cache=True, nogil=True)
def _read(
    key: np.uint64,
    pixel: np.uint64,
    light: float,
    offset: float,
    hit: float,
    coadds: int,
    noise: float,
    gain: float,
    array: NDArray[np.float64],
) -> int:
    """Return the ADU of a pixel: ``light`` is the mean light and dark current per coadd, ``hit`` a cosmic ray, e-."""
    total = 0.0
    state = start(key, pixel)
    for coadd in range(coadds):
        state, z, read = normal(state)
        state, count = poisson(state, light, z)
        if coadd == 0:
            count += hit
        total += report(count + offset, array) + noise * read
    return int(np.rint(total / gain))


@njit(cache=True, nogil=True)
def _mean_light(
    dark: float, response: float, scene: float, u: float, v: float, light: NDArray[np.float64]
) -> float:
    """Return the mean electrons of one coadd: ``light`` has exposure, level, slopes in x and y, transparency."""
    return light[0] * (dark + response * (light[1] * (1.0 + light[2] * u + light[3] * v) + light[4] * scene))


@njit(cache=True, nogil=True)
def _expose_rows(
    out: NDArray[np.int32], planes: Any, light: Any, key: np.uint64, coadds: int, noise: float, gain: float,
    array: Any,
) -> None:  # fmt: skip
    dark, offset, response, scene = planes
    ny, nx = out.shape
    for y in range(ny):
        v = 2.0 * y / (ny - 1) - 1.0
        for x in range(nx):
            u = 2.0 * x / (nx - 1) - 1.0
            mean = _mean_light(dark[y, x], response[y, x], scene[y, x], u, v, light)
            out[y, x] = _read(key, np.uint64(y * nx + x), mean, offset[y, x], 0.0, coadds, noise, gain, array)


@njit(cache=True, nogil=True)
def _expose_hits(
    out: NDArray[np.int32], pixels: Any, hits: Any, planes: Any, light: Any, key: np.uint64, coadds: int,
    noise: float, gain: float, array: Any,
) -> None:  # fmt: skip
    dark, offset, response, scene = planes
    ny, nx = out.shape
    for i in range(pixels.size):
        y, x = pixels[i] // nx, pixels[i] % nx
        u, v = 2.0 * x / (nx - 1) - 1.0, 2.0 * y / (ny - 1) - 1.0
        mean = _mean_light(dark[y, x], response[y, x], scene[y, x], u, v, light)
        out[y, x] = _read(key, np.uint64(y * nx + x), mean, offset[y, x], hits[i], coadds, noise, gain, array)


@dataclass(frozen=True)
class Light:
    """Light on the array during one frame: a level with a slope, and a scene."""

    level: float = 0.0  #: e-/s/pixel at response 1, at the centre
    slope_x: float = 0.0  #: relative, centre to edge
    slope_y: float = 0.0
    transparency: float = 1.0  #: of the scene


def expose(
    detector: Detector,
    light: Light,
    *,
    camera: Camera,
    scene: NDArray[np.float32],
    exposure_time: float,
    read_pairs: int,
    coadds: int,
    key: int,
    hits: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> NDArray[np.int32]:
    """Read out one frame.

    Parameters
    ----------
    detector
        The array.
    light
        Level and slopes of the light.
    camera
        The instrument.
    scene
        Sources, e-/s/pixel at response 1 and transparency 1, shape (ny, nx).
    exposure_time
        Exposure of one coadd, s.
    read_pairs, coadds
        Numbers of read pairs and coadds.
    key
        Seed of the frame's noise, 0 to 2^64 - 1.
    hits
        Flat pixel indices and electrons of cosmic rays; they fall in the first coadd.

    Returns
    -------
    ndarray of int32, (ny, nx)
        ADU. Electrons per coadd are Poisson, the offset is added, the array's non-linearity and
        saturation are applied, then read noise; the sum of coadds is rounded to ADU.
    """
    out = np.empty(detector.dark.shape, np.int32)
    level = np.array(
        [
            camera.light_time(read_pairs, exposure_time),
            light.level,
            light.slope_x,
            light.slope_y,
            light.transparency,
        ],
        dtype=np.float64,
    )
    noise, adu = camera.read_noise(read_pairs), camera.gain(read_pairs, coadds)
    array = array_numbers(camera)
    planes = (detector.dark, detector.offset, detector.response, scene)
    _expose_rows(out, planes, level, np.uint64(key), coadds, noise, adu, array)
    _expose_hits(out, hits[0], hits[1], planes, level, np.uint64(key), coadds, noise, adu, array)
    return out


def cosmic_rays(
    rng: np.random.Generator, size: int, mean_count: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw short straight tracks of ``mean_count`` cosmic rays; return flat pixel indices (each once) and electrons."""
    count = rng.poisson(mean_count)
    x, y = rng.uniform(0, size, (2, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    length = np.minimum(rng.exponential(2.0, count), 12.0)
    charge = np.exp(rng.normal(np.log(2500.0), 0.8, count))  # electrons per pixel of track
    plane: dict[int, float] = {}
    for i in range(count):
        for step in np.arange(0.0, length[i] + 0.5, 0.5):
            column, row = int(x[i] + step * np.cos(angle[i])), int(y[i] + step * np.sin(angle[i]))
            if 0 <= column < size and 0 <= row < size:
                pixel = row * size + column
                plane[pixel] = plane.get(pixel, 0.0) + charge[i] / 2
    pixels = np.array(sorted(plane), dtype=np.int64)
    return pixels, np.array([plane[int(p)] for p in pixels], dtype=np.float64)
