"""Rejection: each frame, in its own pixels, against the median of all frames.

As drizzle finds cosmic rays (Fruchter & Hook 2002, PASP 114, 144, section 4): the median is blotted to the pixels of
the frame, and a pixel that differs by more than its noise and a fraction of the local gradient allow is rejected;
those next to it are judged by lower limits. Under sources the median is first convolved to the seeing and the
transparency of the frame (`imaging.stack.psf_matching`), and the fraction of the gradient is what the stars
themselves need, at most the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.bands import bands, rows_for
from imaging.pixels.combine import median_factor
from imaging.registration.geometry import Grid
from imaging.registration.resampling.resample import ResampleParameters
from imaging.stack.inputs import StackInput
from imaging.stack.psf_kernels import DISTRUSTED, SKY, SUSPECT_REACH, distrust, predict_rows
from imaging.stack.psf_matching import Matching, bright_stars, match
from imaging.stack.rejection_kernels import find_outliers
from imaging.stack.template import (
    FEWEST,
    MOST_ROWS,
    SortedFrames,
    Template,
    broadening,
    corrected,
    make_template,
    sort_frames,
)
from imaging.stack.template_kernels import PARTIAL

#: The least fraction of the gradient, and the factors to what the stars deviate by, on their flanks and at their peaks.
_LEAST_SLOPE: Final = 0.03
_MARGIN: Final = 3.0
_MARGIN_AT_PEAKS: Final = 1.5
#: The least fraction where some of the sharpest frames are missing, and how often the template is corrected there.
_EDGE_SLOPE: Final = 0.4
_ROUNDS_AT_EDGES: Final = 2
#: Bytes per pixel of a frame that is being compared.
_COMPARED: Final = 24
#: Least variance of a pixel, in that of the frame's background.
_FLOOR: Final = 0.5


class RejectionParameters(StepParameters):
    """How outliers among frames are found."""

    low: float = parameter(4.5, "rejection threshold below the median", unit="sigma", gt=0)
    high: float = parameter(4.5, "rejection threshold above the median", unit="sigma", gt=0)
    near: float = parameter(3.0, "rejection threshold next to a rejected pixel", unit="sigma", gt=0)
    gradient: float = parameter(
        1.2, "largest addition to the threshold under sources; less where the stars agree better with the median",
        unit="local gradient", ge=0,
    )  # fmt: skip
    gradient_near: float = parameter(
        0.7, "the same next to a rejected pixel", unit="local gradient", ge=0,
    )  # fmt: skip
    tolerance: float = parameter(
        1.0, "least addition to the threshold under stars that are not linear, or whose seeing cannot be matched",
        unit="local brightness", ge=0,
    )  # fmt: skip


@dataclass(frozen=True)
class Rejected:
    """What was found in the frames.

    Attributes
    ----------
    pixels
        For each frame the flat indices of its rejected pixels, ascending.
    tested
        Pixels of all frames that were compared.
    unmatched
        Names of the frames whose seeing could not be matched.
    template
        The median that they were compared with.
    kernels
        float32 (n, taps, taps): what turns it into the scaled frames, at its own pixels.
    """

    pixels: tuple[NDArray[np.int64], ...]
    tested: int
    unmatched: tuple[str, ...]
    template: Template
    kernels: NDArray[np.float32]


def find_hits(
    inputs: Sequence[StackInput],
    grid: Grid,
    scales: NDArray[np.float64],
    resampling: ResampleParameters,
    parameters: RejectionParameters,
    *,
    threads: int,
    memory: int,
) -> Rejected:
    """Compare each frame with the median of all.

    Parameters
    ----------
    inputs, grid, scales
        The frames, the output's grid, and the factor of each frame.
    resampling, parameters
        Interpolant; thresholds.
    threads, memory
        Threads, and bytes for the rows being processed. The result does not depend on them.
    """
    frames = sort_frames(inputs, grid, scales, resampling, threads, memory)
    template = make_template(frames)
    matched = _match_all(frames, template)
    if frames.sharp < len(inputs):
        template = corrected(frames, template, matched)
        matched = _match_all(frames, template)
        for _ in range(_ROUNDS_AT_EDGES):
            template = corrected(frames, template, matched, only=PARTIAL)

    few = len(inputs) < FEWEST  # nothing is compared

    def one(i: int) -> tuple[NDArray[np.int64], int]:
        if few:
            return np.empty(0, np.int64), 0
        return _compare(frames, i, template, matched[i], parameters)

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="compare") as pool:
        found = list(pool.map(one, range(len(inputs))))
    unmatched = () if few else tuple(f.name for f, m in zip(inputs, matched, strict=True) if m.slope is None)
    pixels, tested = _without_common(inputs, grid, template, [f[0] for f in found]), sum(f[1] for f in found)
    return Rejected(pixels, tested, unmatched, template, _together([one.on_grid[0] for one in matched]))


def _without_common(
    inputs: Sequence[StackInput], grid: Grid, template: Template, found: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], ...]:
    """Return the outliers without those under sources where several frames have one: there the template is wrong.

    Hits do not meet: at most two frames, or a ninth of them, may have one in a pixel.
    """
    ny, nx = grid.shape
    frames = np.zeros((ny + 2, nx + 2), np.uint16)
    places = []
    for frame, pixels in zip(inputs, found, strict=True):
        rows, columns = np.divmod(pixels, frame.shape[1])
        u, v = frame.on_grid(grid, columns.astype(np.float64), rows.astype(np.float64))
        # One pixel of margin on each side; the grid may be less than the frame.
        at = np.clip(np.round(v).astype(int) + 1, 0, ny + 1), np.clip(np.round(u).astype(int) + 1, 0, nx + 1)
        frames[at] += np.uint16(1)
        places.append(at)
    frames[1:-1, 1:-1][template.kinds == SKY] = 0
    most = max(2, len(inputs) // 9)
    return tuple(pixels[frames[at] <= most] for pixels, at in zip(found, places, strict=True))


def _together(kernels: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return kernels of different sizes in one array, centred."""
    size = max(len(k) for k in kernels)
    margins = [(size - len(k)) // 2 for k in kernels]
    return np.stack([np.pad(k, m) for k, m in zip(kernels, margins, strict=True)])


def _match_all(frames: SortedFrames, template: Template) -> list[Matching]:
    stars = bright_stars(
        template.median, template.suspect, frames.noise / math.sqrt(frames.sharp), frames.fwhm
    )

    def one(i: int) -> Matching:
        frame, scale = frames.inputs[i], float(frames.scales[i])
        placed = frames.grid.place(frame.transform)
        return match(
            frame.planes,
            placed,
            scale,
            float(frames.noises[i]),
            template.median,
            stars,
            frames.fwhm,
            frame.seeing,
            frame.distortion,
        )

    with ThreadPoolExecutor(max(1, frames.threads), thread_name_prefix="match") as pool:
        return list(pool.map(one, range(len(frames.inputs))))


def _added_variance(n: int, relative: float, amplified: float, shared: bool) -> float:
    """Return the variance that the median of ``n`` frames adds to the difference, over that of the frame.

    If the frame is part of the median, the covariance of its value and the median is that of the value and the
    mean, 1/n of its variance: of equal frames, the difference has no more noise than the frame.
    """
    return max(0.0, (median_factor(n) * relative * amplified - (2.0 if shared else 0.0)) / n)


def _kinds_for(frames: SortedFrames, i: int, template: Template) -> NDArray[np.uint8]:
    """Return what the template shows, with the pixels to which this frame's seeing spreads light that is not linear."""
    reach = SUSPECT_REACH + broadening(frames.inputs[i].seeing or frames.fwhm, frames.fwhm)
    if reach == SUSPECT_REACH:
        return template.kinds
    kinds = template.kinds.copy()
    distrust(template.suspect, reach, kinds)
    return kinds


def _compare(
    frames: SortedFrames, i: int, template: Template, matched: Matching, parameters: RejectionParameters
) -> tuple[NDArray[np.int64], int]:
    """Return the outliers of one frame, flat and ascending, and the number of pixels compared."""
    frame, scale = frames.inputs[i], float(frames.scales[i])
    ny, nx = frame.shape
    noise = float(frames.noises[i])
    kinds, slope, peak_slope = _kinds_for(frames, i, template), parameters.gradient, parameters.gradient
    if matched.slope is None:
        kinds = np.where(kinds > SKY, np.maximum(kinds, np.uint8(DISTRUSTED)), kinds)
    else:
        slope, peak_slope = (
            min(max(_LEAST_SLOPE, margin * measured), parameters.gradient)
            for margin, measured in ((_MARGIN, matched.slope), (_MARGIN_AT_PEAKS, matched.peak_slope))
        )
    edge_slope = min(_EDGE_SLOPE, parameters.gradient)
    near_share = parameters.gradient_near / parameters.gradient if parameters.gradient > 0 else 0.0
    relative = (frames.noise / (scale * noise)) ** 2 if noise > 0 else 1.0
    among = i in frames.order[: frames.sharp]
    limits = np.array([
        parameters.low, parameters.high, parameters.near, slope, peak_slope, edge_slope, near_share,
        parameters.tolerance, _FLOOR * noise**2,
        _added_variance(frames.sharp, relative, 1.0, among),
        _added_variance(frames.sharp, relative, matched.noise, among),
    ])  # fmt: skip
    found, tested = [], 0
    fitting = rows_for(frames.memory, nx * _COMPARED, threads=frames.threads)
    for rows in bands(ny, min(fitting, MOST_ROWS)):
        # Two more rows on each side: neighbours of neighbours, and their gradients.
        around = slice(max(0, rows.start - 2), min(ny, rows.stop + 2))
        sci, var, dq = (frame.planes.rows(p, around) for p in ("sci", "var", "dq"))
        model, state = np.empty(sci.shape, np.float32), np.empty(sci.shape, np.uint8)
        predict_rows(
            template.median, kinds, matched.kernels, matched.to_grid, matched.bend, matched.steps, around.start,
            np.float32(1.0 / scale), model, state,
        )  # fmt: skip
        out = np.empty(sci.shape, np.uint8)
        first, last = rows.start - around.start, rows.stop - around.start
        tested += find_outliers(sci, var, dq, model, state, first, last, limits, out)
        inner = (out[first:last] & 1).reshape(-1)
        found.append(np.flatnonzero(inner) + rows.start * nx)
    return np.concatenate(found), tested
