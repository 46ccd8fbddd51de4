"""The template that frames are compared with: the median of their resampled values, in the seeing of the sharpest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.pixels.bands import bands, rows_for
from imaging.registration.geometry import Grid
from imaging.registration.resampling.resample import ResampleParameters
from imaging.stack.inputs import WITHOUT_VARIANCE, StackInput, bytes_per_row, resample_input
from imaging.stack.psf_kernels import SKY, mark_sources, predict_rows
from imaging.stack.psf_matching import STRAIGHT, Matching, template_fwhm
from imaging.stack.template_kernels import PARTIAL, median_difference, take_median

#: Fewest values of a median that an outlier can be compared with.
FEWEST: Final = 3
#: Most rows that are resampled, or compared, at a time.
MOST_ROWS: Final = 64
#: Fewest rows of a frame that a thread resamples where others work on the rest of the band.
_LEAST_ROWS: Final = 8
#: Frames whose seeing is within this factor of the best are alike; others are compared with the sharpest, at least so
#: many.
_ALIKE: Final = 1.2
_FEWEST_SHARP: Final = 5
#: The template is convolved around pixels of this many times the noise of the frames, as far as this many times the
#: width that broadens its stars to those of the broadest frame, at least so many pixels.
_UNDER_SOURCE: Final = 2.5
_SPREAD: Final = 1.2
_LEAST_SPREAD: Final = 2


@dataclass(frozen=True)
class Template:
    """The median of the frames.

    Attributes
    ----------
    median
        float32 (ny, nx) on the output's grid; 0 without values.
    suspect
        uint8 (ny, nx); where frames are not linear or missing (`imaging.stack.template_kernels.take_median`).
    kinds
        uint8 (ny, nx): sky, source, not to be trusted, unknown (`imaging.stack.psf_kernels.mark_sources`).
    """

    median: NDArray[np.float32]
    suspect: NDArray[np.uint8]
    kinds: NDArray[np.uint8]


@dataclass(frozen=True)
class SortedFrames:
    """The frames of a group in the order of their seeing, and how they are read."""

    inputs: Sequence[StackInput]
    grid: Grid
    scales: NDArray[np.float64]
    resampling: ResampleParameters
    threads: int
    memory: int
    order: NDArray[np.int64]
    sharp: int
    fwhm: float
    noises: NDArray[np.float64]

    @property
    def noise(self) -> float:
        """Median of the scaled frames' background noise."""
        return float(np.median(self.noises * self.scales))

    def through(
        self,
        todo: Iterable[tuple[slice, int]],
        finish: Callable[[NDArray[np.float32], NDArray[np.uint16], slice, slice], None],
        change: Callable[[int, slice, NDArray[np.float32]], None] | None = None,
    ) -> None:
        """Resample the sharpest frames band by band.

        All threads work on one band, so that it is as high as the memory allows: for each band, some rows of every
        frame next to it are needed too.

        Parameters
        ----------
        todo
            Rows of the grid, at most `rows`, and the number of frames for them.
        finish
            Called for parts of a band, which together are all of it: values (n, rows, nx), the sharpest first, their
            quality, the rows of the grid that they are, and which of these the call is for, counted from the first.
        change
            Called before for each frame, or part of it: its number in ``order``, rows of the grid, and its values
            there.
        """
        nx = self.grid.shape[1]
        size = self.rows() * nx * len(self.inputs)
        values, quality = np.empty(size, np.float32), np.empty(size, np.uint16)

        def fill(j: int, rows: slice, sci: NDArray[np.float32], dq: NDArray[np.uint16]) -> None:
            i = self.order[j]
            out = sci, None, dq
            resample_input(self.inputs[i], self.grid, rows, float(self.scales[i]), self.resampling, None, out)
            if change is not None:
                change(j, rows, sci)

        threads = max(1, self.threads)
        with ThreadPoolExecutor(threads, thread_name_prefix="template") as pool:
            for rows, count in todo:
                ny = rows.stop - rows.start
                shape = count, ny, nx
                sci, dq = (one[: math.prod(shape)].reshape(shape) for one in (values, quality))
                # Parts of the band where threads outnumber the frames.
                parts = list(bands(ny, max(_LEAST_ROWS, -(-ny * count // threads))))
                filled = [
                    pool.submit(
                        fill, j, slice(rows.start + p.start, rows.start + p.stop), sci[j, p], dq[j, p]
                    )
                    for p in parts
                    for j in range(count)
                ]
                for one in filled:
                    one.result()
                finished = [pool.submit(finish, sci, dq, rows, p) for p in bands(ny, -(-ny // threads))]
                for one in finished:
                    one.result()

    def rows(self) -> int:
        """Return the rows of a band of all frames."""
        row = bytes_per_row(len(self.inputs), self.grid.shape[1], WITHOUT_VARIANCE, threads=self.threads)
        return min(rows_for(self.memory, row, threads=1), MOST_ROWS)


def sort_frames(
    inputs: Sequence[StackInput],
    grid: Grid,
    scales: NDArray[np.float64],
    resampling: ResampleParameters,
    threads: int,
    memory: int,
) -> SortedFrames:
    """Sort frames by their seeing; those of an unknown one are the last.

    Parameters
    ----------
    inputs, grid, scales
        The frames, the output's grid, and the factor of each frame.
    resampling
        Interpolant.
    threads, memory
        Threads, and bytes for the rows being processed.
    """
    seeing = np.array([f.seeing if f.seeing else math.inf for f in inputs])
    order = np.argsort(seeing, kind="stable")
    known = np.isfinite(seeing)
    sharp = len(inputs)
    if known.all() and seeing.max() > _ALIKE * seeing.min():
        sharp = min(len(inputs), max(_FEWEST_SHARP, int((seeing <= _ALIKE * seeing.min()).sum())))
    noises = np.array([f.background() for f in inputs])
    fwhm = template_fwhm([inputs[i].seeing for i in order[:sharp]])
    return SortedFrames(inputs, grid, scales, resampling, threads, memory, order, sharp, fwhm, noises)


def make_template(frames: SortedFrames) -> Template:
    """Compute the median of the sharpest frames, and find its sources."""
    shape = frames.grid.shape
    median, suspect = np.empty(shape, np.float32), np.empty(shape, np.uint8)

    def finish(sci: NDArray[np.float32], dq: NDArray[np.uint16], rows: slice, part: slice) -> None:
        take_median(sci, dq, frames.sharp, FEWEST, part.start, part.stop, median[rows], suspect[rows])

    frames.through(((rows, len(frames.inputs)) for rows in bands(shape[0], frames.rows())), finish)
    kinds = np.empty(shape, np.uint8)
    broadest = max((f.seeing for f in frames.inputs if f.seeing), default=frames.fwhm)
    spread = max(_LEAST_SPREAD, broadening(broadest, frames.fwhm))
    mark_sources(median, suspect, _UNDER_SOURCE * frames.noise, spread, kinds)
    return Template(median, suspect, kinds)


def corrected(
    frames: SortedFrames, template: Template, matched: Sequence[Matching], only: int = 0
) -> Template:
    """Return the template plus the median, under sources, of what it leaves of the sharpest frames.

    Where a frame has a hit, or some of the sharpest have no value, the median of stars of different widths is that
    of another width. The differences from the model do not depend on the width.

    Parameters
    ----------
    only
        Bits of the template's ``suspect`` to which the correction is limited; 0: none.
    """
    median = template.median.copy()
    home = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    # Frames beyond the sharpest are only used where those are missing.
    partial = np.where((template.suspect & PARTIAL) > 0, template.kinds, np.uint8(SKY))

    def todo() -> Iterable[tuple[slice, int]]:
        for rows in bands(frames.grid.shape[0], frames.rows()):
            suspect, changed = template.suspect[rows], template.kinds[rows] != SKY
            if only:
                changed &= (suspect & only) > 0
            wanted = np.flatnonzero(changed.any(axis=1))
            if wanted.size:
                some = slice(rows.start + int(wanted[0]), rows.start + int(wanted[-1]) + 1)
                yield some, len(frames.inputs) if (suspect & PARTIAL).any() else frames.sharp

    def subtract_model(j: int, rows: slice, sci: NDArray[np.float32]) -> None:
        model, state = np.empty(sci.shape, np.float32), np.empty(sci.shape, np.uint8)
        kinds = template.kinds if j < frames.sharp and not only else partial
        predict_rows(
            template.median, kinds, matched[frames.order[j]].on_grid, home, STRAIGHT, 1, rows.start, np.float32(1.0),
            model, state,
        )  # fmt: skip
        sci -= model

    def finish(sci: NDArray[np.float32], dq: NDArray[np.uint16], rows: slice, part: slice) -> None:
        median_difference(
            sci, dq, template.kinds[rows], template.suspect[rows], frames.sharp, FEWEST, only, part.start, part.stop,
            median[rows],
        )  # fmt: skip

    frames.through(todo(), finish, subtract_model)
    return Template(median, template.suspect, template.kinds)


def broadening(seeing: float, fwhm: float) -> int:
    """Return how far a star of the template is spread to become one of a frame, px."""
    return math.ceil(_SPREAD * math.sqrt(max(seeing**2 - fwhm**2, 0.0)))
