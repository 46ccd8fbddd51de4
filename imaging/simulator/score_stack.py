"""The quality of a stack of a simulated night: registration, photometry, sharpness, noise and outliers.

Where possible, the same measurement is made on a model: the noise-free stack of the truth's sources, seeing
and transparency with perfect alignment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import UNUSABLE
from imaging.simulator import measure_stars as measure
from imaging.simulator.reference.score_photometry import score_photometry
from imaging.simulator.score_astrometry import score_astrometry
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import (
    Grid,
    StackProduct,
    locate,
    measured,
    model_stack,
    noise_floor,
    pointing,
    read_stack,
    similarity,
)
from imaging.simulator.star_field import pixel_position
from imaging.simulator.truth import FrameTruth, NightTruth

#: Side of the bins of the background's noise, and of the blocks that remove its large-scale level, pixels.
BIN: Final = 8
BLOCK: Final = 64
#: Sky is empty where the model is below this fraction of a pixel's noise.
EMPTY: Final = 0.01
#: Aperture and annulus of the photometry, in full widths of a star.
APERTURE: Final = 2.5
ANNULUS: Final = (5.0, 8.0)
#: A star is isolated if its neighbours contribute less than this fraction of its own light to its aperture.
NEIGHBOUR_LIGHT: Final = 0.01
#: A star is bright enough if the noise of its aperture is below this fraction of its light.
STAR_NOISE: Final = 0.004
#: Largest deviation of the flux scale from 1.
SCALE: Final = 0.005
OUTLIER_SIGMAS: Final = 8.0


def score_stack(
    stack: StackProduct, truth: NightTruth, *, transparency: float | None = None
) -> list[ScoreRow]:
    """Return all figures of a stack.

    Parameters
    ----------
    stack
        The product.
    truth
        The night's truth.
    transparency
        Transparency to which the stack was scaled; None: that of the reference if its header records that the frames
        were scaled by their stars, otherwise the mean of the frames used.
    """
    if transparency is None and stack.scaled_by == "stars":
        transparency = truth.frame(stack.reference).throughput
    frames = [truth.frame(name) for name in stack.mappings] or list(truth.science)
    scale = 1.0 if transparency is None else transparency / np.mean([f.throughput for f in frames])
    background = np.where(measured(stack), stack.sci, 0).astype(np.float32)
    grid = locate(stack, truth, frames)
    model = model_stack(truth, frames, grid, stack.sci.shape, factor=float(scale))
    floor, count = noise_floor(truth, frames, grid, stack.sci.shape, transparency=transparency)
    rows = []
    if stack.mappings:
        rows.append(score_registration(truth, stack.mappings, stack.reference))
    rows.append(score_astrometry(stack, truth, grid))
    throughput = float(np.mean([f.throughput for f in frames])) if transparency is None else transparency
    rows += score_photometry(stack, truth, floor, throughput)
    rows += score_stars(
        background, model, floor, truth, frames, grid, usable=measured(stack) & (count > 0),
        scale_error=stack.scale_error,
    )  # fmt: skip
    rows += score_background(stack, model, floor, count, len(frames))
    return rows


def score_registration(
    truth: NightTruth, mappings: Mapping[str, NDArray[np.float64]], reference: str
) -> ScoreRow:
    """Measure the registration: distances of bright stars, mapped to the reference frame, from their true positions.

    The mean over all stars and frames is subtracted: it is the error of the reference frame, which shifts the
    stack without blurring it.
    """
    stars = truth.sources[truth.sources["kind"] == "bright"]
    size, home = truth.parameters.size, truth.frame(reference)
    to = np.stack(
        pixel_position(stars, pointing(home), size, truth.parameters.axes, home.disturbance.rotation)
    )
    residuals = []
    for name, mapping in mappings.items():
        frame = truth.frame(name)
        at = np.stack(
            pixel_position(stars, pointing(frame), size, truth.parameters.axes, frame.disturbance.rotation)
        )
        matrix = similarity(*mapping) if np.shape(mapping) == (2,) else np.asarray(mapping)
        inside = ((at > 0) & (at < size - 1) & (to > 0) & (to < size - 1)).all(axis=0)
        residuals.append((matrix[:, :2] @ at + matrix[:, 2:] - to)[:, inside])
    all_of_them = np.concatenate(residuals, axis=1)
    all_of_them -= all_of_them.mean(axis=1, keepdims=True)
    rms = float(np.sqrt(np.mean((all_of_them**2).sum(axis=0)))) if all_of_them.size else math.nan
    return ScoreRow(
        product="stack", figure="registration", value=rms, unit="px", high=0.05,
        meaning="rms distance of bright stars from their true positions in the reference frame's grid",
    )  # fmt: skip


def score_stars(
    image: NDArray[np.float32], model: NDArray[np.float32], floor: NDArray[np.float32], truth: NightTruth,
    frames: Sequence[FrameTruth], grid: Grid, *, usable: NDArray[np.bool_], scale_error: float = 0.0,
) -> list[ScoreRow]:  # fmt: skip
    """Compare photometry and sharpness of bright isolated stars in the stack with the model.

    Parameters
    ----------
    image, model
        The stack and its noise-free model, electrons.
    floor
        Variance of a pixel (see `noise_floor`).
    truth, frames, grid
        The truth, the frames used, and the position of the field.
    usable
        Pixels with data.
    scale_error
        Relative error of the scale of the stack: the limit of the flux scale is at least two of these.
    """
    ratios, widths = [], []
    fwhm = float(np.mean([f.fwhm for f in frames]))
    radius, annulus = APERTURE * fwhm, (ANNULUS[0] * fwhm, ANNULUS[1] * fwhm)
    exposure = float(np.mean([f.exposure * f.throughput for f in frames]))
    stars = truth.sources[truth.sources["kind"] == "bright"]
    for star in stars:
        x, y = grid.position(star)
        if not _isolated(truth, star, radius) or not _clear(usable, x, y, annulus[1], radius):
            continue
        noise = math.sqrt(math.pi * radius**2 * float(floor[round(y), round(x)]))
        if noise > STAR_NOISE * star["flux"] * exposure:
            continue
        seen = measure.measure_star(image, x, y, fwhm=fwhm)
        true = measure.measure_star(model, x, y, fwhm=fwhm)
        if seen is None or true is None:
            continue
        widths.append(seen.fwhm / true.fwhm)
        ratios.append(
            measure.aperture_flux(image, seen.x, seen.y, radius=radius, annulus=annulus)
            / measure.aperture_flux(model, true.x, true.y, radius=radius, annulus=annulus)
        )
    ratio, n = np.array(ratios), len(ratios)
    off = max(SCALE, 2 * scale_error)
    median = float(np.median(ratio)) if n else math.nan
    return [
        ScoreRow(
            product="stack", figure="flux scatter", unit="%", high=0.6,
            value=100 * measure.robust_sigma(ratio / median),
            meaning=f"robust scatter of flux / truth of {n} bright isolated stars",
        ),
        ScoreRow(
            product="stack", figure="flux scale", value=median, low=1 - off, high=1 + off,
            meaning="median of flux / (true flux x mean transparency x exposure)",
        ),
        ScoreRow(
            product="stack", figure="broadening of stars",
            value=100 * (float(np.median(widths)) - 1) if n else math.nan, unit="%", high=5.0,
            meaning="stars' width in the stack against frames that are noise-free and aligned perfectly",
        ),
    ]  # fmt: skip


def _isolated(truth: NightTruth, star: Any, radius: float) -> bool:
    others = truth.sources[truth.sources["id"] != star["id"]]
    distance = np.hypot(others["eta"] - star["eta"], others["xi"] - star["xi"]) / truth.parameters.axes.scale
    close = np.asarray(others["flux"])[np.asarray(distance) < 2 * radius]
    return bool(close.sum() < NEIGHBOUR_LIGHT * star["flux"])


def _clear(usable: NDArray[np.bool_], x: float, y: float, outer: float, inner: float) -> bool:
    """Return whether a star's annulus is inside the image and its aperture on usable pixels."""
    ny, nx = usable.shape
    if not (outer < x < nx - 1 - outer and outer < y < ny - 1 - outer):
        return False
    r, column, row = math.ceil(inner), round(x), round(y)
    wide = math.ceil(outer)
    ring = usable[row - wide : row + wide + 1, column - wide : column + wide + 1]
    core = usable[row - r : row + r + 1, column - r : column + r + 1]
    return bool(core.all() and ring.mean() > 0.95)


