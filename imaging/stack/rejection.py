"""Rejection: each frame, in its own pixels, against the median of all frames.

As drizzle finds cosmic rays (Fruchter & Hook 2002, PASP 114, 144, section 4): the median is blotted to the pixels of
the frame, and a pixel that differs by more than its noise and a fraction of the local gradient allow is rejected;
those next to it are judged by lower limits. Under sources the median is first convolved to the seeing and the
transparency of the frame (`imaging.stack.psf_matching`), and the fraction of the gradient is what the stars
themselves need, at most the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.parameters import StepParameters, parameter
from imaging.pixels.bands import bands, rows_for, run_bands
from imaging.pixels.combine import median_factor
from imaging.registration.geometry import Grid
from imaging.registration.resample import ResampleParameters
from imaging.stack.inputs import StackInput, resampled
from imaging.stack.psf_kernels import predict_rows
from imaging.stack.psf_matching import Matching, bright_stars, match, template_fwhm
from imaging.stack.rejection_kernels import find_outliers
from imaging.stack.template_kernels import take_median

#: Fewest values of a median that an outlier can be compared with.
FEWEST: Final = 3
#: Bytes per pixel and frame while the median is taken, and per pixel while a frame is compared.
_BYTES, _BYTES_COMPARED = 50, 24
_MOST_ROWS: Final = 64
#: The template is convolved where it is this many times the noise of the frames.
_UNDER_SOURCE: Final = 1.0
#: The least fraction of the gradient: small shifts and the flat field vary by as much.
_LEAST_SLOPE: Final = 0.1
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
        0.3, "least addition to the threshold under stars that are not linear in a frame, or if the seeing cannot be "
        "matched",
        unit="local brightness", ge=0,
    )  # fmt: skip


@dataclass(frozen=True)
class Template:
    """The median of the frames.

    Attributes
    ----------
    median
        float32 (ny, nx) on the output's grid; NaN with fewer than `FEWEST` values.
    suspect
        uint8 (ny, nx); 1 where a frame is not linear.
    """

    median: NDArray[np.float32]
    suspect: NDArray[np.uint8]


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
    """

    pixels: tuple[NDArray[np.int64], ...]
    tested: int
    unmatched: tuple[str, ...]


def make_template(
    inputs: Sequence[StackInput],
    grid: Grid,
    scales: NDArray[np.float64],
    parameters: ResampleParameters,
    *,
    threads: int,
    memory: int,
) -> Template:
    """Return the median of the scaled frames, band by band."""
    median, suspect = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)

    def work(rows: slice) -> None:
        sci, _, dq = resampled(inputs, grid, rows, scales, parameters)
        take_median(sci, dq, FEWEST, median[rows], suspect[rows])

    fitting = rows_for(memory, len(inputs) * grid.shape[1] * _BYTES, threads=threads)
    run_bands(work, grid.shape[0], rows_per_band=min(fitting, _MOST_ROWS), threads=threads)
    return Template(median, suspect)


def find_hits(
    inputs: Sequence[StackInput],
    grid: Grid,
    scales: NDArray[np.float64],
    template: Template,
    parameters: RejectionParameters,
    *,
    threads: int,
    memory: int,
) -> Rejected:
    """Compare each frame with the template.

    Parameters
    ----------
    inputs, grid, scales
        The frames, the output's grid, and the factor of each frame.
    template
        Result of `make_template`.
    parameters
        Thresholds.
    threads, memory
        Threads, and bytes for the rows being processed. The result does not depend on them.
    """
    noise = np.array([s * (f.noise or 0.0) for f, s in zip(inputs, scales, strict=True)])
    usual = float(np.median(noise))
    fwhm = template_fwhm([f.seeing for f in inputs])
    n = len(inputs)
    stars = bright_stars(template.median, template.suspect, usual / max(n, 1) ** 0.5, fwhm)
    rows_each = max(8, rows_for(memory, grid.shape[1] * _BYTES_COMPARED, threads=threads))

    def one(i: int) -> tuple[NDArray[np.int64], int, bool]:
        frame, scale = inputs[i], float(scales[i])
        matched = match(
            frame.planes, grid.place(frame.transform), scale, frame.noise or 0.0, template.median, stars, fwhm,
            frame.seeing,
        )  # fmt: skip
        return *_compare(frame, scale, template, matched, usual, _template_noise(n, noise[i], usual), parameters,
                         min(rows_each, 4 * _MOST_ROWS)), matched.slope is None  # fmt: skip

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="compare") as pool:
        found = list(pool.map(one, range(n)))
    unmatched = tuple(f.name for f, (_, _, missing) in zip(inputs, found, strict=True) if missing)
    return Rejected(tuple(f[0] for f in found), sum(f[1] for f in found), unmatched)


def _template_noise(n: int, noise: float, usual: float) -> float:
    """Return the variance that the median adds to the difference, over that of the frame.

    The frame is part of the median: of equal frames, the covariance of a value and the median is that of the value
    and the mean, 1/n of its variance, and the difference has no more noise than the frame.
    """
    relative = (usual / noise) ** 2 if noise > 0 else 1.0
    return max(0.0, (median_factor(n) * relative - 2.0) / n)


def _compare(
    frame: StackInput,
    scale: float,
    template: Template,
    matched: Matching,
    usual: float,
    template_noise: float,
    parameters: RejectionParameters,
    rows_each: int,
) -> tuple[NDArray[np.int64], int]:
    ny, nx = frame.shape
    slope = parameters.gradient
    distrust = parameters.tolerance
    suspect = template.suspect
    if matched.slope is None:
        suspect = np.ones_like(suspect)
    else:
        slope = min(max(_LEAST_SLOPE, matched.slope), parameters.gradient)
    near_slope = slope * parameters.gradient_near / parameters.gradient if parameters.gradient > 0 else 0.0
    limits = np.array([
        parameters.low, parameters.high, parameters.near, slope, near_slope, distrust,
        _FLOOR * (frame.noise or 0.0) ** 2, template_noise,
    ])  # fmt: skip
    found, tested = [], 0
    for rows in bands(ny, rows_each):
        # Two more rows on each side: neighbours of neighbours, and their gradients.
        around = slice(max(0, rows.start - 2), min(ny, rows.stop + 2))
        sci, var, dq = (frame.planes.rows(p, around) for p in ("sci", "var", "dq"))
        model, state = np.empty(sci.shape, np.float32), np.empty(sci.shape, np.uint8)
        predict_rows(
            template.median, suspect, matched.kernels, matched.to_grid, matched.steps, around.start,
            _UNDER_SOURCE * usual, np.float32(1.0 / scale), model, state,
        )  # fmt: skip
        out = np.empty(sci.shape, np.uint8)
        first, last = rows.start - around.start, rows.stop - around.start
        tested += find_outliers(sci, var, dq, model, state, first, last, limits, out)
        inner = (out[first:last] & 1).reshape(-1)
        found.append(np.flatnonzero(inner) + rows.start * nx)
    return np.concatenate(found), tested
