"""Stars and galaxies: positions, fluxes, and images on the array."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from astropy.table import QTable, Table
from numba import njit
from numpy.typing import NDArray

from imaging.registration.distortion.camera_distortion import Distortion
from imaging.simulator.camera import SkyAxes
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.field import FIELD

#: Fluxes of the types of source: electrons of one science exposure at transparency 1.
BRIGHT_ELECTRONS: Final = (1.5e5, 1.3e6)
SATURATED_ELECTRONS: Final = (4e6, 3e7)
FAINT_ELECTRONS: Final = (3e2, 6e4)
GALAXY_ELECTRONS: Final = (1e3, 2e5)
STAR_ELECTRONS: Final = (1.2e3, 3e6)
#: Slope of the faint sources' counts, dN/dF ~ F^-slope, and of the stars of every brightness.
FAINT_SLOPE: Final = 1.6
STAR_SLOPE: Final = 1.25
#: A stamp ends where the light of a source is below this many electrons per pixel and exposure.
STAMP_LEVEL: Final = 0.02
#: Points that represent a galaxy's light; each is spread by the stars' profile.
GALAXY_POINTS: Final = 64

#: Three-point Gauss-Legendre rule on a pixel of width 1.
_NODES: Final = np.array([-0.5 * math.sqrt(0.6), 0.0, 0.5 * math.sqrt(0.6)])
_WEIGHTS: Final = np.array([5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0])


def moffat_alpha(fwhm: float, beta: float) -> float:
    """Return the scale radius of a Moffat profile of full width ``fwhm`` at half maximum (Moffat 1969)."""
    return float(fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / beta) - 1.0)))


def make_sources(parameters: NightParameters) -> Table:
    """Draw the sources of a night from the seed of its field, or of the night if the field has none.

    Returns
    -------
    Table
        Columns: id, kind (bright, saturated, faint, galaxy, star), ra, dec (deg), xi, eta (arcsec East and
        North of the field's centre on the tangent plane), flux (e-/s at response 1 and transparency 1),
        half_light (arcsec, 0 for a star), axis_ratio, position_angle (deg, East of North).
    """
    seed = parameters.seed if parameters.field_seed is None else parameters.field_seed
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    n_bright, n_saturated, n_faint, n_galaxies = parameters.source_counts()
    n_stars = parameters.n_stars
    kinds = np.repeat(
        ["bright", "saturated", "faint", "galaxy", "star"],
        [n_bright, n_saturated, n_faint, n_galaxies, n_stars],
    )
    x, y = _positions(rng, parameters, n_bright + n_saturated, n_faint + n_galaxies + n_stars)
    time = parameters.exposure_time
    flux = np.concatenate([
        _power_law(rng, n_bright, BRIGHT_ELECTRONS, 1.3),
        _power_law(rng, n_saturated, SATURATED_ELECTRONS, 1.0),
        _power_law(rng, n_faint, FAINT_ELECTRONS, FAINT_SLOPE),
        _power_law(rng, n_galaxies, GALAXY_ELECTRONS, FAINT_SLOPE),
        _power_law(rng, n_stars, STAR_ELECTRONS, STAR_SLOPE),
    ]) / time  # fmt: skip
    galaxy = kinds == "galaxy"
    n = len(kinds)
    xi, eta = parameters.axes.on_sky(x * parameters.axes.scale, y * parameters.axes.scale)
    ra, dec = sky_position(xi, eta)
    return Table({
        "id": np.arange(n), "kind": kinds, "ra": ra, "dec": dec, "xi": xi, "eta": eta, "flux": flux,
        "half_light": np.where(galaxy, np.exp(rng.normal(np.log(0.6), 0.4, n)), 0.0),
        "axis_ratio": np.where(galaxy, rng.uniform(0.3, 1.0, n), 1.0),
        "position_angle": np.where(galaxy, rng.uniform(0.0, 180.0, n), 0.0),
    })  # fmt: skip


def _power_law(
    rng: np.random.Generator, n: int, limits: tuple[float, float], slope: float
) -> NDArray[np.float64]:
    low, high = limits
    q = rng.uniform(0, 1, n)
    if slope == 1.0:
        return np.asarray(low * (high / low) ** q)
    a = 1.0 - slope
    return np.asarray((low**a + q * (high**a - low**a)) ** (1.0 / a))


def _positions(
    rng: np.random.Generator, parameters: NightParameters, n_apart: int, n_anywhere: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw positions on the array, pixels from the field's centre.

    The first ``n_apart`` are in every dithered frame and separated from each other if there is room; the
    others are anywhere in a frame.
    """
    half = parameters.size / 2
    x0, y0, radius = parameters.circle
    shift = parameters.dither_step / parameters.axes.scale + 4 * parameters.fwhm
    inner, apart = min(radius, half) - 1.25 * shift, 10 * parameters.fwhm
    inner = max(inner, half / 3)
    places: list[tuple[float, float]] = []
    for attempt in range(400 * n_apart):
        x, y = rng.uniform(-half, half, 2)
        if np.hypot(x + half - x0, y + half - y0) > inner or max(abs(x), abs(y)) > max(
            half - shift, half / 3
        ):
            continue
        room = apart * 0.5 ** (attempt // (100 * n_apart))
        if all((x - a) ** 2 + (y - b) ** 2 > room**2 for a, b in places):
            places.append((x, y))
        if len(places) == n_apart:
            break
    while len(places) < n_apart:  # a crowded small array: the rest are not separated
        places.append((rng.uniform(-inner, inner) * 0.7, rng.uniform(-inner, inner) * 0.7))
    reach = half + 1.5 * shift + parameters.field_margin / parameters.axes.scale
    anywhere = rng.uniform(-reach, reach, (n_anywhere, 2))
    both = np.concatenate([np.array(places).reshape(-1, 2), anywhere])
    return both[:, 0], both[:, 1]


def sky_position(xi: Any, eta: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return RA and Dec (deg) of tangent-plane offsets (arcsec East and North) about `FIELD`.

    The inverse of the gnomonic projection: Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3.
    """
    ra0, dec0 = np.radians(FIELD)
    x, y = np.radians(np.asarray(xi) / 3600.0), np.radians(np.asarray(eta) / 3600.0)
    denominator = np.cos(dec0) - y * np.sin(dec0)
    ra = ra0 + np.arctan2(x, denominator)
    dec = np.arctan2(np.sin(dec0) + y * np.cos(dec0), np.hypot(x, denominator))
    return np.degrees(ra), np.degrees(dec)


def field_offsets(
    sources: Table | QTable, axes: SkyAxes, rotation: float = 0.0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels (x, y) of the sources from the field's centre at a position angle of the field, deg."""
    eta, xi = np.asarray(sources["eta"]), np.asarray(sources["xi"])
    if rotation:
        c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
        eta, xi = eta * c + xi * s, xi * c - eta * s
    x, y = axes.pixels(xi, eta)
    return x, y


def pixel_position(
    sources: Table | QTable, pointing: tuple[float, float], size: int, axes: SkyAxes, rotation: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels (x, y from 0) of the sources in a frame that points (P, Q) arcsec from the field.

    P and Q are East and North at the position angle 0, and turn with it, as the axes of the array do.
    """
    middle = (size - 1) / 2
    if rotation:
        x, y = field_offsets(sources, axes, rotation)
        dx, dy = axes.moved(pointing)
        return middle + x + dx, middle + y + dy
    x, y = axes.pixels(np.asarray(sources["xi"]) - pointing[0], np.asarray(sources["eta"]) - pointing[1])
    return middle + x, middle + y


@njit(cache=True, nogil=True)
def _fall(u: float, beta: float) -> float:
    """Return ``u ** -beta``; the default exponent without the expensive power."""
    if beta == 3.5:
        return 1.0 / (u * u * u * math.sqrt(u))
    return float(u**-beta)


@njit(cache=True, nogil=True)
def _add_star(plane: Any, x: float, y: float, flux: float, alpha: float, beta: float, level: float) -> None:
    """Add a Moffat star, integrated over each pixel, to the float32 ``plane``."""
    peak = flux * (beta - 1.0) / (math.pi * alpha * alpha)
    if peak <= level:
        reach = 2.0 * alpha
    else:
        reach = alpha * math.sqrt((peak / level) ** (1.0 / beta) - 1.0) + 2.0 * alpha
    fine = 4.0 * alpha
    ny, nx = plane.shape
    for j in range(max(0, math.ceil(y - reach)), min(ny, math.floor(y + reach) + 1)):
        for i in range(max(0, math.ceil(x - reach)), min(nx, math.floor(x + reach) + 1)):
            dx, dy = i - x, j - y
            r2 = dx * dx + dy * dy
            if r2 > reach * reach:
                continue
            if r2 > fine * fine:
                plane[j, i] += peak * _fall(1.0 + r2 / (alpha * alpha), beta)
                continue
            total = 0.0
            for b in range(3):
                for a in range(3):
                    ex, ey = dx + _NODES[a], dy + _NODES[b]
                    w = _WEIGHTS[a] * _WEIGHTS[b]
                    total += w * _fall(1.0 + (ex * ex + ey * ey) / (alpha * alpha), beta)
            plane[j, i] += peak * total


@njit(cache=True, nogil=True)
def _add_stars(plane: Any, xs: Any, ys: Any, fluxes: Any, alpha: float, beta: float, level: float) -> None:
    ny, nx = plane.shape
    for k in range(xs.size):
        if -200.0 < xs[k] < nx + 200.0 and -200.0 < ys[k] < ny + 200.0:
            _add_star(plane, xs[k], ys[k], fluxes[k], alpha, beta, level)


def add_stars(
    plane: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flux: NDArray[np.float64],
    *,
    fwhm: float,
    beta: float,
    level: float,
) -> None:
    """Add Moffat stars to ``plane`` in place.

    Parameters
    ----------
    plane
        Image, shape (ny, nx); the unit is that of ``flux`` per pixel.
    x, y
        Centres, pixels from 0.
    flux
        Total fluxes.
    fwhm, beta
        Full width at half maximum in pixels, and exponent of the profile.
    level
        Surface brightness at which a star's stamp ends.
    """
    alpha = moffat_alpha(fwhm, beta)
    xs, ys, fluxes = (np.ascontiguousarray(a, np.float64) for a in (x, y, flux))
    _add_stars(plane, xs, ys, fluxes, alpha, float(beta), float(level))


def galaxy_points(
    sources: Table, index: int, axes: SkyAxes
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return points (x, y pixels from the centre; flux) that represent a galaxy's exponential disc.

    The radii are the disc's light quantiles and the angles advance by the golden angle, so that the points
    are evenly spread; the stars' profile then smooths them.
    """
    quantile = (np.arange(GALAXY_POINTS) + 0.5) / GALAXY_POINTS
    grid = np.linspace(0.0, 12.0, 2400)  # in scale lengths; holds 99.99 % of the light
    radius = np.interp(quantile, 1.0 - (1.0 + grid) * np.exp(-grid), grid)
    scale = sources["half_light"][index] / 1.6783 / axes.scale  # half light lies at 1.6783 scale lengths
    angle = np.arange(GALAXY_POINTS) * math.pi * (3.0 - math.sqrt(5.0))
    along, across = radius * np.cos(angle), radius * np.sin(angle) * sources["axis_ratio"][index]
    turn = math.radians(sources["position_angle"][index])  # from North to East
    north = scale * (along * math.cos(turn) - across * math.sin(turn))
    east = scale * (along * math.sin(turn) + across * math.cos(turn))
    x, y = axes.on_array(east, north)
    return x, y, np.full(GALAXY_POINTS, sources["flux"][index] / GALAXY_POINTS)


def render(
    sources: Table,
    pointing: tuple[float, float],
    *,
    size: int,
    axes: SkyAxes,
    fwhm: float,
    beta: float,
    exposure_time: float,
    rotation: float = 0.0,
    smear: tuple[float, float] | None = None,
    distortion: Distortion | None = None,
) -> NDArray[np.float32]:
    """Render the sources of one frame as a noise-free image.

    Parameters
    ----------
    sources
        The table from `make_sources`.
    pointing
        True offset (P, Q) of the frame, arcsec.
    size, axes
        Rows and columns, and how the sky lies on them.
    fwhm, beta
        Width (pixels) and exponent of the stars' profile.
    exposure_time
        Exposure in s, which determines the size of the stamps.
    rotation
        Position angle of the field, deg.
    smear
        Length (pixels) and angle (from x to y, deg) of trailed stars; None: stars that are not trailed.
    distortion
        That of the camera. The response includes the area of each pixel on the sky, as that of a flat does, so that a
        source at response 1 has the fewer electrons the larger its pixels are.

    Returns
    -------
    ndarray of float32, (size, size)
        e-/s/pixel at response 1 and transparency 1.
    """
    plane = np.zeros((size, size), np.float32)
    x, y = pixel_position(sources, pointing, size, axes, rotation)
    area = np.ones(len(x))
    if distortion is not None:
        # Sources far outside are not drawn, and the polynomial is not valid there.
        near = (np.abs(x - distortion.middle[0]) < size) & (np.abs(y - distortion.middle[1]) < size)
        x[near], y[near] = distortion.inverse(x[near], y[near])
        area[near] = distortion.area(x[near], y[near])
    steps = smear_steps(smear, fwhm)
    for dx, dy in steps:
        render_at(
            plane, sources, x + dx, y + dy, axes=axes, fwhm=fwhm, beta=beta, exposure_time=exposure_time,
            factor=1.0 / len(steps), area=area,
        )  # fmt: skip
    return plane


def smear_steps(smear: tuple[float, float] | None, fwhm: float) -> list[tuple[float, float]]:
    """Return the shifts (x, y), at most half a width of the stars apart, whose sum is a trailed star."""
    if smear is None:
        return [(0.0, 0.0)]
    length, angle = smear[0], math.radians(smear[1])
    n = 1 + math.ceil(length / (0.5 * fwhm))
    return [
        (t * math.cos(angle), t * math.sin(angle)) for t in np.linspace(-length / 2, length / 2, n).tolist()
    ]


def render_at(
    plane: NDArray[np.float32],
    sources: Table,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    axes: SkyAxes,
    fwhm: float,
    beta: float,
    exposure_time: float,
    factor: float = 1.0,
    area: NDArray[np.float64] | None = None,
) -> None:
    """Add the sources, ``factor`` / ``area`` times as bright, to ``plane`` in place with their centres at (x, y)."""
    star = np.asarray(sources["kind"]) != "galaxy"
    part_of = np.ones(len(x)) if area is None else 1.0 / area
    flux = factor * part_of * np.asarray(sources["flux"], np.float64)
    level = factor * STAMP_LEVEL / exposure_time
    add_stars(plane, x[star], y[star], flux[star], fwhm=fwhm, beta=beta, level=level)
    points = [galaxy_points(sources, int(i), axes) for i in np.flatnonzero(~star)]
    if points:
        dx, dy, part = (np.concatenate(p) for p in zip(*points, strict=True))
        gx, gy = np.repeat(x[~star], GALAXY_POINTS), np.repeat(y[~star], GALAXY_POINTS)
        add_stars(
            plane,
            gx + dx,
            gy + dy,
            factor * part * np.repeat(part_of[~star], GALAXY_POINTS),
            fwhm=fwhm,
            beta=beta,
            level=level / 4,
        )