def score_background(
    stack: StackProduct,
    model: NDArray[np.float32],
    floor: NDArray[np.float32],
    count: NDArray[np.uint16],
    n: int,
) -> list[ScoreRow]:
    """Measure the noise of the empty sky in 8 x 8 bins, its VAR, and outliers.

    Parameters
    ----------
    stack
        The product.
    model
        The noise-free stack, electrons.
    floor, count
        Variance of a plain mean, and the frames in it (see `noise_floor`).
    n
        Frames used.
    """
    good = ((stack.dq & UNUSABLE) == 0) & measured(stack) & (stack.var > 0)
    sky = good & (model < EMPTY * np.sqrt(floor)) & (count >= max(2, math.ceil(0.7 * n)))
    values = measure.bin_means(stack.sci, sky, BIN)
    per_block = BLOCK // BIN
    level, members = measure.block_means(values, per_block, least=per_block**2 // 4)
    # Subtracting a mean of m bins removes 1/m of their variance.
    residual = (values - level) * np.sqrt(members / np.maximum(members - 1, 1))
    kept = np.isfinite(residual)
    residual = residual[kept]
    expected = np.sqrt(measure.bin_means(floor, sky, BIN)[kept]) / BIN
    stated = stack.noise_correlation * np.sqrt(measure.bin_means(stack.var, sky, BIN)[kept]) / BIN
    with_sky = math.sqrt(1 + 1 / (n - 1)) if n > 1 else math.inf
    ratio = measure.robust_sigma(residual / expected)
    blocks = level[::per_block, ::per_block]
    outliers = _outliers_per_million(stack, sky)
    return [
        ScoreRow(
            product="stack", figure="background noise", value=measure.robust_sigma(residual), unit="e-",
            meaning="robust rms of the empty sky's 8 x 8 bins about their 64-pixel blocks",
        ),
        ScoreRow(
            product="stack", figure="background / photon floor", value=ratio / with_sky, high=1.05,
            meaning="against the frames' noise with that of a sky made of all other frames, 1 + 1/(N-1)",
        ),
        ScoreRow(
            product="stack", figure="background / floor without sky noise", value=ratio,
            meaning="against the frames' own noise alone, for a noise-free sky",
        ),
        ScoreRow(
            product="stack", figure="rms of 64-pixel blocks", unit="e-",
            value=measure.robust_sigma(blocks[np.isfinite(blocks)]),
            meaning="large-scale unevenness of the empty sky",
        ),
        ScoreRow(
            product="stack", figure="VAR pull", low=0.9, high=1.1,
            value=measure.robust_sigma(residual / stated),
            meaning="noise of 8 x 8 bins against VAR and the noise-correlation factor",
        ),
        ScoreRow(
            product="stack", figure="outliers beyond 8 sigma", value=outliers, unit="per million", high=20.0,
            meaning="pixels of empty sky, sigma as measured relative to VAR",
        ),
    ]  # fmt: skip


def _outliers_per_million(stack: StackProduct, sky: NDArray[np.bool_]) -> float:
    if not sky.any():
        return math.nan
    z = stack.sci[sky] - np.median(stack.sci[sky])
    z = z / np.sqrt(stack.var[sky])
    z /= measure.robust_sigma(z)
    return float(1e6 * np.mean(np.abs(z) > OUTLIER_SIGMAS))


__all__ = ["read_stack", "score_background", "score_registration", "score_stack", "score_stars"]
