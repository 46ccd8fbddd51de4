"""The quality of the products of a simulated night: each figure with its limit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.dq import UNUSABLE
from imaging.simulator.measure_stars import clipped_rms, robust_sigma
from imaging.simulator.score_figures import PULL_CLIP, NightScore, ScoreRow, pull_rows, read_planes
from imaging.simulator.score_stack import read_stack, score_stack
from imaging.simulator.truth import FLAT_LIMITS, FrameTruth, NightTruth, flat_level

#: A pixel must be found, or must not be found, if it is this many sigmas beyond or inside a limit.
BPM_SIGMAS: Final = 5.0


def score_night(
    truth: NightTruth,
    *,
    bpm: Path | None = None,
    dark: Path | None = None,
    flat: Path | None = None,
    stack: Path | None = None,
    transparency: float | None = None,
) -> NightScore:
    """Compare the products of a simulated night with its truth.

    Parameters
    ----------
    truth
        The night's truth.
    bpm, dark, flat, stack
        Product files: extensions SCI, VAR, DQ (the BPM: SCI alone); None is not scored. The dark has the
        exposure time of the science frames.
    transparency
        Transparency to which the stack was scaled; None: the mean of its frames.

    Returns
    -------
    NightScore
        Rows in the order BPM, dark, flat, stack.
    """
    rows: list[ScoreRow] = []
    if bpm is not None:
        rows += score_bpm(read_planes(bpm, "SCI")[0], truth.plane("MARGIN"), truth.plane("ILLUMINATED"))
    if dark is not None:
        rows += score_dark(read_planes(dark, "SCI", "VAR", "DQ"), truth)
    if flat is not None:
        rows += score_flat(read_planes(flat, "SCI", "VAR", "DQ"), truth)
    if stack is not None:
        rows += score_stack(read_stack(stack), truth, transparency=transparency)
    return NightScore(rows=tuple(rows))


def score_bpm(
    bpm: NDArray[Any], margin: NDArray[np.float32], illuminated: NDArray[np.bool_]
) -> list[ScoreRow]:
    """Count detected and false bad pixels.

    Parameters
    ----------
    bpm
        The product: non-zero where a pixel is bad.
    margin
        Sigmas by which a pixel exceeds a limit, negative inside (the truth's MARGIN plane).
    illuminated
        Pixels that are scored.
    """
    flagged = bpm != 0
    must = illuminated & (margin >= BPM_SIGMAS)
    n_must, n_found = int(must.sum()), int((must & flagged).sum())
    false = int((flagged & illuminated & (margin <= -BPM_SIGMAS)).sum())
    return [
        ScoreRow(
            product="bpm", figure="bad pixels found", unit="%", low=100.0,
            value=100.0 * n_found / n_must if n_must else 100.0,
            meaning=f"of {n_must} illuminated pixels beyond a limit by 5 sigma of the stacks' noise",
        ),
        ScoreRow(
            product="bpm", figure="false bad pixels", value=float(false), unit="pixels", high=0.0,
            meaning="flagged, though inside every limit by 5 sigma",
        ),
    ]  # fmt: skip


def score_dark(
    planes: tuple[NDArray[Any], ...], truth: NightTruth, *, frames: tuple[FrameTruth, ...] = ()
) -> list[ScoreRow]:
    """Measure the noise of a master dark about the true pedestal and dark current.

    Parameters
    ----------
    planes
        The product's SCI, VAR and DQ: electrons, electrons squared, bits.
    truth
        The night's truth.
    frames
        The raw darks; default: those with the exposure time of the science frames.
    """
    sci, var, dq = planes
    frames = frames or tuple(f for f in truth.of_role("dark") if not f.left_out)
    camera = truth.parameters.camera
    if not frames:
        raise ValueError("the night has no darks for a comparison")
    one = frames[0]
    offset = np.float32(one.time_scale) * truth.plane("OFFSET")
    level = (offset + truth.plane("DARK") * np.float32(one.exposure_time)) * one.coadds
    good = (dq & UNUSABLE) == 0
    good &= (truth.plane("BPM") == 0) & (var > 0) & np.isfinite(sci)
    good &= level < camera.linear_fraction * camera.well_depth * one.coadds
    difference = (sci[good] - level[good]).astype(np.float64)
    near = np.abs(difference) <= PULL_CLIP * max(robust_sigma(difference), 1e-30)
    return [
        *pull_rows("dark", difference / np.sqrt(var[good], dtype=np.float64)),
        ScoreRow(
            product="dark", figure="mean offset", value=float(difference[near].mean()), unit="e-",
            meaning="mean of product - truth over good pixels, clipped at 5 sigma",
        ),
    ]  # fmt: skip


def score_flat(planes: tuple[NDArray[Any], ...], truth: NightTruth) -> list[ScoreRow]:
    """Compare the rms of a flat about the true response with the photon noise of its frames.

    The floor is the noise of (mean of lamp-ons) - (mean of lamp-offs), or of lamp-offs minus darks in the K
    bands, according to the truth of every pixel.

    Parameters
    ----------
    planes
        The product's SCI, VAR and DQ.
    truth
        The night's truth.
    """
    sci, var, dq = planes
    response = truth.plane("RESPONSE")
    good = ((dq & UNUSABLE) == 0) & truth.plane("ILLUMINATED") & (truth.plane("BPM") == 0)
    good &= (response > FLAT_LIMITS[0]) & (response < FLAT_LIMITS[1]) & np.isfinite(sci) & (var > 0)
    detector = (truth.plane("DARK")[good], truth.plane("OFFSET")[good], response[good])
    levels = flat_level(detector, truth.frames, truth.parameters.camera)
    if levels is None:
        raise ValueError("the night has no flats for a comparison")
    floor = math.sqrt(float(np.mean(levels[1] / levels[0] ** 2, dtype=np.float64)))
    ratio = (sci[good] / response[good]).astype(np.float64)
    scale = float(np.median(ratio))
    rms = clipped_rms(ratio / scale - 1, PULL_CLIP)
    pull = (sci[good] - scale * response[good]) / np.sqrt(var[good], dtype=np.float64)
    return [
        ScoreRow(
            product="flat", figure="rms about truth", value=100 * rms, unit="%",
            meaning="of flat / true response - 1, clipped at 5 sigma",
        ),
        ScoreRow(
            product="flat", figure="photon floor", value=100 * floor, unit="%",
            meaning="expected rms from the noise of the night's own flats",
        ),
        ScoreRow(
            product="flat", figure="rms / photon floor", value=rms / floor, high=1.03,
            meaning="1 is what the photons allow",
        ),
        *pull_rows("flat", pull),
        ScoreRow(
            product="flat", figure="scale", value=scale,
            meaning="median of flat / true response; 1 where both are normalised alike",
        ),
    ]  # fmt: skip


__all__ = ["NightScore", "ScoreRow", "score_bpm", "score_dark", "score_flat", "score_night", "score_stack"]
