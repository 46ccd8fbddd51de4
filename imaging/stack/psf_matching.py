"""The kernel that turns the template's stars into those of a frame: its seeing, transparency and small shifts.

The frame is expected to be the template convolved with a sum of a few fixed kernels (Alard & Lupton 1998, ApJ 503,
325): a point, four to six Gaussians, and the first of these times x, y, x^2 - y^2 and x y. The coefficients are
fitted to the pixels of bright stars. Negative ones sharpen: no frame has to be broader than the template. Sharpening
needs Gaussians of several widths; with two, a frame of 0.75 times the template's width deviates by a quarter of its
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imaging.io.planes import Planes
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.geometry import Affine
from imaging.registration.resampling.interpolants import weights
from imaging.sources.measure import FWHM_PER_SIGMA
from imaging.stack.psf_kernels import PEAK, basis_values

#: Widths of the Gaussians, in those of the template's stars, and in that which broadens them to the frame's.
_WIDTHS: Final = (0.4, 0.7, 1.0, 1.4)
_BROADER: Final = (0.8, 1.4)
#: Narrowest Gaussian that the pixels sample, px.
_NARROWEST: Final = 0.7
#: A kernel ends at this many times the width of its broadest Gaussian.
_REACH: Final = 3.0
#: What removes the distortion of a frame that has none.
STRAIGHT: Final[NDArray[np.float64]] = np.zeros((2, 0, 0))
#: Phases of a pixel, along one axis, for a turned frame; a pure shift has one.
_STEPS: Final = 16
#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0

#: Stars of a fit: signal to noise of the highest pixel in the template, the largest number and the smallest.
_PEAK: Final = 15.0
_MOST_STARS: Final = 40
_FEWEST_STARS: Final = 5
#: Half-width of a star's window, in FWHM.
_WINDOW: Final = 1.3
#: Deviations from the model that no noise explains, relative: the brightest stars must not decide alone.
_INTRINSIC: Final = 0.02
_CLIP: Final = 5.0
_ROUNDS: Final = 4
#: The fraction of the gradient by which these shares of the stars' pixels, and of those at their peaks, %, deviate at
#: most, beyond this noise. There are few of the latter, and hits on some.
_SHARE: Final = 98.0
_SHARE_OF_PEAKS: Final = 95.0
_NOISE: Final = 2.5


@dataclass(frozen=True)
class Matching:
    """A frame's kernel.

    Attributes
    ----------
    to_grid
        xx, xy, yx, yy, x0, y0 from the frame's pixels to the template's.
    bend
        What removes the frame's distortion (`imaging.stack.psf_kernels.basis_values`).
    kernels
        float32 (phases, taps, taps), in the frame's electrons.
    steps
        Phases along one axis.
    on_grid
        float32 (1, taps, taps), the kernel at the template's own pixels, in the template's electrons.
    slope, peak_slope
        Deviations of the stars' pixels from the model, as a fraction of its gradient, on their flanks and at their
        peaks; None without enough stars.
    """

    to_grid: NDArray[np.float64]
    bend: NDArray[np.float64]
    kernels: NDArray[np.float32]
    steps: int
    on_grid: NDArray[np.float32]
    slope: float | None
    peak_slope: float = 0.0

    @property
    def noise(self) -> float:
        """Variance of the template after the convolution, over that of its pixels."""
        return float(np.square(self.on_grid, dtype=np.float64).sum())


def template_fwhm(seeing: Sequence[float | None]) -> float:
    """Return the FWHM of the stars of a median of frames, px."""
    known = [s for s in seeing if s is not None and math.isfinite(s)]
    return float(np.median(known)) if known else _USUAL_FWHM


def bright_stars(
    template: NDArray[np.float32], suspect: NDArray[np.uint8], noise: float, fwhm: float
) -> NDArray[np.int64]:
    """Return the (x, y) of the highest pixels of stars that a kernel can be fitted to, brightest first."""
    margin = math.ceil(_WINDOW * fwhm) + 2
    ys, xs = np.nonzero(template > _PEAK * noise)
    ny, nx = template.shape
    inside = (xs >= margin) & (xs < nx - margin) & (ys >= margin) & (ys < ny - margin)
    xs, ys = xs[inside], ys[inside]
    order = np.argsort(-template[ys, xs], kind="stable")
    taken: list[tuple[int, int]] = []
    for k in order:
        x, y = int(xs[k]), int(ys[k])
        if any(abs(x - a) <= margin and abs(y - b) <= margin for a, b in taken):
            continue
        taken.append((x, y))
        if len(taken) >= 4 * _MOST_STARS:
            break
    chosen = []
    for x, y in taken:
        box = (slice(y - margin, y + margin + 1), slice(x - margin, x + margin + 1))
        if not suspect[box].any():
            chosen.append((x, y))
    return np.array(chosen[:_MOST_STARS], np.int64).reshape(-1, 2)


def match(
    planes: Planes,
    transform: Affine,
    scale: float,
    noise: float,
    template: NDArray[np.float32],
    stars: NDArray[np.int64],
    fwhm: float,
    seeing: float | None,
    distortion: Distortion | None = None,
) -> Matching:
    """Fit the kernel of one frame.

    Parameters
    ----------
    planes
        The frame's ``sci``, ``var`` and ``dq``.
    transform
        Frame pixel to template pixel.
    scale
        Factor from the frame's electrons to the template's.
    noise
        Background noise of the frame, electrons.
    template
        The median of the frames.
    stars
        Result of `bright_stars`.
    fwhm, seeing
        FWHM of stars in the template and the frame, px.
    distortion
        That of the frame; None without.
    """
    to_grid = np.array([transform.xx, transform.xy, transform.yx, transform.yy, transform.x0, transform.y0])
    if transform.is_shift:
        to_grid[:4] = 1.0, 0.0, 0.0, 1.0
    bend = STRAIGHT if distortion is None else distortion.expanded()
    steps = 1 if transform.is_shift and distortion is None else _STEPS
    widths = _widths(fwhm, seeing or fwhm)
    basis, home = _basis(to_grid, steps, widths), _basis(np.zeros(6), 1, widths)
    point = (basis[:, 0] / scale).astype(np.float32)
    windows = _windows(planes, transform, distortion, stars, math.ceil(_WINDOW * max(fwhm, seeing or fwhm)))
    if len(windows) < _FEWEST_STARS:
        return Matching(to_grid, bend, point, steps, home[:, 0], None)
    xs, ys, sci, good = (np.concatenate([w[i] for w in windows]) for i in range(4))
    values = np.empty((len(xs), basis.shape[1]))
    basis_values(template, basis, to_grid, bend, steps, xs, ys, values)
    good &= np.isfinite(values).all(axis=1)
    solution, sigma = _solve(np.where(good[:, None], values, 0.0), sci, good, scale, noise)
    if solution is None:
        return Matching(to_grid, bend, point, steps, home[:, 0], None)
    kernels, on_grid = (
        np.einsum("ptji,t->pji", b.astype(np.float64), solution * f).astype(np.float32)
        for b, f in ((basis, 1.0), (home, scale))
    )
    model = values @ solution
    slope, peak_slope = _slopes(model, sci, sigma, good, [len(w[0]) for w in windows])
    return Matching(to_grid, bend, kernels, steps, on_grid, slope, peak_slope)


def _widths(fwhm: float, seeing: float) -> list[float]:
    """Return the sigmas of the Gaussians, px, for a template and a frame of these FWHM."""
    width = fwhm / FWHM_PER_SIGMA
    broader = math.sqrt(max(seeing**2 - fwhm**2, 0.0)) / FWHM_PER_SIGMA
    own = [w * width for w in _WIDTHS]
    return [max(_NARROWEST, w) for w in own + [w * broader for w in _BROADER if w * broader > own[-1]]]


def _basis(to_grid: NDArray[np.float64], steps: int, widths: Sequence[float]) -> NDArray[np.float32]:
    """Return the kernels of the basis, (phases, terms, taps, taps); taps / 2 - 1 is the pixel before the position."""
    if steps == 1:
        phases = [(to_grid[4] - math.floor(to_grid[4]), to_grid[5] - math.floor(to_grid[5]))]
    else:
        phases = [(a / steps, b / steps) for b in range(steps) for a in range(steps)]
    half = math.ceil(_REACH * max(widths)) + 1
    offsets = np.arange(2 * half) - (half - 1)
    near = slice(half - 3, half + 3)
    out = np.zeros((len(phases), 5 + len(widths), 2 * half, 2 * half))
    narrow = widths[0]
    for p, (fx, fy) in enumerate(phases):
        x, y = offsets - fx, (offsets - fy)[:, None]
        gaussians = [np.exp(-0.5 * (x * x + y * y) / w**2) for w in widths]
        gaussians = [g / g.sum() for g in gaussians]
        x, y = x / narrow, y / narrow
        shapes = [x * gaussians[0], y * gaussians[0], (x * x - y * y) * gaussians[0], x * y * gaussians[0]]
        out[p, 0, near, near] = np.outer(weights("lanczos3", fy), weights("lanczos3", fx))
        out[p, 1:] = gaussians + shapes
    return out.astype(np.float32)


_Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]


def _windows(
    planes: Planes, transform: Affine, distortion: Distortion | None, stars: NDArray[np.int64], half: int
) -> list[_Window]:
    """Return the pixels around each star that lies inside the frame: x, y, value, and whether it is good."""
    ny, nx = planes.shape("sci")
    places = transform.inverse()(*stars.astype(np.float64).T)
    if distortion is not None:
        places = distortion.inverse(*places)
    found: list[_Window] = []
    for x, y in np.round(np.column_stack(places)).astype(int).tolist():
        if not (half <= x < nx - half and half <= y < ny - half):
            continue
        rows, columns = slice(y - half, y + half + 1), slice(x - half, x + half + 1)
        sci, dq = planes.rows("sci", rows)[:, columns], planes.rows("dq", rows)[:, columns]
        good = (dq == 0) & np.isfinite(sci)
        if good.mean() < 0.5:
            continue
        yy, xx = np.mgrid[rows, columns]
        values = np.where(good, sci, 0.0).astype(np.float64)
        found.append((xx.ravel().astype(np.int64), yy.ravel().astype(np.int64), values.ravel(), good.ravel()))
    return found


def _solve(
    values: NDArray[np.float64],
    sci: NDArray[np.float64],
    good: NDArray[np.bool_],
    scale: float,
    noise: float,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return the coefficients, if enough pixels are good, and the noise of each pixel."""
    solution = np.zeros(values.shape[1])
    solution[0] = 1.0 / scale
    kept = good.copy()
    sigma: NDArray[np.float64] = np.ones_like(sci)
    for turn in range(_ROUNDS):
        model = values @ solution
        light = np.maximum(model, 0.0)
        sigma = np.asarray(np.sqrt(max(noise, 1e-3) ** 2 + light))
        spread = np.hypot(sigma, _INTRINSIC * light)
        if turn > 0:
            kept = good & (np.abs(sci - model) < _CLIP * spread)
        if kept.sum() < 10 * values.shape[1]:
            return None, sigma
        a = values[kept] / spread[kept, None]
        solution = np.asarray(np.linalg.lstsq(a, sci[kept] / spread[kept], rcond=1e-8)[0], np.float64)
    return solution, sigma


