"""A stack's figures as ratios to what its night allows: the limits of nights that are not calm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import UNUSABLE
from imaging.simulator import measure_stars as measure
from imaging.simulator.floor.best_stack import best_stack, model_of
from imaging.simulator.floor.star_fluxes import MEDIAN_COST, StarFluxes, star_fluxes
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import StackProduct, locate, measured
from imaging.simulator.truth import FrameTruth, NightTruth

#: Largest ratios to the floor, and the range of widths of errors over those that VAR gives.
SCATTER, BLOCKS, PULL, BIAS = 1.15, 1.3, (0.95, 1.08), 0.3
#: Smallest part of the isolated stars that lie on usable pixels, %.
MEASURED: Final = 90.0
OUTLIERS: Final = 20.0
#: Side of the background's blocks, pixels; sky is empty where the model is below this part of a pixel's noise.
BLOCK: Final = 64
EMPTY: Final = 0.05
#: Factors of frames that differ by less come from equal exposures.
SAME_SCALE: Final = 1e-6
#: Relative standard error of a sigma of n values, times sqrt(n): from the distances of all pairs, which have 82 % of
#: the efficiency of the standard deviation, and of the latter.
SIGMA_ERROR: Final = math.sqrt(0.5 / 0.82)
#: Standard errors that are added to the limits of pulls: they are judged in dozens of nights.
PULL_ERRORS: Final = 3.0
RMS_ERROR: Final = math.sqrt(0.5)


def score_floor(
    stack: StackProduct, truth: NightTruth, *, weights: Mapping[str, float] | None = None,
    scales: Mapping[str, float] | None = None, disturbances: int = 1,
) -> list[ScoreRow]:  # fmt: skip
    """Return the figures of a stack with their limits.

    Parameters
    ----------
    stack, truth
        The product and its night.
    weights
        Weights of the frames that the product's record gives; None: equal ones. They determine how wide its stars
        are, and with that how much of a star's light is in an aperture.
    scales
        Factors of the frames that the record gives. Where they differ, the frames were scaled to the transparency of
        the reference; otherwise by exposure alone.
    disturbances
        How many disturbances the night has: several at once have limits 1.5 times as far from the floor.
    """
    frames = [truth.frame(name) for name in stack.mappings] or list(truth.science)
    given = {truth.frame(name).root: w for name, w in (weights or {}).items()}
    share = np.array([given.get(f.root, 0.0) for f in frames]) if given else np.ones(len(frames))
    share = share / share.sum()
    lights = scaled_lights(truth, frames, stack.reference, scales)
    light = float(share @ lights)
    grid = locate(stack, truth, frames)
    model = model_of(truth, frames, grid, stack.sci.shape, lights=share * lights)
    # What the night allows is that of all its frames, whether or not the product has them.
    objects = [f for f in truth.science if not f.disturbance.blank]
    best = best_stack(truth, objects, grid, stack.sci.shape, light=light)
    usable = measured(stack) & ((stack.dq & UNUSABLE) == 0) & (best.count > 0)
    stars = star_fluxes(stack, model, best, usable, truth, frames, grid, share * lights)
    far = 1.5 if disturbances > 1 else 1.0
    enough = best.count >= max(1, math.ceil(0.7 * len(objects)))
    return [
        *star_rows(stars, far, stack.scale_error if is_scaled(scales) else 0.0),
        *background_rows(stack, model, best.variance, usable & enough, far),
    ]


def of_frames(recorded: Mapping[str, object], figure: str) -> dict[str, float]:
    """Return a figure that a stack's record has for each frame, by the frame's name: ``weights_NAME`` and so on."""
    prefix = f"{figure}_"
    return {
        name.removeprefix(prefix): float(value)
        for name, value in recorded.items()
        if name.startswith(prefix) and isinstance(value, int | float)
    }


def scaled_lights(
    truth: NightTruth, frames: Sequence[FrameTruth], reference: str, scales: Mapping[str, float] | None
) -> NDArray[np.float64]:
    """Return transparency x exposure of each frame as it is stacked, s.

    That is the reference's for all if their factors differ, so that the truth's scale follows the stack's reference.
    """
    own = np.array([f.throughput * f.exposure for f in frames])
    if not is_scaled(scales):
        return own
    home = truth.frame(reference)
    return np.full(len(frames), home.throughput * home.exposure)


def is_scaled(scales: Mapping[str, float] | None) -> bool:
    """Return whether frames were scaled by their stars: their factors differ."""
    factors = list((scales or {}).values())
    return len(factors) > 1 and max(factors) - min(factors) >= SAME_SCALE


def star_rows(stars: StarFluxes, far: float = 1.0, scale_error: float = 0.0) -> list[ScoreRow]:
    """Return the figures of the stars' fluxes.

    Parameters
    ----------
    stars
        The fluxes.
    far
        How many times as far from the floor as usual the limits are.
    scale_error
        Relative error that all fluxes have in common, because frames were scaled to one of them by their stars; part of
        the limit of the bias.
    """
    b, f = stars.bright, stars.faint
    n = int(b.sum())
    ratio = stars.flux[b] / stars.true[b] - 1
    noise = stars.floor[b] / stars.true[b]
    allowed, spread = expected_scatter(noise)
    scatter = measure.robust_sigma(ratio)
    bias = float(np.median(ratio)) if n else math.nan
    error = 1.2533 * scatter / math.sqrt(n) if n else math.nan
    low, high = 1 - (1 - PULL[0]) * far, 1 + (PULL[1] - 1) * far
    faint = (stars.flux[f] - stars.true[f]) / stars.stated[f]
    slack, faint_slack = (PULL_ERRORS * SIGMA_ERROR / math.sqrt(max(k, 1)) for k in (n, len(faint)))
    worst = max(BIAS * far, 200 * math.hypot(error, scale_error)) if n else BIAS
    saturated = stars.flux[stars.saturated] / stars.true[stars.saturated] - 1
    return [
        _row("stars", float(n), meaning="bright isolated stars on good pixels"),
        _row(
            "stars measured", 100 * stars.share, "%", low=MEASURED,
            meaning="part of the isolated, unsaturated stars that lie on usable pixels",
        ),
        _row("flux scatter", 100 * scatter, "%", meaning="robust scatter of flux / truth in an aperture of 12 px"),
        _row("flux scatter allowed", 100 * allowed, "%", meaning="photon, read and sky noise with optimum weights"),
        _row(
            "scatter / floor", scatter / allowed, high=1 + (SCATTER - 1) * far + 2 * spread,
            meaning="1 is what the night allows; the limit has two standard errors",
        ),
        _row("flux bias", 100 * bias, "%", low=-worst, high=worst, meaning="median of flux / truth - 1"),
        _row(
            "pull", measure.pairwise_sigma((stars.flux[b] - stars.true[b]) / stars.stated[b]),
            low=low - slack, high=high + slack,
            meaning="errors of bright stars' fluxes over those that VAR gives",
        ),
        _row(
            "faint / VAR", measure.pairwise_sigma(faint), low=low - faint_slack, high=high + faint_slack,
            meaning=f"the same of {len(faint)} stars with a signal to noise of 3 to 10",
        ),
        _row(
            "blank / VAR", measure.pairwise_sigma(stars.blank),
            meaning=f"the same of {len(stars.blank)} apertures without stars",
        ),
        _row(
            "saturated stars", 100 * float(np.median(saturated)) if len(saturated) else math.nan, "%",
            meaning=f"median of flux / truth - 1 of {len(saturated)} stars over the linear limit",
        ),
    ]  # fmt: skip


def background_rows(
    stack: StackProduct, model: NDArray[np.float32], variance: NDArray[np.float32], good: NDArray[np.bool_],
    far: float = 1.0,
) -> list[ScoreRow]:  # fmt: skip
    """Return the figures of the empty background."""
    sky = good & (model < EMPTY * np.sqrt(variance)) & (variance > 0)
    level, allowed = block_medians(stack.sci, variance, sky)
    blocks = measure.clipped_rms(level - np.median(level), 5.0) if level.size else math.nan
    floor = math.sqrt(float(np.mean(allowed**2))) if level.size else math.nan
    slack = 1 + 2 * RMS_ERROR / math.sqrt(max(level.size, 1))
    # Among many stars, what is called empty has some light of them everywhere.
    left = stack.sci[sky] - model[sky]
    mean = float(np.median(left)) if sky.any() else math.nan
    z = (left - mean) / np.sqrt(stack.var[sky]) if sky.any() else np.zeros(0)
    z = z / measure.robust_sigma(z) if z.size else z
    outliers = float(1e6 * np.mean(np.abs(z) > 8.0)) if z.size else math.nan
    return [
        _row("blocks", blocks, "e-", meaning=f"rms of the medians of {level.size} blocks of 64 x 64 px"),
        _row("blocks allowed", floor, "e-", meaning="expected from the noise of their pixels"),
        _row(
            "blocks / floor", blocks / floor if level.size else math.nan, high=(1 + (BLOCKS - 1) * far) * slack,
            meaning="1 is what the night allows",
        ),
        _row("background", mean, "e-", meaning="median of the empty background minus the light of the model"),
        _row(
            "outliers beyond 8 sigma", outliers, "per million", high=OUTLIERS,
            meaning="pixels of empty sky that are not flagged",
        ),
    ]  # fmt: skip


def block_medians(
    sci: NDArray[np.float32], variance: NDArray[np.float32], sky: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the medians of blocks that are at least a third empty sky, and their expected noise."""
    ny, nx = (n // BLOCK for n in sci.shape)
    levels, noise = [], []
    for j in range(ny):
        for i in range(nx):
            part = slice(j * BLOCK, (j + 1) * BLOCK), slice(i * BLOCK, (i + 1) * BLOCK)
            inside = sky[part]
            count = int(inside.sum())
            if count >= BLOCK**2 // 3:
                levels.append(float(np.median(sci[part][inside])))
                noise.append(math.sqrt(MEDIAN_COST * float(variance[part][inside].mean()) / count))
    return np.array(levels), np.array(noise)


def expected_scatter(noise: NDArray[np.float64]) -> tuple[float, float]:
    """Return the expected robust scatter of normal errors with these sigmas, and its relative standard error."""
    if not noise.size:
        return math.nan, math.nan
    draws = np.random.Generator(np.random.PCG64(1)).standard_normal((200, noise.size))
    widths = np.array([measure.robust_sigma(row * noise) for row in draws])
    return float(np.median(widths)), float(np.std(widths) / np.median(widths))


def _row(
    figure: str,
    value: float,
    unit: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    meaning: str,
) -> ScoreRow:
    if math.isnan(value):  # without stars or blocks there is nothing to judge
        low = high = None
    return ScoreRow(
        product="stack", figure=figure, value=value, unit=unit, low=low, high=high, meaning=meaning
    )