def _slopes(
    model: NDArray[np.float64],
    sci: NDArray[np.float64],
    sigma: NDArray[np.float64],
    good: NDArray[np.bool_],
    sizes: Sequence[int],
) -> tuple[float, float]:
    """Return the deviations beyond the noise as a fraction of the model's gradient: of flanks and of peaks.

    A star that is sharper than the template deviates most at its peak.
    """
    gradient, brightest = np.empty(len(model)), np.empty(len(model))
    start = 0
    for size in sizes:
        side = math.isqrt(size)
        one = model[start : start + size].reshape(side, side)
        box = sliding_window_view(np.pad(one, 1, mode="edge"), (3, 3))
        brightest[start : start + size] = box.max(axis=(2, 3)).ravel()
        gradient[start : start + size] = brightest[start : start + size] - box.min(axis=(2, 3)).ravel()
        start += size
    steep = good & (gradient > sigma)
    excess = (np.abs(sci - model) - _NOISE * sigma) / np.maximum(gradient, 1e-9)
    peak = model > PEAK * brightest

    def most(where: NDArray[np.bool_], share: float) -> float:
        return max(0.0, float(np.percentile(excess[where], share))) if where.any() else 0.0

    flanks = most(steep & ~peak, _SHARE)
    return flanks, max(flanks, most(steep & peak, _SHARE_OF_PEAKS))
